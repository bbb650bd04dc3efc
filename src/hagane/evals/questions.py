"""Question sets: JSON lines in, typed questions out; a converter for SQuAD-style files."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hagane.core.errors import ConfigError, StateError, UsageError
from hagane.core.text import folded_path

_FIELDS = ("id", "question", "answerable", "gold_paths", "answer", "must_contain")


@dataclass(frozen=True, slots=True)
class Question:
    """One question of a set. `must_contain`: every entry must occur; alternatives are parted by |."""

    id: str | int
    question: str
    answerable: bool = True
    gold_paths: tuple[str, ...] = ()
    answers: tuple[str, ...] = ()  # any of them is right
    must_contain: tuple[str, ...] = ()
    rest: Mapping[str, Any] = field(default_factory=dict)


def load(path: Path) -> list[Question]:
    """The questions of a JSONL file; blank lines are skipped, the default id is the line's number.

    Raises: ConfigError with file and line.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeError) as cause:
        raise ConfigError(
            f"{path} cannot be read: {type(cause).__name__}", hint="give a JSONL file in UTF-8"
        ) from cause
    questions: list[Question] = []
    seen: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        question = _question(line, number, f"{path}:{number}")
        if str(question.id) in seen:
            raise ConfigError(f"{path}:{number}: id {question.id!r} stands in line {seen[str(question.id)]} already")
        seen[str(question.id)] = number
        questions.append(question)
    if not questions:
        raise ConfigError(
            f"{path} holds no questions", hint='one JSON object a line: {"question": "…", "gold_paths": ["…"]}'
        )
    return questions


def _question(line: str, number: int, where: str) -> Question:
    try:
        row = json.loads(line)
        if "\\u" in line:
            json.dumps(row, ensure_ascii=False).encode()
    except RecursionError as cause:
        raise ConfigError(f"{where}: nested too deeply", hint="one JSON object a line") from cause
    except UnicodeError as cause:
        raise ConfigError(f"{where}: half of a surrogate pair stands in it", hint="write the character itself") from cause
    except ValueError as cause:
        raise ConfigError(f"{where}: not JSON: {cause}", hint="one JSON object a line") from cause
    if not isinstance(row, dict):
        raise ConfigError(f"{where}: a question is an object", hint='{"question": "…", "gold_paths": ["…"]}')
    text = row.get("question")
    if not isinstance(text, str) or not text.strip():
        raise ConfigError(f"{where}: question is missing or empty", hint=f"known fields: {', '.join(_FIELDS)}")
    answerable = row.get("answerable")
    if answerable is not None and not isinstance(answerable, bool):
        raise ConfigError(f"{where}: answerable is {answerable!r}", hint="write true or false")
    id_ = row.get("id")
    if id_ is not None and (isinstance(id_, bool) or not isinstance(id_, str | int)):
        raise ConfigError(f"{where}: id is {id_!r}", hint="write a string or a whole number")
    must = _strings(row.get("must_contain"), "must_contain", where)
    if any(not any(part.strip() for part in entry.split("|")) for entry in must):
        raise ConfigError(f"{where}: must_contain holds an empty entry", hint="leave it out")
    return Question(
        id=number if id_ is None else id_,
        question=text,
        answerable=answerable is not False,
        gold_paths=tuple(
            folded_path(path).removeprefix("./") for path in _strings(row.get("gold_paths"), "gold_paths", where)
        ),
        answers=_strings(row.get("answer"), "answer", where),
        must_contain=must,
        rest={key: value for key, value in row.items() if key not in _FIELDS},
    )


def _strings(value: Any, name: str, where: str) -> tuple[str, ...]:
    """A string, a list of strings or nothing, as a tuple without empty ones."""
    values = [] if value is None else [value] if isinstance(value, str) else value
    if not isinstance(values, list) or not all(isinstance(item, str) for item in values):
        raise ConfigError(f"{where}: {name} is neither a string nor a list of strings")
    return tuple(item for item in values if item.strip())


def sample(questions: Sequence[Question], n: int, *, seed: int) -> list[Question]:
    """`n` of the questions (all, where there are fewer), drawn by `seed`. A smaller sample of the same seed is the
    beginning of a larger one. Raises: UsageError for n below 1."""
    if n < 1:
        raise UsageError(f"a sample of {n} questions is none", hint="take 1 or more")
    drawn = list(questions)
    random.Random(seed).shuffle(drawn)
    return drawn[:n]


# --- SQuAD --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Converted:
    """What `from_squad` wrote."""

    paragraphs: Path  # a folder to `add`
    questions: Path  # a file for `load`
    n_paragraphs: int
    n_questions: int


def from_squad(files: Sequence[Path], out_dir: Path) -> Converted:
    """SQuAD-style JSON (data > paragraphs > qas) as one text file per paragraph and a question set.

    Files are named by article and paragraph only, so that a title cannot help a search.
    Raises: ConfigError for a file of another shape; StateError if `out_dir` holds a set already.
    """
    folder, listed = out_dir / "paragraphs", out_dir / "questions.jsonl"
    if listed.exists() or folder.exists():
        raise StateError(f"{out_dir} holds a converted set already", hint="give an empty folder")
    articles = [article for file in files for article in _articles(file)]
    folder.mkdir(parents=True)
    rows: list[dict[str, Any]] = []
    n_paragraphs = 0
    for number, (title, paragraphs) in enumerate(articles):
        for place, (context, asked) in enumerate(paragraphs):
            name = f"{number:04}-{place:03}.txt"
            (folder / name).write_text(context, encoding="utf-8", newline="\n")
            n_paragraphs += 1
            rows.extend(_rows(asked, title, f"paragraphs/{name}"))
    _number_again(rows)
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    listed.write_text(text, encoding="utf-8", newline="\n")
    return Converted(folder, listed, n_paragraphs, len(rows))


def _articles(file: Path) -> Iterator[tuple[str, list[tuple[str, list[dict[str, Any]]]]]]:
    try:
        tree = json.loads(file.read_text(encoding="utf-8-sig"))
        for article in tree["data"]:
            yield str(article.get("title", "")), [(p["context"], p.get("qas", [])) for p in article["paragraphs"]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as cause:
        raise ConfigError(
            f"{file} is not SQuAD-style JSON: {type(cause).__name__}", hint="data: [{paragraphs: [{context, qas}]}]"
        ) from cause


def _rows(asked: Iterable[dict[str, Any]], title: str, path: str) -> Iterator[dict[str, Any]]:
    for item in asked:
        answers = list(dict.fromkeys(a["text"] for a in item.get("answers", []) if a.get("text")))
        answerable = not item.get("is_impossible", not answers)
        yield {
            "id": str(item.get("id", "")),
            "question": item["question"],
            "answerable": answerable,
            "answer": answers[0] if len(answers) == 1 else answers,
            "gold_paths": [path] if answerable else [],
            "title": title,
        }


def _number_again(rows: list[dict[str, Any]]) -> None:
    """Give missing and repeated ids the row's number."""
    seen: set[str] = set()
    for number, row in enumerate(rows, 1):
        given = re.sub(r"\s+", " ", row["id"]).strip()
        row["id"] = given if given and given not in seen else f"q{number}"
        seen.add(row["id"])
