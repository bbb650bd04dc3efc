"""The shapes that examples come in, told apart by their fields, and each made into a Row.

text; prompt/completion; Alpaca; ShareGPT; OpenAI messages; preference pairs. Reasons for a bad row name fields and
places, never what stands in them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .words import ROLES, Message, Shape

Fields = Mapping[str, Any]
_ANSWERS = (  # prompt and completion, by the names in use
    ("prompt", "completion"), ("prompt", "response"), ("question", "answer"),
    ("instruction", "response"), ("input", "output"), ("prompt", "answer"),
)  # fmt: skip
_SPEAKERS = {  # ShareGPT's words for roles
    "human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "bot": "assistant",
    "model": "assistant", "system": "system", "tool": "tool", "observation": "tool",
}  # fmt: skip


class BadRowError(Exception):
    """This row cannot be used; the message says why, without its content."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What of a Row an example holds; see `words.Row`."""

    text: str | None = None
    messages: tuple[Message, ...] = ()
    chosen: tuple[Message, ...] = ()
    rejected: tuple[Message, ...] = ()


def shapes_of(row: Fields) -> list[Shape]:
    """The shapes whose fields `row` has, the most telling first."""
    found: list[Shape] = []
    if {"chosen", "rejected"} <= row.keys() or {"preferred_output", "non_preferred_output"} <= row.keys():
        found.append("preference")
    if isinstance(row.get("messages"), list):
        found.append("messages")
    if isinstance(row.get("conversations"), list):
        found.append("sharegpt")
    if {"instruction", "output"} <= row.keys():
        found.append("alpaca")
    if any(row.keys() >= set(pair) for pair in _ANSWERS):
        found.append("prompt_completion")
    if "text" in row:
        found.append("text")
    return found


def fields_of(shape: Shape, names: frozenset[str]) -> tuple[str, ...]:
    """Which of the fields `names` a row of `shape` is made from, in reading order."""
    if shape == "prompt_completion":
        pair = next((pair for pair in _ANSWERS if names >= set(pair)), ())
        return ("system", *pair) if "system" in names and pair else pair
    return tuple(name for name in _FIELDS[shape] if name in names)


def parts(shape: Shape, row: Fields) -> Parts:
    """The example in `row`, read as `shape`. Raises: BadRowError."""
    return _READERS[shape](row)


def _string(row: Fields, name: str, *, empty: bool = False) -> str:
    value = row.get(name)
    if value is None and empty:
        return ""
    if not isinstance(value, str):
        raise BadRowError(f"{name} is missing" if value is None else f"{name} is {_kind(value)}, not text")
    return _checked(value, name, empty=empty)


def _checked(value: str, name: str, *, empty: bool = False) -> str:
    if not empty and not value.strip():
        raise BadRowError(f"{name} is empty")
    if "\0" in value:
        raise BadRowError(f"{name} holds a NUL character")
    try:
        value.encode()
    except UnicodeEncodeError as cause:
        raise BadRowError(f"{name} holds half a surrogate pair") from cause
    return value


def _kind(value: Any) -> str:
    named = {dict: "an object", list: "a list", bool: "true or false", int: "a number", float: "a number"}
    return named.get(type(value), f"a {type(value).__name__}")


def _text(row: Fields) -> Parts:
    return Parts(text=_string(row, "text"))


def _opening(row: Fields) -> list[Message]:
    system = _string(row, "system", empty=True)
    return [Message("system", system)] if system.strip() else []


def _prompt_completion(row: Fields) -> Parts:
    pair = next((pair for pair in _ANSWERS if row.keys() >= set(pair)), None)
    if pair is None:
        raise BadRowError("has no prompt and completion")
    said = (Message("user", _string(row, pair[0])), Message("assistant", _string(row, pair[1])))
    return Parts(messages=(*_opening(row), *said))


def _alpaca(row: Fields) -> Parts:
    """`input` goes below the instruction, a blank line between. Source: the Stanford Alpaca data set's README."""
    turns = _opening(row)
    history = row.get("history") or []
    if not isinstance(history, list):
        raise BadRowError(f"history is {_kind(history)}, not a list")
    for n, pair in enumerate(history):
        if not (isinstance(pair, list) and len(pair) == 2 and all(isinstance(said, str) for said in pair)):
            raise BadRowError(f"history[{n}] is not a question and an answer")
        question, answer = (_checked(said, f"history[{n}]") for said in pair)
        turns += [Message("user", question), Message("assistant", answer)]
    given = _string(row, "input", empty=True)
    asked = _string(row, "instruction") + (f"\n\n{given}" if given.strip() else "")
    return Parts(messages=(*turns, Message("user", asked), Message("assistant", _string(row, "output"))))


def _sharegpt(row: Fields) -> Parts:
    return Parts(messages=conversation(row.get("conversations"), "conversations", before=_opening(row)))


def _messages(row: Fields) -> Parts:
    return Parts(messages=conversation(row.get("messages"), "messages"))


def _preference(row: Fields) -> Parts:
    """chosen and rejected as text behind a prompt, or as conversations that begin alike; also OpenAI's own names."""
    if "preferred_output" in row:
        given = row.get("input")
        prompt: Any = given.get("messages") if isinstance(given, Mapping) else None
        chosen, rejected = row["preferred_output"], row.get("non_preferred_output")
    else:
        prompt, chosen, rejected = row.get("prompt"), row.get("chosen"), row.get("rejected")
    before = _turns(prompt, "prompt", "user") if prompt is not None else []
    good, bad = _turns(chosen, "chosen", "assistant"), _turns(rejected, "rejected", "assistant")
    shared = 0
    while shared < min(len(good), len(bad)) - 1 and good[shared] == bad[shared]:
        shared += 1
    if shared and before and good[: len(before)] == before[:shared]:  # the prompt stands in front of both once more
        before = []
    before, good, bad = [*before, *good[:shared]], good[shared:], bad[shared:]
    if good == bad:
        raise BadRowError("chosen and rejected are the same")
    for name, tail in (("chosen", good), ("rejected", bad)):
        _check_order([*before, *tail], name)
        if not before or tail[0].role != "assistant":
            raise BadRowError(f"{name} answers nothing: there is no prompt before it")
    return Parts(messages=tuple(before), chosen=tuple(good), rejected=tuple(bad))


def _turns(value: Any, name: str, role: str) -> list[Message]:
    if isinstance(value, str):
        return [Message(role, _checked(value, name))]  # type: ignore[arg-type]
    return _each(value, name)


def conversation(value: Any, name: str, *, before: list[Message] | None = None) -> tuple[Message, ...]:
    """A list of turns, checked: system first only, a user begins, an assistant ends and something is learnt.
    Raises: BadRowError."""
    turns = [*(before or []), *_each(value, name)]
    _check_order(turns, name)
    if not any(turn.role == "assistant" and turn.learn for turn in turns):
        raise BadRowError(f"{name} holds no assistant's turn to learn from")
    return tuple(turns)


def _check_order(turns: list[Message], name: str) -> None:
    said = turns[1:] if turns and turns[0].role == "system" else turns
    if any(turn.role == "system" for turn in said):
        raise BadRowError(f"{name}: a system turn may only stand first")
    if not said or said[0].role != "user":
        raise BadRowError(f"{name}: the first turn is not the user's")
    if said[-1].role != "assistant":
        raise BadRowError(f"{name}: the last turn is not the assistant's")


def _each(value: Any, name: str) -> list[Message]:
    if not isinstance(value, list) or not value:
        raise BadRowError(f"{name} is empty" if value == [] else f"{name} is not a list of turns")
    return [_turn(one, f"{name}[{n}]") for n, one in enumerate(value)]


def _turn(one: Any, name: str) -> Message:
    if not isinstance(one, Mapping):
        raise BadRowError(f"{name} is {_kind(one)}, not an object")
    speaker = one["role"] if "role" in one else one.get("from")
    role = _SPEAKERS.get(speaker) if isinstance(speaker, str) and "from" in one else speaker
    if role == "developer":
        role = "system"
    if role not in ROLES:
        raise BadRowError(f"{name}: the role is not one of {', '.join(ROLES)}")
    if one.get("tool_calls") or one.get("function_call"):
        raise BadRowError(f"{name} calls a tool, which cannot be trained on yet")
    content = one["content"] if "content" in one else one.get("value")
    if isinstance(content, list):
        content = "".join(_part(part, f"{name}.content[{n}]") for n, part in enumerate(content))
    if not isinstance(content, str):
        raise BadRowError(f"{name} has no text")
    weight = one.get("weight")
    if weight not in (None, 0, 1):
        raise BadRowError(f"{name}.weight is neither 0 nor 1")
    return Message(role, _checked(content, name, empty=role == "system"), weight != 0)


def _part(part: Any, name: str) -> str:
    if isinstance(part, Mapping) and part.get("type") == "text" and isinstance(part.get("text"), str):
        return part["text"]
    raise BadRowError(f"{name} is not text")


_READERS: dict[Shape, Callable[[Fields], Parts]] = {
    "preference": _preference,
    "messages": _messages,
    "sharegpt": _sharegpt,
    "alpaca": _alpaca,
    "prompt_completion": _prompt_completion,
    "text": _text,
}
_FIELDS: dict[Shape, tuple[str, ...]] = {
    "preference": ("prompt", "chosen", "rejected", "input", "preferred_output", "non_preferred_output"),
    "messages": ("messages",),
    "sharegpt": ("system", "conversations"),
    "alpaca": ("system", "history", "instruction", "input", "output"),
    "text": ("text",),
}
