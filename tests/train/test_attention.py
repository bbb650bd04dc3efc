"""Documents of one packed row do not see each other, for every family and every path that trains."""

from __future__ import annotations

import pytest

pytest.importorskip("torch", reason="the extra train is not installed")
pytest.importorskip("transformers", reason="the extra train is not installed")

import numpy as np
import torch
from small_training import FAMILIES, SENTENCES, row, tiny

from hagane.train.attention import Piece, mask_of, packed_attention, pieces_of
from hagane.train.model import logits
from hagane.train.words import BRANCH


def tensors(documents: list[list[int]], T: int):
    ids, _, owner, positions = row(documents, T)
    return (torch.from_numpy(x)[None] for x in (ids, positions, owner))


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("window", [None, 7])
def test_packed_equals_separate(name: str, window: int | None):
    """Three documents and padding in a row of 96: the logits of each are those it has alone (1e-5)."""
    if window and name not in ("mistral", "gemma3_text"):
        pytest.skip("this family has no sliding window")
    model = tiny(name, depth=2, context=96, **({"sliding_window": window} if window else {})).eval()
    documents = [list(text.encode())[:n] for text, n in zip(SENTENCES, (41, 1, 30), strict=False)]
    with torch.no_grad():
        packed_1TV = logits(model, *_order(*tensors(documents, 96)))
        at = 0
        for tokens in documents:
            alone_1TV = logits(model, *_order(*tensors([tokens], len(tokens))))
            far = (packed_1TV[:, at : at + len(tokens)] - alone_1TV).abs().max()
            assert far < 1e-5 * max(1.0, float(alone_1TV.abs().max()))
            at += len(tokens)
    assert torch.isfinite(packed_1TV).all()


def _order(ids, positions, owner):
    return ids, positions, owner


@pytest.mark.parametrize("name", FAMILIES)
def test_rows_of_a_batch_equal_each_alone(name: str):
    """Neighbouring documents of one length go through attention together: logits and gradients are those of rows alone."""
    model = tiny(name, depth=2, context=48)
    ids_, owners, places = [], [], []
    for lengths in ([48], [48], [16, 16, 16], [20, 20], [48]):
        documents = [list(text.encode())[:n] for text, n in zip(SENTENCES[1:], lengths, strict=False)]
        ids, positions, owner = tensors(documents, 48)
        ids_.append(ids), owners.append(owner), places.append(positions)
    packed = logits(model, torch.cat(ids_), torch.cat(places), torch.cat(owners))
    packed.square().mean(dim=(1, 2)).sum().backward()
    together = {key: one.grad.clone() for key, one in model.named_parameters()}
    model.zero_grad()
    for n, row_ in enumerate(zip(ids_, places, owners, strict=True)):
        alone = logits(model, *row_)
        assert (packed[n] - alone[0]).detach().abs().max() < 1e-5 * max(1.0, float(alone.detach().abs().max()))
        alone.square().mean().backward()
    for key, one in model.named_parameters():
        assert (one.grad - together[key]).abs().max() <= 1e-4 * together[key].abs().max(), key


@pytest.mark.parametrize("name", FAMILIES)
def test_the_comparison_can_fail(name: str):
    """Called as one document, the second sentence has other logits: the models do look back."""
    model = tiny(name, depth=2, context=96).eval()
    documents = [list(text.encode())[:20] for text in SENTENCES[:2]]
    with torch.no_grad():
        ids, positions, owner = tensors(documents, 40)
        apart = logits(model, ids, positions, owner)
        mixed = logits(model, ids, positions, torch.zeros_like(owner))
    assert (apart - mixed)[0, 20:].abs().max() > 1e-2


@pytest.mark.parametrize("name", FAMILIES)
def test_same_as_transformers_own_call(name: str):
    """A single whole row gives what the class itself gives with its usual attention: the room adds nothing."""
    model = tiny(name, depth=2, context=64).eval()
    tokens = list(SENTENCES[0].encode())[:48]
    with torch.no_grad():
        ours = logits(model, *_order(*tensors([tokens], 48)))
        model.config._attn_implementation = "eager"
        theirs = type(model)(model.config)
        theirs.load_state_dict(model.state_dict())
        want = theirs.eval()(input_ids=torch.tensor([tokens]), use_cache=False).logits
    assert (ours - want).abs().max() < 1e-4


@pytest.mark.parametrize("name", ["llama", "falcon"])
def test_gradients_do_not_cross(name: str):
    """Loss on the second document leaves no gradient in the embeddings of tokens that only the first has."""
    model = tiny(name, tie_word_embeddings=False)
    ids, positions, owner = tensors([[5] * 10, [7] * 10], 20)
    logits(model, ids, positions, owner)[0, 10:].square().sum().backward()
    gradient = model.get_input_embeddings().weight.grad
    assert gradient[5].abs().max() == 0
    assert gradient[7].abs().max() > 0


def test_pieces_are_what_the_row_holds():
    assert pieces_of(torch.tensor([[0, 0, 1, -1], [0, 1, 1, 1]])) == (
        Piece(0, 0, 2),
        Piece(0, 2, 3),
        Piece(1, 0, 1),
        Piece(1, 1, 4),
    )
    assert pieces_of(torch.full((1, 3), -1)) == ()


def test_mask_shows_own_document_only():
    got = mask_of(torch.tensor([[0, 1, 1]]))[0, 0].int().tolist()
    assert got == [[1, 0, 0], [0, 1, 0], [0, 1, 1]]


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("window", [None, 7])
def test_branches_equal_each_with_its_own_trunk(name: str, window: int | None):
    """Three questions about one text, then another text: logits are those of text + question alone (1e-5)."""
    if window and name not in ("mistral", "gemma3_text"):
        pytest.skip("this family has no sliding window")
    model = tiny(name, depth=2, context=128, **({"sliding_window": window} if window else {})).eval()
    trunk, *branches, other = [list(text.encode())[:n] for text, n in zip(SENTENCES * 2, (30, 9, 1, 14, 12), strict=False)]
    ids = [*trunk, *(one for branch in branches for one in branch), *other]
    owner = [0] * len(trunk) + [n * BRANCH for n, branch in enumerate(branches, 1) for _ in branch] + [1] * len(other)
    places = [*range(len(trunk)), *(len(trunk) + n for branch in branches for n in range(len(branch))), *range(len(other))]
    with torch.no_grad():
        packed = logits(model, *(torch.tensor([x]) for x in (ids, places, owner)))[0]
        at = len(trunk)
        for branch in branches:
            alone = logits(model, *tensors([trunk + branch], len(trunk + branch)))[0, len(trunk) :]
            assert (packed[at : at + len(branch)] - alone).abs().max() < 1e-5 * max(1.0, float(alone.abs().max()))
            at += len(branch)
        alone = logits(model, *tensors([other], len(other)))[0]
        assert (packed[at:] - alone).abs().max() < 1e-5 * max(1.0, float(alone.abs().max()))


def test_a_branch_without_its_trunk_is_refused():
    with pytest.raises(ValueError, match="trunk"):
        pieces_of(torch.tensor([[BRANCH, BRANCH, 0]]))


def test_attention_without_pieces_is_refused():
    """Else documents would be mixed and nothing would show it."""
    x = torch.zeros(1, 1, 2, 4)
    with pytest.raises(ValueError, match="pieces"):
        packed_attention(torch.nn.Identity(), x, x, x, None)


def test_grouped_heads_are_shared():
    """4 query heads over 2 key heads equal 4 over their copies."""
    draw = torch.Generator().manual_seed(3)
    q, k = torch.randn(1, 4, 6, 8, generator=draw), torch.randn(1, 2, 6, 8, generator=draw)
    pieces = (Piece(0, 0, 4), Piece(0, 4, 6))
    got, _ = packed_attention(torch.nn.Identity(), q, k, k, None, pieces=pieces)
    wide = k.repeat_interleave(2, dim=1)
    want, _ = packed_attention(torch.nn.Identity(), q, wide, wide, None, pieces=pieces)
    assert np.allclose(got, want, atol=1e-6)
