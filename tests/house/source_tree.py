"""The source as the laws read it: files, rooms, imports. Nothing of hagane is imported here."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "hagane"
HOUSE = ROOT / "tests" / "house"
GOLDEN = HOUSE / "golden"

# A target as registry tables and job requests write it: "hagane.index.lance:LanceIndex".
TARGET = re.compile(r"(hagane(?:\.\w+)+):\w+")


@dataclass(frozen=True, slots=True)
class Edge:
    """One use of a module of ours by a file of ours."""

    file: str  # relative to src/
    line: int
    module: str  # dotted, absolute
    how: str  # "import" or "string"

    def __str__(self) -> str:
        return f"{self.file}:{self.line} {self.how} {self.module}"


def files() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def shown(path: Path) -> str:
    return path.relative_to(PACKAGE.parent).as_posix()


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=shown(path))


def module_of(path: Path) -> str:
    parts = list(path.relative_to(PACKAGE.parent).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_of(module: str) -> str:
    """The room that a dotted module lies in; "hagane" for the package itself and `hagane.__main__`."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and (PACKAGE / parts[1]).is_dir() else "hagane"


def _absolute(node: ast.ImportFrom, path: Path) -> str:
    """The module that a `from` statement names, relative dots resolved."""
    if not node.level:
        return node.module or ""
    package = module_of(path).split(".")
    if path.name != "__init__.py":
        package = package[:-1]
    package = package[: len(package) - (node.level - 1)]
    return ".".join([*package, *([node.module] if node.module else [])])


def imported(tree: ast.AST, path: Path) -> Iterator[tuple[int, str]]:
    """(line, module) of every import statement, those inside functions and `if` too.

    `from a import b` counts as `a.b` where that is a module or room of ours, else as `a`.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(node, path)
            for alias in node.names:
                deeper = f"{base}.{alias.name}"
                yield node.lineno, deeper if _is_ours(deeper) else base


def _is_ours(module: str) -> bool:
    where = PACKAGE.parent.joinpath(*module.split("."))
    return module.startswith("hagane.") and (where.is_dir() or where.with_suffix(".py").is_file())


def targets(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, module) of every "hagane.x.y:name" string."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and (found := TARGET.fullmatch(node.value)):
            yield node.lineno, found[1]


def edges(path: Path) -> Iterator[Edge]:
    """Every use of our own modules by `path`: imports and target strings."""
    tree = tree_of(path)
    for line, module in imported(tree, path):
        if module == "hagane" or module.startswith("hagane."):
            yield Edge(shown(path), line, module, "import")
    for line, module in targets(tree):
        yield Edge(shown(path), line, module, "string")


def called(tree: ast.AST) -> Iterator[tuple[int, str, ast.Call]]:
    """(line, dotted name, call) of every call whose callee is a name or a chain of attributes."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and (name := dotted(node.func)):
            yield node.lineno, name, node


def dotted(node: ast.AST) -> str:
    """`a.b.c` as text; "" for anything else."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(parts)]) if isinstance(node, ast.Name) else ""


def tables() -> dict[str, dict[str, str]]:
    """The registry tables, "STORES" to its names and targets; tables of one name are one, wherever they stand."""
    found: dict[str, dict[str, str]] = {}
    for path in files():
        if room_of(module_of(path)) in ("hagane", "core", "cli", "server", "contracts"):
            continue
        for node in tree_of(path).body:
            if (named := _table(node)) is not None:
                known = found.setdefault(named[0], {})
                clash = {name for name, target in named[1].items() if known.get(name, target) != target}
                assert not clash, f"{shown(path)}: {named[0]} names {clash} otherwise than another table does"
                known.update(named[1])
    return found


def _table(node: ast.stmt) -> tuple[str, dict[str, str]] | None:
    """`NAME = {"a": "hagane.x:Y", ...}` as its name and entries, else None."""
    target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
    value = getattr(node, "value", None)
    if not (isinstance(target, ast.Name) and target.id.isupper() and isinstance(value, ast.Dict) and value.keys):
        return None
    pairs = list(zip(value.keys, value.values, strict=True))
    if not all(isinstance(part, ast.Constant) and isinstance(part.value, str) for pair in pairs for part in pair):
        return None
    entries = {key.value: entry.value for key, entry in pairs}
    return (target.id, entries) if all(TARGET.fullmatch(entry) for entry in entries.values()) else None


def exceptions(law: str) -> list[dict[str, Any]]:
    """The dated exceptions of one law, from exceptions.toml. Each has `file`, `since` and `reason`."""
    return tomllib.loads((HOUSE / "exceptions.toml").read_text(encoding="utf-8")).get(law, [])
