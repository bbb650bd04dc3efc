"""The gate: one model in transformers, in GGUF and as it is served; and what must not pass does not."""

from __future__ import annotations

from dataclasses import replace

import japanese_sentences
import pytest
import tiny_models

from hagane.core.errors import RefusedError, UsageError
from hagane.core.labels import PUBLIC
from hagane.core.types import ChatRequest
from hagane.core.types import Message as Turn
from hagane.jobs.local import Worker
from hagane.models.llama_cpp import LlamaCpp
from hagane.models.llama_exact import ExactModel
from hagane.train.parity import Check, Reference, Said, Side, Verdict, gate, share_for
from hagane.train.template import Template, encode
from hagane.train.words import Message

ASKED = {
    "有給休暇は何日ですか。": "二十日です。",
    "出張の日当はいくらですか。": "一日二千円です。\n根拠は第八条です。",
    "パスワードは何文字以上ですか。": "十二文字以上です。",
    "社長の靴のサイズは?": "文書には書かれていません。",
}


# --- the gate's own logic, with sides made of paper -------------------------------------------------------------

LETTERS = dict(enumerate("有給休暇は二十日です。終"))
END = 11


def paper(answer: str = "二十日", *, ended: bool = True, margin: float = 1.0) -> Reference:
    ids = [next(n for n, letter in LETTERS.items() if letter == one) for one in answer] + [END] * ended
    said = Said(answer, ended, tuple(ids), (margin,) * len(ids))
    return Reference(
        lambda text: [ord(one) for one in text], lambda *_: said, lambda some: "".join(LETTERS[n] for n in some)
    )


def side(answer: str = "二十日", *, ended: bool = True, numbers: str = "F16", **more) -> Side:
    return Side("紙", numbers, lambda text: [ord(one) for one in text], lambda *_: Said(answer, ended), **more)


def failed(verdict: Verdict) -> list[str]:
    return [check.claim for check in verdict.checks if not check.passed]


def test_the_same_passes():
    verdict = gate(["有給?"], paper(), [side()])
    assert failed(verdict) == [] and verdict.passed
    verdict.require()


@pytest.mark.parametrize(
    ("made", "claims"),
    [
        (side("二十"), ["text"]),
        (side("二十日です"), ["text"]),
        (side("十日"), ["text"]),
        (side(ended=False), ["text", "stops"]),
        (replace(side(), tokens=lambda text: [ord(one) for one in text[1:]]), ["tokens"]),
    ],
)
def test_another_text_another_end_and_other_tokens_fail(made: Side, claims: list[str]):
    verdict = gate(["有給?"], paper(), [made])
    assert set(claims) <= set(failed(verdict))
    with pytest.raises(RefusedError, match="not say the same") as caught:
        verdict.require()
    assert "有給" not in str(caught.value), "no content in errors"


def test_where_the_reference_has_a_tie_either_is_right():
    """Two logits within 1e-3: the order of additions decides, and that is nobody's mistake."""
    verdict = gate(["?"], paper(margin=5e-4), [side("二百日")])
    assert "text" not in failed(verdict) and verdict.ties == 1
    assert "text" in failed(gate(["?"], paper(margin=5e-3), [side("二百日")]))


def test_an_unfinished_letter_at_the_end_is_no_difference():
    """Found on SmolLM2: 64 tokens end within a letter; transformers shows its half as U+FFFD, llama.cpp keeps it back."""
    cut = replace(paper(), say=lambda *_: Said("二十\ufffd", False, (5, 6, 7), (1.0,) * 3))
    assert "text" not in failed(gate(["?"], cut, [side("二十", ended=False)]))
    assert "text" in failed(gate(["?"], cut, [side("二", ended=False)]))


def test_a_model_that_never_ends_is_not_shown_to_stop():
    verdict = gate(["?"], paper(ended=False), [side(ended=False)])
    assert failed(verdict) == ["stops"], "a claim about nothing fails"


def test_a_quantised_file_may_part_ways_but_not_too_often():
    """Its next tokens along the reference are counted; its own text may be another one."""
    want = [5, 6, 7, END]
    good = side("二十日", numbers="Q8_0", follow=lambda ids: [0] * (len(ids) - 4) + want)
    assert failed(gate(["有給?"], paper(), [good])) == []
    bad = side("二十日", numbers="Q8_0", follow=lambda ids: [0] * (len(ids) - 4) + [5, 6, 8, END])
    verdict = gate(["有給?"], paper(), [bad])
    assert failed(verdict) == ["next"] and [check.got for check in verdict.checks if check.claim == "next"] == [3]
    assert failed(gate(["有給?"], paper(), [bad], shares={"Q8_0": 0.7})) == []


def test_shares_are_known_for_quantised_kinds_only():
    assert (share_for("Q8_0"), share_for("Q4_K_M")) == (0.99, 0.95)
    with pytest.raises(UsageError):
        share_for("F16")


def test_a_comparison_of_nothing_passes_nothing():
    with pytest.raises(UsageError):
        gate([], paper(), [side()])
    assert not Verdict(()).passed and not Check("紙", "text", 0, 0, 1.0).passed


# --- a real model: taught four answers, exported, served ----------------------------------------------------------


@pytest.fixture(scope="module")
def taught(spm, tmp_path_factory):
    """A Llama of 100,000 numbers that learnt four answers by heart, and to end each."""
    torch = pytest.importorskip("torch", reason="needs the extra train")
    transformers = pytest.importorskip("transformers", reason="needs the extra train")
    folder = tmp_path_factory.mktemp("taught")
    model = tiny_models.write("llama", folder, spm, n_rows=1500, spread=0.1).train()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    template = Template.of("llama")
    rows = []
    for question, answer in ASKED.items():
        rendered = template.render([Message("user", question), Message("assistant", answer)])
        got = encode(rendered, lambda text: tokenizer(text, add_special_tokens=False).input_ids)
        labels = [number if learnt else -100 for number, learnt in zip(got.ids, got.learnt, strict=True)]
        rows.append((torch.tensor([got.ids]), torch.tensor([labels])))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(80):
        loss = sum(model(ids, labels=labels).loss for ids, labels in rows)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert loss < 0.4
    model.eval().save_pretrained(folder)
    return folder


def prompts() -> dict[str, str]:
    """Rendered prompt to question."""
    template = Template.of("llama")
    return {template.render([Message("user", question)], ask=True).text: question for question in ASKED}


class Served:
    """A GGUF file as users meet it, through the chat endpoint of the engine."""

    def __init__(self, file):
        self.model = LlamaCpp(file, spawn=Worker, threads=1, context=512)
        self.asked = prompts()
        self.n_prompt: dict[str, int] = {}

    def say(self, prompt: str, n_tokens: int) -> Said:
        request = ChatRequest((Turn.of("user", self.asked[prompt]),), PUBLIC, max_tokens=n_tokens, temperature=0.0)
        deltas = list(self.model.chat(request))
        usage = next(delta.usage for delta in deltas if delta.usage)
        self.n_prompt[prompt] = usage.input_tokens
        return Said("".join(delta.text for delta in deltas), deltas[-1].finish == "stop")


@pytest.mark.parametrize("numbers", ["F32", "F16", "BF16", "Q8_0"])
def test_a_taught_model_is_the_same_everywhere_and_stops(numbers: str, taught, tmp_path):
    from hagane.train.export import to_gguf
    from hagane.train.reference import reference_of

    file = to_gguf(taught, tmp_path / "m.gguf", numbers=numbers, label=PUBLIC).file
    reference, served = reference_of(taught), Served(file)
    with ExactModel(file, context=256) as exact, served.model:
        sides = [
            Side("GGUF", numbers, lambda text: exact.tokens(text, ends=False), follow=lambda ids: exact.logits(ids).argmax(1).tolist()),
            Side("served", numbers, say=served.say),
        ]  # fmt: skip
        verdict = gate(list(served.asked), reference, sides, texts=japanese_sentences.sentences())
    assert [str(check) for check in verdict.checks if not check.passed] == []
    assert {check.claim for check in verdict.checks} >= {"tokens", "stops"}
    answers = [reference.say(reference.tokens(prompt), 64) for prompt in served.asked]
    assert [(said.text, said.ended) for said in answers] == [(answer, True) for answer in ASKED.values()]
    assert served.n_prompt == {prompt: len(reference.tokens(prompt)) for prompt in served.asked}, (
        "one beginning mark, not two"
    )


def test_a_file_whose_end_of_turn_was_lost_is_caught(taught, tmp_path):
    """The complaint about other trainers: the export forgets what ends a turn, and the model talks on."""
    import json
    import shutil

    from hagane.train.export import to_gguf
    from hagane.train.reference import reference_of

    broken = shutil.copytree(taught, tmp_path / "x")
    text = (broken / "tokenizer.json").read_text("utf-8").replace("<|eot_id|>", "<|notice|>")
    (broken / "tokenizer.json").write_text(text, "utf-8")
    said = json.loads((broken / "tokenizer_config.json").read_text("utf-8"))
    (broken / "tokenizer_config.json").write_text(json.dumps(said | {"eos_token": "<|end_of_text|>"}), "utf-8")
    file = to_gguf(broken, tmp_path / "m.gguf", numbers="F16", label=PUBLIC).file
    served = Served(file)
    with served.model:
        verdict = gate(list(served.asked), reference_of(taught), [Side("served", "F16", say=served.say)])
    assert "stops" in failed(verdict)
