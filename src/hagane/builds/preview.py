"""What a stage would learn, shown before anything runs: what was recognised, first rows with masks, counts, bad rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from hagane.core.labels import Label, join
from hagane.train.dataset import Encoder
from hagane.train.rows import BadRow
from hagane.train.words import Row

from .origins import Documents, check_stage, guard_of, origins_of, shapes_of
from .spec import Stage, TrainFile

N_SHOWN = 3  # rows of each origin
N_LOOKED = 10_000  # rows of each origin that are counted
N_CHARS = 2_000  # of a shown row
Decode = Callable[[list[int]], str]


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of a row as text. `learnt`: a model learns to say it; else it only reads it."""

    text: str
    learnt: bool


@dataclass(frozen=True, slots=True)
class Shown:
    """A row as a model would see it. Content: only for those to whom `label` flows."""

    source: str
    line: int
    label: str
    n_tokens: int
    pieces: tuple[Piece, ...]


@dataclass(frozen=True, slots=True)
class Looked:
    """What was found in one origin. `whole`: all of it was looked at. Tokens are 0 where there is no tokenizer yet."""

    name: str
    whole: bool
    n_rows: int
    n_characters: int
    n_tokens: int
    n_learnt: int
    longest_tokens: int
    dropped: int
    masked: int
    bad: tuple[BadRow, ...]
    shown: tuple[Shown, ...]


@dataclass(frozen=True, slots=True)
class Preview:
    """What every origin of a stage holds. `label` is the join of what was looked at; `personal`: found, by kind."""

    origins: tuple[Looked, ...]
    label: Label
    personal: Mapping[str, int]

    def as_json(self) -> dict[str, Any]:
        """Lists and numbers; the text of the shown rows is in it."""
        return {"origins": [asdict(one) for one in self.origins], "label": str(self.label), "personal": dict(self.personal)}


def preview(
    spec: TrainFile,
    stage: Stage,
    *,
    documents: Documents,
    root: Path,
    default: Label,
    labels: Mapping[str, Label] | None = None,
    encoder: Encoder | None = None,
    decode: Decode | None = None,
    n_shown: int = N_SHOWN,
    n_looked: int = N_LOOKED,
) -> Preview:
    """Look at the data of a stage. Nothing is written. Without an `encoder` rows are shown as they are and characters
    counted; without `decode` an encoded row is shown by its texts. Raises: as `prepare`."""
    origins = origins_of(spec, stage, documents=documents, root=root, labels=labels, default=default)
    check_stage(stage, shapes_of(origins))
    guard = guard_of(spec)
    found, every = [], []
    for origin in origins:
        before = guard.n_dropped, guard.n_masked
        counts: Counter[str] = Counter()
        shown: list[Shown] = []
        whole, longest = True, 0
        for row in guard(iter(origin)):
            if counts["rows"] == n_looked:
                whole = False
                break
            every.append(row.label)
            counts["rows"] += 1
            counts["characters"] += sum(map(len, row.texts()))
            answers = list(_answers(row, encoder))
            size = sum(len(one.ids) for one in answers)
            counts["tokens"] += size
            counts["learnt"] += sum(sum(one.learnt) for one in answers)
            longest = max(longest, size)
            if len(shown) < n_shown:
                pieces = _pieces(row, answers, decode)
                shown.append(Shown(row.source, row.line, str(row.label), size, tuple(_short(pieces))))
        found.append(Looked(
            origin.name, whole, counts["rows"], counts["characters"], counts["tokens"], counts["learnt"], longest,
            guard.n_dropped - before[0], guard.n_masked - before[1], tuple(origin.bad), tuple(shown),
        ))  # fmt: skip
    return Preview(tuple(found), join(*dict.fromkeys(every)), dict(guard.found))


def _answers(row: Row, encoder: Encoder | None) -> Iterator[Any]:
    """The row as token ids; a pair of answers as two."""
    if encoder is None:
        return
    if row.kind == "preference":
        from hagane.train.pairs import encode_pair

        pair = encode_pair(row, encoder.encode)
        yield from (pair.chosen, pair.rejected)
    else:
        yield encoder.encode(row)


def _pieces(row: Row, answers: list[Any], decode: Decode | None) -> Iterator[Piece]:
    if answers and decode is not None:
        for one in answers:
            for learnt, group in groupby(zip(one.ids, one.learnt, strict=True), key=lambda pair: bool(pair[1])):
                yield Piece(decode([int(number) for number, _ in group]), learnt)
        return
    if row.text is not None:
        yield Piece(row.text, True)
    for turn in row.messages:
        yield Piece(turn.content, turn.role == "assistant" and turn.learn and not row.chosen)
    for turn in (*row.chosen, *row.rejected):
        yield Piece(turn.content, turn.role == "assistant" and turn.learn)


def _short(pieces: Iterator[Piece]) -> Iterator[Piece]:
    left = N_CHARS
    for piece in pieces:
        if left > 0:
            yield Piece(piece.text[:left] + ("…" if len(piece.text) > left else ""), piece.learnt)
        left -= len(piece.text)
