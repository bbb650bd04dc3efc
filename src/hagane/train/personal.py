"""Personal data before tokens exist: each kind allowed, masked, or its row dropped; detectors come from outside."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from hagane.core.errors import RefusedError
from hagane.core.seams import Detector, Span

from .words import Message, Row

Rule = Literal["allow", "mask", "drop_row"]


@dataclass(frozen=True, slots=True)
class Policy:
    """What happens to each kind of personal data (a detector's name); kinds not named are allowed."""

    rules: Mapping[str, Rule] = field(default_factory=dict)
    masked: str = "〔{kind}〕"  # what stands in its place; {kind} is the detector's name

    def needed(self) -> frozenset[str]:
        """The detectors without which the policy cannot be kept."""
        return frozenset(kind for kind, rule in self.rules.items() if rule != "allow")


class Guard:
    """Applies a policy to rows. `found` counts spans by kind, `n_dropped` and `n_masked` rows.

    Raises: RefusedError when the policy needs a detector that is not there.
    """

    def __init__(self, policy: Policy, detectors: Mapping[str, Detector]) -> None:
        missing = policy.needed() - detectors.keys()
        if missing:
            have = ", ".join(sorted(detectors)) or "none"
            raise RefusedError(
                f"the policy on personal data needs the detector {', '.join(sorted(missing))}, which is not there",
                hint=f"there are: {have}; allow what need not be found",
            )
        self.found: Counter[str] = Counter()
        self.n_dropped = self.n_masked = 0
        self._policy = policy
        self._detectors = {kind: detectors[kind] for kind in sorted(policy.needed())}

    @property
    def named(self) -> list[str]:
        """The policy as text, for fingerprints: two guards of equal names do the same with equal detectors."""
        return [self._policy.masked, *(f"{kind}: {self._policy.rules[kind]}" for kind in self._detectors)]

    def __call__(self, rows: Iterable[Row]) -> Iterator[Row]:
        """The rows that may be trained on, masked where the policy says so."""
        for row in rows:
            kept = self.applied(row)
            if kept is not None:
                yield kept

    def applied(self, row: Row) -> Row | None:
        """The row as it may be used, or None when it is dropped."""
        spans = {text: self._spans(text) for text in row.texts()}
        every = [span for text in row.texts() for span in spans[text]]
        self.found.update(span.kind for span in every)
        if any(self._policy.rules[span.kind] == "drop_row" for span in every):
            self.n_dropped += 1
            return None
        if not every:
            return row
        clean = {text: self._masked(text, found) for text, found in spans.items()}

        def said(turns: tuple[Message, ...]) -> tuple[Message, ...]:
            return tuple(replace(turn, content=clean[turn.content]) for turn in turns)

        text, chosen, rejected = row.text and clean[row.text], said(row.chosen), said(row.rejected)
        if chosen and chosen == rejected:  # they differed in what was masked: nothing is preferred any more
            self.n_dropped += 1
            return None
        self.n_masked += 1
        return replace(row, text=text, messages=said(row.messages), chosen=chosen, rejected=rejected)

    def _spans(self, text: str) -> list[Span]:
        found = [replace(span, kind=kind) for kind, detector in self._detectors.items() for span in detector.find(text)]
        return sorted(found, key=lambda span: (span.start, -span.end))

    def _masked(self, text: str, spans: list[Span]) -> str:
        """Overlapping spans are masked as one, named after the first."""
        pieces, behind = [], 0
        for span in spans:
            if span.start >= behind:
                pieces += [text[behind : span.start], self._policy.masked.format(kind=span.kind)]
            behind = max(behind, span.end)
        return "".join([*pieces, text[behind:]])
