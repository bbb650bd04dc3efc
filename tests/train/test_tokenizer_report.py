"""Characters per token by domain, beside other tokenizers; the kinds that GGUF changes say why."""

from __future__ import annotations

import json

import japanese_sentences
import pytest
import tiny_gguf
import tiny_models

from hagane.core.errors import ModelError, RefusedError, UsageError
from hagane.core.labels import PUBLIC
from hagane.models.gguf import read_header
from hagane.train.gguf_tokenizer import from_gguf
from hagane.train.tokenizer_report import GENERAL, OWN, general, open_tokenizer, report, require_safe

pytest.importorskip("tokenizers")


def test_own_documents_fit_the_tokenizer_trained_on_them(spm, byte_bpe):
    """The reason to train one: fewer tokens for the same text."""
    letters = tiny_gguf.values(template=False)  # letters and bytes only
    got = report({"自社": spm, "バイト": byte_bpe, "文字": letters}, japanese_sentences.sentences())
    by_name = {fit.name: fit for fit in got.fits}
    assert by_name["自社"].characters_per_token[OWN] > 2 * by_name["文字"].characters_per_token[OWN]
    assert set(by_name["自社"].characters_per_token) == {OWN, *GENERAL}
    assert by_name["自社"].n_tokens == 1500 and by_name["自社"].kind.name == "spm-bpe"
    assert got.best(OWN) in ("自社", "バイト")
    assert got.characters[OWN] == sum(map(len, japanese_sentences.sentences()))


def test_the_figure_is_characters_by_tokens(byte_bpe):
    """By hand, on one text."""
    to_ids, _, _ = open_tokenizer(byte_bpe)
    text = "有給休暇は二十日です。"
    got = report({"x": byte_bpe}, [text])
    assert got.fits[0].characters_per_token[OWN] == len(text) / len(to_ids(text))


@pytest.mark.parametrize("name", ["spm", "byte_bpe"])
def test_a_gguf_file_is_the_same_tokenizer_as_its_folder(name: str, request, tmp_path):
    """There and back: what is exported is read again to the same tokens."""
    pytest.importorskip("torch", reason="needs the extra train")
    pytest.importorskip("gguf", reason="needs the extra train")
    from hagane.train.export import to_gguf

    folder = request.getfixturevalue(name)
    tiny_models.write("llama", tmp_path / "m", folder, n_rows=1504)
    file = to_gguf(tmp_path / "m", tmp_path / "m.gguf", numbers="F16", label=PUBLIC).file
    one, _, kind = open_tokenizer(folder)
    other, _, again = open_tokenizer(read_header(file).values)
    assert (kind.name, kind.pre, kind.why) == (again.name, again.pre, None)
    assert [text for text in japanese_sentences.sentences() if list(one(text)) != list(other(text))] == []


def test_an_unsafe_kind_is_measured_but_never_taken(spm, tmp_path):
    table = {
        "version": "1.0",
        "model": {"type": "Unigram", "unk_id": 0, "vocab": [["<unk>", 0.0], ["有", -1.0], ["給", -2.0]]},
    }
    (tmp_path / "tokenizer.json").write_text(json.dumps(table), "utf-8")
    got = report({"unigram": tmp_path, "自社": spm}, ["有給"])
    assert "Unigram" in str(got.fits[0].kind.why) and "Unigram" in got.table()
    assert got.best("japanese") == "自社", "however good its figures"
    with pytest.raises(RefusedError, match="Unigram"):
        require_safe(tmp_path)
    with pytest.raises(UsageError, match="none"):
        report({"unigram": tmp_path}).best("japanese")


def test_the_table_names_every_domain(spm):
    lines = report({"自社": spm}, ["規程"]).table().splitlines()
    assert len(lines) == 3 and all(name in lines[0] for name in (OWN, *GENERAL))
    assert all(general(name) for name in GENERAL)


def test_damaged_vocabularies_are_said(tmp_path):
    values = tiny_gguf.values(template=False)
    with pytest.raises(ModelError, match="differ in number"):
        from_gguf(values | {"tokenizer.ggml.scores": [0.0]})
    with pytest.raises(ModelError, match="kind 't5'"):
        from_gguf(values | {"tokenizer.ggml.model": "t5"})
    (tmp_path / "tokenizer.json").write_text('{"model": {"type": "BPE"}}', "utf-8")
    with pytest.raises(ModelError):
        open_tokenizer(tmp_path)
    with pytest.raises(UsageError):
        report({})
