"""The parity gate: a model says the same in training's library, in its GGUF file and behind the API, and it stops.

The reference is the model as it was trained (transformers, fp32). The others are callables: this room knows no
engine. Token ids must be equal, always. Files of F32, F16 and BF16 must say the same greedy text; where the reference
itself hardly prefers its token (a tie), another choice counts as equal. Quantised files must choose the reference's
next token in a share of all places. What ends the reference's answer must end the others'. What fails is not published.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..core.errors import RefusedError, UsageError

TIE = 1e-3  # difference of the two best logits below which either is right
N_TOKENS = 64
SHARES = {"Q8_0": 0.99, "K": 0.95}  # of equal next tokens along the reference
EXACT = ("F32", "F16", "BF16")
LOST = "\ufffd"  # what an unfinished letter is shown as


@dataclass(frozen=True, slots=True)
class Said:
    """A greedy answer. `ids` and `margins` (best logit minus the second, per token) belong to the reference; the token
    that ended it is their last, and not in `text`. Sides that only serve text leave both empty; `n_prompt`: tokens that
    they say the prompt had, 0 when they do not say."""

    text: str
    ended: bool
    ids: tuple[int, ...] = ()
    margins: tuple[float, ...] = ()
    n_prompt: int = 0


Loss = Callable[[Sequence[int], Sequence[int]], float]


@dataclass(frozen=True, slots=True)
class Reference:
    """The model as trained. `tokens`: ids of a rendered prompt; `say`: greedy, at most n tokens; `text`: of ids; `loss`:
    (ids, targets) to the sum of nats over the targets that are not negative."""

    tokens: Callable[[str], Sequence[int]]
    say: Callable[[Sequence[int], int], Said]
    text: Callable[[Sequence[int]], str]
    loss: Loss | None = None


@dataclass(frozen=True, slots=True)
class Side:
    """One place where the model is served. A None is a thing that this side cannot show: another side must.

    `tokens`: ids of a rendered prompt; `say`: (prompt, most tokens) to greedy text; `follow`: ids to the likeliest next
    token behind each of them. `numbers`: how its weights are kept (F32, F16, BF16, Q8_0, Q4_K_M, ...)."""

    name: str
    numbers: str
    tokens: Callable[[str], Sequence[int]] | None = None
    say: Callable[[str, int], Said] | None = None
    follow: Callable[[Sequence[int]], Sequence[int]] | None = None
    loss: Loss | None = None


@dataclass(frozen=True, slots=True)
class Check:
    """One claim about one side: `got` of `of` held, `needed` is the share that must. `failed`: numbers of prompts."""

    side: str
    claim: str  # tokens, text, next, stops
    got: int
    of: int
    needed: float
    failed: tuple[int, ...] = ()

    @property
    def passed(self) -> bool:
        """A claim about nothing is not shown, and so it fails."""
        return self.of > 0 and self.got >= self.needed * self.of

    def __str__(self) -> str:
        mark = "passed" if self.passed else "FAILED"
        which = f", prompts {', '.join(map(str, self.failed[:10]))}" if self.failed else ""
        if not self.of and self.claim == "stops":
            return f"{self.side} never ended its answer to any prompt, so that nothing shows it stops: train it longer: {mark}"
        return f"{self.side} {self.claim}: {self.got} of {self.of}, needed {self.needed:g}: {mark}{which}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """All checks. `ties`: answers that parted where the reference had a tie."""

    checks: tuple[Check, ...]
    ties: int = 0

    @property
    def passed(self) -> bool:
        return bool(self.checks) and all(check.passed for check in self.checks)

    def require(self) -> None:
        """Raises: RefusedError, naming what failed, when the model must not be published."""
        failed = [str(check) for check in self.checks if not check.passed]
        if not self.passed:
            raise RefusedError(
                "the model does not say the same everywhere: " + ("; ".join(failed) or "nothing was compared"),
                hint="it is not published; export again, or look at its chat template and tokenizer",
            )


def share_for(numbers: str, shares: dict[str, float] | None = None) -> float:
    """The share of equal next tokens that a quantised file must reach. Raises: UsageError for a kind without one."""
    table = SHARES | (shares or {})
    key = numbers if numbers in table else "K" if "_K" in numbers or numbers.startswith("Q") else ""
    if not key:
        raise UsageError(f"there is no share for {numbers!r}", hint=f"there are {', '.join(table)}; give one")
    return table[key]


def gate(
    prompts: Sequence[str],
    reference: Reference,
    sides: Sequence[Side],
    *,
    texts: Sequence[str] = (),
    n_tokens: int = N_TOKENS,
    tie: float = TIE,
    shares: dict[str, float] | None = None,
    stops: bool = True,
) -> Verdict:
    """Compares every side with the reference. `prompts`: rendered, ready to be answered; `texts`: more texts whose
    token ids are compared; `stops`: an answer must have ended (not so for a model that was never taught to answer).
    Raises: UsageError for nothing to compare."""
    if not prompts or not sides:
        raise UsageError("the gate needs prompts and a side", hint="50 fixed prompts are usual")
    ids = [list(reference.tokens(prompt)) for prompt in prompts]
    said = [reference.say(prompt_ids, n_tokens) for prompt_ids in ids]
    checks: list[Check] = []
    ties = 0
    for side in sides:
        if side.tokens is not None:
            every = [*prompts, *texts]
            want = [*ids, *(list(reference.tokens(text)) for text in texts)]
            wrong = [n for n, text in enumerate(every) if list(side.tokens(text)) != want[n]]
            checks.append(Check(side.name, "tokens", len(every) - len(wrong), len(every), 1.0, tuple(wrong)))
        if side.say is not None:
            answers = [side.say(prompt, n_tokens) for prompt in prompts]
            checks += _counts(side, ids, answers)
            found, n_ties = _texts(side, said, answers, reference, tie=tie)
            checks += [check for check in found if check.claim != "stops" or stops]
            ties += n_ties
        if side.follow is not None and side.numbers not in EXACT:
            checks.append(_next(side, ids, said, share_for(side.numbers, shares)))
    return Verdict(tuple(checks), ties)


def losses(
    rows: Sequence[tuple[Sequence[int], Sequence[int]]], reference: Reference, sides: Sequence[Side]
) -> dict[str, float]:
    """Mean nats per learnt token over rows of (ids, targets): of the "reference" and of each side that can tell."""
    n_targets = sum(target >= 0 for _, targets in rows for target in targets)
    told = [("reference", reference.loss), *((side.name, side.loss) for side in sides)]
    return {
        name: sum(loss(ids, targets) for ids, targets in rows) / n_targets
        for name, loss in told
        if loss is not None and n_targets
    }


def _counts(side: Side, ids: Sequence[Sequence[int]], answers: Sequence[Said]) -> list[Check]:
    """What serves says only how many tokens a prompt had: a mark too many at its beginning would show."""
    if not any(one.n_prompt for one in answers):
        return []
    wrong = tuple(n for n, one in enumerate(answers) if one.n_prompt != len(ids[n]))
    return [Check(side.name, "prompt length", len(ids) - len(wrong), len(ids), 1.0, wrong)]


def _texts(
    side: Side, said: Sequence[Said], answers: Sequence[Said], reference: Reference, *, tie: float
) -> tuple[list[Check], int]:
    """Same text (exact kinds), and: what ended there ends here."""
    parted = [parting(one, other, reference.text) for one, other in zip(said, answers, strict=True)]
    at_tie = {n for n, at in enumerate(parted) if at is not None and one_ties(said[n], at, tie)}
    checks = []
    if side.numbers in EXACT:
        wrong = tuple(n for n, at in enumerate(parted) if at is not None and n not in at_tie)
        checks.append(Check(side.name, "text", len(said) - len(wrong), len(said), 1.0, wrong))
    ends = [n for n, one in enumerate(said) if one.ended]
    same = [n for n in ends if parted[n] is None or n not in at_tie]
    if side.numbers not in EXACT:  # a quantised file may part ways earlier; it must know the end where it does not
        same = [n for n in ends if parted[n] is None or said[n].text == answers[n].text]
    late = tuple(n for n in same if not answers[n].ended)
    checks.append(Check(side.name, "stops", len(same) - len(late), len(same), 1.0, late))
    return checks, len(at_tie) if side.numbers in EXACT else 0


def parting(one: Said, other: Said, text: Callable[[Sequence[int]], str]) -> int | None:
    """The place of the reference's token at which the other's text goes another way; None when both are the same."""
    # a letter that the last token leaves unfinished is shown by one library and kept back by the other
    if one.text.rstrip(LOST) == other.text.rstrip(LOST) and one.ended == other.ended:
        return None
    last = len(one.ids) - one.ended
    for place in range(last):
        if not other.text.startswith(text(one.ids[: place + 1]).rstrip(LOST)):
            return place
    return max(0, last if one.ended else last - 1)


def one_ties(one: Said, place: int, tie: float) -> bool:
    """True when the reference itself hardly preferred its token there."""
    return place < len(one.margins) and one.margins[place] <= tie


def _next(side: Side, ids: Sequence[Sequence[int]], said: Sequence[Said], share: float) -> Check:
    assert side.follow is not None
    got = of = 0
    failed = []
    for n, (prompt, one) in enumerate(zip(ids, said, strict=True)):
        row = [*prompt, *one.ids]
        likeliest = list(side.follow(row[:-1]))[len(prompt) - 1 :]
        equal = sum(a == b for a, b in zip(likeliest, one.ids, strict=True))
        got, of = got + equal, of + len(one.ids)
        if equal < share * len(one.ids):
            failed.append(n)
    return Check(side.name, "next", got, of, share, tuple(failed))
