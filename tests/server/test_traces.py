"""Spans: named as the GenAI conventions say, without content unless asked for, and nothing at all when off."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator

import pytest
from small_company import Folder

from hagane.core.errors import HaganeError, MissingExtraError
from hagane.project.questions import Conversation, ask, search
from hagane.project.talk import embed
from hagane.project.wire import Project
from hagane.server.traces import Traces, traces

export = pytest.importorskip("opentelemetry.sdk.trace.export")
memory = pytest.importorskip("opentelemetry.sdk.trace.export.in_memory_span_exporter")

QUESTION = "有給休暇は何日付与されますか"


@pytest.fixture
def project(folder: Folder) -> Iterator[Project]:
    with Project.open(folder.path) as opened:
        yield opened


def traced(project: Project, *, content: bool) -> memory.InMemorySpanExporter:
    kept = memory.InMemorySpanExporter()
    project.watchers.append(Traces(export.SimpleSpanProcessor(kept), content=content))
    return kept


def test_an_answer_is_an_agents_span_with_its_search_inside(project: Project) -> None:
    kept = traced(project, content=False)
    answer = ask(project, QUESTION, by=project.principal())
    child, span = kept.get_finished_spans()
    assert (child.name, span.name) == ("retrieval", "invoke_agent hagane")
    assert child.parent.span_id == span.context.span_id
    assert span.attributes["gen_ai.operation.name"] == "invoke_agent"
    assert span.attributes["gen_ai.agent.name"] == "hagane"
    assert span.attributes["gen_ai.response.model"] == answer.model
    assert span.attributes["gen_ai.usage.input_tokens"] == answer.usage.input_tokens
    assert span.attributes["gen_ai.response.finish_reasons"] == ("stop",)
    assert span.attributes["hagane.abstained"] is False
    assert span.start_time <= child.start_time <= child.end_time <= span.end_time


def test_searches_and_embeddings_have_their_own_names(project: Project) -> None:
    kept = traced(project, content=False)
    search(project, QUESTION, by=project.principal())
    embed(project, ["経費の精算"], model=project.embedder.name, kind="passage", by=project.principal())
    found, made = kept.get_finished_spans()
    assert (found.name, found.attributes["gen_ai.operation.name"]) == ("retrieval", "retrieval")
    assert (made.name, made.attributes["gen_ai.operation.name"]) == (f"embeddings {project.embedder.name}", "embeddings")


def test_no_content_unless_it_is_asked_for(project: Project) -> None:
    silent, open_ = traced(project, content=False), None
    ask(project, QUESTION, by=project.principal())
    assert all(ord(c) < 128 for span in silent.get_finished_spans() for c in span.to_json().encode().decode("unicode_escape"))
    project.watchers.clear()
    open_ = traced(project, content=True)
    answer = ask(project, QUESTION, by=project.principal())
    given = open_.get_finished_spans()[1].attributes
    assert json.loads(given["gen_ai.input.messages"])[0]["parts"][0]["content"] == QUESTION
    assert json.loads(given["gen_ai.output.messages"])[0]["parts"][0]["content"] == answer.answer


def test_a_failed_and_an_abandoned_question_are_told_apart(project: Project) -> None:
    kept = traced(project, content=False)
    with pytest.raises(HaganeError):
        ask(project, "", by=project.principal())
    pieces = Conversation(project, by=project.principal()).stream(QUESTION)
    next(pieces)
    pieces.close()
    failed, left = (span for span in kept.get_finished_spans() if span.name.startswith("invoke"))
    assert failed.attributes["error.type"] == "usage" and failed.status.status_code.name == "ERROR"
    assert left.attributes["gen_ai.response.finish_reasons"] == ("aborted",)


def test_an_observers_mistake_is_not_the_askers(project: Project) -> None:
    def broken(_: object) -> None:
        raise ValueError("社外秘")

    project.watchers.append(broken)
    assert ask(project, QUESTION, by=project.principal()).answer


def test_off_means_nothing_of_it_is_imported() -> None:
    code = "import sys, hagane.server.app, hagane.server.traces; print([n for n in sys.modules if n.startswith('opentelemetry.sdk')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "[]", done.stderr


def test_the_extra_is_named_when_it_is_missing(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    file = folder.path / "hagane.yaml"
    file.write_text(file.read_text() + "server: {otel: 'http://127.0.0.1:4318/v1/traces'}\n")
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with Project.open(folder.path) as project, pytest.raises(MissingExtraError, match="otel"):
        traces(project)
