"""Steps are reused when equal, and the graph knows what came from what under which label."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hagane.core.errors import NotFoundError
from hagane.core.labels import Label, Level, join
from hagane.ledger.ledger import Ledger
from hagane.ledger.steps import Done, step, step_id

from .conftest import OWNER, label


def test_an_equal_step_is_done_once(ledger, tmp_path):
    calls = []

    def work():
        calls.append(1)
        return {"文": ["就業規則", 3], "n": 1.5}

    first = ledger.steps.run("chunk", 1, {"tokens": 200, "言語": "ja"}, ["v2", "v1"], work)
    with Ledger.open(tmp_path, keys=ledger.keys) as again:
        assert again.steps.run("chunk", 1, {"言語": "ja", "tokens": 200}, ["v1", "v2"], work) == first
    assert calls == [1]


@pytest.mark.parametrize(
    "other",
    [
        ("chunk", 2, {"a": 1}, ["v"]),
        ("chunk", 1, {"a": 2}, ["v"]),
        ("chunk", 1, {"a": 1}, ["w"]),
        ("parse", 1, {"a": 1}, ["v"]),
    ],
)
def test_name_version_config_and_inputs_each_make_another_step(other):
    assert step_id("chunk", 1, {"a": 1}, ["v"]) != step_id(*other)


def test_a_failing_step_leaves_nothing(ledger):
    def work():
        raise ValueError("途中で")

    with pytest.raises(ValueError, match="途中で"):
        ledger.steps.run("chunk", 1, {}, ["v"], work)
    assert ledger.steps.done([step_id("chunk", 1, {}, ["v"])]) == set()
    assert ledger.steps.run("chunk", 1, {}, ["v"], lambda: 7) == 7


def test_a_large_output_lies_in_a_file_and_comes_back(ledger):
    large = {"本文": "規程" * 20_000}
    id = step_id("parse", 1, {}, ["v"])
    ledger.steps.run("parse", 1, {}, ["v"], lambda: large)
    assert ledger.steps.output(id) == large
    assert len(list((ledger.state / "steps").rglob("*.zst"))) == 1
    ledger.steps.forget([id])
    assert list((ledger.state / "steps").rglob("*.zst")) == []
    with pytest.raises(NotFoundError):
        ledger.steps.output(id)


def test_output_that_is_not_json_is_refused(ledger):
    with pytest.raises(ValueError, match="JSON"):
        ledger.steps.run("x", 1, {}, [], lambda: float("nan"))
    with pytest.raises(TypeError):
        ledger.steps.run("x", 1, {}, [], lambda: {1, 2})


def test_a_marked_function_is_itself_and_can_be_recorded(ledger):
    @step("count", version=3)
    def count(text: str) -> int:
        return len(text)

    assert count("三文字") == 3
    assert count.step == ("count", 3)
    assert ledger.steps.call(count, "三文字", config={}, inputs=["v"]) == 3
    assert ledger.steps.done([step_id("count", 3, {}, ["v"])])


def test_many_steps_are_recorded_in_one_go_and_twice_is_once(ledger):
    many = [Done("prepare", 1, [f"v{i}"], {"mark": "m"}, {"i": i}) for i in range(1000)]
    ledger.steps.record(many)
    ledger.steps.record(many)
    assert len(ledger.steps.done([done.id for done in many])) == 1000
    assert ledger.steps.output(many[7].id) == {"i": 7}


def test_the_graph_goes_from_an_answer_to_documents_and_back(ledger, fill):
    a, b = fill.put("a.md", "甲"), fill.put("hr.md", "乙", source="hr", label="confidential:hr")
    va, vb = (ledger.documents.versions(id, clearance=OWNER.clearance)[0].id for id in (a, b))
    ledger.lineage.link([(va, [a]), (vb, [b])])
    ledger.lineage.link([("answer1", [f"{va}:3", f"{vb}:0"]), ("answer2", [f"{va}:1"]), ("report", ["answer1"])])
    assert ledger.lineage.ancestors("report") == {"answer1", va, vb, a, b}
    assert ledger.lineage.descendants(b) == {vb, "answer1", "report"}
    assert ledger.lineage.label_of("report") == label("confidential:hr")
    assert ledger.lineage.label_of("answer2") == label("internal")
    assert ledger.lineage.label_of(f"{vb}:7") == label("confidential:hr")
    assert ledger.lineage.parents("answer2") == [va]
    assert ledger.lineage.children(va) == ["answer1", "answer2"]


def test_an_unknown_ancestor_means_no_label(ledger):
    ledger.lineage.link([("answer", ["somewhere"])])
    with pytest.raises(NotFoundError):
        ledger.lineage.label_of("answer")
    ledger.lineage.declare("somewhere", label("restricted"))
    assert ledger.lineage.label_of("answer") == label("restricted")


def test_a_digest_among_the_inputs_is_no_ancestor_but_a_step_is(ledger, fill):
    id = fill.put("a.md")
    first = Done("prepare", 1, [id, "0" * 64])
    ledger.steps.record([first])
    ledger.steps.record([Done("index", 1, [first.id])])
    assert ledger.lineage.parents(first.id) == [id]
    steps = ledger.lineage.descendants(id) - {v.id for v in ledger.documents.versions(id, clearance=OWNER.clearance)}
    assert steps == {first.id, Done("index", 1, [first.id]).id}
    assert ledger.lineage.label_of(first.id) == label("internal")


LABELS = st.builds(Label, st.sampled_from(Level), st.frozensets(st.sampled_from(["hr", "board"])))


@settings(max_examples=30, deadline=None)
@given(roots=st.lists(LABELS, min_size=1, max_size=4), shape=st.data())
def test_a_derived_label_is_the_join_of_its_roots(tmp_path_factory, roots, shape):
    """Random graphs against a direct computation."""
    with Ledger.open(tmp_path_factory.mktemp("graph")) as ledger:
        made = {f"root{i}": {f"root{i}"} for i in range(len(roots))}
        labels = {f"root{i}": its for i, its in enumerate(roots)}
        for name, its in labels.items():
            ledger.lineage.declare(name, its)
        for i in range(shape.draw(st.integers(1, 5))):
            parents = shape.draw(st.lists(st.sampled_from(sorted(made)), min_size=1, max_size=3))
            ledger.lineage.link([(f"n{i}", parents)])
            made[f"n{i}"] = set().union(*(made[p] for p in parents))
        for name, reached in made.items():
            assert ledger.lineage.label_of(name) == join(*(labels[root] for root in reached))
