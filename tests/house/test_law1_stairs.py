"""Law 1: stairs only go down (DESIGN §3). Read with `ast`; imports inside functions count."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest
from source_tree import PACKAGE, Edge, called, edges, exceptions, files, imported, module_of, room_of, shown, tree_of

FLOORS = {
    0: ("core",),
    1: ("ledger", "sources", "prepare", "privacy", "index", "models", "train", "jobs", "contracts"),
    2: ("rag", "gateway", "datasets", "builds", "evals", "agents"),
    3: ("project",),
    4: ("cli", "server"),
}
FLOOR = {room: floor for floor, rooms in FLOORS.items() for room in rooms}
FOREIGN = {  # what these rooms may use beside the standard library
    "core": {"pydantic", "ruamel", "numpy"},
    "contracts": {"pytest", "numpy"},  # numpy: vectors cross the seams as arrays
}


def may_use(room: str, other: str) -> bool:
    """True when a file of `room` may use a module of the room `other`."""
    if room in (other, "hagane"):  # the package's own file names the public names, loaded late
        return True
    if other == "hagane":
        return FLOOR[room] == 4
    if room == "contracts" or FLOOR[room] == 1:
        return other == "core"
    if FLOOR[room] == 4:
        return other in ("project", "core")
    return FLOOR[other] < FLOOR[room] and other != "contracts"


def sideways(found: list[Edge]) -> list[Edge]:
    """Uses that no stair allows. One string may cross from door to door: exceptions.toml, [[door_string]]."""
    listed = {(entry["file"], entry["target"].partition(":")[0], "string") for entry in exceptions("door_string")}
    return [
        edge
        for edge in found
        if not may_use(room_of(edge.file[:-3].replace("/", ".")), room_of(edge.module)) and (edge.file, edge.module, edge.how) not in listed
    ]


def test_every_room_stands_on_a_floor():
    rooms = {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert rooms <= set(FLOOR), "a new room: name its floor in DESIGN and here"


@pytest.mark.parametrize("room", sorted(FLOOR))
def test_stairs_only_go_down(room: str):
    """Imports and "hagane.x.y:Class" strings alike: a table that names an upper room is an import, only later."""
    found = [edge for path in sorted((PACKAGE / room).rglob("*.py")) for edge in edges(path)]
    assert [str(edge) for edge in sideways(found)] == []


def test_what_crosses_between_doors_is_still_there():
    """One string, from the command line to the server; listed with a reason, and gone from the list once it is gone."""
    listed = exceptions("door_string")
    assert len(listed) <= 1
    for entry in listed:
        written = [node.value for node in ast.walk(tree_of(PACKAGE.parent / entry["file"])) if isinstance(node, ast.Constant)]
        assert entry["target"] in written, "no longer needed: take it off exceptions.toml"
        assert entry["reason"] and entry["since"]


@pytest.mark.parametrize("room", sorted(FOREIGN))
def test_these_rooms_need_next_to_nothing(room: str):
    allowed = FOREIGN[room] | {"hagane"}
    foreign = [
        f"{shown(path)}:{line} {module}"
        for path in sorted((PACKAGE / room).rglob("*.py"))
        for line, module in imported(tree_of(path), path)
        if (top := module.partition(".")[0]) not in sys.stdlib_module_names and top not in allowed
    ]
    assert foreign == []


def test_names_become_modules_in_few_places_only():
    """A dynamic import passes any wall; who does it is listed with a reason. Callers hand their own
    target to `jobs` as "module:function": that string is read where it is written, by the test above."""
    doing = {
        shown(path)
        for path in files()
        for _, name, _ in called(tree_of(path))
        if name.rpartition(".")[2] in ("import_module", "__import__", "run_module", "spec_from_file_location")
    }
    listed = {entry["file"]: entry for entry in exceptions("dynamic_import")}
    assert doing - set(listed) == set(), "use core.registry.load, or list the file with a reason"
    assert set(listed) - doing == set(), "no longer needed: take it off exceptions.toml"
    assert all(entry["reason"] and entry["since"] for entry in listed.values())


@pytest.mark.parametrize(
    ("file", "source", "wrong"),
    [
        ("index/made_up.py", "def f():\n    from ..rag import retrieve", ["hagane.rag.retrieve"]),
        ("index/made_up.py", "from ..core import types\nfrom . import bm25\nimport hagane.index.fuse", []),
        ("index/made_up.py", "T = {'検索': 'hagane.rag.retrieve:Retriever'}", ["hagane.rag.retrieve"]),
        ("rag/made_up.py", "import hagane.evals.run\nfrom hagane.index import bm25", ["hagane.evals.run"]),
        ("cli/made_up.py", "from hagane.index.memory import MemoryIndex", ["hagane.index.memory"]),
        ("cli/made_up.py", "T = {'網': 'hagane.server.listen:serve'}", ["hagane.server.listen"]),
        ("cli/serve.py", "T = {'網': 'hagane.server.listen:serve'}", []),
        ("cli/serve.py", "import hagane.server.listen", ["hagane.server.listen"]),
        ("core/made_up.py", "if False:\n    import hagane", ["hagane"]),
    ],
)
def test_the_reader_sees_every_kind_of_import(file: str, source: str, wrong: list[str], monkeypatch):
    """The law's own eyes: relative, late, absolute and written as a string."""
    path: Path = PACKAGE / file
    monkeypatch.setattr("source_tree.tree_of", lambda _: ast.parse(source))
    assert module_of(path).startswith("hagane.")
    assert [edge.module for edge in sideways(list(edges(path)))] == wrong
