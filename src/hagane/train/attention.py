"""Attention that stays inside each document of a packed row.

On the CPU a row is cut at its document borders and each piece goes through SDPA by itself: 0.035 s against 0.138 s
with a 4-D mask (1 thread). On CUDA in half precision `varlen_attn` takes the same borders; that path has not been run
on a GPU yet. Falcon brings its own attention and gets a 4-D mask.

The trap this avoids: transformers separates packed documents only for `position_ids`, no attention mask and
`use_cache=False`; any other call contaminates silently. tests/train/test_attention.py holds every family to it.

Branches: many questions about one text read the text once. Document d + n BRANCH sees document d (the trunk, which
stands before it in the row) and itself, never another branch; its positions go on where the trunk's end.

Legend: B rows, T tokens of a row, H heads, K key/value heads, E width of a head, N tokens of all pieces together.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from typing import Any

import torch
import torch.nn.functional as F
from transformers import AttentionInterface

from .words import BRANCH, NO_DOCUMENT

NAME = "hagane_packed"


@dataclass(frozen=True, slots=True)
class Piece:
    """Tokens `start` to `end` of row `row`: one document, or as much of it as the row holds. `trunk`: for a branch,
    where the document begins and ends that it goes on from."""

    row: int
    start: int
    end: int
    trunk: tuple[int, int] | None = None


Pieces = tuple[Piece, ...]


def pieces_of(documents_BT: torch.Tensor) -> Pieces:
    """Where documents begin and end, in reading order; padding is in none. Rows may hold any number.
    Raises: ValueError for a branch whose trunk does not stand before it."""
    T = documents_BT.shape[1]
    borders_BT = torch.ones_like(documents_BT, dtype=torch.bool)
    borders_BT[:, 1:] = documents_BT[:, 1:] != documents_BT[:, :-1]
    starts = [tuple(one) for one in borders_BT.nonzero().tolist()]
    found: list[Piece] = []
    trunks: dict[tuple[int, int], tuple[int, int]] = {}
    for n, ((row, start), owner) in enumerate(zip(starts, documents_BT[borders_BT].tolist(), strict=True)):
        end = starts[n + 1][1] if n + 1 < len(starts) and starts[n + 1][0] == row else T
        branch, document = divmod(owner, BRANCH)
        if owner == NO_DOCUMENT:
            continue
        if not branch:
            trunks[row, document] = (start, end)
            found.append(Piece(row, start, end))
        elif (row, document) in trunks:
            found.append(Piece(row, start, end, trunks[row, document]))
        else:
            raise ValueError(f"row {row}: a branch stands before document {document}, its trunk")
    return tuple(found)


class Layout:
    """The pieces of a batch behind one name, so that a compiled model does not look into them."""

    def __init__(self, pieces: Pieces) -> None:
        self.pieces = pieces


WHOLE = "whole rows"  # every row is one document: nothing to cut


def layout_of(documents_BT: torch.Tensor) -> Layout | str:
    """What `packed_attention` is given as `pieces`: WHOLE, or the pieces. Raises: ValueError as `pieces_of`."""
    pieces, T = pieces_of(documents_BT), documents_BT.shape[1]
    whole = len(pieces) == len(documents_BT) and all((piece.start, piece.end) == (0, T) for piece in pieces)
    return WHOLE if whole else Layout(pieces)


def mask_of(documents_BT: torch.Tensor) -> torch.Tensor:
    """(B, 1, T, T) bool, true where a token may look. Padding looks at itself: a row of nothing would give NaN."""
    T = documents_BT.shape[1]
    causal_TT = torch.ones(T, T, dtype=torch.bool, device=documents_BT.device).tril()
    same_BTT = documents_BT[:, :, None] == documents_BT[:, None, :]
    trunk_BTT = (documents_BT % BRANCH)[:, :, None] == documents_BT[:, None, :]
    return ((same_BTT | trunk_BTT) & causal_TT)[:, None]


def packed_attention(
    module: torch.nn.Module,
    q_BHTE: torch.Tensor,
    k_BKTE: torch.Tensor,
    v_BKTE: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    pieces: Pieces | Layout | str | None = None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **_unused: Any,
) -> tuple[torch.Tensor, None]:
    """The function that transformers calls in each layer. Returns (B, T, H, E); zeros on padding.

    Raises: ValueError without `pieces`: then documents could look into each other and nothing would show it.
    """
    if pieces is None or attention_mask is not None or softcap is not None:
        raise ValueError("packed attention wants pieces, no mask and no soft cap")
    how = {"scaling": scaling, "dropout": dropout, "window": sliding_window}
    if isinstance(pieces, str):  # WHOLE
        group = q_BHTE.shape[1] // k_BKTE.shape[1]
        return _sdpa(q_BHTE, _wide(k_BKTE, group), _wide(v_BKTE, group), **how).transpose(1, 2), None
    return _apart(q_BHTE, k_BKTE, v_BKTE, pieces, how), None


@torch.compiler.disable
def _apart(
    q_BHTE: torch.Tensor, k_BKTE: torch.Tensor, v_BKTE: torch.Tensor, pieces: Pieces | Layout, how: dict[str, Any]
) -> torch.Tensor:
    """(B, T, H, E), each piece by itself."""
    pieces = pieces.pieces if isinstance(pieces, Layout) else pieces
    flat = not any(piece.trunk for piece in pieces)
    if pieces and flat and q_BHTE.is_cuda and q_BHTE.dtype in (torch.bfloat16, torch.float16) and not how["dropout"]:
        return _by_varlen(q_BHTE, k_BKTE, v_BKTE, pieces, scaling=how["scaling"], window=how["window"])
    B, H, T, E = q_BHTE.shape
    group = H // k_BKTE.shape[1]
    stretches = _stretches(pieces, B, T)
    lengths = [one.n_tokens for one in stretches]
    q_S, k_S, v_S = (x.transpose(1, 2).reshape(B * T, x.shape[1], E).split(lengths) for x in (q_BHTE, k_BKTE, v_BKTE))
    parts = []
    for one, q, k, v in zip(stretches, q_S, k_S, v_S, strict=True):
        if not one.pieces:
            parts.append(q.new_zeros(q.shape))
            continue
        near = None
        if one.trunk is not None:
            near = branch_mask(one.pieces, device=q.device, window=how["window"])
            k, v = torch.cat([k_S[one.trunk], k]), torch.cat([v_S[one.trunk], v])
        n = 1 if one.trunk is not None else len(one.pieces)
        q, k, v = (x.view(n, -1, x.shape[1], E).transpose(1, 2) for x in (q, k, v))
        out = _sdpa(q, _wide(k, group), _wide(v, group), near=near, **how)
        parts.append(out.transpose(1, 2).reshape(-1, H, E))
    return torch.cat(parts).view(B, T, H, E)


@dataclass(frozen=True, slots=True)
class Stretch:
    """Neighbouring tokens of all rows in reading order that go through attention in one call: pieces of one length,
    the branches of one trunk (`trunk`: the number of its stretch), or padding (no pieces)."""

    n_tokens: int
    pieces: Pieces = ()
    trunk: int | None = None


@lru_cache(maxsize=16)
def _stretches(pieces: Pieces, B: int, T: int) -> tuple[Stretch, ...]:
    """All B·T tokens. The rows are cut once, not slice by slice: the way back of a slice fills a whole tensor."""
    has_branches = {(piece.row, piece.trunk[0]) for piece in pieces if piece.trunk}
    found: list[Stretch] = []
    places: dict[tuple[int, int], int] = {}  # a trunk's row and start, to its stretch

    def key(piece: Piece) -> tuple[int, ...]:
        if piece.trunk:
            return (1, piece.row, piece.trunk[0])
        alone = (piece.row, piece.start)
        return (2, *alone) if alone in has_branches else (0, piece.end - piece.start)

    for _, bunch in groupby(_with_gaps(pieces, B, T), key=lambda one: (-1,) if isinstance(one, int) else key(one)):
        run = tuple(bunch)
        if isinstance(run[0], int):
            found.append(Stretch(sum(run)))  # type: ignore[arg-type]
            continue
        first: Piece = run[0]
        n_tokens = sum(piece.end - piece.start for piece in run)  # type: ignore[union-attr]
        places[first.row, first.start] = len(found)
        found.append(Stretch(n_tokens, run, places[first.row, first.trunk[0]] if first.trunk else None))  # type: ignore[arg-type]
    return tuple(found)


def _with_gaps(pieces: Pieces, B: int, T: int) -> Iterator[Piece | int]:
    """The pieces, and between them how many tokens of padding there are."""
    at = 0
    for piece in pieces:
        start = piece.row * T + piece.start
        if start > at:
            yield start - at
        yield piece
        at = piece.row * T + piece.end
    if at < B * T:
        yield B * T - at


@lru_cache(maxsize=64)
def branch_mask(run: Pieces, *, device: Any, window: int | None) -> torch.Tensor:
    """(own tokens, trunk + own tokens) bool for branches that stand side by side, true where a token may look."""
    first, last = run[0].trunk or (0, 0)
    n_trunk, n_own = last - first, run[-1].end - run[0].start
    owner = torch.cat([torch.full((piece.end - piece.start,), n + 1) for n, piece in enumerate(run)])
    place = torch.cat([torch.arange(piece.end - piece.start) for piece in run]) + n_trunk
    if len(owner) != n_own:
        raise ValueError("branches of one trunk must stand side by side")
    owners, places = torch.cat([torch.zeros(n_trunk, dtype=owner.dtype), owner]), torch.cat([torch.arange(n_trunk), place])
    behind = place[:, None] - places
    may = ((owners == 0) | (owner[:, None] == owners)) & (behind >= 0)
    return (may if window is None else may & (behind < window)).to(device)


def _wide(x_BKTE: torch.Tensor, group: int) -> torch.Tensor:
    """Each key/value head once per query head that shares it."""
    return x_BKTE if group == 1 else x_BKTE.repeat_interleave(group, dim=1)


def _sdpa(q: Any, k: Any, v: Any, *, scaling: Any, dropout: float, window: Any, near: Any = None) -> torch.Tensor:
    """Causal attention over whole documents, within the window where there is one; or where `near` says."""
    if near is not None:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=near, dropout_p=dropout, scale=scaling)
    T = q.shape[2]
    if window is None or window >= T:
        return F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=True, scale=scaling)
    near_TT = _window_mask(T, window, q.device)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=near_TT, dropout_p=dropout, scale=scaling)


@lru_cache(maxsize=16)
def _window_mask(T: int, window: int, device: torch.device) -> torch.Tensor:
    """(T, T) bool: the token itself and `window` - 1 before it."""
    behind_TT = torch.arange(T, device=device)[:, None] - torch.arange(T, device=device)
    return (behind_TT >= 0) & (behind_TT < window)


def _by_varlen(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, pieces: Pieces, *, scaling: Any, window: Any) -> Any:
    """Flash attention over all pieces at once."""
    from torch.nn.attention.varlen import varlen_attn

    B, H, T, E = q.shape
    places = [piece.row * T + at for piece in pieces for at in range(piece.start, piece.end)]
    places_N = torch.tensor(places, device=q.device)
    ends = torch.tensor([0, *(piece.end - piece.start for piece in pieces)], device=q.device, dtype=torch.int32)
    longest = max(piece.end - piece.start for piece in pieces)
    flat = [x.transpose(1, 2).reshape(B * T, x.shape[1], x.shape[3]).index_select(0, places_N) for x in (q, k, v)]
    bounds = ends.cumsum(0, dtype=torch.int32)
    span = (-1 if window is None else window - 1, 0)  # both ends count: a window of W looks W - 1 back
    out_NHE = varlen_attn(
        *flat, bounds, bounds, longest, longest, scale=scaling, window_size=span, enable_gqa=k.shape[1] != H
    )
    return out_NHE.new_zeros(B * T, H, E).index_copy(0, places_N, out_NHE).view(B, T, H, E)


AttentionInterface.register(NAME, packed_attention)
