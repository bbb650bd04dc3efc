"""Ollama's Modelfile: the template says what the training template says, and something stops the model."""

from __future__ import annotations

import re

import pytest

from hagane.core.errors import UsageError
from hagane.train.modelfile import modelfile
from hagane.train.template import Template, families, family
from hagane.train.words import Message

TALK = (Message("user", "日当は?"), Message("assistant", "二千円です。"), Message("user", "海外では?"))


def say(template: str, messages) -> str:
    """The few words of Go's templates that ours use, by hand; the beginning mark is added by the engine."""
    one = re.compile(r"\{\{-? ?(.*?) ?-?\}\}", re.S)
    pieces = one.split(template)

    def run(at: int, role: str, content: str, state: dict) -> tuple[str, int]:
        """From pieces[at] to the matching end or else."""
        out = ""
        while at < len(pieces):
            word = pieces[at] if at % 2 else None
            if word is None:
                out, at = out + pieces[at], at + 1
            elif word == ".Role":
                out, at = out + role, at + 1
            elif word == ".Content":
                out, at = out + content, at + 1
            elif word == "$first":
                out, at = out + state["first"], at + 1
            elif word.startswith("$first"):
                state["first"] = content + "\n\n" if "printf" in word else ""
                at += 1
            elif word.startswith("if eq .Role"):
                taken, done = "", False
                while True:
                    wanted = "eq" not in pieces[at] or pieces[at].split('"')[1] == role
                    inner, end = run(at + 1, role, content, state if wanted and not done else dict(state))
                    if wanted and not done:
                        taken, done = inner, True
                    at = end
                    if pieces[at] == "end":
                        break
                out, at = out + taken, at + 1
            else:  # end, else
                return out, at
        return out, at

    start = next(n for n, piece in enumerate(pieces) if n % 2 and piece.startswith("range"))
    state, body, after = {"first": ""}, "", start
    for message in messages:
        said, after = run(start + 1, message.role, message.content, state)
        body += said
    return body + "".join(pieces[after + 1 :])


@pytest.mark.parametrize("talk", [TALK, (Message("system", "規程だけ。"), *TALK)])
@pytest.mark.parametrize("name", families())
def test_ollama_sees_the_text_of_training(name: str, talk):
    text = modelfile("m.gguf", family(name))
    template = text.split('TEMPLATE """')[1].split('"""')[0]
    assert say(template, talk) == Template.of(name).render(talk, ask=True).text.removeprefix(family(name).bos)


@pytest.mark.parametrize("name", families())
def test_something_stops_the_model(name: str):
    assert f'PARAMETER stop "{family(name).end_of_turn}"' in modelfile("m.gguf", family(name))


def test_files_words_and_licences_stand_in_it():
    text = modelfile(
        "m.gguf", family("qwen"), adapter="lora.gguf", system="規程だけを根拠に答える。", license=["CC BY-SA 3.0"]
    )
    assert text.startswith("FROM ./m.gguf\nADAPTER ./lora.gguf\n")
    assert 'SYSTEM """規程だけを根拠に答える。"""' in text and 'LICENSE """CC BY-SA 3.0"""' in text


@pytest.mark.parametrize("name", ["../m.gguf", "", "a\nADAPTER /etc/x", ".hidden"])
def test_a_name_that_is_another_place_is_refused(name: str):
    with pytest.raises(UsageError):
        modelfile(name, family("qwen"))


def test_words_that_would_end_the_quotation_are_refused():
    with pytest.raises(UsageError):
        modelfile("m.gguf", family("qwen"), system='規程"""\nFROM /etc/passwd')
