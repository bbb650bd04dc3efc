"""Law 6: each public name, key, command and error code is documented; a caption per file."""

from __future__ import annotations

import importlib
import re

import pytest
from source_tree import PACKAGE, ROOT

REFERENCE = ROOT / "docs" / "reference"


def page(name: str) -> str:
    path = REFERENCE / name
    assert path.is_file(), "python docs/generate.py"
    return path.read_text(encoding="utf-8")


def headings(text: str) -> set[str]:
    return set(re.findall(r"^## `([^`]+)`$", text, re.MULTILINE))


def test_each_public_name_has_a_heading():
    import hagane

    public = set(getattr(hagane, "__all__", ()))
    if not public and not (PACKAGE / "cli" / "main.py").is_file():
        pytest.skip("hagane has no public names yet")
    assert public, "hagane.__all__ names what is public"
    assert all(getattr(hagane, name) is not None for name in public)
    assert headings(page("api.md")) == public


def test_each_key_has_an_entry(generate):
    text = page("config.md")
    missing = [
        key.path for key in generate.config_keys() if f"| `{key.path}` |" not in text and f"## `{key.path}`" not in text
    ]
    assert missing == []


def test_each_key_has_a_meaning(generate):
    assert [key.path for key in generate.config_keys() if not key.meaning.strip()] == []


def test_each_command_has_a_heading_and_says_what_it_does(cli, generate):
    found = generate.commands()
    assert headings(page("cli.md")) == {command.words for command in found}
    assert [command.words for command in found if not command.help] == []


def test_each_option_has_an_entry_and_a_meaning(cli, generate):
    text = page("cli.md")
    options = [(command.words, option) for command in generate.commands() for option in command.parameters]
    missing = [f"{words} {option.name}" for words, option in options if f"`{option.opts[0]}`" not in text
               and option.param_type_name == "option"]  # fmt: skip
    assert missing == []
    assert [f"{words} {option.name}" for words, option in options if not getattr(option, "help", None)] == []


def test_each_error_code_has_a_heading(generate):
    kinds = generate.error_classes()
    assert headings(page("errors.md")) == {kind.code for kind in kinds.values()}


def test_error_codes_differ_and_the_tree_names_each_error(generate):
    kinds = generate.error_classes()
    codes = [kind.code for kind in kinds.values()]
    assert sorted({code for code in codes if codes.count(code) > 1}) == []
    core = {name for name, kind in kinds.items() if kind.__module__ == "hagane.core.errors"}
    assert core == set(generate.error_captions()), "the tree at the top of core/errors.py"


def test_each_file_has_a_caption(generate):
    assert [path for path, caption in generate.captioned() if not caption] == []


def test_the_generated_files_are_current(generate, cli):
    assert generate.stale() == [], "python docs/generate.py"


def test_the_readme_carries_the_tree(generate):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert generate.BEGIN in text, "python docs/generate.py"
    assert generate.tree() in text, "python docs/generate.py"


def test_config_hints_point_at_a_page_that_exists():
    """Errors say `see docs/reference/config.md`."""
    source = "".join(path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py"))
    named = set(re.findall(r"docs/(?:reference|decisions|guides|concepts)/[\w-]+\.md", source))
    assert [name for name in sorted(named) if not (ROOT / name).is_file()] == []
    assert importlib.import_module("hagane.core.config")
