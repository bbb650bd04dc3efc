"""The loop: golden curve, accumulation, ranks' arithmetic, bad numbers, memory, stopping."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="the extra train is not installed")
pytest.importorskip("transformers", reason="the extra train is not installed")

import numpy as np
import torch
from small_training import Stream, batch, tiny

from hagane.core.errors import StateError
from hagane.train.loop import Event, Run, Settings, train
from hagane.train.objectives import NextToken
from hagane.train.words import NO_LOSS, Batch

GOLDEN = Path(__file__).parent / "golden"
SETTINGS = Settings(steps=20, learning_rate=3e-3, warmup_steps=4, micro_rows=4)


@pytest.mark.parametrize("kind", ["muon", "adamw"])
def test_golden_curve_of_20_steps(kind: str):
    """Japanese text, a Llama of one layer: the losses that were written down (1e-4), and they fall."""
    got = train(tiny(initializer_range=0.02), NextToken(), Stream(), replace(SETTINGS, optimiser=kind)).losses
    name = GOLDEN / f"llama_20_steps_{kind}.txt"
    if os.environ.get("HAGANE_WRITE_GOLDEN"):
        name.write_text("".join(f"{loss:.6f}\n" for loss in got), "utf-8")
    want = [float(line) for line in name.read_text("utf-8").split()]
    assert got == pytest.approx(want, rel=1e-4)
    assert got[-1] < got[0] - 0.5


def gradients(micro_rows: int) -> dict[str, torch.Tensor]:
    run = Run(tiny(), NextToken(), Stream(), replace(SETTINGS, micro_rows=micro_rows))
    run.accumulate(batch(0), list(range(8)))
    return {name: one.grad for name, one in run.learner.named_parameters()}


def test_accumulation_of_one_by_eight_is_eight_by_one():
    """Rows hold different numbers of labels; a mean of means would differ by percents. 1e-6 of each tensor's largest."""
    counts = (batch(0).targets_BT != NO_LOSS).sum(1)
    assert len(set(counts.tolist())) > 1
    small, large = gradients(1), gradients(8)
    for name, one in small.items():
        assert (one - large[name]).abs().max() <= 1e-6 * large[name].abs().max(), name


def test_loss_is_the_mean_over_the_labels_of_the_batch():
    run = Run(tiny(), NextToken(), Stream(), SETTINGS)
    with torch.no_grad():
        one = batch(3)
        parts = [
            run.accumulate(
                Batch(*(x[n : n + 1] for x in (one.ids_BT, one.targets_BT, one.documents_BT, one.positions_BT))), [0]
            )
            for n in range(8)
        ]
        whole = run.accumulate(one, list(range(8)))
    weights = (one.targets_BT != NO_LOSS).sum(1)
    assert whole["loss"] == pytest.approx(
        float(np.average([part["loss"] for part in parts], weights=weights)), rel=1e-5
    )


class Poisoned(Stream):
    """From step 5 on, one row makes the loss of a poisoned model NaN: it holds byte 255, whose embedding is not a number."""

    def batch(self, step: int) -> Batch:
        one = super().batch(step)
        if step == 5:
            one.ids_BT[6, 2] = 255
        return one


def test_nan_loss_stops_names_the_documents_and_keeps_the_last_good(tmp_path):
    model = tiny(tie_word_embeddings=False)
    with torch.no_grad():
        model.get_input_embeddings().weight[255] = float("nan")
    settings = replace(SETTINGS, optimiser="adamw", weight_decay=0.0, save_every=4)
    with pytest.raises(StateError) as caught:
        train(model, NextToken(), Poisoned(), settings, folder=tmp_path)
    assert "step 5" in str(caught.value) and "規程-5-6" in str(caught.value)
    assert "規程-5-7" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["step-000000004"]


def test_out_of_memory_halves_the_micro_batch_and_says_so(monkeypatch):
    """The numbers of the step are those of a run that began with the smaller one."""
    events: list[Event] = []
    run = Run(tiny(), NextToken(), Stream(), replace(SETTINGS, micro_rows=8), watch=events.append)
    real = run._score

    def small_machine(micro):
        if len(micro.ids_BT) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(micro)

    monkeypatch.setattr(run, "_score", small_machine)
    loss = run.do_step()["loss"]
    assert [event.values["rows"] for event in events if event.kind == "halved"] == [4, 2]
    again = Run(tiny(), NextToken(), Stream(), replace(SETTINGS, micro_rows=2))
    assert again.do_step()["loss"] == loss
    for one, other in zip(run.learner.parameters(), again.learner.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_single_row_that_does_not_fit_is_an_error_with_a_hint(monkeypatch):
    run = Run(tiny(), NextToken(), Stream(), replace(SETTINGS, micro_rows=1))

    def no_room(micro):
        raise MemoryError

    monkeypatch.setattr(run, "_score", no_room)
    with pytest.raises(StateError, match="does not hold 1 rows of 64 tokens") as caught:
        run.do_step()
    assert "shorter context" in str(caught.value.hint)


def test_other_errors_are_not_taken_for_memory(monkeypatch):
    run = Run(tiny(), NextToken(), Stream(), SETTINGS)

    def broken(micro):
        raise RuntimeError("shapes differ")

    monkeypatch.setattr(run, "_score", broken)
    with pytest.raises(RuntimeError, match="shapes differ"):
        run.do_step()


class Nothing(Stream):
    """Nothing of the batches of `steps` earns loss: they are rows of a long prompt."""

    def __init__(self, steps: range) -> None:
        super().__init__()
        self.steps = steps

    def batch(self, step: int) -> Batch:
        one = super().batch(step)
        if step in self.steps:
            one.targets_BT[:] = NO_LOSS
        return one


def test_a_step_of_nothing_changes_nothing_and_is_counted():
    events: list[Event] = []
    run = Run(tiny(), NextToken(), Nothing(range(1, 2)), replace(SETTINGS, steps=3), watch=events.append)
    run.do_step()
    before = [one.clone() for one in run.optimisers.parameters]
    run.do_step()
    assert run.step == 2
    assert all(torch.equal(a, b) for a, b in zip(before, run.optimisers.parameters, strict=True))
    done = train(tiny(), NextToken(), Nothing(range(1, 2)), replace(SETTINGS, steps=3), watch=events.append)
    assert (done.why, done.step, len(done.losses)) == ("done", 3, 2)
    assert ["loss" in event.values for event in events if event.kind == "step"] == [True, False, True]


def test_a_run_of_nothing_is_an_error(tmp_path):
    with pytest.raises(StateError, match="nothing of the data earns loss"):
        train(tiny(), NextToken(), Nothing(range(99)), SETTINGS, folder=tmp_path)


def test_events_tell_what_a_page_shows():
    events: list[Event] = []
    train(tiny(), NextToken(), Stream(), replace(SETTINGS, steps=3), watch=events.append)
    steps = [event for event in events if event.kind == "step"]
    assert [event.step for event in steps] == [1, 2, 3]
    assert {"loss", "gradient_norm", "learning_rate", "tokens", "tokens_per_s", "remaining_s"} <= set(steps[0].values)
    assert steps[-1].values["remaining_s"] == 0
    assert events[-1].kind == "done"


def test_stop_is_heard_saved_and_gone_on_from(tmp_path):
    """Ended after 6 steps by a wish; started again it does the other 14 and ends like one that was never asked."""
    asked: list[int] = []

    def stop() -> bool:
        asked.append(1)
        return len(asked) > 6

    first = train(tiny(), NextToken(), Stream(), SETTINGS, folder=tmp_path, stop=stop)
    assert (first.why, first.step) == ("stopped", 6)
    resumed, whole = tiny(), tiny()
    second = train(resumed, NextToken(), Stream(), SETTINGS, folder=tmp_path)
    assert len(second.losses) == 14
    assert first.losses + second.losses == train(whole, NextToken(), Stream(), SETTINGS).losses
    assert all(torch.equal(a, b) for a, b in zip(resumed.parameters(), whole.parameters(), strict=True))


def test_patience_ends_a_run_that_no_longer_becomes_better():
    """Learning rate 0: the dev loss stays as it is, and two evaluations later the run ends."""
    settings = replace(SETTINGS, learning_rate=0.0, dev_every=2, patience=2)
    events: list[Event] = []
    done = train(tiny(), NextToken(), Stream(), settings, dev=[batch(999)], watch=events.append)
    assert (done.why, done.step) == ("no_longer_better", 6)
    assert [event.values["loss"] for event in events if event.kind == "dev"] == [done.dev_loss] * 3


def test_a_run_that_ended_by_patience_stays_ended(tmp_path):
    """Killed after its last checkpoint and started again: not one more step."""
    settings = replace(SETTINGS, learning_rate=0.0, dev_every=2, patience=2)
    first = train(tiny(), NextToken(), Stream(), settings, dev=[batch(999)], folder=tmp_path)
    again = train(tiny(), NextToken(), Stream(), settings, dev=[batch(999)], folder=tmp_path)
    assert (again.why, again.step, again.losses) == ("no_longer_better", 6, ())
    assert again.dev_loss == first.dev_loss


def test_dev_loss_is_a_mean_over_labels_and_learns_nothing():
    model = tiny()
    before = [one.clone() for one in model.parameters()]
    run = Run(model, NextToken(), Stream(), SETTINGS, dev=[batch(7), batch(8, rows=2)])
    loss = run.dev_loss()
    with torch.no_grad():
        sums = [run.accumulate(one, list(range(len(one.ids_BT))))["loss"] * one.n_targets for one in run.dev]
    assert loss == pytest.approx(sum(sums) / sum(one.n_targets for one in run.dev), rel=1e-5)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


@pytest.mark.long
@pytest.mark.parametrize("whole", [True, False])
def test_a_compiled_run_is_the_plain_one(whole: bool):
    """Rows of one document, or of several: the same losses (1e-4)."""

    class Rows(Stream):
        def batch(self, step: int) -> Batch:
            one = super().batch(step)
            if whole:
                one.documents_BT[:] = 0
                one.positions_BT[:] = np.arange(one.ids_BT.shape[1])
            return one

    settings = replace(SETTINGS, steps=4)
    plain = train(tiny(), NextToken(), Rows(), settings).losses
    compiled = train(tiny(), NextToken(), Rows(), replace(settings, compile=True)).losses
    assert compiled == pytest.approx(plain, rel=1e-4)
