"""From train.yaml to batches: every row in one part under its label, near copies together, nothing lost, nothing hidden."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from small_data import ENCODER, HR, INTERNAL, Encoded, articles, documents_of, lines, nothing, spec_of, to_text

from hagane.builds.data import Prepared, prepare
from hagane.builds.trace import remove, trace
from hagane.core.errors import (
    ChangedError,
    NotFoundError,
    RefusedError,
    SourceError,
    StateError,
    StoppedError,
    UsageError,
)
from hagane.core.labels import Label, join
from hagane.train.dataset import Encoder
from hagane.train.words import NO_DOCUMENT, NO_LOSS, Row


def ready(spec: Any, at: Path, **more: Any) -> Prepared:
    stage = next(one for one in ("prefer", "tune", "pretrain") if getattr(spec, one) is not None)
    given: dict[str, Any] = {"documents": nothing, "folder": at / "datasets", "encoder": ENCODER, "root": at, "default": INTERNAL} | more
    return prepare(spec, stage, **given)


def texts(made: Prepared) -> list[str]:
    """The documents of an epoch, as text."""
    found = []
    for step in range(made.feed.n_steps):
        batch = made.feed.batch(step)
        for ids, owners in zip(batch.ids_BT, batch.documents_BT, strict=True):
            found += [to_text(ids[owners == n].tolist()) for n in range(owners.max() + 1)]
    return found


HANDBOOK = [Row(HR, f"d_{n:016x}@v{n:011x}", 1, text=row["text"]) for n, row in enumerate(articles(90)[60:])]


def test_files_and_documents_become_one_set_under_the_join_of_their_labels(tmp_path: Path):
    lines(tmp_path / "規程.jsonl", articles(40))
    (tmp_path / "社史.txt").write_text("\n\n".join(row["text"] * 20 for row in articles(60)[40:]), "utf-8")
    spec = spec_of("pretrain", [{"file": "規程.jsonl"}, {"file": "社史.txt", "label": "restricted:board"}, {"documents": []}],
                   training={"tokens": 512})  # fmt: skip
    made = ready(spec, tmp_path, documents=documents_of(HANDBOOK))
    assert made.label == Label.parse("restricted:board+hr")
    assert [name.partition(":")[0] for name in made.recognised] == ["規程.jsonl", "社史.txt", "documents of the project"]
    held = {one.label for one in made.dev}
    assert sum(text.endswith("<|endoftext|>") for text in texts(made)) == made.n_documents
    sources = {name.rpartition(":")[0] for step in range(made.feed.n_steps) for row in range(len(made.feed.batch(step).ids_BT))
               for name in made.feed.documents(step, row)}  # fmt: skip
    assert {"規程.jsonl", "社史.txt"} < sources and sources & {row.source for row in HANDBOOK}
    assert held and join(*held).flows_to(made.label)
    assert set(made.parents) >= {row.source.partition("@")[2] for row in HANDBOOK}
    assert sum(one.startswith("sha256:") for one in made.parents) == 2


def test_a_file_without_a_label_has_the_default_and_a_given_one_counts(tmp_path: Path):
    lines(tmp_path / "規程.jsonl", articles(20))
    spec = spec_of("pretrain", [{"file": "規程.jsonl"}])
    assert ready(spec, tmp_path, default=HR).label == HR
    assert ready(spec, tmp_path, labels={"規程.jsonl": Label.parse("restricted")}).label == Label.parse("restricted")


def test_every_batch_carries_the_join_of_its_own_documents(tmp_path: Path):
    lines(tmp_path / "規程.jsonl", articles(30))
    spec = spec_of("pretrain", [{"file": "規程.jsonl"}, {"documents": []}], training={"rows": 1})
    made = ready(spec, tmp_path, documents=documents_of(HANDBOOK))
    seen = set()
    for step in range(made.feed.n_steps):
        named = made.feed.documents(step, 0)
        secret = any(name.startswith("d_") for name in named)
        assert made.feed.batch(step).label == (HR if secret else INTERNAL)
        seen.add(secret)
    assert seen == {True, False}


def test_near_copies_never_straddle_the_split(tmp_path: Path):
    """Twenty rules in five versions each, told apart by a number: all versions are learnt, or all are held back."""
    rules = [f"規則{chr(0x4E00 + 97 * n)}。" + "".join(chr(0x4E00 + (n * 131 + at * 37) % 2000) for at in range(120)) for n in range(20)]
    lines(tmp_path / "改訂.jsonl", [{"text": f"{text}第{version}版とする。"} for text in rules for version in range(5)])
    made = ready(spec_of("pretrain", [{"file": "改訂.jsonl"}], split={"dev": 0.3}, training={"tokens": 512}), tmp_path)
    learnt = texts(made)
    counts = [sum(text.startswith(rule[:4]) for text in learnt) for rule in rules]
    assert set(counts) == {0, 5}
    assert 0 < counts.count(0) < 20


def test_bad_rows_are_named_and_kept_and_the_rest_is_learnt(tmp_path: Path):
    path = lines(tmp_path / "規程.jsonl", articles(20))
    with path.open("ab") as out:
        out.write(b'{"text": ""}\n{broken\n{"txt": 1}\n' + '{"text": "改行'.encode("cp932") + b'"}\n{"text": "\x00"}\n')
    made = ready(spec_of("pretrain", [{"file": "規程.jsonl"}]), tmp_path)
    kept = [json.loads(line) for line in (made.folder / "bad.jsonl").read_text("utf-8").splitlines()]
    assert [(one["source"], one["line"]) for one in kept] == [("規程.jsonl", n) for n in range(21, 26)]
    assert [one.reason for one in made.bad] == [one["reason"] for one in kept]
    assert "text is empty" in made.bad[0].reason and "not JSON" in made.bad[1].reason and "binary" in made.bad[4].reason
    assert made.told["n_bad"] == 5


def test_personal_data_is_masked_or_its_row_dropped_before_tokens_exist(tmp_path: Path):
    rows = [{"text": f"{row['text']}連絡先は03-1234-56{n:02}まで。"} for n, row in enumerate(articles(30))]
    lines(tmp_path / "連絡.jsonl", [*rows, *articles(50)[30:]])
    data = [{"file": "連絡.jsonl"}]
    masked = ready(spec_of("pretrain", data, personal={"phone": "mask"}), tmp_path)
    assert (masked.masked, masked.dropped) == (30, 0)
    assert not any("1234" in text for text in texts(masked)) and any("〔phone〕" in text for text in texts(masked))
    dropped = ready(spec_of("pretrain", data, personal={"phone": "drop_row"}), tmp_path)
    assert (dropped.masked, dropped.dropped) == (0, 30) and dropped.dataset_id != masked.dataset_id
    with pytest.raises(RefusedError, match="passport") as caught:
        ready(spec_of("pretrain", data, personal={"passport": "mask"}), tmp_path)
    assert caught.value.hint


CHATS: dict[str, list[dict[str, Any]]] = {
    "messages": [{"messages": [{"role": "user", "content": f"問{n}は何ですか"}, {"role": "assistant", "content": f"答えは{n}です"}]} for n in range(30)],
    "sharegpt": [{"conversations": [{"from": "human", "value": f"問{n}は何ですか"}, {"from": "gpt", "value": f"答えは{n}です"}]} for n in range(30)],
    "prompt_completion": [{"prompt": f"問{n}は何ですか", "completion": f"答えは{n}です"} for n in range(30)],
    "alpaca": [{"instruction": f"問{n}は何ですか", "input": "", "output": f"答えは{n}です"} for n in range(30)],
}  # fmt: skip


@pytest.mark.parametrize("shape", CHATS)
def test_of_a_conversation_only_the_answer_and_its_end_are_learnt(tmp_path: Path, shape: str):
    """Four ways to write the same conversation: the same tokens, and exactly the answer with its end earns loss."""
    lines(tmp_path / "会話.jsonl", CHATS[shape])
    made = ready(spec_of("tune", [{"file": "会話.jsonl"}], split={"dev": 0}), tmp_path)
    said = []
    for step in range(made.feed.n_steps):
        batch = made.feed.batch(step)
        for targets in batch.targets_BT:
            said += to_text(targets[targets != NO_LOSS].tolist()).split("<|im_end|>")[:-1]
    assert sorted(said) == sorted(f"答えは{n}です" for n in range(30))
    assert made.bytes_per_token == pytest.approx(sum(len(f"答えは{n}です".encode()) for n in range(30)) / sum(len(f"答えは{n}です") + 1 for n in range(30)))
    assert not made.is_text


def test_pairs_stand_whole_in_a_row_with_their_prompts(tmp_path: Path):
    """Documents 2n and 2n + 1 of a row: the chosen and the rejected answer of one pair; nothing of the prompt is learnt."""
    lines(tmp_path / "好み.jsonl", [{"prompt": f"問{n}", "chosen": f"良い答え{n}", "rejected": f"悪い答え{n}"} for n in range(40)])
    made = ready(spec_of("prefer", [{"file": "好み.jsonl"}], split={"dev": 0.2}, training={"tokens": 200}), tmp_path)
    seen = []
    for batch in (*(made.feed.batch(step) for step in range(made.feed.n_steps)), *made.dev):
        for ids, targets, owners in zip(batch.ids_BT, batch.targets_BT, batch.documents_BT, strict=True):
            assert (owners.max() + 1) % 2 == 0
            for n in range(0, owners.max() + 1, 2):
                good, bad = (to_text(targets[(owners == m) & (targets != NO_LOSS)].tolist()) for m in (n, n + 1))
                seen.append(good.removeprefix("良い答え").removesuffix("<|im_end|>"))
                assert bad == "悪" + "い答え" + seen[-1] + "<|im_end|>"
                assert f"問{seen[-1]}<" in to_text(ids[owners == n].tolist())
    assert sorted(seen, key=int) == [str(n) for n in range(40)]
    assert made.dev and made.label == INTERNAL
    epoch = range(2 * made.feed.n_steps, 3 * made.feed.n_steps)
    for name in (f"好み.jsonl:{line}" for line in range(1, 41)):
        named = [step for step in epoch if any(name in made.feed.documents(step, row) for row in range(len(made.feed.batch(step).ids_BT)))]
        assert made.feed.steps_of(name, epoch=2) == named


def test_rows_grow_to_the_longest_pair_and_what_a_given_length_cannot_hold_is_named(tmp_path: Path):
    pairs = [{"prompt": f"問{n}", "chosen": "良" * 10 + str(n), "rejected": "悪" * 10} for n in range(20)]
    lines(tmp_path / "好み.jsonl", [*pairs, {"prompt": "長い問", "chosen": "良" * 900, "rejected": "悪" * 900}])
    data = [{"file": "好み.jsonl"}]
    free = ready(spec_of("prefer", data, split={"dev": 0}, training={"tokens": 0}), tmp_path)
    assert free.T > 1800 and free.n_documents == 21
    tight = ready(spec_of("prefer", data, split={"dev": 0}, training={"tokens": 256}), tmp_path)
    assert (tight.n_documents, tight.T) == (20, 256)
    assert [(one.line, one.reason.partition(" tokens")[2]) for one in tight.bad] == [(21, ", a row 256")]


def test_the_wrong_stage_for_the_rows_is_said(tmp_path: Path):
    lines(tmp_path / "好み.jsonl", [{"prompt": f"問{n}", "chosen": "良い", "rejected": "悪い"} for n in range(20)])
    lines(tmp_path / "文.jsonl", articles(20))
    for stage, name in (("tune", "好み.jsonl"), ("prefer", "文.jsonl")):
        with pytest.raises(StateError, match="learn") as caught:
            ready(spec_of(stage, [{"file": name}]), tmp_path)
        assert caught.value.hint


def test_a_finished_set_opens_without_a_second_reading_of_its_rows(tmp_path: Path):
    lines(tmp_path / "規程.jsonl", articles(40))
    spec, encoded = spec_of("pretrain", [{"file": "規程.jsonl"}]), []
    encoder = Encoder("文字", 0x110000, lambda row: encoded.append(row) or ENCODER.encode(row))  # type: ignore[func-returns-value]
    first = ready(spec, tmp_path, encoder=encoder)
    assert len(encoded) == 40
    again = ready(spec, tmp_path, encoder=encoder)
    assert len(encoded) == 40
    assert (again.mark, again.told, again.bad, again.parents) == (first.mark, first.told, first.bad, first.parents)


def test_other_batches_of_the_same_set_cost_nothing(tmp_path: Path):
    lines(tmp_path / "規程.jsonl", articles(40))
    made = ready(spec_of("pretrain", [{"file": "規程.jsonl"}]), tmp_path)
    other = made.fed(rows=2, seed=9)
    assert other.feed.n_steps == -(-made.n_rows // 2)
    assert sorted(texts(other)) == sorted(texts(made)) != texts(other)
    assert made.n_tokens == sum(int((made.feed.batch(n).documents_BT != NO_DOCUMENT).sum()) for n in range(made.feed.n_steps))


def test_a_changed_file_makes_another_set_and_leaves_the_first(tmp_path: Path):
    path = lines(tmp_path / "規程.jsonl", articles(40))
    spec = spec_of("pretrain", [{"file": "規程.jsonl"}])
    first = ready(spec, tmp_path)
    lines(path, articles(41))
    second = ready(spec, tmp_path)
    assert second.dataset_id != first.dataset_id and second.n_documents + len(second.dev) > first.n_documents
    assert (first.folder / "dataset.json").exists()


def test_a_raised_document_is_the_same_data_under_its_new_label(tmp_path: Path):
    """A stopped run goes on over it; what is made carries the label of today."""
    board = Label.parse("restricted:board")
    raised = [Row(board, one.source, one.line, text=one.text) if n == 3 else one for n, one in enumerate(HANDBOOK)]
    spec = spec_of("pretrain", [{"documents": []}])
    first = ready(spec, tmp_path, documents=documents_of(HANDBOOK))
    second = ready(spec, tmp_path, documents=documents_of(raised))
    assert (second.dataset_id, second.mark) == (first.dataset_id, first.mark)
    assert (first.label, second.label) == (HR, join(HR, board))
    assert json.loads((second.folder / "dataset.json").read_text("utf-8"))["label"] == str(second.label)
    assert ready(spec, tmp_path / "別", documents=documents_of(raised)).mark == first.mark
    other = [Row(HR, one.source, one.line, text=f"{one.text}改") if n == 3 else one for n, one in enumerate(HANDBOOK)]
    assert ready(spec, tmp_path, documents=documents_of(other)).mark != first.mark


def test_data_of_which_nothing_earns_loss_is_refused(tmp_path: Path):
    lines(tmp_path / "規程.jsonl", articles(40))

    def prompt(row: Row) -> Any:
        made = ENCODER.encode(row)
        return Encoded(made.ids, [n == 0 for n in range(len(made.ids))])

    with pytest.raises(StateError, match="nothing of the data earns loss"):
        ready(spec_of("pretrain", [{"file": "規程.jsonl"}]), tmp_path, encoder=Encoder("文字", 0x110000, prompt))


def test_a_file_that_changes_while_it_is_read_is_noticed(tmp_path: Path):
    path = lines(tmp_path / "規程.jsonl", articles(40))

    def meddle(row: Row) -> Any:
        lines(path, [{"text": "別の規程"}, *articles(60)[20:]])
        return ENCODER.encode(row)

    with pytest.raises(ChangedError, match=r"規程\.jsonl:\d+ changed while it was read|became less"):
        ready(spec_of("pretrain", [{"file": "規程.jsonl"}]), tmp_path, encoder=Encoder("文字", 0x110000, meddle))


def test_documents_that_change_between_two_readings_are_noticed(tmp_path: Path):
    readings = iter([HANDBOOK, HANDBOOK, HANDBOOK[:5] + HANDBOOK[6:]])
    with pytest.raises(ChangedError):
        ready(spec_of("pretrain", [{"documents": []}], split={"dev": 0}), tmp_path, documents=lambda: next(readings))


def test_stopping_keeps_what_is_written(tmp_path: Path):
    lines(tmp_path / "規程.jsonl", articles(40))
    spec, asked = spec_of("pretrain", [{"file": "規程.jsonl"}]), iter([False] * 50 + [True] * 9)
    with pytest.raises(StoppedError):
        ready(spec, tmp_path, stop=lambda: next(asked))
    whole = ready(spec, tmp_path)
    fresh = ready(spec, tmp_path, folder=tmp_path / "again")
    assert whole.mark == fresh.mark


def test_a_batch_is_traced_to_documents_and_a_document_to_batches_without_training(tmp_path: Path):
    spec = spec_of("pretrain", [{"documents": []}], split={"dev": 0.1}, training={"tokens": 32, "rows": 3, "seed": 5})
    made = ready(spec, tmp_path, documents=documents_of(HANDBOOK))
    feed = trace(made.folder, T=32, seed=5, rows=3)
    steps = {row.source: feed.steps_of(row.source, epoch=2) for row in HANDBOOK}
    held = [source for source, found in steps.items() if not found]
    assert 0 < len(held) < len(HANDBOOK), "what is held back is in no batch"
    for source, found in steps.items():
        named = [step for step in range(2 * feed.n_steps, 3 * feed.n_steps)
                 if any(name.startswith(source) for row in range(len(feed.batch(step).ids_BT)) for name in feed.documents(step, row))]  # fmt: skip
        assert found == named
    with pytest.raises(NotFoundError):
        trace(made.folder, T=33, seed=5, rows=3)
    remove(made.folder)
    with pytest.raises(NotFoundError):
        trace(made.folder, T=32, seed=5, rows=3)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"), (b"\n\n \n", "is empty"), (b'{"text": "' + "一行だけ".encode() + b'"}\n', "1 documents in 1 groups"),
        (b"\x00\x01\x02" * 400, "binary"), (b"PK\x03\x04" + b"x" * 99, "ZIP"), (b"\x80\x04\x95" + b"x" * 99, "pickle"),
        (b'{"a": 1}\n' * 30, "no known shape"), (b"{{{\n" * 30, "can be read"),
    ],
)  # fmt: skip
def test_a_file_of_no_use_is_an_error_that_says_why(tmp_path: Path, content: bytes, says: str):
    (tmp_path / "規程.jsonl").write_bytes(content)
    with pytest.raises((SourceError, StateError), match=says):
        ready(spec_of("pretrain", [{"file": "規程.jsonl"}]), tmp_path)


def test_a_missing_file_and_an_unknown_ending_are_named_as_the_user_wrote_them(tmp_path: Path):
    (tmp_path / "表.xls").write_bytes(b"x")
    for name in ("ない.jsonl", "表.xls"):
        with pytest.raises(SourceError, match=name):
            ready(spec_of("pretrain", [{"file": name}]), tmp_path)
    with pytest.raises(UsageError):
        prepare(spec_of("tune", [{"file": "x.jsonl"}]), "prefer", documents=nothing, folder=tmp_path, encoder=ENCODER, root=tmp_path, default=HR)


def test_a_line_of_ten_megabytes_is_a_bad_row_and_costs_the_others_nothing(tmp_path: Path):
    path = lines(tmp_path / "規程.jsonl", articles(20))
    with path.open("ab") as out:
        out.write(b'{"text": "' + "長".encode() * (10 << 20 >> 1) + b'"}\n')
    lines(tmp_path / "続き.jsonl", articles(30)[20:])
    made = ready(spec_of("pretrain", [{"file": "規程.jsonl"}, {"file": "続き.jsonl"}]), tmp_path)
    assert [(one.line, "at most" in one.reason) for one in made.bad] == [(21, True)]


def test_an_encoding_that_changes_within_a_file_is_named_line_by_line(tmp_path: Path):
    rows = [json.dumps(row, ensure_ascii=False) for row in articles(40)]
    coded = [row.encode("cp932" if n in (11, 30) else "utf-8") for n, row in enumerate(rows)]
    (tmp_path / "規程.jsonl").write_bytes(b"\n".join(coded))
    made = ready(spec_of("pretrain", [{"file": "規程.jsonl"}]), tmp_path)
    assert [one.line for one in made.bad] == [12, 31] and all("cp932" in one.reason for one in made.bad)
