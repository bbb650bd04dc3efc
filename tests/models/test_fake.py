"""The shipped fakes."""

from __future__ import annotations

import numpy as np

from hagane.contracts.chat_model import request, said
from hagane.models.fake import FakeChat, HashEmbedder


def test_it_says_what_it_was_told_and_remembers_what_it_was_asked():
    model = FakeChat(lambda r: r.messages[-1].text[::-1])
    assert said(list(model.chat(request("有給休暇")))) == "暇休給有"
    assert [r.messages[-1].text for r in model.requests] == ["有給休暇"]


def test_a_limit_shows_as_length():
    last = list(FakeChat("年次有給休暇は20日です。").chat(request(max_tokens=4)))[-1]
    assert last.finish == "length"
    assert last.usage.output_tokens == 4


def test_vectors_are_the_same_on_every_machine():
    """Python's own hash differs from run to run; this one must not."""
    row = HashEmbedder(8).embed(["有給休暇"], kind="query")[0]
    assert np.allclose(row * 5**0.5, np.round(row * 5**0.5), atol=1e-4) or np.isclose(np.linalg.norm(row), 1.0)
    assert row.tolist() == HashEmbedder(8).embed(["有給休暇"], kind="passage")[0].tolist()
    assert HashEmbedder(8).fingerprint != HashEmbedder(16).fingerprint
