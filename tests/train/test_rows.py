"""Examples in the usual shapes and formats become rows; what cannot be used is named by file, line and reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hagane.core.errors import SourceError
from hagane.core.labels import Label
from hagane.train.lines import encoding_of, lines_of
from hagane.train.rows import Rows, recognise
from hagane.train.words import Message, Row

INTERNAL = Label.parse("internal")
ASKED, SAID = "有給休暇は何日ですか。", "年に20日です。"
TURNS = (Message("user", ASKED), Message("assistant", SAID))
USER, ANSWER = {"role": "user", "content": ASKED}, {"role": "assistant", "content": SAID}


def jsonl(folder: Path, *rows: Any, name: str = "例.jsonl", encoding: str = "utf-8") -> Path:
    lines = [row if isinstance(row, bytes) else json.dumps(row, ensure_ascii=False).encode(encoding) for row in rows]
    (folder / name).write_bytes(b"\n".join(lines) + b"\n")
    return folder / name


def read(path: Path, **options: Any) -> tuple[list[Row], list[tuple[int, str]]]:
    rows = Rows(path, label=INTERNAL, **options)
    return list(rows), [(bad.line, bad.reason) for bad in rows.bad]


@pytest.mark.parametrize(
    ("fields", "shape", "messages"),
    [
        ({"prompt": ASKED, "completion": SAID}, "prompt_completion", TURNS),
        ({"question": ASKED, "answer": SAID, "id": 3}, "prompt_completion", TURNS),
        ({"instruction": ASKED, "input": "", "output": SAID}, "alpaca", TURNS),
        ({"instruction": "要約せよ。", "input": ASKED, "output": SAID}, "alpaca", (Message("user", f"要約せよ。\n\n{ASKED}"), TURNS[1])),
        ({"instruction": ASKED, "output": SAID, "history": [["はい", "どうぞ"]], "system": "丁寧に。"}, "alpaca",
         (Message("system", "丁寧に。"), Message("user", "はい"), Message("assistant", "どうぞ"), *TURNS)),
        ({"conversations": [{"from": "human", "value": ASKED}, {"from": "gpt", "value": SAID}]}, "sharegpt", TURNS),
        ({"messages": [USER, ANSWER]}, "messages", TURNS),
        ({"messages": [{"role": "developer", "content": "短く。"}, {"role": "user", "content": [{"type": "text", "text": ASKED}]}, ANSWER | {"weight": 0}, USER, ANSWER]},
         "messages", (Message("system", "短く。"), TURNS[0], Message("assistant", SAID, False), *TURNS)),
    ],
)  # fmt: skip
def test_conversations_in_every_shape_are_the_same_row(tmp_path: Path, fields: dict, shape: str, messages: tuple):
    path = jsonl(tmp_path, fields)
    assert recognise(path).shape == shape
    assert read(path) == ([Row(INTERNAL, str(path), 1, messages=messages)], [])


def test_plain_text_keeps_its_line_ends(tmp_path: Path):
    path = jsonl(tmp_path, {"text": "第1条\n目的"}, b"", {"text": "第2条"})
    assert [(row.text, row.line) for row in read(path)[0]] == [("第1条\n目的", 1), ("第2条", 3)]


@pytest.mark.parametrize(
    "fields",
    [
        {"prompt": ASKED, "chosen": SAID, "rejected": "知りません。"},
        {"prompt": [USER], "chosen": [ANSWER], "rejected": [{"role": "assistant", "content": "知りません。"}]},
        {"chosen": [USER, ANSWER], "rejected": [USER, {"role": "assistant", "content": "知りません。"}]},
        {"prompt": ASKED, "chosen": [USER, ANSWER], "rejected": [USER, {"role": "assistant", "content": "知りません。"}]},
        {"input": {"messages": [USER]}, "preferred_output": [ANSWER],
         "non_preferred_output": [{"role": "assistant", "content": "知りません。"}]},
    ],
)  # fmt: skip
def test_preference_pairs_in_every_shape_are_the_same_row(tmp_path: Path, fields: dict):
    path = jsonl(tmp_path, fields)
    rejected = (Message("assistant", "知りません。"),)
    expected = Row(INTERNAL, str(path), 1, messages=TURNS[:1], chosen=TURNS[1:], rejected=rejected)
    assert read(path) == ([expected], [])
    assert expected.kind == "preference"


def test_what_was_recognised_is_said_before_anything_runs(tmp_path: Path):
    path = jsonl(tmp_path, *[{"prompt": ASKED, "completion": SAID, "出典": "規程"}] * 3, {"prompt": ASKED})
    said = str(recognise(path))
    assert said.endswith(
        "例.jsonl: jsonl, utf-8; prompt and completion from prompt, completion (3 of the first 4 rows); not used: 出典"
    )


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (b'{"messages": [', "is not JSON: Expecting value at column 15"),
        (b"[" * 100_000, "is not JSON: nested too deeply"),
        (b"[1]", "is no JSON object"),
        ({"messages": []}, "messages is empty"),
        ({"text": "別の形"}, "messages is not a list of turns"),
        ({"messages": [USER]}, "messages: the last turn is not the assistant's"),
        ({"messages": [ANSWER]}, "messages: the first turn is not the user's"),
        ({"messages": [USER, {"role": "system", "content": "x"}, ANSWER]}, "messages: a system turn may only stand first"),
        ({"messages": [USER, {"role": "悪", "content": "秘密"}]}, "messages[1]: the role is not one of system, user, assistant, tool"),
        ({"messages": [USER, {"role": "assistant", "content": " \u3000"}]}, "messages[1] is empty"),
        ({"messages": [USER, {"role": "assistant", "content": None}]}, "messages[1] has no text"),
        ({"messages": [USER, ANSWER | {"weight": 0}]}, "messages holds no assistant's turn to learn from"),
        ({"messages": [USER, ANSWER | {"tool_calls": [{}]}]}, "messages[1] calls a tool, which cannot be trained on yet"),
        ({"messages": ["こんにちは", ANSWER]}, "messages[0] is a str, not an object"),
        (b'{"messages": [{"role": "user", "content": "\\ud800"}]}', "messages[0] holds half a surrogate pair"),
        (b'{"messages": "\x00\x01"}', "binary: byte 15 of the line is 0"),
        ('{"messages": 休暇'.encode("cp932"), "the line is not utf-8 (it may be cp932)"),
    ],
)
def test_a_bad_row_names_its_line_and_reason_and_the_rest_is_read(tmp_path: Path, row: Any, reason: str):
    good = {"messages": [USER, ANSWER]}
    rows, bad = read(jsonl(tmp_path, good, good, row, good))
    assert [r.line for r in rows] == [1, 2, 4]
    assert bad == [(3, reason)]


def test_a_line_of_10_mb_is_named_not_read(tmp_path: Path):
    long = json.dumps({"text": "あ" * 3_500_000}, ensure_ascii=False).encode()
    path = jsonl(tmp_path, {"text": "短い"}, long, {"text": "次"})
    rows, bad = read(path)
    assert [row.line for row in rows] == [1, 3]
    assert bad == [(2, f"the line has {len(long):,} bytes; at most 8,388,608 are read")]
    assert len(read(path, max_bytes=len(long))[0]) == 3


def test_too_many_bad_rows_end_the_reading_and_the_last_is_named(tmp_path: Path):
    path = jsonl(tmp_path, {"text": "良"}, *[{"text": ""}] * 6)
    with pytest.raises(SourceError, match=r"more than 5 bad rows of 7; the last: .*例\.jsonl:7: text is empty"):
        read(path, max_bad=5)
    assert len(read(path, max_bad=6)[1]) == 6


@pytest.mark.parametrize(
    ("content", "reason", "said"),
    [
        (b"", "empty", "is empty"),
        (b"\xef\xbb\xbf\n\r\n ", "empty", "is empty"),
        (b"PK\x03\x04xxxx", "unsupported", "is a ZIP archive"),
        (b"\x1f\x8b\x08\x00", "unsupported", "is gzip"),
        ('{"text": "あ"}'.encode("utf-16"), "unsupported", "is UTF-16"),
        (b"\x00\x01\x02\n\x00\x03\n", "unsupported", "is binary"),
        (b"\x81\xff\xfe\x80\xff\n", "unsupported", "neither UTF-8 nor CP932 nor EUC-JP"),
        (b"not json\n", "damaged", "例.jsonl:1: is not JSON"),
        ('{"本文": "x", "id": 1}\n'.encode(), "unsupported", "no known shape; its fields are id, 本文"),
        (b'{"text": ""}\n', "empty", "no good row: .*例.jsonl:1: text is empty"),
    ],
)
def test_files_that_hold_no_examples_say_why(tmp_path: Path, content: bytes, reason: str, said: str):
    path = tmp_path / "例.jsonl"
    path.write_bytes(content)
    with pytest.raises(SourceError, match=said) as caught:
        read(path)
    assert caught.value.reason == reason


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp932", "euc_jp"])
def test_csv_in_the_encodings_of_japanese_offices(tmp_path: Path, encoding: str):
    """Quoted line breaks and commas; the line is where the row begins."""
    path = tmp_path / "質問.csv"
    path.write_text(f'質問番号,prompt,completion\r\n1,{ASKED},{SAID}\r\n2,"二行の\r\n質問, 続き",{SAID}\r\n3,三つ目,答え\r\n', encoding, newline="")
    rows, bad = read(path)
    assert [(row.line, row.messages[0].content) for row in rows] == [(2, ASKED), (3, "二行の\n質問, 続き"), (5, "三つ目")]
    assert bad == []


def test_lines_of_another_encoding_are_bad_in_both_directions(tmp_path: Path):
    one, other = (jsonl(tmp_path, *[{"text": "就業規則の全文"}] * 3, json.dumps({"text": "休暇の規程"}, ensure_ascii=False).encode(b), name=f"{a}.jsonl", encoding=a)
                  for a, b in (("utf-8", "cp932"), ("cp932", "utf-8")))  # fmt: skip
    assert read(one)[1] == [(4, "the line is not utf-8 (it may be cp932)")]
    assert read(other)[1] == [(4, "the line is UTF-8, the file cp932")]


@pytest.mark.parametrize(
    ("line", "reason"), [('"開いたまま', "is not CSV: unexpected end of data"), ("一つ", "has 1 fields, the header 2"), ("a,b,c", "has 3 fields, the header 2")]
)
def test_a_bad_line_of_csv_is_named(tmp_path: Path, line: str, reason: str):
    path = tmp_path / "例.csv"
    path.write_text(f"prompt,completion\n{ASKED},{SAID}\n{line}\n", "utf-8")
    rows, bad = read(path)
    assert ([row.line for row in rows], bad) == ([2], [(3, reason)])


@pytest.mark.parametrize("content", ["prompt,completion\n", "prompt,completion", "prompt,prompt\na,b\n"])
def test_csv_of_one_line_or_without_a_header_is_refused(tmp_path: Path, content: str):
    path = tmp_path / "例.csv"
    path.write_text(content, "utf-8")
    with pytest.raises(SourceError, match=r"holds no examples|no header"):
        read(path)


def test_parquet_reads_the_columns_it_needs(tmp_path: Path):
    path = tmp_path / "会話.parquet"
    messages = [[USER, ANSWER], [USER], [USER, ANSWER]]
    pq.write_table(pa.table({"messages": messages, "番号": [1, 2, 3], "機密": ["secret:x", "", "confidential:hr"]}), path)
    rows, bad = read(path, label_field="機密", max_bad=2)
    assert bad == [(1, "機密 holds no label"), (2, "messages: the last turn is not the assistant's")]
    assert [(row.line, str(row.label), row.messages) for row in rows] == [(3, "confidential:hr", TURNS)]
    assert str(recognise(path)).endswith("parquet; OpenAI messages from messages (2 of the first 3 rows); not used: 機密, 番号")


def test_damaged_parquet_is_an_error_with_a_reason(tmp_path: Path):
    path = tmp_path / "壊れた.parquet"
    path.write_bytes(b"PAR1" + b"x" * 50)
    with pytest.raises(SourceError, match="cannot be read as Parquet"):
        read(path)


@pytest.mark.parametrize("name", ["例.json", "例.jsonl"])
def test_one_json_list_is_read_with_line_numbers(tmp_path: Path, name: str):
    path = tmp_path / name
    path.write_text(json.dumps([{"instruction": ASKED, "output": SAID}, 7, {"instruction": "次", "output": "答"}], indent=1, ensure_ascii=False), "utf-8")
    rows, bad = read(path)
    assert ([row.line for row in rows], bad) == ([2, 7], [(6, "is no JSON object")])
    path.write_text('[{"text": "一"},\n{"text": ]', "utf-8")
    with pytest.raises(SourceError, match=r":2: the list cannot be read on here"):
        read(path)


def test_a_label_field_that_no_row_has_is_refused(tmp_path: Path):
    """A typing error must not give every row the default label."""
    with pytest.raises(SourceError, match="no row has a field 'lable'"):
        read(jsonl(tmp_path, {"text": "秘密", "label": "restricted"}), label_field="lable")


def test_reading_twice_gives_the_same_rows_and_counts(tmp_path: Path):
    rows = Rows(jsonl(tmp_path, {"text": "一"}, {"text": ""}, {"text": "二"}), label=INTERNAL)
    assert list(rows) == list(rows)
    assert (rows.n_good, len(rows.bad)) == (2, 1)


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\n\r\0"), min_size=1), min_size=1, max_size=9))
def test_every_line_of_utf_8_comes_back(tmp_path_factory, texts: list[str]):
    path = tmp_path_factory.mktemp("行") / "a.jsonl"
    path.write_bytes("".join(f"{text}\n" for text in texts).encode())
    if any(text.strip() for text in texts) and not path.read_bytes().startswith((b"\xef\xbb\xbf", b"PK", b"PAR1", b"%PDF")):
        assert encoding_of(path) == "utf-8"
        assert [(line.text, line.bad) for line in lines_of(path, encoding="utf-8")] == [(text, None) for text in texts]
