"""What the laws share: the command line once it stands, and golden lists."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from source_tree import GOLDEN, PACKAGE, ROOT


@pytest.fixture(scope="session")
def cli() -> Any:
    """The click command tree of `hagane`. Skips only where its file does not stand yet."""
    if not (PACKAGE / "cli" / "main.py").is_file():
        pytest.skip("src/hagane/cli/main.py does not stand yet")
    import typer

    return typer.main.get_command(importlib.import_module("hagane.cli.main").app)


@pytest.fixture
def golden() -> Callable[[str, Sequence[str]], None]:
    """Compares lines with tests/house/golden/NAME.txt; HAGANE_WRITE_GOLDEN=1 writes the file instead."""

    def compare(name: str, lines: Sequence[str]) -> None:
        path = GOLDEN / f"{name}.txt"
        if os.environ.get("HAGANE_WRITE_GOLDEN"):
            path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        kept = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        new, gone = [line for line in lines if line not in kept], [line for line in kept if line not in lines]
        again = "HAGANE_WRITE_GOLDEN=1 python -m pytest tests/house/test_law4_golden.py"
        assert (new, gone) == ([], []), f"{path.name} differs; if that is meant: {again}"

    return compare


@pytest.fixture(scope="session")
def generate() -> Any:
    """docs/generate.py as a module: what it would write is what the laws compare with."""
    spec = importlib.util.spec_from_file_location("docs_generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["docs_generate"] = module
    spec.loader.exec_module(module)
    return module
