"""hagane plan, train, export."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer

from .options import HERE, As, Json, ProjectDir, open_project, print_json, say
from .progress import ProgressKind, progress

Stage = Annotated[str, typer.Argument(metavar="STAGE", help="tokenizer, pretrain, tune, prefer, or all of the file in order.")]
File = Annotated[Path, typer.Argument(metavar="FILE", help="train.yaml.")]
TRAIN_FILE = Path("train.yaml")
EVERY_S = 5.0


def train(
    stage: Stage,
    file: File = TRAIN_FILE,
    again: Annotated[bool, typer.Option("--again", help="Begin anew: what an earlier run of the stage learnt is thrown away.")] = False,
    preview: Annotated[bool, typer.Option("--preview", help="Only show what STAGE would learn: first rows with what is learnt in 【】, counts, bad rows.")] = False,
    progress_kind: ProgressKind = "auto",
    project: ProjectDir = HERE,
    as_: As = None,
    json: Json = False,
) -> None:
    """Train a model from train.yaml. Ctrl-C keeps what was learnt; the same command goes on."""
    from hagane.project.training import train as learn

    with open_project(project) as opened:
        by = opened.principal(as_)
        if preview:
            _previewed(opened, file, stage, by=by, json=json)
            return
        with _stopping() as stop, _shown(progress_kind) as emit:
            done = learn(opened, file, stage, by=by, emit=emit, stop=stop, again=again)
    if json:
        print_json(done)
        return
    for made in done["stages"]:
        print(_line(made))
    say(f"next: {done['next']}")


def _previewed(opened: Any, file: Path, stage: str, *, by: Any, json: bool) -> None:
    from hagane.project.training_preview import look

    told = look(opened, file, stage, by=by)
    if json:
        print_json(told)
        return
    for one in told["origins"]:
        tokens = f", {one['n_tokens']:,} tokens ({one['n_learnt']:,} learnt; longest {one['longest_tokens']:,})" if told["tokenizer"] else ""
        more = "" if one["whole"] else " looked at; there are more"
        print(f"{one['name']}\n  {one['n_rows']:,} rows{more}, {one['n_characters']:,} characters{tokens}; dropped {one['dropped']}, masked {one['masked']}")
        for bad in one["bad"][:10]:
            print(f"  left out: {bad['source']}:{bad['line']}: {bad['reason']}")
        if len(one["bad"]) > 10:
            print(f"  and {len(one['bad']) - 10} more left out")
        for row in one["shown"]:
            text = "".join(f"【{part['text']}】" if part["learnt"] else part["text"] for part in row["pieces"])
            print(f"  {row['source']}:{row['line']} ({row['label']})\n    " + text.replace("\n", "\n    "))
    found = ", ".join(f"{kind} {n}" for kind, n in sorted(told["personal"].items())) or "none looked for or found"
    print(f"label {told['label']}; personal data: {found}")


def _line(made: Mapping[str, Any]) -> str:
    again = " (was there already)" if made.get("reused") else ""
    if made["stage"] == "tokenizer":
        return f"tokenizer: {made['n_tokens']:,} pieces, {made['characters_per_token']:.2f} characters per token, label {made['label']}{again}"
    dev = f", dev loss {made['dev_loss']:.3f}" if made.get("dev_loss") is not None else ""
    bits = f" ({made['bits_per_byte']:.3f} bits per byte)" if made.get("bits_per_byte") is not None else ""
    what = "adapter" if made["kind"] == "adapter" else "model"
    early = "; ended early, the dev loss was no longer better" if made["why"] == "no_longer_better" else ""
    return (
        f"{made['stage']}: {what} of {made['n_params']:,} parameters, {made['steps']:,} steps, {made['tokens']:,} tokens in "
        f"{_clock(made['seconds'])}, loss {made['loss']:.3f}{dev}{bits}, label {made['label']}{early}{again}"
    )


@contextmanager
def _stopping() -> Iterator[Callable[[], bool]]:
    """The first Ctrl-C asks for an end at the next step; the second one ends at once."""
    asked = False

    def ask(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        say("\nstopping at the next step; Ctrl-C once more ends at once")

    before = signal.signal(signal.SIGINT, ask)
    try:
        yield lambda: asked
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _shown(kind: str) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """Events as lines; JSON lines or nothing when asked."""
    if kind in ("json", "none"):
        with progress(kind) as emit:
            yield emit
    else:
        yield _Lines(live=kind == "auto" and sys.stderr.isatty())


class _Lines:
    """A line now and then on a log, one that changes on a terminal."""

    def __init__(self, *, live: bool) -> None:
        self._live, self._at, self._open = live, 0.0, False

    def __call__(self, event: Mapping[str, Any]) -> None:
        told = _told(event)
        if event["event"] == "step":
            now, last = time.monotonic(), event["step"] == event.get("total")
            if self._live:
                print(f"\r{told:<100}", end="", file=sys.stderr, flush=True)
                self._open = True
            elif last or now - self._at >= EVERY_S:
                self._at = now
                say(told)
        elif told:
            if self._open:
                say()
                self._open = False
            say(told)


def _told(event: Mapping[str, Any]) -> str:
    stage = event.get("stage", "")
    match event["event"]:
        case "step":
            loss = float("nan") if event.get("loss") is None else event["loss"]  # none: nothing of the batch earns it
            return (
                f"{stage} {event['step']:,}/{event['total']:,}  loss {loss:.3f}  {event['tokens_per_s']:,.0f} tokens/s  "
                f"rate {event['learning_rate']:.2g}  {_clock(event['remaining_s'])} left"
            )
        case "dev":
            bits = f" ({event['bits_per_byte']:.3f} bits per byte)" if "bits_per_byte" in event else ""
            return f"{stage}: dev loss {event['loss']:.3f}{bits}, best {event['best']:.3f}"
        case "sample":
            return f"{stage} says: {event['prompt']} -> {event['text']!r}"
        case "data" if event["what"] == "ready":
            bad = f", {event['n_bad']:,} bad rows left out" if event["n_bad"] else ""
            return f"{stage}: {event['n_documents']:,} rows, {event['n_tokens']:,} tokens, {event['n_rows']:,} packed rows{bad}"
        case "data" if event["what"] == "reading":
            return "\n".join(f"{stage}: {one}" for one in event["recognised"])
        case "settled":
            return f"{stage}: {event['n_params']:,} parameters, {event['steps']:,} steps of {event['rows']:,} x {event['tokens']:,} tokens, rate {event['rate']:.2g}, label {event['label']}"
        case "resumed":
            return f"{stage}: goes on behind step {event['step']:,}"
        case "damaged":
            return f"{stage}: the checkpoint {event['folder']} is damaged and passed over"
        case "halved":
            return f"{stage}: memory is short; {event['rows']:,} rows at once from now on"
        case "export":
            return f"export: {event['doing']} {event.get('numbers', '')}".rstrip()
        case "note" | "bad":
            return f"{stage}: {event['text']}"
        case "stage":
            return f"{stage}: {event['wanted']:,} pieces wanted"
        case _:
            return ""


def _clock(seconds: float | None) -> str:
    if seconds is None:
        return "?"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    return f"{whole // 60} min {whole % 60:02} s" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60:02} min"


def plan(
    file: File = TRAIN_FILE,
    project: ProjectDir = HERE,
    as_: As = None,
    json: Json = False,
) -> None:
    """What training would cost: parameters, memory, hours, money; here and on named GPUs. Exit 1 when it does not fit here."""
    from hagane.project.training_export import plan as look

    with open_project(project) as opened:
        told = look(opened, file, by=opened.principal(as_))
    if json:
        print_json({key: value for key, value in told.items() if key != "text"})
    else:
        print(told["text"])
        if told["fits"]:
            say(f"next: hagane train all {file}")
        else:
            say(f"does not fit: {told['why']}")
            if told["hint"]:
                say(f"hint: {told['hint']}")
    if not told["fits"]:
        raise typer.Exit(1)


def export(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A model of hagane models.")],
    numbers: Annotated[list[str] | None, typer.Option("--numbers", metavar="KIND", help="F32, F16, BF16, Q8_0, Q4_K_M, ...; repeat for several. Default: train.yaml's.")] = None,
    progress_kind: ProgressKind = "auto",
    project: ProjectDir = HERE,
    as_: As = None,
    json: Json = False,
) -> None:
    """Make the files of a trained model, hold them against it, and publish what passes. Exit 1 when it is blocked."""
    from hagane.project.training_export import export as make

    with open_project(project) as opened:
        by = opened.principal(as_)
        with _stopping() as stop, _shown(progress_kind) as emit:
            told = make(opened, name, by=by, emit=emit, stop=stop, numbers=tuple(numbers or ()))
    if json:
        print_json(told)
    else:
        for one in told["files"]:
            print(f"{told['folder']}/{one['path']}")
        print(f"{name}: {told['state']}, label {told['label']}")
        for line in told["why"]:
            say(f"  {line}")
        if told["next"]:
            say(f"next: {told['next']}")
    if told["state"] != "published":
        raise typer.Exit(1)
