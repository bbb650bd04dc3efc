"""A model that was made here says over HTTP what transformers says: same tokens, same text, and it stops."""

from __future__ import annotations

import japanese_sentences
import pytest
import taught_models
from server.site import Site

from hagane.builds import shelf
from hagane.builds.gate import questions
from hagane.builds.publish import export
from hagane.builds.spec import ExportConfig
from hagane.core.labels import PUBLIC
from hagane.models.llama_exact import ExactModel
from hagane.project import trained

pytest.importorskip("torch", reason="needs the extra train")
pytest.importorskip("peft", reason="needs the extra train")
pytest.importorskip("gguf", reason="needs the extra train")
pytest.importorskip("xllamacpp", reason="needs llama.cpp")
pytestmark = pytest.mark.long  # a taught model, an export, and 300 requests


def test_transformers_gguf_and_the_http_api_say_the_same(own_site: Site, tmp_path):
    from hagane.train.reference import reference_of, rendered

    asked = questions(6)
    base = taught_models.from_scratch(tmp_path / "base", "llama")
    adapter = taught_models.adapted(base, "llama", tmp_path / "adapter", asked, steps=60, rate=0.01)
    folder = trained.folder_of(own_site.project) / "kaisha"
    report = export(
        adapter,
        folder,
        ExportConfig(numbers=("F32",), prompts=6),
        name="kaisha",
        label=PUBLIC,
        base=base,
        family="llama",
    )
    assert report.passed, report.why
    files = tuple(shelf.file_of(folder, one.path, role=one.role, numbers=one.numbers) for one in report.files)
    record = shelf.Record(
        "kaisha", "model", report.label, "tune", "published", files=files, served=report.served, chat=report.chat,
        n_params=report.n_params, context=report.context, reports=report.reports,
    )  # fmt: skip
    trained.keep(own_site.project, record, by=own_site.by)

    reference = reference_of(folder / "hf")
    client = own_site.program("builder", "confidential:hr")
    assert "kaisha" in [row["id"] for row in client.get("/v1/models").json()["data"]]

    def post(text: str, n_tokens: int):
        turns = [{"role": "user", "content": text}]
        body = {"model": "kaisha", "messages": turns, "max_tokens": n_tokens, "temperature": 0}
        answer = client.post("/v1/chat/completions", json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    with ExactModel(folder / report.served) as exact:
        for question, prompt in zip(asked, rendered(folder / "hf", asked, chat=True), strict=True):
            ids = list(reference.tokens(prompt))
            said = reference.say(ids, 32)
            there, ended = exact.say(ids, 32)
            got = post(question, 32)
            assert exact.tokens(prompt, ends=False) == ids and tuple(there) == said.ids and ended and said.ended
            assert got["choices"][0]["message"]["content"] == said.text
            assert got["choices"][0]["finish_reason"] == "stop"
            assert got["usage"]["prompt_tokens"] == len(ids)
        sentences = japanese_sentences.sentences()
        equal = 0
        for sentence, prompt in zip(sentences, rendered(folder / "hf", sentences, chat=True), strict=True):
            ids = list(reference.tokens(prompt))
            equal += exact.tokens(prompt, ends=False) == ids and post(sentence, 1)["usage"]["prompt_tokens"] == len(ids)
    assert equal == 300
    hidden = own_site.program("builder", "internal").post(
        "/v1/chat/completions", json={"model": "kaisha", "messages": [{"role": "user", "content": "有給休暇は?"}]}
    )
    assert hidden.status_code == 404, "its tokenizer was made from confidential text, so the model is, too"
