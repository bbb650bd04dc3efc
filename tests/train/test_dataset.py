"""From files to shards: every good row is in one part with its label, personal data never becomes a token."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from hagane.core.errors import StateError
from hagane.core.labels import Label
from hagane.core.seams import Span
from hagane.train.dataset import Encoder, copy_group, write_dataset
from hagane.train.personal import Guard, Policy
from hagane.train.rows import Rows
from hagane.train.split import Shares
from hagane.train.words import Message, Row


@dataclass(frozen=True)
class Bytes:
    ids: tuple[int, ...]
    learnt: tuple[bool, ...]


def encode(row: Row) -> Bytes:
    """UTF-8 and an end; a prompt is read, an answer learnt."""
    pieces = [(text, row.text is not None or n % 2 == 1) for n, text in enumerate(row.texts())]
    ids = [(byte, learn) for text, learn in pieces for byte in (*text.encode(), 256)]
    return Bytes(tuple(byte for byte, _ in ids), tuple(learn for _, learn in ids))


class Phones:
    name = "phone"

    def find(self, text: str) -> list[Span]:
        return [Span(m.start(), m.end(), self.name) for m in re.finditer(r"0[0-9-]{9,}", text)]


ENCODER = Encoder("バイト", 257, encode)


def files(folder: Path) -> list[Rows]:
    rows = [{"text": f"第{n}条 連絡先は03-1234-56{n:02}とする。"} for n in range(60)]
    (folder / "規程.jsonl").write_text("\n".join(json.dumps(row) for row in [*rows, {"text": ""}, rows[7]]), "utf-8")
    (folder / "質問.csv").write_text("prompt,completion\n" + "".join(f"問{n},答え{n}\n" for n in range(20)), "utf-8")
    labels = [Label.parse("confidential:hr"), Label.parse("internal:sales")]
    return [Rows(folder / name, label=label) for name, label in zip(("規程.jsonl", "質問.csv"), labels, strict=True)]


def written(folder: Path, given: list[Rows], *, rule: str = "mask", encoder: Encoder = ENCODER, seed: int = 1):
    guard = Guard(Policy({"phone": rule}), {"phone": Phones()})  # type: ignore[dict-item]
    return write_dataset(folder, given, encoder=encoder, guard=guard, shares=Shares(0.1, 0.1), seed=seed, shard_tokens=500)


def test_every_good_row_is_in_one_part_with_its_label(tmp_path: Path):
    data = written(tmp_path / "d", files(tmp_path))
    origins = [(Path(o.source).name, o.line, str(o.label)) for s in data.parts.values() for o in map(s.origin, range(s.n_documents))]
    laws = [("規程.jsonl", n, "confidential:hr") for n in (*range(1, 61), 62)]
    assert sorted(origins) == sorted([*laws, *(("質問.csv", n, "internal:sales") for n in range(2, 22))])
    assert [(bad.line, bad.reason) for bad in data.bad] == [(61, "text is empty")]
    assert (data.n_rows, data.n_masked, data.n_dropped) == (81, 61, 0)
    assert {str(s.label) for s in data.parts.values()} <= {"confidential:hr+sales", "confidential:hr", "internal:sales"}
    assert str(data.parts["train"].label) == "confidential:hr+sales"
    assert all(list(s.problems()) == [] for s in data.parts.values())


def test_personal_data_never_becomes_a_token(tmp_path: Path):
    data = written(tmp_path / "d", files(tmp_path))
    said = b"".join(bytes(b for b in s.ids(n) if b < 256) for s in data.parts.values() for n in range(s.n_documents)).decode()
    assert "03-1234" not in said
    assert said.count("〔phone〕") == 61
    assert written(tmp_path / "e", files(tmp_path), rule="drop_row").n_dropped == 61


def test_masks_follow_the_encoder(tmp_path: Path):
    shards = written(tmp_path / "d", files(tmp_path)).parts["train"]
    n = next(n for n in range(shards.n_documents) if shards.origin(n).source.endswith("質問.csv"))
    learnt = bytes(int(b) for b, learn in zip(shards.ids(n), shards.learn(n), strict=True) if learn and b < 256).decode()
    assert learnt == f"答え{shards.origin(n).line - 2}"


def test_copies_of_a_row_stay_in_one_part(tmp_path: Path):
    """Line 8 and line 62 are the same article."""
    data = written(tmp_path / "d", files(tmp_path))
    homes = [{o.line for o in map(s.origin, range(s.n_documents)) if "規程" in o.source} & {8, 62} for s in data.parts.values()]
    assert sorted(map(len, homes)) == [0, 0, 2]
    one, other = (Row(Label(), "x", 1, messages=(Message("user", text),)) for text in ("ＡＢＣ 規程", "ABC規程\n"))
    assert copy_group(one) == copy_group(other)


def test_a_run_that_was_cut_short_goes_on_and_ends_the_same(tmp_path: Path):
    given = files(tmp_path)
    seen: list[Row] = []

    def cut(row: Row) -> Bytes:
        seen.append(row)
        if len(seen) == 40:
            raise KeyboardInterrupt
        return encode(row)

    with pytest.raises(KeyboardInterrupt):
        written(tmp_path / "cut", given, encoder=Encoder("バイト", 257, cut))
    one, other = written(tmp_path / "cut", given), written(tmp_path / "whole", given)
    assert {part: s.mark for part, s in one.parts.items()} == {part: s.mark for part, s in other.parts.items()}


def test_other_data_tokenizer_policy_or_seed_is_not_mixed_in(tmp_path: Path):
    given = files(tmp_path)
    written(tmp_path / "d", given)
    for wrong in ({"rule": "drop_row"}, {"encoder": Encoder("別", 257, encode)}, {"seed": 2}):
        with pytest.raises(StateError, match="holds shards of another"):
            written(tmp_path / "d", given, **wrong)  # type: ignore[arg-type]
    (tmp_path / "質問.csv").write_text("prompt,completion\n問,答\n", "utf-8")
    with pytest.raises(StateError, match="holds shards of another made_from"):
        written(tmp_path / "d", given)


def test_data_of_one_line_is_refused(tmp_path: Path):
    (tmp_path / "一行.jsonl").write_text('{"text": "一行だけ"}\n', "utf-8")
    with pytest.raises(StateError, match="1 documents in 1 groups"):
        written(tmp_path / "d", [Rows(tmp_path / "一行.jsonl", label=Label())])
