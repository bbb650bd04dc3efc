"""What a decoder is made of, read from config.json, from the header of a GGUF file, or from a shape: no weights loaded.

Counts are exact for the families that are trained here (train/model.py); tests hold them to published sizes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hagane.core.errors import ModelError, NotFoundError, UsageError
from hagane.models.gguf import read_header
from hagane.train.scaling import Shape

MAX_JSON_BYTES = 50_000_000
_TIED = {"gemma", "gemma3_text", "falcon"}  # the others say so when they are
TRAINED = ("llama", "mistral", "falcon", "gemma", "gemma3_text", "qwen2", "qwen3")  # the keys of train/model.py's table
_QK_NORMS = {"qwen3", "gemma3_text"}
_FOUR_NORMS = {"gemma3_text"}


@dataclass(frozen=True, slots=True)
class Decoder:
    """Sizes of one model. `gated`: three feed-forward matrices instead of two; `longest`: tokens that it can hold."""

    family: str
    vocab: int
    width: int
    depth: int
    heads: int
    kv_heads: int
    head_width: int
    ffn: int
    gated: bool
    tied: bool
    longest: int

    @property
    def inner(self) -> int:
        """Width of all query heads together."""
        return self.heads * self.head_width

    @property
    def linear(self) -> dict[str, tuple[int, int]]:
        """Every linear layer of a block: name to (in, out)."""
        kv = self.kv_heads * self.head_width
        found = {"q_proj": (self.width, self.inner), "k_proj": (self.width, kv), "v_proj": (self.width, kv),
                 "o_proj": (self.inner, self.width)}  # fmt: skip
        if self.gated:
            found |= {"gate_proj": (self.width, self.ffn)}
        return found | {"up_proj": (self.width, self.ffn), "down_proj": (self.ffn, self.width)}

    @property
    def n_hidden(self) -> int:
        """Parameters in the matrices of all blocks: what Muon trains."""
        return self.depth * sum(rows * columns for rows, columns in self.linear.values())

    @property
    def n_small(self) -> int:
        """Norms and biases."""
        if self.family == "falcon":
            return self.depth * 2 * self.width + 2 * self.width
        layer = (4 if self.family in _FOUR_NORMS else 2) * self.width
        layer += 2 * self.head_width if self.family in _QK_NORMS else 0
        layer += (self.heads + 2 * self.kv_heads) * self.head_width if self.family == "qwen2" else 0
        return self.depth * layer + self.width

    @property
    def n_tables(self) -> int:
        """Embedding and head, a shared one once."""
        return self.vocab * self.width * (1 if self.tied else 2)

    @property
    def n_params(self) -> int:
        return self.n_hidden + self.n_small + self.n_tables

    def n_adapter(self, rank: int, targets: tuple[str, ...] = ()) -> int:
        """Parameters of a LoRA on the named layers of every block; none named: all."""
        chosen = [size for name, size in self.linear.items() if not targets or name in targets]
        return self.depth * rank * sum(rows + columns for rows, columns in chosen)


def from_shape(shape: Shape, family: str = "llama") -> Decoder:
    """A model that will be made from scratch."""
    gated = family != "falcon"
    ffn, kv = (shape.ffn, shape.kv_heads) if gated else (4 * shape.width, 1)
    head = shape.width // shape.heads
    return Decoder(family, shape.vocab, shape.width, shape.depth, shape.heads, kv, head, ffn, gated, True, shape.context)


def read_decoder(path: Path) -> Decoder:
    """Of a model folder or a GGUF file. Raises: NotFoundError, UsageError for a family that is not trained here,
    ModelError for what does not say its sizes."""
    if path.is_dir():
        path = path / "config.json"
    if not path.is_file():
        raise NotFoundError(f"{path.name} is not there", hint="name a folder with config.json, or a .gguf file")
    try:
        found = _from_gguf(path) if path.suffix == ".gguf" else from_config(_json(path))
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as cause:
        raise ModelError(f"{path.name} does not say the sizes of a decoder: {cause}", hint="fetch the model again") from cause
    if found.family not in TRAINED:
        raise UsageError(f"{found.family} models are not trained here", hint=f"take one of {', '.join(TRAINED)}")
    return found


def from_config(said: Mapping[str, Any]) -> Decoder:
    """Of the JSON in config.json. Raises: KeyError, TypeError, ValueError for what is missing or no number."""
    said = said.get("text_config") or said
    family = str(said["model_type"])
    width, heads = _count(said, "hidden_size"), _count(said, "num_attention_heads")
    tied = bool(said.get("tie_word_embeddings", family in _TIED))
    depth, vocab = _count(said, "num_hidden_layers"), _count(said, "vocab_size")
    longest = int(said.get("max_position_embeddings") or 0)
    if family == "falcon":
        new = bool(said.get("new_decoder_architecture"))
        kv = int(said.get("num_kv_heads") or heads) if new else (1 if said.get("multi_query", True) else heads)
        ffn = int(said.get("ffn_hidden_size") or 4 * width)
        return Decoder(family, vocab, width, depth, heads, kv, width // heads, ffn, False, tied, longest)
    kv = int(said.get("num_key_value_heads") or heads)
    head = int(said.get("head_dim") or width // heads)
    return Decoder(family, vocab, width, depth, heads, kv, head, _count(said, "intermediate_size"), True, tied, longest)


def _count(said: Mapping[str, Any], key: str) -> int:
    found = said[key]
    if not isinstance(found, int) or isinstance(found, bool) or found <= 0:
        raise ValueError(f"{key} is {found!r}")
    return found


def _json(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise ValueError("too large")
        found = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, RecursionError) as cause:
        raise ModelError(f"{path.name} cannot be read: {type(cause).__name__}") from cause
    if not isinstance(found, dict):
        raise ValueError("no JSON object")
    return found


def _from_gguf(path: Path) -> Decoder:
    header = read_header(path)
    name, said = header.architecture, header.values
    shapes = {one.name: one.shape for one in header.tensors}

    def number(key: str, default: int = 0) -> int:
        found = said.get(f"{name}.{key}", default)
        return max(found) if isinstance(found, list) else int(found)

    width, heads = number("embedding_length"), number("attention.head_count")
    head = number("attention.key_length") or width // heads
    family = {"gemma3": "gemma3_text"}.get(name, name)
    vocab = max(shapes["token_embd.weight"])
    if vocab == width:
        vocab = min(shapes["token_embd.weight"])
    return Decoder(
        family, vocab, width, number("block_count"), heads, number("attention.head_count_kv") or heads, head,
        number("feed_forward_length"), "blk.0.ffn_gate.weight" in shapes, "output.weight" not in shapes, header.context,
    )  # fmt: skip
