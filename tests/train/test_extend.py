"""Company terms in an open vocabulary: cut alike in transformers and llama.cpp, and nothing else changes."""

from __future__ import annotations

import json
import shutil

import japanese_sentences
import pytest
import tiny_models

from hagane.core.errors import RefusedError, UsageError
from hagane.core.labels import Label
from hagane.models.gguf import read_header
from hagane.models.llama_exact import ExactModel

torch = pytest.importorskip("torch", reason="needs the extra train")
transformers = pytest.importorskip("transformers", reason="needs the extra train")
pytest.importorskip("xllamacpp", reason="needs llama.cpp")
pytest.importorskip("gguf", reason="needs the extra train")
from hagane.train.export import to_gguf  # noqa: E402
from hagane.train.extend import extend  # noqa: E402

SALES = Label.parse("internal:sales")
TERMS = ["高張力鋼板検査票", "㈱鉄鋼商事", "熱延コイル置場", "HX-2000型", "鋼板検査", "Zr合金 試験片"]
USUAL = ("です", "ます", "する", "した", "して", "ください", "こと")  # one of them is one token already
WITH = [
    "高張力鋼板検査票を提出する。", "㈱鉄鋼商事の熱延コイル置場へ行く", "HX-2000型HX-2000型", "鋼板検査と高張力鋼板検査票",
    "高張力鋼板検査", "  鋼板検査  ", "Zr合金 試験片、Zr合金  試験片", "検査票", "の㈱鉄鋼商事。\n㈱鉄鋼商事",
]  # fmt: skip


@pytest.fixture(scope="module", params=["llama", "qwen3", "gemma3"])
def both(request, spm, byte_bpe, tmp_path_factory):
    """(folder, the same with the terms, what was said of it)."""
    folder = tmp_path_factory.mktemp(request.param)
    tiny_models.write(request.param, folder, byte_bpe if request.param == "qwen3" else spm, n_rows=1500)
    out = tmp_path_factory.mktemp("out") / "extended"
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    usual = next(word for word in USUAL if len(tokenizer(word, add_special_tokens=False).input_ids) == 1)
    said = extend(folder, [*TERMS, usual], out, label=SALES)
    assert said.there == (usual,)
    return folder, out, said


def tokenizer_of(folder):
    return transformers.AutoTokenizer.from_pretrained(folder)


def test_texts_with_and_without_terms_are_cut_alike_everywhere(both, tmp_path):
    _, out, said = both
    file = to_gguf(out, tmp_path / "m.gguf", numbers="F32", label=SALES).file
    tokenizer, texts = tokenizer_of(out), [*WITH, *japanese_sentences.sentences()]
    with ExactModel(file) as exact:
        wrong = [text for text in texts if list(tokenizer(text).input_ids) != exact.tokens(text)]
    assert wrong == []
    assert set(TERMS) == set(said.added)
    assert all(len(tokenizer(term, add_special_tokens=False).input_ids) == 1 for term in TERMS)
    assert tokenizer.decode(tokenizer(WITH[0], add_special_tokens=False).input_ids) == WITH[0]


def test_texts_without_terms_are_cut_as_before_and_read_as_before(both):
    folder, out, said = both
    before, after = tokenizer_of(folder), tokenizer_of(out)
    texts = [text for text in japanese_sentences.sentences() if not any(term in text for term in TERMS)]
    assert len(texts) > 250
    assert [before(text).input_ids for text in texts] == [after(text).input_ids for text in texts]
    old, new = (transformers.AutoModelForCausalLM.from_pretrained(one) for one in (folder, out))
    assert new.config.vocab_size == said.n_tokens == 1500 + len(TERMS)
    with torch.no_grad():
        ids = torch.tensor([before(texts[0]).input_ids])
        assert torch.allclose(old(ids).logits, new(ids).logits[..., :1500], atol=1e-5)


def test_a_new_row_is_the_mean_of_the_old_pieces(both):
    folder, out, said = both
    old, new = (transformers.AutoModelForCausalLM.from_pretrained(one) for one in (folder, out))
    ids = tokenizer_of(folder)(TERMS[0], add_special_tokens=False).input_ids
    (number,) = tokenizer_of(out)(TERMS[0], add_special_tokens=False).input_ids
    for one, other in ((old.get_input_embeddings(), new.get_input_embeddings()), (old.lm_head, new.lm_head)):
        assert torch.allclose(one.weight[ids].mean(0), other.weight[number], atol=1e-6)
    assert said.saved >= len(ids) - 1 > 0


def test_the_labels_are_joined_and_go_into_gguf(both, tmp_path):
    _, out, _ = both
    label = Label.parse(json.loads((out / "hagane.json").read_text("utf-8"))["label"])
    assert label == Label.parse("confidential:hr+sales")
    assert read_header(to_gguf(out, tmp_path / "m.gguf", numbers="F16", label=label).file).values[
        "hagane.label"
    ] == str(label)


@pytest.mark.parametrize(
    ("terms", "error", "why"),
    [(["鋼板検査", "検査票綴り"], RefusedError, "overlap"), (["トントン"], RefusedError, "overlap"), (["鋼\0板"], UsageError, "term 1"),
     ([" 鋼板"], UsageError, "term 1"), (["鋼"], UsageError, "term 1"), (["か\u3099鋼"], UsageError, "term 1"), ([], UsageError, "terms")],
)  # fmt: skip
def test_terms_that_two_readers_would_cut_in_two_ways_are_refused(terms, error, why, both, tmp_path):
    with pytest.raises(error, match=why):
        extend(both[0], terms, tmp_path / "x", label=SALES)
    assert not (tmp_path / "x").exists()


def test_a_tokenizer_that_puts_spaces_in_front_is_refused(both, tmp_path):
    folder = shutil.copytree(both[0], tmp_path / "a")
    table = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    if table["model"].get("byte_fallback"):
        steps = [{"type": "Prepend", "prepend": "▁"}, table["normalizer"]]
        table["normalizer"] = {"type": "Sequence", "normalizers": steps}
    else:
        table["pre_tokenizer"]["pretokenizers"][-1]["add_prefix_space"] = True
    (folder / "tokenizer.json").write_text(json.dumps(table), "utf-8")
    with pytest.raises(RefusedError, match="space"):
        extend(folder, ["鋼板検査"], tmp_path / "x", label=SALES)
