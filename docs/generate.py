"""Writes what the source already says: docs/reference/*.md and the file tree in the READMEs.

    python docs/generate.py            write
    python docs/generate.py --check    exit 1 and name what is out of date

A fact stands in one place: a key's meaning in its pydantic field, an option's in the command, an error's
in the tree at the top of core/errors.py, a file's caption in the first line of its docstring.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import inspect
import re
import sys
import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "src" / "hagane"
REFERENCE = ROOT / "docs" / "reference"
READMES = ("README.md", "README.ja.md")
BEGIN, END = "<!-- tree: written by docs/generate.py -->", "<!-- /tree -->"
NOTE = "<!-- Written by docs/generate.py from the source; edit there. -->\n"


# hagane.yaml


@dataclass(frozen=True, slots=True)
class Key:
    """One key of hagane.yaml: `sources[].label`, `principals.NAME.clearance`, `retrieve.n`."""

    path: str
    shape: str
    default: str
    meaning: str
    section: bool  # holds further keys


def config_keys() -> list[Key]:
    """Every key of hagane.yaml, in the order of the models."""
    from hagane.project.config import ProjectConfig

    return list(_keys(ProjectConfig, ""))


def _keys(model: Any, prefix: str) -> Iterator[Key]:
    for name, field in model.model_fields.items():
        path = f"{prefix}{name}"
        inner, step = _inner(field.annotation)
        default = "" if inner is not None else _default(field)
        yield Key(path, _shape(field.annotation), default, field.description or "", inner is not None)
        if inner is not None:
            yield from _keys(inner, f"{path}{step}.")


def _inner(annotation: Any) -> tuple[Any, str]:
    """The model within a field's type and how a path steps into it; (None, "") for plain values."""
    from pydantic import BaseModel

    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation, ""
    arguments = typing.get_args(annotation)
    step = {tuple: "[]", list: "[]", dict: ".NAME"}.get(typing.get_origin(annotation), "")
    for argument in arguments:
        model, deeper = _inner(argument)
        if model is not None:
            return model, step + deeper
    return None, ""


WORDS = {str: "text", int: "whole number", float: "number", bool: "true or false", type(None): "null", Path: "path"}


def _shape(annotation: Any) -> str:
    """A type in words that a reader of YAML knows."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation in WORDS:
        return WORDS[annotation]
    if origin is typing.Annotated:
        return _shape(arguments[0])
    if origin is typing.Literal:
        return " or ".join(f"`{value}`" for value in arguments)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(dict.fromkeys(_shape(argument) for argument in arguments))
    if origin in (tuple, list):
        return f"list of {_shape(arguments[0])}"
    if origin is dict:
        return f"mapping of names to {_shape(arguments[1])}"
    return "mapping"


def _default(field: Any) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, tuple):
        value = list(value)
    return {None: "null", True: "true", False: "false"}.get(value, str(value)) if _hashable(value) else str(value)


def _hashable(value: Any) -> bool:
    return value is None or isinstance(value, bool)


def config_page() -> str:
    out = [NOTE, "# hagane.yaml: every key\n"]
    out.append("Unknown keys are refused with file and line. A secret is only ever written as `env:NAME`.\n")
    table = "| key | value | default | meaning |\n|---|---|---|---|"
    found = config_keys()
    out += ["## top level\n", table]
    out += [_key_row(key) for key in found if "." not in key.path and not key.section]
    for at, key in enumerate(found):
        if not key.section:
            continue
        stem = re.escape(key.path) + r"(\[\]|\.NAME)?\.[^.]+"
        below = [other for other in found[at + 1 :] if re.fullmatch(stem, other.path) and not other.section]
        out += [f"\n## `{key.path}`\n", f"{key.shape}. {_sentence(key.meaning)}\n", table, *map(_key_row, below)]
    return "\n".join(out) + "\n"


def _key_row(key: Key) -> str:
    return _row(f"`{key.path}`", key.shape, f"`{key.default}`" if key.default else "empty", key.meaning)


# commands


@dataclass(frozen=True, slots=True)
class Command:
    """One command: its words ("hagane audit verify"), its help and its parameters."""

    words: str
    help: str
    parameters: tuple[Any, ...]  # click parameters
    group: bool


def commands() -> list[Command]:
    """Every command of the program, groups first, in the order of --help."""
    import typer

    return list(_commands(typer.main.get_command(importlib.import_module("hagane.cli.main").app), "hagane"))


def _commands(command: Any, words: str) -> Iterator[Command]:
    children = getattr(command, "commands", {})
    shown = tuple(parameter for parameter in command.params if not getattr(parameter, "hidden", False))
    yield Command(words, inspect.cleandoc(command.help or ""), shown, bool(children))
    for name, child in children.items():
        if not child.hidden:
            yield from _commands(child, f"{words} {name}")


def options() -> list[str]:
    """Every option and argument, "hagane ask --json" and "hagane ask QUESTION", sorted."""
    found = []
    for command in commands():
        found.append(command.words)
        for parameter in command.parameters:
            names = [*parameter.opts, *parameter.secondary_opts]
            found.append(f"{command.words} {' '.join(names) if _is_option(parameter) else _argument(parameter)}")
    return sorted(found)


def _is_option(parameter: Any) -> bool:
    return parameter.param_type_name == "option"


def _argument(parameter: Any) -> str:
    name = (parameter.metavar or parameter.name or "").upper()
    return name + ("..." if parameter.nargs == -1 and not name.endswith("...") else "")


def cli_page() -> str:
    out = [NOTE, "# The command line\n"]
    out.append("Data goes to stdout, talk and progress to stderr. Exit 0 good, 1 refused or failed, 2 wrong use,")
    out.append("130 stopped by Ctrl-C.\n")
    for command in commands():
        out += [f"## `{command.words}`\n", command.help + "\n"]
        given = [_argument(parameter) for parameter in command.parameters if not _is_option(parameter)]
        taking = [parameter for parameter in command.parameters if _is_option(parameter)]
        usage = [command.words, *(["[OPTIONS]"] if taking else []), *given, *(["COMMAND"] if command.group else [])]
        out.append(f"```\n{' '.join(usage)}\n```\n")
        if command.parameters:
            out += ["| option | default | meaning |\n|---|---|---|", *map(_option_row, command.parameters), ""]
    return "\n".join(out) + "\n"


def _option_row(parameter: Any) -> str:
    names = [*parameter.opts, *parameter.secondary_opts] if _is_option(parameter) else [_argument(parameter)]
    default = parameter.default
    bare = default is None or default is False or callable(default) or default in ((), [], "") or parameter.required
    kept = "required" if parameter.required else "" if bare or "Sentinel" in type(default).__name__ else f"`{default}`"
    return _row(", ".join(f"`{name}`" for name in names), kept, getattr(parameter, "help", None) or "")


# errors


def error_classes() -> dict[str, type]:
    """Error name to class: those of core.errors, and any below them in the rooms."""
    from hagane.core import errors

    found = {name: value for name, value in vars(errors).items() if _is_error(value, errors.HaganeError)}
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            bases = {getattr(base, "id", getattr(base, "attr", "")) for base in getattr(node, "bases", ())}
            if isinstance(node, ast.ClassDef) and bases & set(found) and node.name not in found:
                module = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
                found[node.name] = getattr(importlib.import_module(module), node.name)
    return found


def _is_error(value: Any, root: type) -> bool:
    return isinstance(value, type) and issubclass(value, root)


def error_captions() -> dict[str, str]:
    """Error name to what the tree at the top of core/errors.py says of it."""
    from hagane.core import errors

    rows = re.findall(r"^[│├└─ ]*(\w+(?:Error|Needed)) +(.*)$", errors.__doc__ or "", re.MULTILINE)
    return {name: text.partition(": ")[2] if ": " in text else _caption(text) for name, text in rows}


def _caption(text: str) -> str:
    """The words of a tree's row; "" where it only names codes."""
    return "" if text.startswith(("exit ", "HTTP ")) else text.strip()


def errors_page() -> str:
    out = [NOTE, "# Errors\n"]
    out.append("Every error names what is wrong, and on a line of its own what to do next. `--json` and logs carry")
    out.append("the code. No message holds document content.\n")
    captions = error_captions()
    for name, kind in error_classes().items():
        out += [f"## `{kind.code}`\n", f"`{name}`: exit {kind.exit_code}, HTTP {kind.http_status}."]
        out[-1] += " Trying again may help." if kind.retryable else ""
        meaning = captions.get(name) or inspect.cleandoc(kind.__doc__ or "") or "Any other failure."
        out.append(_sentence(meaning) + "\n")
    return "\n".join(out) + "\n"


# public names


def api_page() -> str:
    import hagane

    out = [NOTE, "# Public names of `hagane`\n"]
    for name in hagane.__all__:
        value = getattr(hagane, name)
        out.append(f"## `{name}`\n")
        if inspect.isclass(value) or callable(value):
            out.append(f"```python\n{name}{_signature(value)}\n```\n")
            out.append(inspect.cleandoc(value.__doc__ or "") + "\n")
            out += [f"- `{method}`: {text}" for method, text in _methods(value)] + [""]
        else:
            out.append("The installed version.\n" if name == "__version__" else f"A {type(value).__name__}.\n")
    return "\n".join(out) + "\n"


def _signature(value: Any) -> str:
    try:
        return re.sub(r" at 0x[0-9a-f]+", "", str(inspect.signature(value)))
    except (TypeError, ValueError):
        return "(...)"


def _methods(value: Any) -> list[tuple[str, str]]:
    """Public methods written in the class itself, each with the first line of its docstring."""
    if not inspect.isclass(value):
        return []
    own = [(name, member) for name, member in vars(value).items() if inspect.isfunction(member) and name[0] != "_"]
    return [(name, (inspect.getdoc(member) or "").partition("\n")[0]) for name, member in own]


# the tree


def captioned() -> list[tuple[str, str]]:
    """(path below src/, caption) of every file of the package that holds anything."""
    found = []
    for path in sorted(PACKAGE.rglob("*"), key=lambda path: (path.parent.as_posix(), path.name)):
        if path.is_file() and "__pycache__" not in path.parts and path.stat().st_size:
            found.append((path.relative_to(PACKAGE.parent).as_posix(), caption(path)))
    return found


def caption(path: Path) -> str:
    """The first line of a module's docstring, or of a data file's opening comment; "" when there is none."""
    if ".min." in path.name or "LICENSE" in path.name:
        return "vendored, as its maker publishes it"
    if path.parent.name == "reader_ja" and path.suffix != ".py":
        return "the starter reader: see README.md beside it" if path.name != "README.md" else "the starter reader's card"
    if path.suffix == ".svg":
        return "picture"
    if path.parent.name == "samples":
        return "text that is measured, as it stands"
    text = path.read_text(encoding="utf-8")
    if path.suffix in (".jinja", ".ollama") and not text.startswith("{#") and path.parent.parent.name == "train":
        return "chat template, written into models as it stands"
    if path.suffix == ".py":
        return (ast.get_docstring(ast.parse(text)) or "").partition("\n")[0].strip()
    first = text.lstrip().partition("\n")[0]
    if path.name == "parity_prompts.txt":
        return "what the parity gate asks, as it stands"
    if path.suffix == ".txt" and path.name.startswith("answer_") and not first.startswith("#"):
        return "prompt, sent as it stands"
    opened = re.match(r"(?:#|<!--|\{#-?|//|/\*)\s*(.+?)\s*(?:-->|-?#\}|\*/)?$", first)
    return opened[1] if opened else ""


def tree() -> str:
    lines, folder = ["```", "src/hagane/"], ""
    for path, text in captioned():
        inside, _, name = path.removeprefix("hagane/").rpartition("/")
        if inside != folder:
            folder = inside
            lines.append(f"  {inside}/")
        lines.append(f"{'    ' if inside else '  '}{name:<20} {text}".rstrip())
    return "\n".join([*lines, "```"])


def with_tree(text: str) -> str:
    """A README with the tree between its marks (appended where it has none)."""
    block = f"{BEGIN}\n{tree()}\n{END}"
    if BEGIN not in text:
        return f"{text.rstrip()}\n\n## The files\n\n{block}\n"
    head, _, rest = text.partition(BEGIN)
    return head + block + rest.partition(END)[2]


# writing


def _row(*cells: str) -> str:
    return "| " + " | ".join(" ".join(str(cell).replace("|", "\\|").split()) for cell in cells) + " |"


def _sentence(text: str) -> str:
    text = text if text.startswith("hagane") else text[:1].upper() + text[1:]
    return text if not text or text.endswith(".") else text + "."


def routes() -> list[tuple[str, str, str, str, bool]]:
    """(method, path, permission, summary, whether it stands in /openapi.json) of every route of the server."""
    import tempfile

    from hagane.project.config import ProjectConfig
    from hagane.project.wire import Project
    from hagane.server.access import needs
    from hagane.server.app import create_app

    with tempfile.TemporaryDirectory() as folder:
        app = create_app(Project(Path(folder), ProjectConfig()))
    return sorted(
        (method, route.path, need, route.summary or inspect.cleandoc(route.endpoint.__doc__ or "").partition("\n")[0], route.include_in_schema)
        for route, need in needs(app)
        for method in route.methods
    )


def http_page() -> str:
    lines = ["# HTTP routes", "", NOTE, "Who may use a route is said by a permission: see docs/guides/people.md. `open`: anyone.",
             "The API's shapes: `/openapi.json` of a running server.", ""]  # fmt: skip
    for title, wanted in (("API", True), ("Pages", False)):
        lines += [f"## {title}", "", _row("method", "path", "permission", "what"), _row("---", "---", "---", "---")]
        lines += [_row(method, f"`{path}`", need, what) for method, path, need, what, inside in sorted(routes(), key=lambda r: (r[1], r[0])) if inside is wanted]
        lines.append("")
    return "\n".join(lines)


PAGES = {"http.md": http_page, "config.md": config_page, "cli.md": cli_page, "errors.md": errors_page, "api.md": api_page}


def outputs() -> dict[Path, str]:
    """Every generated file as it should be."""
    found = {REFERENCE / name: page() for name, page in PAGES.items()}
    for name in READMES:
        if (ROOT / name).is_file():
            found[ROOT / name] = with_tree((ROOT / name).read_text(encoding="utf-8"))
    return found


def stale() -> list[str]:
    """The generated files that differ from what the source says."""
    return [
        path.relative_to(ROOT).as_posix()
        for path, text in outputs().items()
        if not path.is_file() or path.read_text(encoding="utf-8") != text
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when something is out of date")
    if parser.parse_args().check:
        found = stale()
        print("\n".join(found), file=sys.stderr)
        return 1 if found else 0
    for path, text in outputs().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        print(path.relative_to(ROOT), file=sys.stderr)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
