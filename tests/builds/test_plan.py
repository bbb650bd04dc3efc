"""The plan before money is spent: counts by hand and against published sizes, money, refusals, what never turns around.

Needs no torch: the machine's speed is given. tests/builds/test_plan_text.py holds the text; bench/plan.py measures.
"""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import tiny_gguf
from hypothesis import given, settings
from hypothesis import strategies as st

from hagane.builds.amount import SAMPLE, Amount, characters_per_token, estimated
from hagane.builds.cost import Job, flops, seconds
from hagane.builds.decoder import Decoder, from_config, from_shape, read_decoder
from hagane.builds.machine import Machine, free_memory, this_machine
from hagane.builds.offers import gpu_bytes
from hagane.builds.plan import compare, plan, plan_all, require
from hagane.builds.space import disk, memory
from hagane.builds.spec import TrainFile
from hagane.core.errors import ModelError, NotFoundError, RefusedError, StateError, UsageError
from hagane.core.labels import Label
from hagane.core.prices import prices
from hagane.models.gguf import read_header
from hagane.train.scaling import Shape
from hagane.train.speed import Speed
from hagane.train.words import Message, Row

LLAMA_7B = Decoder("llama", 32_000, 4096, 32, 32, 32, 128, 11_008, True, False, 4096)
GEMMA_270M = Decoder("gemma3_text", 262_144, 640, 18, 4, 1, 256, 2048, True, True, 32_768)
SMOL_135M = Decoder("llama", 49_152, 576, 30, 9, 3, 64, 1536, True, True, 8192)
SPEED = Speed(6.4e10, 8e8, 2.5e-6, "torch")
MACHINE = Machine(SPEED, 16e9, 200e9, 2)
TODAY = date(2026, 11, 24)
DOCUMENTS = [{"documents": []}]


def spec(**stages: Any) -> TrainFile:
    return TrainFile.model_validate({"name": "uchi", **stages})


def planned(stages: dict[str, Any], stage: Any, **rest: Any):
    return plan(spec(**stages), stage, **{"machine": MACHINE, "today": TODAY, **rest})


# -- counting ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("decoder", "published"), [(LLAMA_7B, 6_738_415_616), (GEMMA_270M, 268_098_176), (SMOL_135M, 134_515_008)]
)
def test_parameters_are_the_published_ones(decoder: Decoder, published: int):
    assert decoder.n_params == published


def test_the_adapter_of_gemma_is_3_8_million_at_rank_16():
    """16 x (in + out) of the seven layers of 18 blocks: measured with peft in FACTS as 3.8 M."""
    sizes = 2 * (640 + 1024) + 2 * (640 + 256) + 3 * (640 + 2048)
    assert GEMMA_270M.n_adapter(16) == 18 * 16 * sizes == 3_796_992
    assert GEMMA_270M.n_adapter(8, ("q_proj",)) == 18 * 8 * 1664


def test_flops_of_llama_7b_by_hand():
    """One row of 4096 tokens, every weight trained, AdamW: 2 per weight forward, 4 back; attention over half the row."""
    n = 4096
    job = Job(LLAMA_7B, n, 1, 1, 1, "adamw")
    hidden = 32 * (4 * 4096**2 + 3 * 4096 * 11_008)
    head, attention = 2 * 32_000 * 4096 * n, 4 * 2048 * 4096 * 32 * n
    got = flops(job)
    assert got.forward == pytest.approx(2 * hidden * n + head + attention)
    assert got.backward == pytest.approx(4 * hidden * n + 2 * head + 2.5 * attention)
    assert got.total == pytest.approx(6 * LLAMA_7B.n_params * n, rel=0.13) and got.optimiser == 0


def test_frozen_weights_have_no_gradient_and_the_head_works_at_labels_only():
    """Gemma with an adapter, a fifth of the positions labelled: 4 per frozen weight instead of 6, a fifth of the head."""
    job = Job(GEMMA_270M, 512, 8, 4, 1, "adamw", labelled=0.2, document=128, rank=16)
    n, got = 8 * 512, flops(job)
    frozen = 18 * (2 * 640 * 1024 + 2 * 640 * 256 + 3 * 640 * 2048)
    assert got.blocks == 4 * frozen * n
    assert got.adapter == 6 * 3_796_992 * n
    assert got.head == pytest.approx(4 * 262_144 * 640 * n * 0.2)
    assert got.attention == 3.5 * 4 * 64 * 1024 * 18 * n
    assert flops(replace(job, rank=0)).head == pytest.approx(1.5 * got.head)


def test_muon_by_hand():
    """Five rounds on a 4 x 8 matrix: x xᵀ and its product with x (2 x 2·4·4·8), its square (2·4·4·4)."""
    tiny = Decoder("falcon", 10, 4, 1, 1, 1, 4, 8, False, True, 16)
    square = 5 * (4 * 4 * 4 * 4 + 2 * 4**3)
    assert flops(Job(tiny, 16, 1, 1, 1, "muon")).optimiser == 4 * square + 2 * 5 * (4 * 4 * 4 * 8 + 2 * 4**3)


def test_memory_of_gemma_by_hand():
    """fp32: an adapter has gradients and two numbers of AdamW; without it every weight has, and Muon keeps one."""
    job = Job(GEMMA_270M, 512, 8, 4, 1, "adamw", labelled=0.2, rank=16)
    got = memory(job)
    assert got.weights == 4 * (268_098_176 + 3_796_992)
    assert (got.gradients, got.optimiser) == (4 * 3_796_992, 8 * 3_796_992)
    full = memory(replace(job, rank=0, optimiser="muon"))
    hidden = GEMMA_270M.n_hidden
    assert full.gradients == 4 * 268_098_176
    assert full.optimiser == 4 * (hidden + 2 * (268_098_176 - hidden))
    judged = memory(replace(job, rank=0, objective="preference"))
    assert judged.reference == 4 * 268_098_176 and memory(replace(job, objective="preference")).reference == 0


def test_a_checkpoint_is_what_is_trained_with_its_optimiser():
    got = disk(Job(GEMMA_270M, 512, 8, 4, 1, "adamw", rank=16), keep=2)
    assert got.checkpoint == 4 * 3 * 3_796_992 and got.kept == 3 * got.checkpoint and got.made == 4 * 3_796_992


# -- sizes from files --------------------------------------------------------------------------------------------------


def test_config_json_alone_is_enough(tmp_path: Path):
    said = {"model_type": "gemma3_text", "vocab_size": 262144, "hidden_size": 640, "num_hidden_layers": 18, "head_dim": 256,
            "num_attention_heads": 4, "num_key_value_heads": 1, "intermediate_size": 2048, "max_position_embeddings": 32768}  # fmt: skip
    (tmp_path / "模型").mkdir()
    (tmp_path / "模型" / "config.json").write_text(json.dumps(said), "utf-8")
    assert read_decoder(tmp_path / "模型") == GEMMA_270M
    assert from_config({"text_config": said, "model_type": "gemma3"}) == GEMMA_270M


def test_the_header_of_a_gguf_file_is_enough(tmp_path: Path):
    """One block with a head of its own; as many parameters as the tensors that the header lists."""
    file = tiny_gguf.write(tmp_path / "小さな模型.gguf")
    got, header = read_decoder(file), read_header(file)
    assert (got.family, got.depth, got.tied, got.longest) == ("llama", 1, False, 1024)
    assert got.vocab == len(header.values["tokenizer.ggml.tokens"]) and got.n_params == header.n_params


@pytest.mark.parametrize(
    ("family", "n_kv"), [("llama", 4), ("mistral", 4), ("gemma", 4), ("gemma3_text", 4), ("qwen3", 4), ("falcon", 1)]
)
def test_a_shape_from_scratch_is_counted_as_its_own_family(family: str, n_kv: int):
    got = from_shape(Shape(4096, 256, 4, 4, 4, 704, 512), family)
    assert got.kv_heads == n_kv and got.gated is (family != "falcon") and got.n_params > 4096 * 256


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("{", ModelError),
        ("[]", ModelError),
        ('{"model_type": "llama"}', ModelError),
        ('{"model_type": "bert", "hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 1, "vocab_size": 9, "intermediate_size": 9}', UsageError),
    ],
)  # fmt: skip
def test_what_says_no_sizes_is_refused(tmp_path: Path, text: str, error: type[Exception]):
    (tmp_path / "config.json").write_text(text, "utf-8")
    with pytest.raises(error):
        read_decoder(tmp_path)


def test_a_base_that_is_not_there_is_said(tmp_path: Path):
    with pytest.raises(NotFoundError):
        read_decoder(tmp_path / "ない.gguf")
    with pytest.raises(UsageError, match="begins with a model"):
        planned({"tune": {"data": DOCUMENTS, "base": "x"}}, "tune")


# -- amounts -----------------------------------------------------------------------------------------------------------


def _rows(n: int) -> list[Row]:
    said = (Message("user", "有給休暇は何日ですか。"), Message("assistant", "入社から六か月後に十日です。"))
    return [Row(Label(), "規程.jsonl", line, messages=said) for line in range(1, n + 1)]


def test_an_amount_is_estimated_from_characters_and_turns():
    """11 + 14 characters at 1.6, five marks for each of two turns; the assistant's 14 are learnt."""
    got = estimated(_rows(10), held_back=0.1)
    assert got.tokens == pytest.approx(10 * (25 / 1.6 + 10) * 0.9)
    assert (got.documents, got.estimated) == (9, True)
    assert got.labelled == pytest.approx(14 / 1.6 / (25 / 1.6 + 10))


def test_a_tokenizer_sees_a_sample_and_not_everything():
    seen: list[str] = []

    def tokens_of(text: str) -> int:
        seen.append(text)
        return len(text)

    got = estimated(_rows(SAMPLE + 50), tokens_of=tokens_of)
    assert len(seen) == 2 * SAMPLE and got.tokens == (SAMPLE + 50) * (25 + 10)


def test_a_pair_of_answers_is_two_documents():
    row = Row(Label(), "対.jsonl", 1, messages=(Message("user", "問い"),), chosen=(Message("assistant", "良い答え"),),
              rejected=(Message("assistant", "悪い"),))  # fmt: skip
    got = estimated([row])
    assert got.documents == 2 and got.tokens == pytest.approx((6 + 4) / 1.6 + 10)


def test_no_rows_are_no_amount():
    with pytest.raises(StateError):
        estimated([])


def test_larger_vocabularies_need_fewer_tokens():
    sizes = [characters_per_token(n) for n in (500, 1000, 2000, 4000, 8000, 32_000, 64_000, 262_144)]
    assert sizes == sorted(sizes) and sizes[0] == 1.15 and sizes[-1] == 2.1


# -- plans -------------------------------------------------------------------------------------------------------------


def test_a_budget_is_what_it_takes():
    """The hours of the plan are those of train.yaml, whatever the machine's mixture of speeds is."""
    for budget, wanted in (("1h", 1.0), ("10m", 1 / 6), ("2d", 48.0)):
        got = planned({"pretrain": {"data": DOCUMENTS, "budget": budget}}, "pretrain")
        assert got.here.hours == pytest.approx(wanted, rel=0.03)
        assert got.flops_per_s == pytest.approx(_total(got) / (got.here.hours * 3600), rel=0.2)


def _total(got: Any) -> float:
    return got.flops.forward + got.flops.backward + got.flops.optimiser


def test_an_adapter_is_planned_on_the_base_alone():
    data = Amount(1_000_000, 4000, 0.25)
    got = planned({"tune": {"data": DOCUMENTS, "base": "gemma", "adapter": {}}}, "tune", base=GEMMA_270M, data=data)
    assert (got.n_params, got.n_trained, got.optimiser) == (268_098_176, 3_796_992, "adamw")
    assert got.epochs == pytest.approx(2, rel=0.02) and got.here.fits and not got.titan
    require(got)


def test_each_stage_begins_with_what_the_one_before_makes():
    stages = {"pretrain": {"data": DOCUMENTS, "params": "2M"}, "tune": {"data": DOCUMENTS}, "prefer": {"data": DOCUMENTS, "adapter": {"rank": 4}}}
    first, second, third = plan_all(spec(**stages), machine=MACHINE, today=TODAY)
    assert first.decoder == second.decoder == third.decoder
    assert second.n_trained == first.n_params > third.n_trained
    with pytest.raises(UsageError):
        planned({"tokenizer": {}, **stages}, "tokenizer")


def test_what_does_not_fit_into_memory_is_refused_before_anything_runs():
    """Llama 7B, every weight, on 16 GB: refused with the bytes, and with what would do."""
    got = planned({"tune": {"data": DOCUMENTS, "base": "x"}}, "tune", base=LLAMA_7B)
    assert not got.here.fits
    with pytest.raises(RefusedError, match=r"GB of memory, 16\.0 GB are free") as caught:
        require(got)
    assert caught.value.hint == "rent 8 x H100, or tune an adapter instead of every weight"
    assert not {one.name for one in got.gpus if one.fits and one.n_gpus == 1} & {"L4", "A10G", "A100-40"}


def test_fewer_rows_at_once_are_the_hint_where_they_are_enough():
    stages = {"tune": {"data": DOCUMENTS, "base": "x", "adapter": {}}}
    whole = planned(stages, "tune", base=GEMMA_270M, data=Amount(1e6, 1000, 0.2))
    room = whole.memory.total - whole.memory.activations / 4
    got = planned(stages, "tune", base=GEMMA_270M, data=Amount(1e6, 1000, 0.2), machine=replace(MACHINE, memory=room))
    with pytest.raises(RefusedError) as caught:
        require(got)
    assert "tune.training.micro_rows" in str(caught.value.hint)


def test_what_does_not_fit_onto_the_disk_is_refused():
    got = planned({"pretrain": {"data": DOCUMENTS, "params": "100M"}}, "pretrain", machine=replace(MACHINE, disk=1e9))
    with pytest.raises(RefusedError, match="of disk") as caught:
        require(got)
    assert "keep" in str(caught.value.hint)


def test_what_cannot_be_reached_is_said_with_what_to_do_instead():
    got = planned({"pretrain": {"data": DOCUMENTS, "params": "1B"}}, "pretrain", machine=replace(MACHINE, memory=1e12, disk=1e12))
    said = " ".join(got.notes)
    assert "cannot be reached here" in said and "an hour here buys; tune a 4 B model or use RAG" in said
    small = planned({"pretrain": {"data": DOCUMENTS, "params": "2M"}}, "pretrain", data=Amount(1e5, 100))
    assert any("read 4" in note and "enough for 20 k parameters" in note for note in small.notes)


def test_beyond_the_own_loop_torchtitan_gets_a_configuration():
    """70 B parameters are years on one node: said with the reason, and its TOML can be read again."""
    import tomllib

    got = planned({"pretrain": {"data": DOCUMENTS, "params": "70B"}}, "pretrain")
    assert any("FSDP2" in note and "torchtitan" in note for note in got.notes)
    found = tomllib.loads(got.titan)
    assert found["model"] == {"name": "llama3", "flavor": "uchi", "tokenizer_path": "./tokenizer"}
    assert found["training"]["seq_len"] == got.tokens and found["training"]["steps"] == got.steps
    assert found["training"]["global_batch_size"] == got.rows and found["parallelism"]["data_parallel_shard_degree"] == -1
    assert found["optimizer"]["lr"] == got.rate and found["lr_scheduler"]["decay_type"] == "sqrt"
    assert not planned({"pretrain": {"data": DOCUMENTS, "params": "124M"}}, "pretrain").titan


def test_a_plan_is_json():
    got = planned({"pretrain": {"data": DOCUMENTS, "params": "2M"}}, "pretrain")
    again = json.loads(json.dumps(got.json(), ensure_ascii=False))
    assert again["here"]["name"] == "this machine" and len(again["gpus"]) == len(prices().gpu) and again["n_params"] == got.n_params


def test_after_the_run_the_plan_is_held_against_it():
    """Half of the steps in twice the time, three quarters of the memory."""
    got = planned({"pretrain": {"data": DOCUMENTS, "params": "2M"}}, "pretrain")
    steps = got.steps // 2
    measured = {"steps": steps, "seconds": 2 * steps * got.seconds_per_step, "peak_bytes": 0.75 * got.here.memory}
    found = compare(got, measured)
    assert (found.seconds_ratio, found.memory_ratio) == pytest.approx((2.0, 0.75))
    assert found.flops == pytest.approx(_total(got) * steps / got.steps)
    assert found.kwh == pytest.approx(prices().own.watts / 1000 * measured["seconds"] / 3600)
    assert compare(got.json(), measured) == found
    assert compare(got, {"steps": 1}).memory_ratio == 0


def test_this_machine_is_measured_with_or_without_torch(tmp_path: Path):
    got = this_machine(tmp_path / "まだ" / "ない", threads=1, seconds=0.02)
    assert got.speed.products > 1e6 and got.speed.passes > 1e4 and got.speed.call_s > 0
    assert got.speed.by in ("torch", "numpy") and got.disk > 0 and 0 < got.memory <= free_memory() * 2


# -- what never turns around --------------------------------------------------------------------------------------------


@st.composite
def jobs(draw: st.DrawFn) -> Job:
    """Any training of any of our families."""
    heads, head = draw(st.integers(1, 16)), draw(st.sampled_from([16, 32, 64, 128]))
    family = draw(st.sampled_from(["llama", "gemma3_text", "qwen3", "qwen2", "falcon"]))
    decoder = Decoder(
        family, draw(st.integers(256, 100_000)), draw(st.integers(1, 32)) * 64, draw(st.integers(1, 40)), heads,
        draw(st.sampled_from([n for n in range(1, heads + 1) if heads % n == 0])), head, draw(st.integers(1, 64)) * 64,
        family != "falcon", draw(st.booleans()), 4096,
    )  # fmt: skip
    rank, rows = draw(st.sampled_from([0, 0, 4, 16])), draw(st.integers(1, 64))
    return Job(
        decoder, draw(st.sampled_from([64, 512, 2048])), rows, draw(st.integers(1, rows)), draw(st.integers(1, 1000)),
        "adamw" if rank else draw(st.sampled_from(["muon", "adamw"])), draw(st.floats(0.05, 1.0)),
        draw(st.floats(16, 4096)), rank, (), draw(st.sampled_from(["next_token", "preference"])),
    )  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(jobs())
def test_more_work_never_costs_less(job: Job):
    """More rows, blocks, labels or tokens: more FLOPs, more seconds, no less memory; an adapter costs less than all."""
    deeper = replace(job, decoder=replace(job.decoder, depth=job.decoder.depth + 1))
    longer = replace(job, tokens=2 * job.tokens)
    more = replace(job, rows=job.rows + job.micro_rows)
    for larger in (deeper, longer, more, replace(job, labelled=min(1.0, 2 * job.labelled))):
        assert flops(larger).total >= flops(job).total
        assert seconds(larger, SPEED) >= seconds(job, SPEED)
        assert memory(larger).total >= memory(job).total
    if job.rank and job.n_trained < job.decoder.n_params:
        whole = replace(job, rank=0, optimiser="adamw")
        assert flops(whole).blocks > flops(job).blocks and memory(whole).gradients > memory(job).gradients


@settings(max_examples=100, deadline=None)
@given(jobs(), st.floats(1.1, 10))
def test_a_faster_machine_is_never_slower_and_fewer_rows_at_once_never_larger(job: Job, times: float):
    """But for the gradients: they have to wait for the other rows where those do not go at once."""
    fast = Speed(SPEED.products * times, SPEED.passes * times, SPEED.call_s / times, "torch")
    assert seconds(job, fast) == pytest.approx(seconds(job, SPEED) / times)
    fewer, whole = memory(replace(job, micro_rows=1)), memory(job)
    assert fewer.activations <= whole.activations and fewer.logits <= whole.logits
    assert fewer.total <= whole.total + (0 if whole.accumulated else whole.gradients)
    assert gpu_bytes(job, n_gpus=8) <= gpu_bytes(job) + 8 * job.decoder.width * job.decoder.vocab
