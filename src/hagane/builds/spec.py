"""train.yaml as one typed value: one file tells a whole model, from tokenizer to export.

    name: our-llm
    pretrain: {data: [{documents: []}], budget: 1h}
    tune: {data: [{file: examples.jsonl}]}

Each section is one stage; a stage goes on from what the stage before it made, or from its own `base`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from hagane.core.config import Config, parse, read_yaml
from hagane.core.errors import LabelError, UsageError
from hagane.core.labels import Label

Stage = Literal["tokenizer", "pretrain", "tune", "prefer"]
STAGES: tuple[Stage, ...] = ("tokenizer", "pretrain", "tune", "prefer")
NUMBERS = ("F32", "F16", "BF16", "Q8_0", "Q4_K_M", "Q5_K_M", "Q6_K")

_HOURS = {"m": 1 / 60, "h": 1.0, "d": 24.0}
_PARAMS = {"": 1, "k": 1_000, "m": 1_000_000, "b": 1_000_000_000}


def hours(text: str) -> float:
    """ "10m", "1.5h", "2d" as hours. Raises: ValueError."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([mhd])", text.strip())
    if found is None or not float(found[1]):
        raise ValueError(f"{text!r} is no time: write 10m, 1.5h or 2d")
    return float(found[1]) * _HOURS[found[2]]


def number(text: str | int) -> int:
    """ "2M", "124M", "1.1B" or a plain number. Raises: ValueError."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmb]?)", str(text).strip().lower())
    if found is None or not float(found[1]):
        raise ValueError(f"{text!r} is no number of parameters: write 2M, 124M or 1.1B")
    return round(float(found[1]) * _PARAMS[found[2]])


def _a_label(text: str) -> str:
    try:
        return str(Label.parse(text))
    except LabelError as cause:
        raise ValueError(str(cause)) from cause


def _a_time(text: str) -> str:
    hours(text)
    return text


def _a_number(text: str | int) -> str:
    number(text)
    return str(text)


class DataConfig(Config):
    """One origin of rows: a file of examples, or documents of the project."""

    file: str | None = Field(None, description="JSONL, JSON, CSV, TSV, Parquet or plain text; relative to train.yaml")
    documents: tuple[str, ...] | None = Field(None, description="names of the project's sources; []: all of them")
    label: Annotated[str, AfterValidator(_a_label)] | None = Field(
        None, description="label of a file's rows; default labels.default. Documents bring their own"
    )
    shape: Literal["text", "prompt_completion", "alpaca", "sharegpt", "messages", "preference"] | None = Field(
        None, description="how a file's rows are read; default: recognised"
    )

    @model_validator(mode="after")
    def _one_of_both(self) -> DataConfig:
        if (self.file is None) == (self.documents is None):
            raise ValueError("name either a file or documents")
        if self.documents is not None and (self.label or self.shape):
            raise ValueError("documents bring their own label and are text")
        return self


class TokenizerConfig(Config):
    """A tokenizer of one's own."""

    kind: Literal["sentencepiece", "bytes"] = Field("sentencepiece", description="SentencePiece BPE with byte fallback, or byte-level BPE")
    vocab: int = Field(0, ge=0, description="pieces; 0: what suits the model's size")
    data: tuple[DataConfig, ...] = Field((), description="what it is made from; default: the data of pretrain")


class TrainingConfig(Config):
    """How steps are done. Zero or nothing: what the rules say."""

    tokens: int = Field(0, ge=0, description="tokens of a packed row; 0: 512 (pretrain), 1024 (tune, prefer)")
    rows: int = Field(0, ge=0, description="rows of a step, over all processes")
    micro_rows: int = Field(0, ge=0, description="rows at once; halved by itself when memory runs out")
    epochs: float = Field(0, ge=0, description="passes over the data; pretrain: as many as its tokens need; else 2")
    steps: int = Field(0, ge=0, description="steps; overrules epochs")
    rate: float = Field(0, ge=0, description="largest learning rate")
    optimiser: Literal["auto", "muon", "adamw"] = Field("auto", description="auto: muon, and adamw for adapters")
    weight_decay: float | None = Field(None, ge=0, description="default 0.1; adapters 0")
    warmup: int = Field(0, ge=0, description="steps over which the rate rises")
    decay: float = Field(0.2, ge=0, le=1, description="share of the steps at the end over which it falls")
    clip: float = Field(1.0, gt=0, description="largest norm of the gradient")
    seed: int = Field(0, ge=0, description="of weights, order and dropout")
    dev_every: int = Field(0, ge=0, description="steps between measurements of the dev loss; 0: twenty of them")
    patience: int = Field(0, ge=0, description="measurements without a better dev loss before the run ends; 0: never")
    save_every: int = Field(0, ge=0, description="steps between checkpoints; 0: about every two minutes")
    keep: int = Field(2, ge=1, description="checkpoints kept")
    threads: int = Field(0, ge=0, description="processor threads; 0: all cores")
    numbers: Literal["auto", "fp32", "bf16", "fp8"] = Field("auto", description="auto: fp32 on the CPU, bf16 on a GPU; fp8 for experts")
    compile: bool = Field(False, description="torch.compile: minutes at the start, faster steps afterwards")


class AdapterConfig(Config):
    """LoRA."""

    rank: int = Field(16, ge=1, description="of the two matrices")
    alpha: int = Field(0, ge=0, description="weight of the adapter; 0: twice the rank")
    dropout: float = Field(0.0, ge=0, lt=1, description="on what goes into it")
    targets: tuple[str, ...] = Field((), description="names of layers; none: every linear layer but the head")
    quantised: bool = Field(False, description="QLoRA: the frozen base in 4 bits")


class _StageConfig(Config):
    data: tuple[DataConfig, ...] = Field(description="what it learns from")
    training: TrainingConfig = Field(default_factory=TrainingConfig, description="how steps are done")


class PretrainConfig(_StageConfig):
    """A model from scratch, or a known one that goes on reading (`base`)."""

    family: Literal["llama", "mistral", "falcon", "gemma", "gemma3_text", "qwen2", "qwen3"] = Field("llama", description="architecture")
    budget: Annotated[str, AfterValidator(_a_time)] | None = Field(None, description="time of this machine: 10m, 1h, 2d")
    params: Annotated[str | int, AfterValidator(_a_number)] | None = Field(None, description="parameters: 2M, 124M")
    base: str | None = Field(None, description="continue this model instead: a listed model, a folder or a GGUF file")

    @model_validator(mode="after")
    def _one_dial(self) -> PretrainConfig:
        if sum(one is not None for one in (self.budget, self.params, self.base)) != 1:
            raise ValueError("name exactly one of budget, params and base")
        return self


class TuneConfig(_StageConfig):
    """Fine-tuning on examples."""

    base: str | None = Field(None, description="a listed model, a folder or a GGUF file; default: what pretrain made")
    adapter: AdapterConfig | None = Field(None, description="LoRA; without it every weight is trained")
    template: str | None = Field(None, description="chat template: llama, mistral, falcon, gemma, qwen; default: the base's family")


class PreferConfig(TuneConfig):
    """Direct preference optimisation on pairs of answers."""

    beta: float = Field(0.1, gt=0, description="how dear leaving the beginning is")


class SplitConfig(Config):
    """What is held back, by groups of near-duplicates."""

    dev: float = Field(0.05, ge=0, lt=0.9, description="share of the rows for the dev loss")
    test: float = Field(0.0, ge=0, lt=0.9, description="share kept for the end")


class ExportConfig(Config):
    """What files come out."""

    numbers: tuple[Literal["F32", "F16", "BF16", "Q8_0", "Q4_K_M", "Q5_K_M", "Q6_K"], ...] = Field(
        ("Q8_0",), description="GGUF files to write; the first one is served"
    )
    prompts: int = Field(50, ge=1, description="prompts of the parity gate")
    shares: dict[str, float] = Field(default_factory=dict, description="least share of equal next tokens by kind of numbers")


class MemoryGateConfig(Config):
    """What may not be learnt by heart."""

    longest_copy: int = Field(0, ge=0, description="characters of training text that may come back verbatim; 0: 50")
    share: float = Field(0.01, ge=0, le=1, description="share of probed rows that may come back longer than that")


class TrainFile(Config):
    """train.yaml."""

    version: Literal[1] = Field(1, description="of this file's format")
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$", description="the model's name in `hagane models`")
    tokenizer: TokenizerConfig | None = Field(None, description="a tokenizer of one's own")
    pretrain: PretrainConfig | None = Field(None, description="a model from scratch")
    tune: TuneConfig | None = Field(None, description="fine-tuning on examples")
    prefer: PreferConfig | None = Field(None, description="preference between answers")
    personal: dict[str, Literal["allow", "mask", "drop_row"]] = Field(
        default_factory=dict, description="kind of personal data -> what happens to a row that holds it"
    )
    split: SplitConfig = Field(default_factory=SplitConfig, description="what is held back")
    export: ExportConfig = Field(default_factory=ExportConfig, description="what comes out")
    memory: MemoryGateConfig = Field(default_factory=MemoryGateConfig, description="what may not be learnt by heart")

    @model_validator(mode="after")
    def _has_work(self) -> TrainFile:
        if not self.stages:
            raise ValueError("name at least one of tokenizer, pretrain, tune and prefer")
        if self.tokenizer is not None and not self.tokenizer.data and self.pretrain is None:
            raise ValueError("the tokenizer needs data")
        if self.tune is not None and self.tune.base is None and self.pretrain is None:
            raise ValueError("tune needs a base where nothing is pre-trained")
        if self.prefer is not None and self.prefer.base is None and self.tune is None and self.pretrain is None:
            raise ValueError("prefer needs a base where nothing is trained before it")
        return self

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The stages that this file has, in order."""
        return tuple(stage for stage in STAGES if getattr(self, stage) is not None)

    def data_of(self, stage: Stage) -> tuple[DataConfig, ...]:
        """Where the rows of a stage come from. Raises: UsageError for a stage that is not there."""
        if stage not in self.stages:
            raise UsageError(f"this train.yaml has no {stage}", hint=f"it has {', '.join(self.stages)}")
        if stage == "tokenizer" and self.tokenizer is not None and not self.tokenizer.data and self.pretrain is not None:
            return self.pretrain.data
        return tuple(getattr(self, stage).data)

    def training_of(self, stage: Stage) -> TrainingConfig:
        """How the steps of a stage are done."""
        settings: TrainingConfig = getattr(getattr(self, stage), "training", TrainingConfig())
        return settings

    def is_from_scratch(self, stage: Stage) -> bool:
        """Whether the stage makes new weights."""
        return stage == "pretrain" and self.pretrain is not None and self.pretrain.base is None

    def adapter_of(self, stage: Stage) -> AdapterConfig | None:
        """The adapter that the stage learns; None where it learns whole weights."""
        found: AdapterConfig | None = getattr(getattr(self, stage), "adapter", None)
        return found

    def before(self, stage: Stage) -> Stage | None:
        """The stage whose model this one goes on from; None where it has its own base or begins anew."""
        if stage in ("tokenizer", "pretrain") or getattr(self, stage).base is not None:
            return None
        earlier = [one for one in STAGES[1 : STAGES.index(stage)] if one in self.stages]
        return earlier[-1] if earlier else None


def load(path: Path) -> TrainFile:
    """The file as a value. Raises: ConfigError with file and line."""
    return parse(TrainFile, read_yaml(path), path=path)


def changed(told: TrainFile, changes: Mapping[str, object]) -> TrainFile:
    """A copy with other values, checked again."""
    return TrainFile.model_validate({**told.model_dump(exclude_none=True), **changes})
