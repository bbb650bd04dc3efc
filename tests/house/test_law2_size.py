"""Law 2: no file over 500 lines, no function over 80; dated exceptions that only shrink."""

from __future__ import annotations

import ast
import datetime

from source_tree import exceptions, files, shown, tree_of

FILE_LINES, FUNCTION_LINES = 500, 80


def long_files() -> dict[str, int]:
    sizes = {shown(path): len(path.read_text(encoding="utf-8").splitlines()) for path in files()}
    return {file: lines for file, lines in sizes.items() if lines > FILE_LINES}


def long_functions() -> dict[str, int]:
    found = {}
    for path in files():
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > FUNCTION_LINES:
                    found[f"{shown(path)}:{node.name}"] = lines
    return found


def check(found: dict[str, int], listed: dict[str, dict]) -> None:
    beyond = {name: lines for name, lines in found.items() if lines > listed.get(name, {"lines": 0})["lines"]}
    assert beyond == {}, "too long: split it"
    idle = {name for name, entry in listed.items() if found.get(name, 0) < entry["lines"]}
    assert idle == set(), "shorter now: lower the number in exceptions.toml, or take the entry off"
    for name, entry in listed.items():
        assert entry["reason"], name
        assert datetime.date.fromisoformat(entry["since"]) <= datetime.date.today(), name


def test_no_file_over_500_lines():
    check(long_files(), {entry["file"]: entry for entry in exceptions("file_lines")})


def test_no_function_over_80_lines():
    listed = {f"{entry['file']}:{entry['function']}": entry for entry in exceptions("function_lines")}
    check(long_functions(), listed)
