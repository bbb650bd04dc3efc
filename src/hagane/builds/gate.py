"""The parity gate over files: the folder in transformers, each GGUF file in llama.cpp, and the engine that serves.

Engines run in worker processes with one thread. What is compared and what must be equal: train/parity.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.labels import Label
from ..core.types import ChatRequest, Message
from ..jobs.local import Worker
from ..models.llama_cpp import LlamaCpp

if TYPE_CHECKING:
    from ..train.parity import Check, Reference, Said, Side

EXACT = "hagane.models.llama_exact:Engine"
TIME_S = 600.0  # a file may be read from a slow disk, a long row takes a while on a small machine
ROOM = 64  # tokens beyond the longest prompt and its answer

Row = tuple[Sequence[int], Sequence[int]]  # ids, and the target of each; negative: nothing is learnt there
Emit = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True, slots=True)
class Served:
    """A file that is to be published: alone, or with `adapter` beside it."""

    file: Path
    numbers: str
    adapter: Path | None = None

    @property
    def name(self) -> str:
        return f"{self.numbers} with adapter" if self.adapter else self.numbers


@dataclass(frozen=True, slots=True)
class Gated:
    """How the gate ended. `checks`: by the name of the file; `dev_loss`: mean nats per token, "reference" among them."""

    checks: Mapping[str, tuple[Check, ...]]
    ties: int
    n_prompts: int
    n_ended: int
    dev_loss: Mapping[str, float] = field(default_factory=dict)

    def passed(self, name: str) -> bool:
        found = self.checks.get(name, ())
        return bool(found) and all(check.passed for check in found)

    def sentences(self, name: str) -> list[str]:
        """What failed of a file."""
        return [str(check) for check in self.checks.get(name, ()) if not check.passed]

    def as_json(self) -> dict[str, Any]:
        shown = {
            name: [asdict(one) | {"failed": list(one.failed), "passed": one.passed} for one in checks]
            for name, checks in self.checks.items()
        }
        passed = {name: self.passed(name) for name in self.checks}
        losses = {name: round(loss, 6) for name, loss in self.dev_loss.items()}
        return {"passed": all(passed.values()), "files": passed, "checks": shown, "ties": self.ties,
                "prompts": self.n_prompts, "ended": self.n_ended, "dev_loss": losses}  # fmt: skip


def questions(n: int) -> list[str]:
    """The first `n` of the fixed questions, Japanese and English; begun again when there are fewer."""
    text = files("hagane.train").joinpath("parity_prompts.txt").read_text(encoding="utf-8")
    every = text.splitlines()
    return [every[number % len(every)] for number in range(n)]


def check(
    folder: Path,
    served: Sequence[Served],
    *,
    n_prompts: int,
    chat: bool,
    label: Label,
    texts: Sequence[str] = (),
    dev: Sequence[Row] = (),
    shares: Mapping[str, float] | None = None,
    n_tokens: int | None = None,
    emit: Emit = lambda _: None,
) -> Gated:
    """Holds every file of `served` against `folder`. `chat`: questions go through the chat template, and the answers
    must end; otherwise they are plain text that is gone on with. Raises: what the readers and engines raise."""
    from ..train.parity import N_TOKENS, gate, losses
    from ..train.reference import reference_of, rendered

    reference = reference_of(folder)
    n_tokens = n_tokens or N_TOKENS
    asked = dict(zip(rendered(folder, questions(n_prompts), chat=chat), questions(n_prompts), strict=True))
    heard = _Heard(reference)
    longest = max([*(len(reference.tokens(prompt)) + n_tokens for prompt in asked), *(len(ids) for ids, _ in dev)])
    found: dict[str, tuple[Check, ...]] = {}
    dev_loss: dict[str, float] = {}
    ties = 0
    for number, one in enumerate(served, 1):
        emit({"event": "export", "doing": "parity", "file": one.name, "done": number - 1, "total": len(served)})
        with _sides(one, asked, context=longest + ROOM, chat=chat, label=label) as sides:
            verdict = gate(
                list(asked),
                heard.reference,
                sides,
                texts=texts,
                n_tokens=n_tokens,
                shares=dict(shares or {}),
                stops=chat,
            )
            dev_loss |= losses(dev, heard.reference, sides)
        found[one.name] = verdict.checks
        ties += verdict.ties
    return Gated(found, ties, len(asked), heard.n_ended, dev_loss)


class _Heard:
    """The reference says everything once, however many files are held against it."""

    def __init__(self, reference: Reference) -> None:
        self._said: dict[tuple[int, ...], Said] = {}
        self._losses: dict[tuple[int, ...], float] = {}

        def say(ids: Sequence[int], n: int) -> Said:
            key = tuple(ids)
            if key not in self._said:
                self._said[key] = reference.say(ids, n)
            return self._said[key]

        def loss(ids: Sequence[int], targets: Sequence[int]) -> float:
            key = (*ids, -1, *targets)
            if key not in self._losses and reference.loss is not None:
                self._losses[key] = reference.loss(ids, targets)
            return self._losses[key]

        self.reference = replace(reference, say=say, loss=loss)

    @property
    def n_ended(self) -> int:
        return sum(one.ended for one in self._said.values())


@contextmanager
def _sides(one: Served, asked: Mapping[str, str], *, context: int, chat: bool, label: Label) -> Iterator[list[Side]]:
    """The file in llama.cpp, where ids and logits are seen; and in the engine that serves, where texts are."""
    from ..train.parity import Said, Side

    init = {"file": str(one.file), "context": context, "adapter": str(one.adapter) if one.adapter else None}
    with ExitStack() as opened:
        worker = Worker(EXACT, init=init, threads=1, time_s=TIME_S)
        opened.callback(worker.close)

        def tokens(text: str) -> list[int]:
            (answer,) = worker.call({"text": text, "ends": False})
            return list(answer["ids"])

        def follow(ids: Sequence[int]) -> list[int]:
            return [row["next"] for row in worker.call({"ids": list(ids)})]

        def loss(ids: Sequence[int], targets: Sequence[int]) -> float:
            (answer,) = worker.call({"ids": list(ids), "targets": list(targets)})
            return float(answer["loss"])

        engine = opened.enter_context(
            LlamaCpp(one.file, spawn=Worker, adapter=one.adapter or (), threads=1, context=context, time_s=TIME_S)
        )

        def say(prompt: str, n_tokens: int) -> Said:
            turns = (Message.of("user", asked[prompt]),)
            request = ChatRequest(turns, label, max_tokens=n_tokens, temperature=0.0, raw=not chat)
            deltas = list(engine.chat(request))
            usage = deltas[-1].usage
            text = "".join(delta.text for delta in deltas)
            return Said(text, deltas[-1].finish == "stop", n_prompt=usage.input_tokens if usage else 0)

        yield [
            Side(one.name, one.numbers, tokens, None, follow, loss),
            Side(f"{one.name} served", one.numbers, say=say),
        ]
