"""hagane.yaml to wired objects: the only place that knows every room.

    with Project.open(Path("my-llm")) as project:
        answer = ask(project, "有給休暇は何日?", by=project.principal("staff"))
"""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, cast

from hagane.core.accounts import PERMISSIONS, permissions_of
from hagane.core.errors import ConfigError, NotFoundError, RefusedError, StateError, UsageError
from hagane.core.labels import Label
from hagane.core.machine import cores
from hagane.core.registry import load as load_backend
from hagane.core.types import Principal
from hagane.index import STORES
from hagane.index.words import ANALYZERS
from hagane.models import CHAT_MODELS, EMBEDDERS

from .config import FILE, STATE, ProjectConfig, load

NO_EMBEDDER = "none"
EXTRACT = "extract"  # the answerer that takes no model
RECORDERS = 16


class Project:
    """An open project folder. Heavy parts are made when first used; close it when done."""

    def __init__(self, folder: Path, config: ProjectConfig) -> None:
        self.folder = folder
        self.config = config
        self.state = folder / STATE
        self._models: dict[str, tuple[Any, Any]] = {}  # name -> (what hagane.yaml says of it, the model)
        self._models_lock = threading.Lock()
        self.turns = threading.Semaphore(cores())  # answers that may be computed at once
        self._retriever: tuple[Any, Any] | None = None  # what it was made of, and it
        self.watchers: list[Callable[[Any], None]] = []  # told of every question: project/watch.py

    @classmethod
    def open(cls, folder: Path) -> Project:
        """The project in `folder`. Raises: ConfigError when there is none or it is wrong."""
        folder = folder.resolve()
        if not (folder / FILE).exists():
            raise ConfigError(f"no {FILE} in {folder}", hint="hagane init makes a project there, or use --project DIR")
        return cls(folder, load(folder))

    @staticmethod
    def is_in(folder: Path) -> bool:
        """Whether `folder` holds a project."""
        return (folder / FILE).is_file()

    def reload(self) -> None:
        """Read hagane.yaml again after it was written."""
        self.config = load(self.folder)

    def principal(self, name: str | None = None) -> Principal:
        """Who acts: a principal of hagane.yaml, or a user by name; without a name, `owner`. Whoever holds the folder may
        act as anyone. `roles` of the result are permissions: owner has all. Raises: NotFoundError, RefusedError."""
        from hagane.ledger.access import OWNER, Access

        wanted = name or OWNER
        given = self.config.principals.get(wanted)
        if given is None and (self.state / "ledger.db").exists():
            with contextlib.suppress(NotFoundError):
                account = self.ledger.accounts.find(wanted)
                if account.state != "active":
                    raise RefusedError(f"{account.name} is disabled", hint="hagane user enable NAME")
                return cast(Principal, account.principal)
        found = Access.of({n: p.clearance for n, p in self.config.principals.items()}).principal(wanted)
        words = PERMISSIONS if wanted == OWNER else permissions_of(given.roles if given else ())
        return replace(found, roles=tuple(sorted(words)))

    @cached_property
    def ledger(self) -> Any:
        from hagane.ledger.ledger import Ledger

        ledger = Ledger.open(self.folder, keys=self.keys)
        ledger.audit.anchor = self.checkpoints
        return ledger

    @cached_property
    def keys(self) -> Any | None:
        """The keys of an encrypted project; None when hagane.yaml names no key. Raises: ConfigError, StorageError."""
        from .keys import open_keys

        return open_keys(self)

    @cached_property
    def checkpoints(self) -> Any:
        """What signs the head of the audit log now and then."""
        from hagane.ledger.checkpoint import Checkpoints

        wanted = self.config.audit
        copy = self.source_root(wanted.checkpoint) if wanted.checkpoint else None
        return Checkpoints(self.state / "audit", key=self.signing_key, every=wanted.every, copy=copy)

    @cached_property
    def refusals(self) -> Any:
        """What puts refusals on record."""
        from .refusals import Refusals

        return Refusals(self)

    def signing_key(self) -> Any:
        """The private key of audit checkpoints. Raises: StorageError."""
        from hagane.ledger.checkpoint import signing_key

        return signing_key(self.state / "audit", seed=self.keys.signing_seed() if self.keys is not None else None)

    @cached_property
    def index(self) -> Any:
        _ = self.ledger  # makes .hagane, for its owner only
        store = load_backend(STORES, self.config.index.store, what="store")
        if self.keys is None or not self.keys.sealing:
            return store(self.state / "index")
        from .sealing import IndexSealer

        blind = self.config.encryption.blind_index is not False
        try:
            return store(self.state / "index", sealer=IndexSealer(self.keys, blind=blind))
        except TypeError as cause:
            raise ConfigError(
                f"index.store {self.config.index.store!r} cannot be encrypted", hint="use lance, or no encryption.key"
            ) from cause

    @cached_property
    def analyzer(self) -> Any:
        return load_backend(ANALYZERS, self.config.index.analyzer, what="analyzer")()

    @cached_property
    def embedder(self) -> Any | None:
        """The embedder, or None when hagane.yaml says `none`."""
        if self.without_vectors:
            return None
        wanted = self.config.embedder
        made = load_backend(EMBEDDERS, wanted.name, what="embedder")
        given = {**wanted.options, **({"threads": wanted.threads} if wanted.threads else {})}
        if isinstance(given.get("folder"), str):
            given["folder"] = self.source_root(given["folder"])
        try:
            return made(**given)
        except TypeError as cause:
            raise ConfigError(
                f"{self.folder / FILE}: embedder {wanted.name!r} does not take {', '.join(sorted(given))}",
                hint="see the options of that embedder in docs/guides/models.md",
            ) from cause

    @property
    def without_vectors(self) -> bool:
        """Whether hagane.yaml wants search by words only."""
        return self.config.embedder.name == NO_EMBEDDER

    def embedder_changed(self) -> str | None:
        """The fingerprint that the index's vectors were made with, when it is not today's."""
        made_with = self.ledger.fact("embedder")
        now = self.embedder.fingerprint if self.embedder is not None else None
        return made_with if made_with is not None and made_with != now else None

    @property
    def retriever(self) -> Any:
        """Search as it is now: with vectors once a sync has made them with today's embedder."""
        usable = self.embedder if self.embedder is not None and not self.embedder_changed() else None
        wanted = (usable, self.config.retrieve)
        if self._retriever is None or self._retriever[0] != wanted:
            from hagane.rag.retrieve import Retriever

            self._retriever = wanted, Retriever(self.index, self.analyzer, embedder=usable, config=self.config.retrieve)
        return self._retriever[1]

    def answers(self, answerer: str | None = None, *, model: str | None = None) -> Any:
        """What answers questions: hagane.yaml's answerer, or `answerer`; with hagane.yaml's model, or `model`. Labels of
        made models are not asked here: trained.speaking does. Raises: ConfigError for an unknown one there, UsageError
        for an unknown `answerer`."""
        from hagane.rag.answer import ANSWERERS, Answers

        config = self.config.answer
        if answerer:
            try:
                load_backend(ANSWERERS, answerer, what="answerer")
            except ConfigError as cause:
                raise UsageError(str(cause), hint=cause.hint) from cause
            config = config.model_copy(update={"answerer": answerer})
        chosen = None if config.answerer == EXTRACT else self.model(model or config.model_of(config.answerer))
        return Answers(self.analyzer, config=config, embedder=self.embedder, model=chosen)

    @property
    def chat_model(self) -> Any:
        """The language model of `answer.model`."""
        return self.model(self.config.answer.model)

    def model(self, name: str) -> Any:
        """The chat model `name`, made when first asked for: one of hagane.yaml's `models`, or a GGUF model in a process
        of its own: listed, or made here and published. Whoever gives out what a made one says asks `trained.carried`
        first. Raises: NotFoundError, MissingExtraError, ConfigError, RefusedError."""
        from .trained import served

        record = served(self, name)
        wanted = (record.lineage, record.served, record.files, record.base) if record else self.config.models.get(name)
        known = self._models.get(name)
        if known is None or known[0] != wanted:
            with self._models_lock:
                known = self._models.get(name)
                if known is None or known[0] != wanted:
                    if known is not None and isinstance(known[0], tuple):
                        known[1].close()  # the files of a made model were made anew
                    self._models[name] = known = (wanted, self._trained(record) if record else self._listed(name))
        return known[1]

    def let_go(self, name: str) -> None:
        """End the engine of a model, if it runs."""
        with self._models_lock:
            known = self._models.pop(name, None)
        if known is not None:
            known[1].close()

    @cached_property
    def recorders(self) -> ThreadPoolExecutor:
        """Threads that write to the audit log what a model is asked, while it reads the prompt."""
        return ThreadPoolExecutor(RECORDERS, thread_name_prefix="record")

    def _listed(self, name: str) -> Any:
        wanted = self.config.models.get(name)
        if wanted is not None:
            make = load_backend(CHAT_MODELS, wanted.wire, what="chat_model")
            return make(address=wanted.address, model=wanted.model, key=wanted.key or "", name=name)
        from hagane.jobs.local import Worker
        from hagane.models.catalog import adapter_of, find
        from hagane.models.llama_cpp import LlamaCpp

        config, file = self.config.answer, find(name)
        return LlamaCpp(file, spawn=Worker, name=name, adapter=adapter_of(name) or (), threads=config.threads, context=config.context)

    def _trained(self, record: Any) -> Any:
        """A model that was made here; an adapter beside the file of its base."""
        from hagane.jobs.local import Worker
        from hagane.models.llama_cpp import LlamaCpp

        from .trained import base_file, file_of

        own, config = file_of(self, record), self.config.answer
        given = {"spawn": Worker, "name": record.name, "threads": config.threads, "context": config.context}
        if record.kind == "adapter":
            return LlamaCpp(base_file(self, record), adapter=own, **given)
        return LlamaCpp(own, **given)

    @cached_property
    def renderer(self) -> Any:
        """What shows originals, in worker processes."""
        from .rendering import Renderer

        return Renderer()

    def share_complete(self) -> dict[str, float]:
        """How much of what is known is searchable: {"words": 0..1, "vectors": 0..1}."""
        chunks, vectors = self.index.count()
        vectors = 0 if self.embedder_changed() else vectors  # those are not searched
        known = self.ledger.documents.every_n_chunks()
        words = 0.0 if self.ledger.fact("syncing") else _share(min(chunks, known), max(chunks, known))
        return {"words": words, "vectors": 1.0 if self.without_vectors else _share(vectors, max(chunks, known))}

    def label(self, text: str) -> Label:
        """`text` as a label of this project. Raises: LabelError."""
        return self.config.check_label(text)

    def source_root(self, path: str) -> Path:
        """Where a source's `path` points."""
        return (self.folder / Path(path).expanduser()).absolute()

    def require_synced(self) -> None:
        """Raises: StateError when nothing was ever synced."""
        if not (self.state / "ledger.db").exists():
            raise StateError("this project has no documents yet", hint="hagane add PATH, or hagane sync")

    def close(self) -> None:
        """Let go of databases and engines."""
        made = [model for _, model in self._models.values()]
        made += [self._retriever[1]] if self._retriever else []
        embedder = self.__dict__.get("embedder")
        made += [embedder] if hasattr(embedder, "close") else []
        if "recorders" in self.__dict__:
            self.recorders.shutdown()
        for part in (*made, self.__dict__.get("renderer"), self.__dict__.get("ledger")):
            if part is not None:
                part.close()

    def __enter__(self) -> Project:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def _share(part: int, whole: int) -> float:
    """Rounded down: all but one of 72,000 is not complete."""
    return math.floor(min(part, whole) / whole * 10_000) / 10_000 if whole else 1.0
