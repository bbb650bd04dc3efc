"""Examples of a file as rows: shape recognised from the first ones and said, bad rows named and counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from hagane.core.errors import LabelError, SourceError
from hagane.core.labels import Label

from .lines import MAX_LINE_BYTES
from .shapes import BadRowError, fields_of, parts, shapes_of
from .tables import Format, Raw, format_of, raws
from .whole import sha256_of
from .words import Row, Shape

N_LOOKED = 20  # rows looked at to recognise the shape
MAX_BAD = 100
_SHAPES_SAID: dict[Shape, str] = {
    "text": "plain text", "prompt_completion": "prompt and completion", "alpaca": "Alpaca", "sharegpt": "ShareGPT",
    "messages": "OpenAI messages", "preference": "preference pairs",
}  # fmt: skip
_HINT = (
    "fields it could have: text; prompt, completion; instruction, input, output; conversations; messages; "
    "prompt, chosen, rejected"
)


@dataclass(frozen=True, slots=True)
class Recognised:
    """What a file was taken for, before anything of it is used."""

    source: str
    format: Format
    encoding: str  # "" for Parquet
    shape: Shape
    fields: tuple[str, ...]  # what rows are made from
    ignored: tuple[str, ...]
    n_fitting: int  # of the rows looked at
    n_looked: int

    def __str__(self) -> str:
        how = f"{self.format}{', ' + self.encoding if self.encoding else ''}"
        left = f"; not used: {', '.join(self.ignored)}" if self.ignored else ""
        what = f"{_SHAPES_SAID[self.shape]} from {', '.join(self.fields)}"
        return f"{self.source}: {how}; {what} ({self.n_fitting} of the first {self.n_looked} rows){left}"


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that was left out. The reason names fields and places, never content."""

    source: str
    line: int
    reason: str

    def __str__(self) -> str:
        return f"{self.source}:{self.line}: {self.reason}"


def recognise(
    path: Path, *, shape: Shape | None = None, max_bytes: int = MAX_LINE_BYTES, named: str | None = None
) -> Recognised:
    """What `path` holds, by its first rows; a given `shape` is taken at its word. `named`: how rows name the file.

    Raises: SourceError when it is empty, binary, unreadable, or its rows have no shape that we know.
    """
    kind, encoding = format_of(path)
    looked = list(islice(raws(path, kind, encoding=encoding, max_bytes=max_bytes), N_LOOKED))
    good = [raw for raw in looked if raw.bad is None]
    if not looked:
        raise SourceError(f"{path} holds no examples", reason="empty", hint="name a file that holds examples")
    if not good:
        first = BadRow(str(path), looked[0].line, str(looked[0].bad))
        raise SourceError(f"none of the first {len(looked)} rows can be read: {first}", reason="damaged")
    votes = Counter(found[0] for raw in good if (found := shapes_of(raw.fields)))
    if shape is None and not votes:
        names = ", ".join(sorted(good[0].fields)[:12]) or "none"
        raise SourceError(f"{path}: no known shape; its fields are {names}", reason="unsupported", hint=_HINT)
    taken: Shape = shape or votes.most_common(1)[0][0]
    names = frozenset().union(*(raw.fields.keys() for raw in good))
    used = fields_of(taken, names)
    fitting = sum(_fits(taken, raw) for raw in good)
    return Recognised(named or str(path), kind, encoding, taken, used, tuple(sorted(names - set(used))), fitting, len(looked))


def _fits(shape: Shape, raw: Raw) -> bool:
    try:
        parts(shape, raw.fields)
    except BadRowError:
        return False
    return True


class Rows:
    """The rows of one file; iterate as often as needed. `recognised` is known at once; `bad` and `n_good` are of the
    last walk. A row whose field `label_field` holds a label carries it, any other `label`.
    `named`: what rows call the file, as its user wrote it; default: its path.

    Raises: SourceError when the file cannot be read, when more than `max_bad` rows are bad (all are named up to
    there), and when not one row is good.
    """

    def __init__(
        self,
        path: Path,
        *,
        label: Label,
        shape: Shape | None = None,
        label_field: str | None = None,
        max_bad: int = MAX_BAD,
        max_bytes: int = MAX_LINE_BYTES,
        named: str | None = None,
    ) -> None:
        self.recognised = recognise(path, shape=shape, max_bytes=max_bytes, named=named)
        names = (*self.recognised.fields, *self.recognised.ignored)
        if label_field is not None and label_field not in names:
            hint = f"its fields are {', '.join(names)}"
            raise SourceError(f"{path}: no row has a field {label_field!r} for labels", reason="unsupported", hint=hint)
        self.bad: list[BadRow] = []
        self.n_good = 0
        self._path, self._label, self._label_field = path, label, label_field
        self._max_bad, self._max_bytes = max_bad, max_bytes

    @property
    def name(self) -> str:
        """What it is, for people."""
        return str(self.recognised)

    def known(self) -> list[str]:
        """What its rows are made from, for fingerprints. Raises: StorageError."""
        return [sha256_of(self._path), self.name, self.how]

    @property
    def how(self) -> str:
        """How labels are given, for fingerprints: with the file's bytes, what its rows are."""
        return f"{self._label} {self._label_field or ''} {self._max_bytes}"

    def __iter__(self) -> Iterator[Row]:
        self.bad, self.n_good = [], 0
        for raw in self._raws():
            try:
                row = self._row(raw)
            except BadRowError as error:
                self._set_aside(raw.line, str(error))
                continue
            self.n_good += 1
            yield row
        if not self.n_good:
            first = f": {self.bad[0]}" if self.bad else ""
            raise SourceError(f"{self._path} holds no good row{first}", reason="empty")

    def _raws(self) -> Iterator[Raw]:
        known = self.recognised
        names = known.fields if self._label_field is None else (*known.fields, self._label_field)
        return raws(self._path, known.format, encoding=known.encoding, max_bytes=self._max_bytes, names=names)

    def _row(self, raw: Raw) -> Row:
        if raw.bad is not None:
            raise BadRowError(raw.bad)
        made = parts(self.recognised.shape, raw.fields)
        label = self._labelled(raw)
        return Row(label, self.recognised.source, raw.line, made.text, made.messages, made.chosen, made.rejected)

    def _labelled(self, raw: Raw) -> Label:
        value = None if self._label_field is None else raw.fields.get(self._label_field)
        if value is None or value == "":
            return self._label
        try:
            return Label.parse(value)
        except LabelError as cause:
            raise BadRowError(f"{self._label_field} holds no label") from cause

    def _set_aside(self, line: int, reason: str) -> None:
        self.bad.append(BadRow(self.recognised.source, line, reason))
        if len(self.bad) > self._max_bad:
            hint = f"mend the file, or allow more than {self._max_bad} bad rows"
            what = f"more than {self._max_bad} bad rows of {self.n_good + len(self.bad)}; the last: {self.bad[-1]}"
            raise SourceError(what, reason="damaged", hint=hint)
