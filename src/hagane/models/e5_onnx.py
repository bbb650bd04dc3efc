"""The engine of e5-small for machines without AVX2 or without a C compiler: ONNX Runtime with 7-bit weights.

The graph is written here, as protobuf, without the `onnx` package. One text is one run, because the runtime gives the
activations of a run one common scale: so a text's vector does not depend on its batch. Weights keep 7 bits (one scale
per column), because on AVX2 the runtime's products of 8-bit weights overflow 16 bits.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.errors import ModelError
from .e5_cache import derived
from .e5_pieces import Pieces
from .e5_weights import HEADS, LAYERS, POSITIONS, WIDE, WIDTH, WORDS, Weights, dense

GRAPH = 1  # raise it when the vectors that the graph gives change
EPSILON = 1e-12
MICROSOFT = "com.microsoft"
LARGEST = 63  # 7 bits
ONNX_TYPES = {"float32": 1, "int8": 3}


class OnnxEngine:
    """Token ids to unit vectors, one run per text. Safe to call from several threads."""

    name = f"onnx{GRAPH}"

    def __init__(self, weights: Weights, folder: Path) -> None:
        self._weights = weights
        self._words = weights.blocks("emb.word", WORDS)
        self._places = weights.floats("emb.pos").reshape(POSITIONS, WIDTH) + weights.floats("emb.type")[:WIDTH]
        self._session = _session(derived(folder / f"{self.name}.onnx", lambda path: path.write_bytes(_model(weights))))

    def forward(self, ids: Sequence[NDArray[np.int32]]) -> NDArray[np.float32]:
        """Unit vectors (n_texts, 384) of token ids, marks included, each at most 512 long."""
        out = np.empty((len(ids), WIDTH), np.float32)
        for at, one in enumerate(ids):
            words = dense(self._words[one]) + self._places[: len(one)]
            out[at] = self._session.run(None, {"words": words[None]})[0][0]
        return out / np.linalg.norm(out, axis=1, keepdims=True)

    def tokens(self, normal: str, room: int) -> tuple[NDArray[np.int32], int]:
        """The first `room` piece ids of a normalised text, and how many there are in all."""
        return self._pieces.tokens(normal, room)

    @cached_property
    def _pieces(self) -> Pieces:
        return Pieces(self._weights)


def _session(path: Path) -> Any:  # onnxruntime is loaded late
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # one text per thread instead: E5Small does that
    # BASIC: the next level fuses sum and norm into an operator that is four times slower (54 against 14 µs a token)
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as cause:  # the runtime's own classes share no public root
        raise ModelError(f"ONNX Runtime cannot load {path.name}: {type(cause).__name__}",
                         hint="delete the cache folder and try again") from cause  # fmt: skip


# ---- the graph ----
class _Graph:
    """Nodes and constants in the order in which they are added."""

    def __init__(self) -> None:
        self.nodes: list[bytes] = []
        self.constants: list[bytes] = []

    def constant(self, name: str, array: NDArray) -> str:
        self.constants.append(_tensor(name, array))
        return name

    def node(
        self, op: str, inputs: Sequence[str], outputs: Sequence[str], domain: str = "", **attributes: float
    ) -> str:
        self.nodes.append(_node(op, inputs, outputs, domain, attributes))
        return outputs[0]

    def linear(self, x: str, out: str, blocks: NDArray[np.uint8], bias: NDArray[np.float32] | None) -> str:
        """x W' + b, where x.q, x.s, x.z are the bytes, scale and zero of x."""
        matrix = dense(blocks).T
        scales = np.maximum(np.abs(matrix).max(axis=0), 1e-20) / LARGEST
        whole = np.rint(matrix / scales).astype(np.int8)
        inputs = [f"{x}.q", self.constant(f"{out}.w", whole), f"{x}.s", self.constant(f"{out}.ws", scales), f"{x}.z"]
        if bias is not None:
            inputs += ["", self.constant(f"{out}.b", bias)]
        return self.node("MatMulIntegerToFloat", inputs, [out], MICROSOFT)

    def quantize(self, x: str) -> str:
        self.node("DynamicQuantizeLinear", [x], [f"{x}.q", f"{x}.s", f"{x}.z"])
        return x

    def norm(self, x: str, out: str, gain: NDArray, bias: NDArray) -> str:
        names = [x, self.constant(f"{out}.g", gain), self.constant(f"{out}.o", bias)]
        return self.node("LayerNormalization", names, [out], axis=-1, epsilon=EPSILON)


def _model(w: Weights) -> bytes:
    """The whole model as ONNX: word and place vectors (1, T, 384) in, mean of the last layer (1, 384) out."""
    graph = _Graph()
    x = graph.norm("words", "h", w.floats("emb.ln.w"), w.floats("emb.ln.b"))
    for layer in range(LAYERS):
        x = _layer(graph, w, layer, x)
    graph.node("ReduceMean", [x], ["vector"], axes=[1], keepdims=0)
    return _bytes(graph, ("words", ("B", "T", WIDTH)), ("vector", ("B", WIDTH)))


def _layer(graph: _Graph, w: Weights, layer: int, x: str) -> str:
    def linear(source: str, name: str, rows: int, *, with_bias: bool = True) -> str:
        bias = w.floats(f"{p}.{name}.b") if with_bias else None
        return graph.linear(source, f"{p}.{name}", w.blocks(f"{p}.{name}.w", rows), bias)

    p = f"l{layer}"
    graph.quantize(x)
    parts = [linear(x, name, WIDTH) for name in ("q", "k", "v")]
    context = graph.quantize(graph.node("MultiHeadAttention", parts, [f"{p}.c"], MICROSOFT, num_heads=HEADS))
    seen = graph.node("Add", [x, linear(context, "ao", WIDTH)], [f"{p}.s"])
    seen = graph.quantize(graph.norm(seen, f"{p}.n", w.floats(f"{p}.aln.w"), w.floats(f"{p}.aln.b")))
    inner = [linear(seen, "fi", WIDE, with_bias=False), graph.constant(f"{p}.fib", w.floats(f"{p}.fi.b"))]
    inner = graph.quantize(graph.node("BiasGelu", inner, [f"{p}.g"], MICROSOFT))
    thought = graph.node("Add", [seen, linear(inner, "fo", WIDTH)], [f"{p}.t"])
    return graph.norm(thought, f"{p}.o", w.floats(f"{p}.oln.w"), w.floats(f"{p}.oln.b"))


# ---- protobuf: just enough of onnx.proto3 (field numbers stand there) ----
def _varint(n: int) -> bytes:
    n, out = n & (1 << 64) - 1, bytearray()
    while n > 127:
        out.append(n & 127 | 128)
        n >>= 7
    return bytes([*out, n])


def _int(field: int, n: int) -> bytes:
    return _varint(field << 3) + _varint(n)


def _part(field: int, data: bytes | str) -> bytes:
    data = data.encode() if isinstance(data, str) else data
    return _varint(field << 3 | 2) + _varint(len(data)) + data


def _tensor(name: str, array: NDArray) -> bytes:
    array = np.ascontiguousarray(array)
    dims = b"".join(_int(1, n) for n in array.shape)
    return dims + _int(2, ONNX_TYPES[array.dtype.name]) + _part(8, name) + _part(9, array.tobytes())


def _attribute(name: str, given: float | Sequence[int]) -> bytes:
    if isinstance(given, int):
        return _part(1, name) + _int(3, given) + _int(20, 2)
    if isinstance(given, float):
        return _part(1, name) + _varint(2 << 3 | 5) + struct.pack("<f", given) + _int(20, 1)
    return _part(1, name) + b"".join(_int(8, n) for n in given) + _int(20, 7)


def _node(op: str, inputs: Sequence[str], outputs: Sequence[str], domain: str, attributes: dict) -> bytes:
    def fields() -> Iterator[bytes]:
        yield from (_part(1, name) for name in inputs)
        yield from (_part(2, name) for name in outputs)
        yield _part(3, outputs[0]) + _part(4, op)
        yield from (_part(5, _attribute(name, given)) for name, given in attributes.items())
        if domain:
            yield _part(7, domain)

    return b"".join(fields())


def _port(name: str, shape: Sequence[int | str]) -> bytes:
    dims = b"".join(_part(1, _int(1, n) if isinstance(n, int) else _part(2, n)) for n in shape)
    return _part(1, name) + _part(2, _part(1, _int(1, ONNX_TYPES["float32"]) + _part(2, dims)))


def _bytes(graph: _Graph, given: tuple[str, Sequence[int | str]], result: tuple[str, Sequence[int | str]]) -> bytes:
    body = b"".join(_part(1, node) for node in graph.nodes) + _part(2, "e5-small")
    body += b"".join(_part(5, constant) for constant in graph.constants)
    body += _part(11, _port(*given)) + _part(12, _port(*result))
    versions = _part(8, _int(2, 17)) + _part(8, _part(1, MICROSOFT) + _int(2, 1))
    return _int(1, 9) + _part(2, "hagane") + _part(7, body) + versions
