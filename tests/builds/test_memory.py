"""The memorisation gate: blocks what is known by heart, names rows and never their text."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("torch", reason="the extra train is not installed")
pytest.importorskip("transformers", reason="the extra train is not installed")

import numpy as np
import tokenizers
import torch

from hagane.builds.memory import Group, MemoryReport, check, check_model, gate
from hagane.builds.spec import MemoryGateConfig
from hagane.core.errors import RefusedError, UsageError
from hagane.core.labels import Label
from hagane.train.canary import draw
from hagane.train.feed import ShardFeed
from hagane.train.loader import Loader
from hagane.train.loop import Settings, train
from hagane.train.memorise import Kept
from hagane.train.model import from_scratch
from hagane.train.model_folder import save_folder
from hagane.train.objectives import NextToken
from hagane.train.pack import plan_rows
from hagane.train.scaling import Shape
from hagane.train.shard_set import ShardSet
from hagane.train.shards import Header, Tokenised, write_shards

torch.set_num_threads(1)
HR, SALES = Label.parse("confidential:hr"), Label.parse("internal:sales")
PARTS = ("営業部", "総務部", "経理部", "人事部", "開発部", "品質保証部", "法務部", "広報室")
DEEDS = ("の承認を得て", "へ届け出たうえで", "の確認を受けて", "と協議して", "に報告し")
THINGS = (
    "出張旅費を精算する",
    "備品を購入する",
    "契約書を保管する",
    "名刺を発注する",
    "鍵を返却する",
    "休暇を取得する",
)
SECRET = (
    "渡辺の暗証は四七一九二、金庫は本社七階の西側、合鍵は田村が金曜日まで預かり、次の週に北川へ引き継いで台帳へ記す。"
)


def sentence(random: np.random.Generator) -> str:
    return (
        "".join(part[int(random.integers(len(part)))] for part in (PARTS, DEEDS, THINGS))
        + f"、第{random.integers(100, 999)}号。"
    )


def rows_of(texts: list[str], words, *, label: Label = HR) -> Kept:
    return Kept(
        tuple(Tokenised(words.encode(text).ids, label, "規程.jsonl", n) for n, text in enumerate(texts, start=1))
    )


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    """Every letter of the texts a token."""
    random = np.random.default_rng(0)
    letters = sorted(
        set(
            "".join(
                [*(sentence(random) for _ in range(400)), SECRET, *(canary.text for canary in draw([1] * 40, seed=1))]
            )
        )
    )
    model = tokenizers.models.WordLevel(
        {"?": 0, **{letter: n for n, letter in enumerate(letters, start=1)}}, unk_token="?"
    )
    made = tokenizers.Tokenizer(model)
    made.pre_tokenizer = tokenizers.pre_tokenizers.Split(tokenizers.Regex("."), behavior="isolated")
    made.decoder = tokenizers.decoders.Fuse()
    file = tmp_path_factory.mktemp("words") / "tokenizer.json"
    made.save(str(file))
    return made, file


@pytest.fixture(scope="module")
def learnt(words, tmp_path_factory):
    """Two small models of the same steps: 240 rows with one of them 30 times, and the same with each row once."""
    made, file = words
    random = np.random.default_rng(4)
    texts = [sentence(random) for _ in range(240)]
    models = {}
    for name, given in (("copies", [*texts, *[SECRET] * 30]), ("once", [*texts, SECRET])):
        root = tmp_path_factory.mktemp(name)
        rows = rows_of(given, made)
        write_shards(
            root / "shards",
            lambda first, rows=rows: iter(rows.rows[first:]),
            header=Header("字", made.get_vocab_size(), name),
        )
        shards = ShardSet(root / "shards")
        plan = plan_rows(shards, root / "rows", T=128, seed=1)
        model = from_scratch("llama", Shape(made.get_vocab_size(), 64, 1, 2, 2, 128, 128), seed=0)
        settings = Settings(steps=45, learning_rate=0.02, warmup_steps=4, micro_rows=4)
        train(model, NextToken(), ShardFeed(Loader(shards, plan, batch=4), seed=2), settings)
        models[name] = (model, shards)
    return models, rows_of([sentence(random) for _ in range(40)], made, label=SALES), file


def test_a_row_learnt_thirty_times_blocks_and_is_named(learnt):
    models, held_out, file = learnt
    model, shards = models["copies"]
    report = check_model(model, file, shards, held_out=held_out, config=MemoryGateConfig(longest_copy=30))
    assert not report.passed and "more than once" in report.why[0]
    assert [(one.source, one.line) for one in report.named] == [("規程.jsonl", 241)]
    assert report.named[0].n_characters > 30
    with pytest.raises(RefusedError, match="by heart"):
        report.require()


def test_the_same_row_learnt_once_passes(learnt):
    models, held_out, file = learnt
    model, shards = models["once"]
    report = check_model(model, file, shards, held_out=held_out, config=MemoryGateConfig(longest_copy=30))
    assert report.passed and report.named == () and report.why == ()
    report.require()


def test_the_report_holds_no_text_and_carries_every_label(learnt):
    """Names of rows are as sensitive as the rows: the join of all that was probed."""
    models, held_out, file = learnt
    model, shards = models["copies"]
    report = check_model(model, file, shards, held_out=held_out, config=MemoryGateConfig(longest_copy=30))
    said = json.dumps(report.as_json(), ensure_ascii=False) + str(report)
    assert not any(SECRET[at : at + 6] in said for at in range(len(SECRET) - 6))
    assert Label.parse(report.label) == HR.join(SALES)


def test_equal_seeds_probe_alike_and_progress_is_told(learnt):
    models, held_out, file = learnt
    model, shards = models["once"]
    events: list[dict] = []
    one, other = (check_model(model, file, shards, held_out=held_out, seed=9, emit=events.append) for _ in range(2))
    assert one == other
    assert events[-1]["done"] == events[-1]["total"] == 200 + 40


def test_out_of_time_still_probes_some_of_each_group(learnt):
    models, held_out, file = learnt
    model, shards = models["once"]
    report = check_model(model, file, shards, held_out=held_out, seconds=0.0)
    assert {group.name: group.probed for group in report.groups} == {"repeated": 0, "once": 20, "held_out": 20}


def test_what_held_out_rows_show_too_is_allowed():
    """A share of copies is held against the share among rows that were never learnt."""
    from hagane.builds.memory import _too_much_copied

    def said(once: int, held_out: int) -> list[str]:
        groups = [Group("repeated", 0, 0, 0), Group("once", 100, once, 60), Group("held_out", 100, held_out, 60)]
        return list(_too_much_copied(groups, 0.01, 50))

    assert said(1, 0) == [] and said(6, 5) == []
    assert "of 100 rows 7 come back" in said(7, 5)[0]


def test_a_folder_is_checked_like_a_model_in_memory(learnt, tmp_path):
    models, held_out, file = learnt
    model, shards = models["copies"]
    save_folder(model, tmp_path)
    (tmp_path / "tokenizer.json").write_bytes(file.read_bytes())
    report = check(tmp_path, shards, held_out=held_out, config=MemoryGateConfig(longest_copy=30))
    assert report == check_model(model, file, shards, held_out=held_out, config=MemoryGateConfig(longest_copy=30))


def test_the_gate_of_an_export_reads_the_data_sets_of_all_stages(learnt, words, tmp_path):
    """Two stages, one of which learnt a row thirty times."""
    models, held_out, file = learnt
    model, _ = models["copies"]
    made, _ = words
    save_folder(model, tmp_path / "hf")
    (tmp_path / "hf" / "tokenizer.json").write_bytes(file.read_bytes())
    random = np.random.default_rng(4)
    texts = [sentence(random) for _ in range(240)]
    for name, rows in (
        ("ds_1/train", rows_of(texts, made)),
        ("ds_2/train", rows_of([SECRET] * 30, made)),
        ("ds_2/dev", held_out),
    ):
        header = Header("字", made.get_vocab_size(), name)
        write_shards(tmp_path / name, lambda first, rows=rows: iter(rows.rows[first:]), header=header)
    config = MemoryGateConfig(longest_copy=30)
    judge = gate([tmp_path / "ds_1", tmp_path / "ds_2"], config)
    report = judge(tmp_path / "hf")
    assert not report.passed and report.sentences == report.why
    assert [(one.source, one.line) for one in report.named] == [("規程.jsonl", 1)]
    assert {group.name: group.probed for group in report.groups} == {"repeated": 1, "once": 200, "held_out": 40}


def test_canaries_that_stand_out_block(learnt):
    """Not planted here: they must not stand out, and each further canary raises the limit by its share."""
    models, held_out, file = learnt
    model, shards = models["once"]
    canaries = draw([0] * 4, seed=1)
    report = check_model(model, file, shards, held_out=held_out, canaries=canaries)
    assert report.allowed_bits == pytest.approx(12.0) and len(report.canaries) == 4
    assert report.passed
    from hagane.builds.memory import _too_exposed
    from hagane.train.canary import Exposure

    said = list(_too_exposed([Exposure(50, 10.0, 25.0, 1024), Exposure(1, 1.0, 1.2, 1024)], 11.0))
    assert said == ["1 of 2 planted canaries stand out by more than 11.0 bits (the most by 25.0, planted 50 times)"]


def test_no_rows_is_a_mistake_not_a_pass(learnt):
    models, _, file = learnt
    with pytest.raises(UsageError, match="no training rows"):
        check_model(models["once"][0], file, Kept(()))
    assert isinstance(
        check_model(models["once"][0], file, rows_of(["承認"], tokenizers.Tokenizer.from_file(str(file)))), MemoryReport
    )
