"""From what a stage made to files that are served: merge, GGUF, adapter, Modelfile; and the gates before all of them.

    report = export(made_folder, Path(".hagane/models/our-llm"), spec.export, name="our-llm", label=label, base=base)

Everything is made in a folder of its own. What passes its gates takes its place in the model's folder, in one move per
file; what does not is kept in `blocked/`, and the report says why. A disk that fills up leaves what was published before.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from ..core.errors import ModelError, StoppedError, StorageError, UsageError
from ..core.labels import Label
from ..core.whole_file import private_folder, sync_folder, write_whole
from .gate import Emit, Gated, Row, Served, check
from .spec import ExportConfig

REPORT = "report.json"
BLOCKED = "blocked"
NAMED = "named"  # of a gate's report: rows by source and line, for the sealed record alone
MAKING = ".making-"
EXACT = ("F32", "F16", "BF16")
ADAPTER_GGUF = "adapter.gguf"
N_PROBED = 4  # prompts on which the logits before and after merging are compared
ROOM_FACTOR = 1.05


class Verdict(Protocol):
    """What another gate says (builds/memory.py). `sentences`: what failed, empty when nothing did."""

    @property
    def passed(self) -> bool: ...
    @property
    def sentences(self) -> Sequence[str]: ...
    def as_json(self) -> Mapping[str, Any]: ...


Gate = Callable[[Path], Verdict]  # of the model as a Hugging Face folder


@dataclass(frozen=True, slots=True)
class OutFile:
    """A file of the model's folder. `role`: gguf (answers), adapter (beside its base), other."""

    path: str
    role: Literal["gguf", "adapter", "other"]
    numbers: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """How an export ended. `files`: what is published; `served`: the one that answers; `why`: what is blocked, and by
    what; `reports`: "parity", "merge" and the other gates, each a mapping."""

    name: str
    state: Literal["published", "blocked"]
    label: Label
    files: tuple[OutFile, ...]
    served: str
    why: tuple[str, ...]
    chat: Literal["template", "raw"]
    n_params: int
    context: int
    licence: str = ""
    reports: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        return self.state == "published"

    def as_json(self) -> dict[str, Any]:
        rows = [{"path": one.path, "role": one.role, "numbers": one.numbers} for one in self.files]
        return {"name": self.name, "state": self.state, "label": str(self.label), "files": rows, "served": self.served,
                "why": list(self.why), "chat": self.chat, "n_params": self.n_params, "context": self.context,
                "licence": self.licence, "reports": {name: dict(one) for name, one in self.reports.items()}}  # fmt: skip


def export(
    source: Path,
    folder: Path,
    settings: ExportConfig,
    *,
    name: str,
    label: Label,
    base: Path | None = None,
    base_file: Path | None = None,
    family: str | None = None,
    licence: str = "",
    chat: bool = True,
    dev: Sequence[Row] = (),
    texts: Sequence[str] = (),
    gates: Mapping[str, Gate] | None = None,
    n_tokens: int | None = None,
    emit: Emit = lambda _: None,
    stop: Callable[[], bool] = lambda: False,
) -> Report:
    """Exports what a stage made into the model's `folder`, through every gate.

    `source`: a Hugging Face folder or a peft adapter; then `base` is the folder that it belongs to and `base_file` the
    GGUF file that it is served with, where there is one. `label` is joined with what source and base say of themselves.
    `family`: the chat template to settle; default: what the folder has. `chat` False: a model that only reads on.
    `dev`: rows whose loss is compared; `texts`: more texts whose tokens are. `gates`: further ones, by name.

    Raises: RefusedError for an adapter of another base, code or pickles in a folder, a tokenizer that GGUF would change;
    ConfigError for a template that never ends a turn; StoppedError; StorageError, with nothing changed.
    """
    try:
        private_folder(folder)
        for left in folder.glob(f"{MAKING}*"):
            shutil.rmtree(left, ignore_errors=True)
        making = Path(tempfile.mkdtemp(prefix=MAKING, dir=folder))
    except OSError as cause:
        raise StorageError(
            f"{folder} cannot be written: {cause.strerror}", hint="check the disk and its rights"
        ) from cause
    work = _Export(source, making, settings, name=name, label=label, emit=emit, stop=stop)
    try:
        work.model(base, family)
        work.room()
        base = base if work.is_adapter else None
        work.files(base, licence, chat=chat)
        gated = work.gate(base, base_file, chat=chat, dev=dev, texts=texts, n_tokens=n_tokens)
        others = {key: one(work.hf) for key, one in (gates or {}).items()}
        report = work.judge(gated, others, licence=licence, chat=chat)
        work.place(folder, report)
        return report
    except OSError as cause:
        hint = "free space, then export again: what was published before is as it was"
        raise StorageError(f"{name} cannot be exported: {cause.strerror or type(cause).__name__}", hint=hint) from cause
    finally:
        shutil.rmtree(making, ignore_errors=True)


class _Export:
    """The steps of `export`, in the folder `making`."""

    def __init__(
        self, source: Path, making: Path, settings: ExportConfig, *, name: str, label: Label, emit: Emit,
        stop: Callable[[], bool],
    ) -> None:  # fmt: skip
        self.source, self.making, self.settings, self.name, self.label = source, making, settings, name, label
        self.hf = making / "hf"
        self.is_adapter = (source / "adapter_config.json").is_file()
        self.made: list[Served] = []
        self.beside: Served | None = None
        self.reports: dict[str, Mapping[str, Any]] = {}
        self._emit, self._stop = emit, stop

    def _now(self, doing: str, **more: Any) -> None:
        if self._stop():
            raise StoppedError(f"the export of {self.name} was stopped", hint="the same command exports it again")
        self._emit({"event": "export", "doing": doing, **more})

    def model(self, base: Path | None, family: str | None) -> None:
        """The whole model as a folder: merged, or a copy; its template settled and its label written."""
        from ..train.base import family_of, settle
        from ..train.model_folder import check_folder, read_json
        from ..train.reference import check_ends
        from ..train.tokenizer import CARD

        for one in (self.source, base):
            if one is not None and (one / CARD).is_file() and (said := read_json(one / CARD).get("label")):
                self.label = self.label.join(Label.parse(str(said)))
        if self.is_adapter:
            if base is None:
                raise UsageError(f"{self.source.name} is an adapter", hint="name the base that it was trained on")
            self._now("merge")
            self._merge(base)
            shutil.copytree(self.source, self.making / "adapter")
        else:
            check_folder(self.source)
            self._now("copy")
            shutil.copytree(self.source, self.hf, copy_function=_linked)
        if family is not None:
            settle(self.hf, family)
        check_ends(self.hf)
        card = read_json(self.hf / CARD) if (self.hf / CARD).is_file() else {"template": family or family_of(self.hf)}
        write_whole(
            self.hf / CARD, json.dumps(card | {"label": str(self.label)}, ensure_ascii=False, indent=1).encode()
        )
        self.config = read_json(self.hf / "config.json")

    def _merge(self, base: Path) -> None:
        from ..train.merge import merge
        from ..train.reference import tokens_of
        from .gate import questions

        probe = tokens_of(base, questions(N_PROBED))
        done = merge(base, self.source, self.hf, probe=probe)
        self.reports["merge"] = {"weights": done.n_weights, "largest_difference": done.largest_difference,
                                 "spread": done.spread, "probed": len(probe)}  # fmt: skip
        for path in sorted(
            self.source.iterdir()
        ):  # the stage's own template and tokenizer are those it was trained with
            if path.name.startswith(("tokenizer", "chat_template", "generation_config", "special_tokens", "hagane")):
                shutil.copyfile(path, self.hf / path.name)

    def room(self) -> None:
        """Raises: StorageError before minutes are spent on files that will not fit."""
        n_weights = sum(path.stat().st_size for path in self.hf.glob("*.safetensors")) / 4
        bytes_each = {"F32": 4.0, "F16": 2.0, "BF16": 2.0}
        needed = int(ROOM_FACTOR * n_weights * sum(bytes_each.get(kind, 1.1) for kind in self.settings.numbers))
        free = shutil.disk_usage(self.making).free
        if needed > free:
            what = f"the files need about {needed >> 20} MiB, the disk has {free >> 20} MiB free"
            raise StorageError(what, hint="free space, or export fewer kinds of numbers")

    def files(self, base: Path | None, licence: str, *, chat: bool) -> None:
        """GGUF files, the adapter's GGUF and the Modelfile."""
        from ..models.ggml_quantise import quantise
        from ..train.adapter import adapter_to_gguf
        from ..train.base import family_of
        from ..train.export import to_gguf
        from ..train.modelfile import modelfile
        from ..train.template import family

        for number, kind in enumerate(dict.fromkeys(self.settings.numbers)):
            self._now("gguf", numbers=kind, done=number, total=len(self.settings.numbers))
            file = self.making / f"{self.name}-{kind}.gguf"
            made = to_gguf(self.hf, file, numbers=kind, label=self.label, name=self.name, quantise=quantise)
            self.n_params = made.n_params
            self.made.append(Served(file, kind))
        if base is not None:
            self._now("adapter")
            template = (self.hf / "chat_template.jinja").read_text(encoding="utf-8") if chat else ""
            file = self.making / ADAPTER_GGUF
            adapter_to_gguf(self.making / "adapter", base, file, label=self.label, template=template)
        text = modelfile(self.made[0].file.name, family(family_of(self.hf)), license=[licence] if licence else ())
        (self.making / "Modelfile").write_text(text, encoding="utf-8")

    def _base_file(self, base: Path) -> Path:
        """The base in the first kind of numbers, for the gate only: who serves the adapter makes it alike."""
        from ..models.ggml_quantise import quantise
        from ..train.export import to_gguf

        aside = self.making / "base"
        aside.mkdir()
        kind = self.settings.numbers[0]
        return to_gguf(base, aside / f"base-{kind}.gguf", numbers=kind, label=self.label, quantise=quantise).file

    def gate(
        self,
        base: Path | None,
        base_file: Path | None,
        *,
        chat: bool,
        dev: Sequence[Row],
        texts: Sequence[str],
        n_tokens: int | None,
    ) -> Gated:
        """Every file against the folder; the adapter on the file that it is served with."""
        served = list(self.made)
        if base is not None:
            file = base_file or self._base_file(base)
            self.beside = Served(file, _numbers_of(file), self.making / ADAPTER_GGUF)
            served.append(self.beside)
        self._now("parity", done=0, total=len(served))
        return check(
            self.hf, served, n_prompts=self.settings.prompts, chat=chat, label=self.label, texts=texts, dev=dev,
            shares=self.settings.shares, n_tokens=n_tokens, emit=self._emit,
        )  # fmt: skip

    def judge(self, gated: Gated, others: Mapping[str, Verdict], *, licence: str, chat: bool) -> Report:
        """What is published. A gate of the whole model blocks everything; parity blocks the file that failed it."""
        self.reports["parity"] = gated.as_json()
        for key, one in others.items():
            self.reports[key] = {**one.as_json(), "passed": one.passed}
        why = [
            f"{key}: {line}" for key, one in others.items() if not one.passed for line in (one.sentences or ["failed"])
        ]
        blocked = bool(why)
        good = [one for one in self.made if gated.passed(one.name)]
        for one in gated.checks:
            if not gated.passed(one):
                why += [f"parity: {line}" for line in gated.sentences(one) or [f"{one}: nothing was compared"]]
        if self.made[0] not in good:
            blocked = True
        files = [] if blocked else [OutFile(one.file.name, "gguf", one.numbers) for one in good]
        if not blocked and self.beside is not None and gated.passed(self.beside.name):
            files.append(OutFile(ADAPTER_GGUF, "adapter", self.beside.numbers))
        if not blocked:
            files.append(OutFile("Modelfile", "other"))
        context = int(self.config.get("max_position_embeddings") or 0)
        return Report(
            self.name, "blocked" if blocked else "published", self.label, tuple(files),
            "" if blocked else self.made[0].file.name, tuple(why), "template" if chat else "raw", self.n_params, context,
            licence, dict(self.reports),
        )  # fmt: skip

    def place(self, folder: Path, report: Report) -> None:
        """What is published takes its place; the rest is kept aside. The report lies in the open and names no row. One
        of an earlier export goes first: what is blocked now is not given away on its word."""
        names = {one.path for one in report.files}
        (folder / REPORT).unlink(missing_ok=True)
        shutil.rmtree(folder / BLOCKED, ignore_errors=True)
        shutil.rmtree(self.making / "base", ignore_errors=True)
        for path in sorted(self.making.iterdir()):
            own = path.is_dir() or path.name in names
            if report.passed and own:
                _replace(path, folder / path.name)
            elif not path.is_dir():
                aside = folder / BLOCKED
                aside.mkdir(mode=0o700, exist_ok=True)
                _replace(path, aside / path.name)
        data = json.dumps(_in_the_open(report), ensure_ascii=False, indent=1, allow_nan=False).encode()
        write_whole(folder / REPORT if report.passed else folder / BLOCKED / REPORT, data)
        sync_folder(folder)


def _in_the_open(report: Report) -> dict[str, Any]:
    told = report.as_json()
    reports = {key: {name: said for name, said in one.items() if name != NAMED} for key, one in told["reports"].items()}
    return told | {"reports": reports}


def _linked(source: str, target: str) -> str:
    """Weights are never changed in place, so a second name is as good as a copy; small files are copied."""
    if source.endswith(".safetensors"):
        try:
            os.link(source, target)
            return target
        except OSError:
            pass
    return shutil.copyfile(source, target)


def _replace(path: Path, target: Path) -> None:
    if path.is_dir() and target.exists():
        old = target.with_name(f"{MAKING}old-{target.name}")
        target.rename(old)
        path.rename(target)
        shutil.rmtree(old, ignore_errors=True)
    else:
        os.replace(path, target)


def _numbers_of(file: Path) -> str:
    """How a GGUF file keeps its matrices: the coarsest kind decides what the gate may ask. Raises: ModelError."""
    from ..models.gguf import read_header

    kinds = {tensor.type for tensor in read_header(file).tensors if len(tensor.shape) > 1}
    if not kinds:
        raise ModelError(f"{file.name} holds no matrices", hint="is it a language model?")
    quantised = sorted(
        (int(found[0]), kind) for kind in kinds if kind not in EXACT and (found := re.findall(r"\d+", kind))
    )
    return quantised[0][1] if quantised else min(kinds, key=("F16", "BF16", "F32").index)
