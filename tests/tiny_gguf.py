"""A language model of 40,000 random numbers as a GGUF file: the real engine runs on it, and it says nonsense."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np

ALIGNMENT = 32
WIDTH, HIDDEN, HEADS = 32, 64, 2
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
WORDS = ["<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>"]
NORMAL, UNKNOWN, CONTROL, BYTE = 1, 2, 3, 6


def _text(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def _value(value: Any) -> bytes:
    if isinstance(value, bool):
        return struct.pack("<I?", 7, value)
    if isinstance(value, int):
        return struct.pack("<II", 4, value)
    if isinstance(value, float):
        return struct.pack("<If", 6, value)
    if isinstance(value, str):
        return struct.pack("<I", 8) + _text(value)
    if isinstance(value[0], str):
        return struct.pack("<IIQ", 9, 8, len(value)) + b"".join(map(_text, value))
    code, kind = ("i", 5) if isinstance(value[0], int) else ("f", 6)
    return struct.pack(f"<IIQ{len(value)}{code}", 9, kind, len(value), *value)


def values(*, template: bool) -> dict[str, Any]:
    pieces = ["\u2581", *"有給休暇日出張規程円一二三です。はい", *"abcdefghij0123456789"]
    tokens = [*WORDS, *(f"<0x{n:02X}>" for n in range(256)), *dict.fromkeys(pieces)]
    kinds = [UNKNOWN, CONTROL, CONTROL, CONTROL, CONTROL, *[BYTE] * 256]
    kinds += [NORMAL] * (len(tokens) - len(kinds))
    found = {
        "general.architecture": "llama",
        "general.name": "小さな模型",
        "general.license": "apache-2.0",
        "llama.context_length": 1024,
        "llama.embedding_length": WIDTH,
        "llama.block_count": 1,
        "llama.feed_forward_length": HIDDEN,
        "llama.attention.head_count": HEADS,
        "llama.attention.head_count_kv": HEADS,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "llama.rope.dimension_count": WIDTH // HEADS,
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.scores": [0.0] * len(tokens),
        "tokenizer.ggml.token_type": kinds,
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.unknown_token_id": 0,
    }
    return found | ({"tokenizer.chat_template": TEMPLATE} if template else {})


def shapes(n_tokens: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes, the fastest dimension first, as GGUF writes them."""
    square = {f"blk.0.attn_{name}.weight": (WIDTH, WIDTH) for name in ("q", "k", "v", "output")}
    return {
        "token_embd.weight": (WIDTH, n_tokens),
        "blk.0.attn_norm.weight": (WIDTH,),
        **square,
        "blk.0.ffn_norm.weight": (WIDTH,),
        "blk.0.ffn_gate.weight": (WIDTH, HIDDEN),
        "blk.0.ffn_up.weight": (WIDTH, HIDDEN),
        "blk.0.ffn_down.weight": (HIDDEN, WIDTH),
        "output_norm.weight": (WIDTH,),
        "output.weight": (WIDTH, n_tokens),
    }


def write(path: Path, *, template: bool = True, label: str = "") -> Path:
    """The model at `path`; equal bytes each time. `label`: as our export writes it."""
    table = values(template=template) | ({"hagane.label": label} if label else {})
    random = np.random.default_rng(20261124)
    tensors = {
        name: (np.ones(shape[0]) if "norm" in name else random.normal(0, 0.5, shape[::-1])).astype("<f4")
        for name, shape in shapes(len(table["tokenizer.ggml.tokens"])).items()
    }
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(table))
    head += b"".join(_text(key) + _value(value) for key, value in table.items())
    body = b""
    for name, tensor in tensors.items():
        shape = tensor.shape[::-1]
        head += _text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, 0, len(body))
        body += tensor.tobytes() + b"\0" * (-tensor.nbytes % ALIGNMENT)
    path.write_bytes(head + b"\0" * (-len(head) % ALIGNMENT) + body)
    return path
