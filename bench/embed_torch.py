"""e5-small in PyTorch fp32, for bench/embed.py: reads weights and token ids (.npz), writes vectors and seconds.

Runs under any interpreter with torch and numpy: python embed_torch.py IN.npz OUT.npz THREADS
"""

from __future__ import annotations

import sys
import time

import numpy as np
import torch
import torch.nn.functional as F

HEADS, EPSILON = 12, 1e-12


def forward(w: dict[str, torch.Tensor], words_BTD: torch.Tensor, mask_BT: torch.Tensor) -> torch.Tensor:
    """Unit vectors of padded batches. B batch, T tokens, D width, H heads, E head width."""

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        return F.layer_norm(x, x.shape[-1:], w[f"{name}.w"], w[f"{name}.b"], EPSILON)

    def linear(x: torch.Tensor, name: str) -> torch.Tensor:
        return F.linear(x, w[f"{name}.w"], w[f"{name}.b"])

    x_BTD = norm(words_BTD, "emb.ln")
    seen_B11T = mask_BT[:, None, None, :]
    for layer in range(12):
        p = f"l{layer}"
        q, k, v = (linear(x_BTD, f"{p}.{name}").unflatten(-1, (HEADS, -1)).transpose(1, 2) for name in "qkv")
        context_BHTE = F.scaled_dot_product_attention(q, k, v, attn_mask=seen_B11T)
        x_BTD = norm(x_BTD + linear(context_BHTE.transpose(1, 2).flatten(2), f"{p}.ao"), f"{p}.aln")
        x_BTD = norm(x_BTD + linear(F.gelu(linear(x_BTD, f"{p}.fi")), f"{p}.fo"), f"{p}.oln")
    mean_BD = (x_BTD * mask_BT[..., None]).sum(1) / mask_BT.sum(1, keepdim=True)
    return F.normalize(mean_BD, dim=-1)


def embed(w: dict[str, torch.Tensor], ids: list[np.ndarray], size: int) -> np.ndarray:
    order = sorted(range(len(ids)), key=lambda at: len(ids[at]))
    out = np.empty((len(ids), 384), np.float32)
    for start in range(0, len(order), size):
        batch = order[start : start + size]
        longest = max(len(ids[at]) for at in batch)
        padded = torch.zeros(len(batch), longest, dtype=torch.long)
        mask = torch.zeros(len(batch), longest, dtype=torch.bool)
        for row, at in enumerate(batch):
            padded[row, : len(ids[at])] = torch.from_numpy(ids[at])
            mask[row, : len(ids[at])] = True
        out[batch] = forward(w, w["words"][padded] + w["places"][:longest], mask).numpy()
    return out


def main() -> None:
    source, target, threads = sys.argv[1:]
    torch.set_num_threads(int(threads))
    given = np.load(source)
    w = {name[2:]: torch.from_numpy(given[name]) for name in given.files if name.startswith("w:")}
    ids = np.split(given["ids"].astype(np.int64), given["ends"][:-1])
    n_passages = int(given["n_passages"])
    passages, queries = ids[:n_passages], ids[n_passages:]
    with torch.inference_mode():
        embed(w, passages[:2], 2)
        wall, cpu = time.perf_counter(), time.process_time()
        vectors = embed(w, passages, 16)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        start = time.perf_counter()
        asked = embed(w, queries, 1)
        query_s = (time.perf_counter() - start) / max(1, len(queries))
    np.savez(target, passages=vectors, queries=asked, wall=wall, cpu=cpu, query_s=query_s)


if __name__ == "__main__":
    main()
