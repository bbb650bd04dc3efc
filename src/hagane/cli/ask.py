"""hagane search, hagane ask."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from hagane.core.errors import UsageError

from .options import HERE, As, Json, ProjectDir, open_project, print_json, say

Answerer = Annotated[str | None, typer.Option("--answerer", metavar="extract|read|generate", help="Who answers (default: answer.answerer).")]


def search(
    question: Annotated[str, typer.Argument(metavar="QUESTION", help="What to look for, in your own words.")],
    n: Annotated[int, typer.Option("-n", metavar="N", min=1, max=200, help="Passages to show.")] = 10,
    project: ProjectDir = HERE,
    as_: As = None,
    json: Json = False,
) -> None:
    """The passages that fit a question, with scores and why."""
    from hagane.project.questions import search as find

    _check(question)
    with open_project(project) as opened:
        found = find(opened, question, by=opened.principal(as_), n=n)
    if json:
        print_json(found)
        return
    for at, passage in enumerate(found["passages"], start=1):
        why = passage["why"]
        places = ", ".join(f"{name} #{why[name]:.0f}" for name in ("words", "vectors") if name in why)
        places += f", cosine {why['cosine']:.2f}" if "cosine" in why else ""
        print(f"{at:>2}  {passage['score']:.3f}  {_where(passage)}  [{passage['label']}]  ({places})")
        print(f"      {' > '.join(dict.fromkeys([passage['title'], *passage['headings']]))}")
        text = " ".join(passage["text"].split())
        print(f"      {text[:160]}{'…' if len(text) > 160 else ''}")
    if not found["passages"]:
        say("nothing found")
    _say_incomplete(found["index"])


def ask(
    question: Annotated[str | None, typer.Argument(metavar="QUESTION", help="Without one: a conversation on the terminal.")] = None,
    answerer: Answerer = None,
    model: Annotated[str | None, typer.Option("--model", metavar="NAME", help="A model that answers instead of answer.model: see hagane models.")] = None,
    history: Annotated[
        Path | None, typer.Option("--history", metavar="FILE", help="JSON list of {question, answer, label}: what was said before.")
    ] = None,
    project: ProjectDir = HERE,
    as_: As = None,
    json: Json = False,
) -> None:
    """Answer from the documents, with a citation behind each sentence; abstain when they do not say."""
    from hagane.project.questions import Conversation, read_history

    with open_project(project) as opened:
        talk = Conversation(opened, by=opened.principal(as_), answerer=answerer, model=model, history=read_history(opened, history))
        if question is not None:
            _one(talk, question, json=json)
            return
        if sys.stdin.isatty():
            say("ask something; an empty line or Ctrl-D ends")
        while (line := _read_line()) is not None:
            _one(talk, line, json=json)


def _read_line() -> str | None:
    try:
        line = input("? " if sys.stdin.isatty() else "").strip()
    except EOFError:
        return None
    except UnicodeError as cause:
        raise _not_text() from cause
    return line or None


def _check(question: str) -> None:
    """Raises: UsageError for bytes that are no text."""
    try:
        question.encode()
    except UnicodeError as cause:
        raise _not_text() from cause


def _not_text() -> UsageError:
    return UsageError("the question is not UTF-8 text", hint="check the terminal's or the script's encoding")


def _one(talk: Any, question: str, *, json: bool) -> None:
    from hagane.project.abstain import abstention
    from hagane.project.questions import answer_shown

    _check(question)
    if json:
        print_json(answer_shown(talk.ask(question)))
        return
    answer = talk.ask(question, on_text=lambda text: print(text, end="", flush=True))
    if answer.abstained:
        print(abstention(question, answer))
    else:
        print()
    for citations in (answer.citations, answer.nearest):
        for citation in citations:
            print(f"  [{citation.n}] {citation.path}{_place(citation.place)}  [{citation.label}]  version {citation.version}")
            quote = " ".join(citation.quote.split())
            print(f"      「{quote[:140]}{'…' if len(quote) > 140 else ''}」")
    _say_incomplete(answer.index)


def _where(passage: dict[str, Any]) -> str:
    place = passage["place"]
    if place["cell"]:
        return f"{passage['path']} {place['cell']}"
    return passage["path"] + (f" p.{place['page']}" if place["page"] else "")


def _place(place: Any) -> str:
    if place.cell:
        return f" {place.cell}"
    return f" p.{place.page}" if place.page else ""


def _say_incomplete(index: Any) -> None:
    if index["words"] < 1 or index["vectors"] < 1:
        say(f"note: search is not complete yet: words {index['words']:.0%}, meaning {index['vectors']:.0%}; hagane sync goes on")
