"""A Modelfile, with which Ollama serves an exported GGUF file: its template, what stops it, its adapter."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files

from ..core.errors import UsageError
from .template import Family

_QUOTES = '"""'


def modelfile(
    model: str,
    kind: Family,
    *,
    adapter: str | None = None,
    system: str = "",
    context: int = 4096,
    license: Sequence[str] = (),
) -> str:
    """Text of a Modelfile beside `model` and `adapter`, both names of files. Raises: UsageError for a name that would
    be another place, or words that cannot be quoted."""
    for name in (model, adapter or "x"):
        if not name or "/" in name or "\\" in name or "\n" in name or name.startswith("."):
            raise UsageError(f"{name!r} is no name of a file beside the Modelfile")
    lines = [f"FROM ./{model}"]
    if adapter:
        lines.append(f"ADAPTER ./{adapter}")
    lines.append(f"TEMPLATE {_quoted(_template(kind.name))}")
    if system:
        lines.append(f"SYSTEM {_quoted(system)}")
    lines += [f'PARAMETER stop "{mark}"' for mark in dict.fromkeys((kind.end_of_turn, kind.eos))]
    lines += [f"PARAMETER num_ctx {context}", "PARAMETER temperature 0"]
    lines += [f"LICENSE {_quoted(text)}" for text in license]
    return "\n".join(lines) + "\n"


def _template(name: str) -> str:
    text = files("hagane.train").joinpath(f"templates/{name}.ollama").read_text(encoding="utf-8")
    return text.removesuffix("\n") if name == "mistral" else text  # the others end with a line of their own


def _quoted(text: str) -> str:
    if _QUOTES in text or "\r" in text:
        raise UsageError("three quotation marks cannot stand in a Modelfile")
    return f"{_QUOTES}{text}{_QUOTES}"
