"""Law 5: each backend name passes its seam's contract suite.

A file of tests/contract declares what it runs, `CONTRACT = {"STORES": ("lance", "memory")}` (the table's module may
stand before it, "hagane.index:STORES"), and parametrises over these names, so that each stands in the id of a collected test.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from source_tree import PACKAGE, ROOT, called, dotted, tables, tree_of

CONTRACTS = ROOT / "tests" / "contract"
NAMES = [(table, name) for table, entries in tables().items() for name in entries]


def declared(path: Path) -> dict[str, tuple[str, ...]]:
    """The CONTRACT literal of a test file; {} when it has none."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        if isinstance(target, ast.Name) and target.id == "CONTRACT":
            return ast.literal_eval(node.value)
    return {}


@cache
def covered() -> dict[tuple[str, str], list[Path]]:
    found: dict[tuple[str, str], list[Path]] = {}
    for path in sorted(CONTRACTS.glob("test_*.py")):
        for table, names in declared(path).items():
            for name in names:
                found.setdefault((table.rpartition(":")[2], name), []).append(path)
    return found


@cache
def collected() -> tuple[str, ...]:
    """The ids of all tests of tests/contract that a plain run would run."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", "-o", "addopts=-m 'not long'", str(CONTRACTS)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    return tuple(line for line in done.stdout.splitlines() if "::" in line)


def test_there_are_tables_to_prove():
    assert set(tables()) >= {"STORES", "ANALYZERS", "EMBEDDERS"}


@pytest.mark.parametrize(("table", "name"), NAMES, ids=[f"{table}-{name}" for table, name in NAMES])
def test_each_backend_name_has_a_contract_run(table: str, name: str):
    homes = covered().get((table, name), [])
    assert homes, f"name {name!r} of {table} in the CONTRACT of a file of tests/contract and run the suite on it"
    word = re.compile(rf"(?:\[|-){re.escape(name)}(?:-|\])")
    ran = [line for line in collected() if any(home.name in line for home in homes) and word.search(line)]
    assert ran, f"no collected test of {[home.name for home in homes]} carries {name!r} in its id"


@pytest.mark.parametrize(("table", "name"), NAMES, ids=[f"{table}-{name}" for table, name in NAMES])
def test_each_backend_name_stands_for_something(table: str, name: str):
    """A late-loaded string may point at nothing until a user writes its name."""
    module, _, attribute = tables()[table][name].partition(":")
    path = PACKAGE.parent.joinpath(*module.split(".")).with_suffix(".py")
    assert path.is_file(), f"{module} does not exist"
    names = {getattr(node, "name", "") for node in tree_of(path).body}
    names |= {alias.asname or alias.name for node in tree_of(path).body for alias in getattr(node, "names", ())
              if isinstance(alias, ast.alias)}  # fmt: skip
    assert attribute in names, f"{module} defines no {attribute}"


def test_nothing_is_declared_that_no_table_names():
    assert set(covered()) - set(NAMES) == set()


def test_contract_runs_are_never_skipped():
    """A backend that cannot run here has no business in a table."""
    skipping = [
        f"{path.name}:{node.lineno}"
        for path in sorted(CONTRACTS.glob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and re.search(r"(^|\.)(skip|skipif|importorskip|xfail)$", dotted(node))
    ]
    assert skipping == []
    marked = [
        f"{path.name}:{line}"
        for path in sorted(CONTRACTS.glob("*.py"))
        for line, name, _ in called(ast.parse(path.read_text(encoding="utf-8")))
        if name == "SkipTest"
    ]
    assert marked == []
