"""hagane.yaml as one typed value: the rooms' configurations put together.

The least file is in README.md; every key, its default and its meaning is in docs/reference/config.md,
which is generated from here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from hagane.core.config import Config, parse, read_yaml
from hagane.core.errors import LabelError
from hagane.core.labels import Clearance, Label
from hagane.prepare.chunk import ChunkConfig
from hagane.prepare.clean import CleanConfig
from hagane.prepare.dedup import DedupConfig
from hagane.prepare.quality import QualityConfig
from hagane.rag.answer import AnswerConfig
from hagane.rag.retrieve import RetrieveConfig

from .config_server import AuditConfig, ClearanceText, EncryptionConfig, ModelConfig, ServerConfig

FILE = "hagane.yaml"
STATE = ".hagane"


def _label(text: str) -> str:
    try:
        return str(Label.parse(text))
    except LabelError as cause:
        raise ValueError(f"{cause}") from cause


LabelText = Annotated[str, AfterValidator(_label)]
Name = Annotated[str, Field(pattern=r"^[\w][\w .-]{0,79}$")]


class LabelsConfig(Config):
    """Which labels this project knows."""

    default: LabelText = Field("internal", description="label of a source that names none")
    compartments: tuple[str, ...] = Field((), description="the compartments that labels and clearances may name")


class SourceConfig(Config):
    """A folder or file whose documents belong to the project."""

    name: Name = Field(description="short name, once per project")
    path: str = Field(description="folder or file; relative to hagane.yaml, or absolute")
    label: LabelText | None = Field(None, description="label of its documents; default labels.default")
    include: tuple[str, ...] = Field(("**",), description="glob patterns of files to take, relative to path")
    exclude: tuple[str, ...] = Field((), description="glob patterns of files to leave out")
    hidden: bool = Field(False, description="take files and folders whose name begins with a dot, too")


class PrincipalConfig(Config):
    """Someone who may act. Whoever can read the folder can act as anyone; users who sign in are kept in the ledger."""

    clearance: ClearanceText = Field(description="LEVEL, LEVEL:c1+c2 or LEVEL:*")
    roles: tuple[str, ...] = Field((), description="reader, annotator, builder, officer, admin: what they may do; owner may do everything")


class ParseConfig(Config):
    """How files are read: in worker processes, each file within limits."""

    workers: int = Field(0, ge=0, le=64, description="parser processes; 0: one per core")
    time_s: float = Field(120.0, gt=0, description="seconds for one file")
    ocr_time_s: float = Field(900.0, gt=0, description="seconds for one file that needs OCR")
    memory_mb: int = Field(2048, ge=128, description="megabytes for one worker above its start")
    max_file_mb: int = Field(200, ge=1, description="larger files are set aside")
    ocr: bool = Field(True, description="read scanned pages and images")


class SyncConfig(Config):
    """When sync refuses to delete."""

    max_lost: int = Field(20, ge=0, description="documents a source may lose at once without --yes")
    max_lost_share: float = Field(0.3, ge=0, le=1, description="... or this share of them, whichever is more")


class VersionsConfig(Config):
    """Old versions of changed documents stay openable from old citations."""

    keep: int = Field(3, ge=0, le=1000, description="old versions kept per document")


class IndexConfig(Config):
    """Where and how passages are found."""

    store: str = Field("lance", description="lance (on disk) or a name from an entry point")
    analyzer: str = Field("sudachi", description="sudachi or ngram: how text becomes search terms")


class EmbedderConfig(Config):
    """The model that turns text into vectors."""

    name: str = Field("e5-small", description="e5-small, openai, hf, none, or a name from an entry point")
    options: dict[str, str | int | float | bool] = Field(
        default_factory=dict, description="folder, model, address, key (env:NAME), ... of that embedder"
    )
    threads: int = Field(0, ge=0, description="processor threads; 0: all")


class ProjectConfig(Config):
    """hagane.yaml."""

    version: Literal[1] = Field(1, description="of this file's format")
    labels: LabelsConfig = Field(default_factory=LabelsConfig, description="levels and compartments")
    sources: tuple[SourceConfig, ...] = Field((), description="where documents come from")
    principals: dict[str, PrincipalConfig] = Field(default_factory=dict, description="who may act, with which clearance")
    parse: ParseConfig = Field(default_factory=ParseConfig, description="limits of the parser processes")
    clean: CleanConfig = Field(default_factory=CleanConfig, description="what is left out of search")
    quality: QualityConfig = Field(default_factory=QualityConfig, description="when a text is too poor")
    dedup: DedupConfig = Field(default_factory=DedupConfig, description="exact and near duplicates")
    chunk: ChunkConfig = Field(default_factory=ChunkConfig, description="how documents are cut")
    versions: VersionsConfig = Field(default_factory=VersionsConfig, description="old versions")
    sync: SyncConfig = Field(default_factory=SyncConfig, description="guards against mass deletion")
    index: IndexConfig = Field(default_factory=IndexConfig, description="the search store")
    embedder: EmbedderConfig = Field(default_factory=EmbedderConfig, description="the vectors")
    retrieve: RetrieveConfig = Field(default_factory=RetrieveConfig, description="how passages are ranked")
    answer: AnswerConfig = Field(default_factory=AnswerConfig, description="how answers are made")
    models: dict[str, ModelConfig] = Field(default_factory=dict, description="further models by name")
    server: ServerConfig = Field(default_factory=ServerConfig, description="hagane serve")
    encryption: EncryptionConfig = Field(default_factory=EncryptionConfig, description="encryption at rest")
    audit: AuditConfig = Field(default_factory=AuditConfig, description="signed checkpoints")

    @model_validator(mode="after")
    def _consistent(self) -> ProjectConfig:
        known = set(self.labels.compartments)
        for source in self.sources:
            _declared(Label.parse(self.label_of(source)).compartments, known, f"sources: {source.name}")
        for name, principal in self.principals.items():
            _declared(Clearance.parse(principal.clearance).compartments, known, f"principals: {name}")
        _declared(Label.parse(self.labels.default).compartments, known, "labels: default")
        names = [source.name for source in self.sources]
        if double := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"sources: the name {min(double)!r} stands twice")
        return self

    def label_of(self, source: SourceConfig) -> str:
        """The label that `source` gives its documents."""
        return source.label or self.labels.default

    def check_label(self, text: str) -> Label:
        """`text` as a label whose compartments are declared. Raises: LabelError."""
        label = Label.parse(text)
        if missing := label.compartments - set(self.labels.compartments):
            raise LabelError(
                f"label {text!r}: compartment {min(missing)!r} is not declared",
                hint=f"add it to labels.compartments in {FILE}",
            )
        return label


def _declared(used: frozenset[str], known: set[str], where: str) -> None:
    if missing := used - known:
        raise ValueError(f"{where}: compartment {min(missing)!r} is not declared in labels.compartments")


def load(folder: Path) -> ProjectConfig:
    """The project's configuration. Raises: ConfigError with file and line."""
    path = folder / FILE
    return parse(ProjectConfig, read_yaml(path), path=path)
