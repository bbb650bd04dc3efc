"""The documents say what is so: two equal READMEs, commands and keys that exist, links that lead somewhere."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from hagane.builds.spec import TrainFile
from hagane.core.config import parse, read_yaml
from hagane.project.config import FILE, ProjectConfig, load

ROOT = Path(__file__).resolve().parents[2]
README, README_JA = ROOT / "README.md", ROOT / "README.ja.md"
GUIDES = sorted(path for path in (ROOT / "docs" / "guides").glob("*.md") if not path.name.endswith(".ja.md"))
PAGES = [
    README, README_JA, ROOT / "AGENTS.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md")),
    *(path for name in ("guides", "concepts", "decisions") for path in sorted((ROOT / "docs" / name).glob("*.md"))),
]  # fmt: skip
PAIRS = [(README, README_JA), *((path, path.with_name(f"{path.stem}.ja.md")) for path in GUIDES)]

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(text: str, *languages: str) -> list[str]:
    """The fenced blocks of a page, or those in these languages."""
    return [body for language, body in _FENCE.findall(text) if not languages or language in languages]


def prose(text: str) -> str:
    return _FENCE.sub("", text)


def heading_levels(text: str) -> list[int]:
    return [len(marks) for marks in re.findall(r"^(#+) ", prose(text), re.MULTILINE)]


def table_shapes(text: str) -> list[tuple[int, int]]:
    """(rows, columns) of each table, in order."""
    tables = re.findall(r"(?:^\|.*\|$\n?)+", prose(text), re.MULTILINE)
    rows = [table.replace(r"\|", "").strip().splitlines() for table in tables]
    return [(len(lines), max(line.count("|") for line in lines) - 1) for lines in rows]


def commands(text: str) -> Iterator[list[str]]:
    """Every `hagane ...` of the shell blocks, as words."""
    for body in blocks(text, "sh"):
        for line in body.splitlines():
            if found := re.search(r"(?:^|/|\s)(hagane\s.*)$", line.split(" > ")[0]):
                yield shlex.split(found[1], comments=True)


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.fixture(scope="module")
def program():
    import typer

    from hagane.cli.main import app

    return typer.main.get_command(app)


@pytest.mark.parametrize(("english", "japanese"), PAIRS, ids=lambda path: path.name)
def test_both_languages_have_the_same_build(english, japanese):
    """Equal headings, code and tables: whoever changes one page changes the other."""
    one, other = english.read_text(encoding="utf-8"), japanese.read_text(encoding="utf-8")
    assert heading_levels(one) == heading_levels(other)
    assert blocks(one) == blocks(other)
    assert table_shapes(one) == table_shapes(other)


def test_the_japanese_pages_are_japanese():
    for _, japanese in PAIRS:
        text = prose(japanese.read_text(encoding="utf-8"))
        assert len(re.findall(r"[\u3040-\u30ff]", text)) > 300, named(japanese)


def problem(words: list[str], program) -> str:
    """What the program does not know of a command line; "" when it knows all of it."""
    command, rest = program, [word for word in words[1:] if word != "--debug"]
    while rest and rest[0] in getattr(command, "commands", {}):
        command, rest = command.commands[rest[0]], rest[1:]
    if getattr(command, "commands", {}) and any(not word.startswith("-") for word in rest):
        return f"no command {' '.join(rest)}"
    known = {name for option in command.params for name in (*option.opts, *option.secondary_opts)} | {"--help"}
    options = {word.partition("=")[0] for word in rest if re.match(r"--?[a-z]", word)}
    return " ".join(sorted(options - known))


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_each_command_of_a_page_exists(page, program):
    """Commands and their options, as the program itself knows them."""
    found = list(commands(page.read_text(encoding="utf-8")))
    assert [words for words in found if problem(words, program)] == []
    assert found or page not in (README, README_JA, *GUIDES)


def test_a_wrong_command_would_be_found(program):
    text = "```sh\n. .venv/bin/activate\nhagane ask \"有給は？\" --as staff   # 社員として\n```"
    assert list(commands(text)) == [["hagane", "ask", "有給は？", "--as", "staff"]]
    assert problem(["hagane", "ask", "有給は？", "--az", "staff"], program) == "--az"
    assert problem(["hagane", "eval", "search", "質問.jsonl"], program) == "no command search 質問.jsonl"


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_each_yaml_block_is_understood(page, tmp_path):
    """Whole files as they stand; pieces of one as a project file of their own; train.yaml says that it is one."""
    for number, body in enumerate(blocks(page.read_text(encoding="utf-8"), "yaml")):
        file = tmp_path / f"{number}.yaml"
        file.write_text(body, encoding="utf-8")
        kind = TrainFile if body.startswith("# train.yaml") else ProjectConfig
        assert parse(kind, read_yaml(file), path=file).version == 1


def test_the_least_file_gives_the_labels_it_says(tmp_path):
    (tmp_path / FILE).write_text(blocks(README.read_text(encoding="utf-8"), "yaml")[0], encoding="utf-8")
    config = load(tmp_path)
    assert [config.label_of(source) for source in config.sources] == ["internal", "confidential:hr"]
    assert sorted(config.principals) == ["owner", "staff"]


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_lead_to_files_and_headings_that_exist(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page.read_text(encoding="utf-8"))):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        assert file.exists(), target
        if anchor:
            found = re.findall(r"^#+ (.+)$", prose(file.read_text(encoding="utf-8")), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w\- ]", "", text).strip().lower().replace(" ", "-") for text in found}, target


def test_pages_name_no_absolute_path_of_a_machine_and_no_registry():
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        assert not re.search(r"/work/|/root/|/tmp/|pypi\.|files\.pythonhosted|huggingface\.co|ollama\.ai", text), named(page)


def test_decisions_have_all_parts_and_fit_a_page():
    pages = sorted((ROOT / "docs" / "decisions").glob("*.md"))
    assert [int(page.name[:4]) for page in pages] == list(range(1, len(pages) + 1))
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert re.match(rf"# {page.name[:4]}: .+\n\n\d{{4}}-\d\d-\d\d, (accepted|superseded by \d{{4}})\.\n", text), page.name
        parts = re.findall(r"^## (.+)$", text, re.MULTILINE)
        assert [part for part in parts if part in ("Context", "Choice", "Rejected", "Revisit when")] == [
            "Context", "Choice", "Rejected", "Revisit when",
        ]  # fmt: skip
        assert len(text.splitlines()) <= 60, page.name


def test_agents_page_is_short():
    assert len((ROOT / "AGENTS.md").read_text(encoding="utf-8").splitlines()) <= 40


def test_licence_and_notice_are_there():
    assert "Apache License" in (ROOT / "LICENSE").read_text(encoding="utf-8")
    notice = (ROOT / "NOTICE").read_text(encoding="utf-8")
    assert "IPA Font License" in notice
    assert "Gemma is provided under and subject to the Gemma Terms of" in notice


def test_the_changelog_names_this_version():
    import hagane

    assert f"## {hagane.__version__} (" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
