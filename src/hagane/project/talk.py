"""Verbs for programs: which models may be asked, talk to one of them by its name, turn texts into vectors.

    talk = Talk(project, request, labels, model="hagane", by=principal)
    for delta in talk.stream():
        ...  # the last one carries usage and finish; then talk.shown is what belongs beside the answer

`hagane` answers from the documents that the asker may see; every other name is a chat model of this machine.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hagane.core.errors import RefusedError, UnknownModelError, UsageError, nearest
from hagane.core.labels import PUBLIC, Clearance, Label, join
from hagane.core.seams import Floats, Kind
from hagane.core.types import AnswerPart, ChatRequest, Delta, Message, Principal, Usage
from hagane.models import catalog
from hagane.rag.answer_rewrite import Turn, rewrite

from . import trained
from .abstain import abstention
from .chat import own_label
from .config import FILE
from .meanwhile import Reader
from .questions import Conversation, answer_shown
from .watch import watching
from .wire import Project

ASSISTANT = "hagane"
_REPLAYED = 6  # earlier questions that are made whole again; older ones only give their label


def offered(project: Project, *, by: Principal) -> list[dict[str, Any]]:
    """Every model that `by` may ask by name: {"id", "kind": assistant | chat | embedding, "title", "created"}, the last
    one seconds since 1970: when hagane.yaml, or the model's file, was written."""
    written = _written(project.folder / FILE)
    rows = [{"id": ASSISTANT, "kind": "assistant", "title": "answers from the documents", "created": written}]
    for name, model in project.config.models.items():
        if name != ASSISTANT:
            rows.append({"id": name, "kind": "chat", "title": model.model, "created": written})
    named = {row["id"] for row in rows}
    for entry in catalog.available():
        if entry.state != "missing" and entry.info.name not in named:
            created = _written(entry.file) if entry.file else written
            rows.append({"id": entry.info.name, "kind": "chat", "title": entry.info.title, "created": created})
    named = {row["id"] for row in rows}
    for record in trained.offered(project, by=by):
        if record.name not in named:
            created = _written(trained.folder_of(project) / record.name / "model.json")
            rows.append({"id": record.name, "kind": "chat", "title": f"made here from {record.base.name}" if record.base.name else "made here", "created": created})
    if project.embedder is not None:
        rows.append({"id": project.embedder.name, "kind": "embedding", "title": "vectors of the index", "created": written})
    return rows


def _written(file: Path) -> int:
    try:
        return int(file.stat().st_mtime)
    except OSError:
        return 0


def chat_model(project: Project, name: str, *, by: Principal) -> Any:
    """The chat model `name`. Raises: UnknownModelError, also for a path of a file, and for a made model that `by` may
    not see; UsageError for an embedder."""
    if name not in project.config.models:
        rows = {row["id"]: row["kind"] for row in offered(project, by=by)}
        if rows.get(name) == "embedding":
            raise UsageError(f"{name} makes vectors; it does not chat", hint="POST /v1/embeddings")
        if name not in rows:
            raise _unknown(name, rows)
    return project.model(name)


def _unknown(name: str, names: Sequence[str] | dict[str, str]) -> UnknownModelError:
    close = nearest(name, names)
    hint = f"did you mean {close!r}? GET /v1/models lists them" if close else "GET /v1/models lists them"
    return UnknownModelError("there is no model of that name", hint=hint)


def whole(clearance: Clearance, project: Project) -> Label:
    """The label of something of which only the reader is known: everything that `clearance` may see."""
    every = project.config.labels.compartments if clearance.all_compartments else clearance.compartments
    return Label(clearance.level, frozenset(every))


def label_of(project: Project, message: Message, said: str | None, *, by: Principal) -> Label:
    """The label of one message that a client sends: what the asker writes has the label of what the page's reader
    types; an answer or a tool's result has the label that the client gives back with it, and without one that of all the asker may see."""
    if message.role in ("system", "user"):
        return own_label(project, by)
    if said is None:
        return whole(by.clearance, project)
    return project.label(said)


class Talk:
    """One answer to a list of messages. `labels`: for each message what the client says its label is, or None. `reader`
    is asked before each piece.

    What was asked is on record before the first piece is given out; what it cost before the last one, or when the
    reader goes away. Raises: UnknownModelError, UsageError, RefusedError, SignInError, ChangedError, LabelError,
    ModelError, AuditError.
    """

    def __init__(
        self,
        project: Project,
        request: ChatRequest,
        labels: Sequence[str | None],
        *,
        model: str,
        by: Principal,
        reader: Reader | None = None,
    ) -> None:
        self._project, self._by, self._reader = project, by, reader
        self.model = model
        self._each = [label_of(project, m, said, by=by) for m, said in zip(request.messages, labels, strict=True)]
        self.label = join(*self._each)
        if not self.label.flows_to(by.clearance):
            raise RefusedError("this conversation may not go on", hint="its label is above the clearance")
        self._model = None if model == ASSISTANT else chat_model(project, model, by=by)
        self._spoken = trained.Spoken(project, None if model == ASSISTANT else model, by=by)
        self.label = join(self.label, self._spoken.check())
        self._request = replace(request, label=self.label)
        self.shown: dict[str, Any] = {"label": str(self.label)}

    def stream(self) -> Iterator[Delta]:
        """The answer in pieces. Close the iterator to stop the model."""
        usage, finish, n_pieces = Usage(), "", 0
        deltas = self._assisted() if self._model is None else self._chatted()
        try:
            for delta in deltas:
                if delta.usage is not None:
                    usage, finish = delta.usage, delta.finish or "stop"
                    self._cost(usage, finish)
                n_pieces += 1
                yield delta
        except GeneratorExit:
            finish = finish or self._cost(Usage(0, n_pieces), "aborted")
            raise
        except Exception:
            finish = finish or self._cost(Usage(0, n_pieces), "failed")
            raise
        finally:
            deltas.close()

    def _cost(self, usage: Usage, finish: str) -> str:
        """Aborted and failed answers: the number of pieces stands for the tokens."""
        self._project.ledger.audit.record_with_others(
            "chat.usage", principal=self._by.name, model=self.model, label=self.shown["label"], finish=finish,
            input_tokens=usage.input_tokens, output_tokens=usage.output_tokens,
        )  # fmt: skip
        return finish

    def _chatted(self) -> Iterator[Delta]:
        """A model of this machine begins while the record is written; nothing is given out before it is."""
        request, model = self._request, self._model
        assert model is not None
        asked = next((m.text for m in reversed(request.messages) if m.role == "user"), "")
        recorded = self._project.recorders.submit(
            self._project.ledger.audit.record_with_others, "chat", principal=self._by.name, model=self.model,
            asked=self._project.ledger.audit.digest(asked), label=str(self.label), messages=len(request.messages),
            tools=len(request.tools) or None,
        )  # fmt: skip
        deltas = model.chat(request)
        with watching(self._project, "chat", model=self.model, asked=asked) as seen:
            try:
                for delta in deltas:
                    recorded.result()
                    self.label = join(self.label, self._spoken.check(last=delta.finish is not None))
                    self.shown["label"] = str(self.label)
                    if self._reader is not None:
                        self._reader(self.label)
                    seen.delta(delta)
                    yield delta
            finally:
                deltas.close()
                recorded.result()

    def _assisted(self) -> Iterator[Delta]:
        """The assistant; `questions.Conversation` records what it reads before it speaks."""
        request = self._request
        for name in ("tools", "schema", "grammar"):
            if getattr(request, name):
                raise UsageError(f"the assistant takes no {name}", hint="ask one of the other models of GET /v1/models")
        if any(part.kind != "text" for message in request.messages if message.role == "user" for part in message.parts):
            raise UsageError("the assistant reads text only")
        question, turns = self._history()
        pieces = Conversation(self._project, by=self._by, history=turns, own=own_label(self._project, self._by), reader=self._reader).stream(question)
        for piece in pieces:
            if isinstance(piece, AnswerPart):
                yield Delta(piece.text)
                continue
            self.shown = answer_shown(piece)
            if piece.abstained:
                yield Delta(abstention(question, piece))
            yield Delta(usage=piece.usage, finish="stop")

    def _history(self) -> tuple[str, list[Turn]]:
        """The question, and those before it, each with the label of what was answered."""
        turns: list[Turn] = []
        for message, label in zip(self._request.messages, self._each, strict=True):
            if message.role == "user":
                turns.append(Turn(message.text, label))
            elif message.role == "system":
                continue  # not read; its label is that of the question
            elif turns:
                turns[-1] = Turn(turns[-1].question, join(turns[-1].label, label))
            elif label != PUBLIC:
                turns.append(Turn("", label))
        if not self._request.messages or self._request.messages[-1].role != "user":
            raise UsageError("the last message is not the user's", hint='end with {"role": "user", "content": "..."}')
        *before, last = turns
        made: list[Turn] = before[:-_REPLAYED]
        for turn in before[-_REPLAYED:]:
            made.append(Turn(rewrite(turn.question, made, analyzer=self._project.analyzer), turn.label))
        return last.question, made


def embed(project: Project, texts: Sequence[str], *, model: str, kind: Kind, by: Principal) -> tuple[Floats, int]:
    """Vectors of `texts` by the project's embedder, (n_texts, dim) with rows of length 1, and the tokens that were read.
    Raises: UnknownModelError, UsageError for a model that makes no vectors, AuditError, ModelError."""
    embedder = project.embedder
    if embedder is None or model != embedder.name:
        rows = {row["id"]: row["kind"] for row in offered(project, by=by)}
        if model in rows:
            raise UsageError("this model makes no vectors", hint="GET /v1/models names the one that does")
        raise _unknown(model, rows)
    project.ledger.audit.record("embed", principal=by.name, model=model, asked=project.ledger.audit.digest("\0".join(texts)), texts=len(texts))
    count = getattr(embedder, "count", None)
    with watching(project, "embed", model=model) as seen:
        vectors = embedder.embed(texts, kind=kind)
        seen.input_tokens = sum(count(texts)) if count else 0
    return vectors, seen.input_tokens


def embedding_dim(project: Project) -> int:
    """Numbers in a vector of the project's embedder. Raises: UsageError where there is none."""
    if project.embedder is None:
        raise UsageError("this project has no embedder", hint="set embedder.name in hagane.yaml")
    return int(project.embedder.dim)
