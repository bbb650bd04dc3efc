"""Small models that were taught to answer and to stop, by LoRA or whole, in a few steps: what is exported in tests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import japanese_sentences

from hagane.core.labels import Label

HR = Label.parse("confidential:hr")
ANSWERS = ("はい、総務部が確認します。", "規程のとおりです。")
FAMILIES = {"llama": "llama", "mistral": "mistral", "falcon": "falcon", "gemma3_text": "gemma", "qwen3": "qwen"}


def tokenizer(folder: Path, family: str, *, n_tokens: int = 1500) -> Path:
    """SentencePiece BPE with a family's marks and template."""
    from hagane.train import template
    from hagane.train.tokenizer import train_sentencepiece

    train_sentencepiece(
        japanese_sentences.texts(), folder, kind=template.family(family), n_tokens=n_tokens, label=HR, coverage=0.98
    )
    return folder


def from_scratch(folder: Path, architecture: str, *, n_tokens: int = 1500) -> Path:
    """An untaught base of some 100,000 numbers as a Hugging Face folder, its numbers far apart: no ties."""
    import torch

    from hagane.train import model
    from hagane.train.base import settle
    from hagane.train.model_folder import save_folder
    from hagane.train.scaling import Shape

    torch.set_num_threads(1)
    tokenizer(folder, FAMILIES[architecture], n_tokens=n_tokens)
    shape = Shape(vocab=n_tokens, width=64, depth=2, heads=4, kv_heads=2, ffn=128, context=256)
    made = model.from_scratch(architecture, shape, seed=20261124, initializer_range=0.1)
    save_folder(made, folder)
    settle(folder, FAMILIES[architecture])
    return folder


def rows(folder: Path, family: str, questions: Sequence[str]) -> list[tuple[list[int], list[int]]]:
    """(ids, targets) of each question with one of the two answers; only the answer and the end of turn are learnt."""
    from hagane.train.encoder import encoder_of, open_vocabulary
    from hagane.train.words import Message, Row

    to_ids = encoder_of(open_vocabulary(folder, family)).encode
    found = []
    for number, question in enumerate(questions):
        turns = (Message("user", question), Message("assistant", ANSWERS[len(question) % len(ANSWERS)]))
        one = to_ids(Row(HR, "例.jsonl", number + 1, messages=turns))
        ids = list(one.ids)
        targets = [token if learnt else -100 for token, learnt in zip(one.ids[1:], one.learnt[1:], strict=True)]
        found.append((ids[:-1], targets))
    return found


def teach(model: Any, given: Sequence[tuple[list[int], list[int]]], *, steps: int, rate: float) -> float:
    """AdamW over one row after the other; the last loss, in nats per learnt token."""
    import torch

    from hagane.train.model import logits

    tuned = [one for one in model.parameters() if one.requires_grad]
    optimiser = torch.optim.AdamW(tuned, lr=rate, weight_decay=0.0)
    for step in range(steps):
        ids, targets = given[step % len(given)]
        ids_BT, targets_T = torch.tensor([ids]), torch.tensor(targets)
        logits_TV = logits(model, ids_BT, torch.arange(len(ids))[None], torch.zeros_like(ids_BT))[0]
        loss = torch.nn.functional.cross_entropy(logits_TV, targets_T)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return float(loss.detach())


def adapted(
    base: Path, family: str, folder: Path, questions: Sequence[str], *, steps: int, rate: float, rank: int = 8
) -> Path:
    """A LoRA adapter of `base` in `folder` that was taught the two answers."""
    from hagane.train.model_folder import load_folder
    from hagane.train.tune import Lora, add_adapter, save_adapter

    model = add_adapter(load_folder(base), Lora(rank=rank, alpha=2 * rank), seed=1)
    print(
        f"{family}: loss {teach(model, rows(base, family, questions), steps=steps, rate=rate):.3f} after {steps} steps"
    )
    save_adapter(model, folder)
    return folder
