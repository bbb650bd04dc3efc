"""Whatever is added, relabelled and deleted: no search returns a chunk above the clearance, and none within it is lost."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hagane.contracts.index import DIM, chunk
from hagane.core.labels import EVERYTHING, Clearance, Label, Level
from hagane.index.lance import LanceIndex
from hagane.index.memory import MemoryIndex

COMPARTMENTS = st.frozensets(st.sampled_from(["hr", "board", "legal"]), max_size=2)
LABELS = st.builds(Label, st.sampled_from(Level), COMPARTMENTS)
CLEARANCES = st.one_of(
    st.builds(Clearance, st.sampled_from(Level), COMPARTMENTS),
    st.builds(lambda level: Clearance(level, frozenset(), True), st.sampled_from(Level)),
)
DOCUMENTS = st.sampled_from(["就業規則", "経費規程", "賞与'一覧", "議事録"])
ACTS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), DOCUMENTS, LABELS),
        st.tuples(st.just("relabel"), DOCUMENTS, LABELS),
        st.tuples(st.just("delete"), DOCUMENTS, st.booleans()),
        st.tuples(st.just("optimize"), st.none(), st.none()),
    ),
    min_size=1,
    max_size=6,
)
AXIS = np.eye(DIM, dtype=np.float32)


def play(store: Any, acts: list[tuple[str, Any, Any]]) -> dict[str, Label]:
    """Do the acts; return the label that each chunk must have."""
    labels: dict[str, Label] = {}
    for act, document, given_ in acts:
        own = [f"{document}#{i}" for i in range(2)]
        if act == "add":
            store.add([chunk(key, "規程 本文", label=given_) for key in own], [["規程", "本文"]] * 2)
            store.add_vectors(own, AXIS[:2])
            labels |= dict.fromkeys(own, given_)
        elif act == "relabel":
            store.relabel(document, given_)
            labels |= {key: given_ for key in own if key in labels}
        elif act == "delete":
            store.delete([document], purge=given_)
            labels = {key: label for key, label in labels.items() if key not in own}
        else:
            store.optimize()
    return labels


def check(store: Any, acts: list[tuple[str, Any, Any]], clearances: list[Clearance]) -> None:
    labels = play(store, acts)
    everything = sorted(f"{d}#{i}" for d in ("就業規則", "経費規程", "賞与'一覧", "議事録") for i in range(2))
    for clearance in [*clearances, EVERYTHING]:
        allowed = {key for key, label in labels.items() if label.flows_to(clearance)}
        words = store.by_words({"規程": 1.0, "本文": 0.5}, clearance=clearance, n=50)
        assert {hit.chunk for hit in words} == allowed
        assert {hit.chunk for hit in store.by_vector(AXIS[0], clearance=clearance, n=50)} == allowed
        chunks = store.chunks(everything, clearance=clearance)
        assert {c.id: c.label for c in chunks} == {key: labels[key] for key in allowed}
        seen = store.statistics(["規程"], clearance=clearance)
        assert (seen.n_chunks, seen.frequencies["規程"]) == (len(allowed), len(allowed))


def in_memory(n_cases: int) -> Any:
    @settings(max_examples=n_cases, deadline=None, database=None, derandomize=True)
    @given(ACTS, st.lists(CLEARANCES, min_size=1, max_size=3))
    def run(acts: list, clearances: list) -> None:
        check(MemoryIndex(), acts, clearances)

    return run


def on_disk(n_cases: int) -> Any:
    quiet = [HealthCheck.too_slow, HealthCheck.data_too_large]

    @settings(max_examples=n_cases, deadline=None, database=None, derandomize=True, suppress_health_check=quiet)
    @given(ACTS, st.lists(CLEARANCES, min_size=1, max_size=2))
    def run(acts: list, clearances: list) -> None:
        with tempfile.TemporaryDirectory() as folder:
            check(LanceIndex(Path(folder)), acts, clearances)

    return run


def test_500_histories_in_memory():
    in_memory(500)()


@pytest.mark.long
def test_10000_histories_in_memory():
    in_memory(10_000)()


def test_20_histories_in_lancedb():
    on_disk(20)()


@pytest.mark.long
def test_300_histories_in_lancedb():
    on_disk(300)()
