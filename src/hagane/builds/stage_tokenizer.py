"""The stage that makes a tokenizer from the texts of its rows, and reports how well it fits them."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from hagane.core.errors import StateError, UsageError
from hagane.core.labels import Label

from .place import Place, take_place
from .settle import params_of, vocab_for
from .spec import TokenizerConfig, TrainFile

LOOKED = 200  # texts that the report is made from


def make(
    spec: TrainFile, job: Mapping[str, Any], *, documents: Callable[[], Iterable[Any]], place: Place,
    emit: Callable[[Mapping[str, Any]], None],
) -> dict[str, Any]:  # fmt: skip
    """Train the tokenizer into out/tokenizer. Raises: UsageError for no text, StorageError."""
    from hagane.train.template import BY_ARCHITECTURE, family
    from hagane.train.tokenizer import train_byte_bpe, train_sentencepiece

    told = spec.tokenizer or TokenizerConfig()
    began = time.perf_counter()
    kind = family(BY_ARCHITECTURE[spec.pretrain.family if spec.pretrain else "llama"])
    wanted = told.vocab or vocab_for(params_of(spec, flops_per_s=job["flops_per_s"]) if spec.pretrain else 8_000_000)
    emit({"event": "stage", "stage": "tokenizer", "wanted": wanted})
    train = train_sentencepiece if told.kind == "sentencepiece" else train_byte_bpe
    aside = place.folder / ".making"
    label = Label.parse(job["label"])
    tried: list[int] = []
    while True:
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True, mode=0o700)
        try:
            made = train(texts_of(spec, job, documents), aside, kind=kind, n_tokens=wanted, label=label)
            break
        except UsageError as cause:
            fits = re.match(r"at (?:most|least) (\d+)", cause.hint or "")
            if told.vocab or fits is None or int(fits[1]) in tried or len(tried) == 3:
                raise
            tried.append(wanted)
            wanted = int(fits[1])  # few texts fill no large vocabulary
    out = place.out / "tokenizer"
    take_place(aside, out)
    fits = _fit(out, texts_of(spec, job, documents))
    return {
        "stage": "tokenizer", "folder": str(out), "n_tokens": made.n_tokens, "kind": made.kind, "n_texts": made.n_texts,
        "n_characters": made.n_characters, "characters_per_token": fits, "seconds": round(time.perf_counter() - began, 2),
        "label": str(label),
    }  # fmt: skip


def texts_of(spec: TrainFile, job: Mapping[str, Any], documents: Callable[[], Iterable[Any]]) -> Iterator[str]:
    """Every text of the tokenizer's rows, as the policy on personal data lets it be used."""
    from .origins import guard_of, origins_of

    guard = guard_of(spec)
    labels = {name: Label.parse(text) for name, text in job["labels"].items()}
    origins = origins_of(spec, "tokenizer", documents=documents, root=Path(job["root"]), labels=labels, default=Label.parse(job["label"]))
    return (text for origin in origins for row in guard(origin) for text in row.texts())


def _fit(folder: Path, texts: Iterator[str]) -> float:
    """Characters per token over the first texts."""
    from itertools import islice

    from hagane.train.tokenizer_report import open_tokenizer

    to_ids, _, _ = open_tokenizer(folder)
    looked = list(islice(texts, LOOKED))
    n_tokens = sum(len(to_ids(text)) for text in looked)
    if not n_tokens:
        raise StateError("the tokenizer's texts are empty", hint="add documents, or name a file with texts")
    return round(sum(map(len, looked)) / n_tokens, 3)
