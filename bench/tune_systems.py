"""LoRA on one base over the same examples, in our loop or TRL's: run by bench/tune.py, one process each.

    PYTHON bench/tune_systems.py '{"system": "hagane", "base": ..., "folder": ..., ...}'

One step of packed systems is one row of T tokens; of TRL at its default as many examples as such a row holds on average.
Speaks like bench/pretrain_systems.py: waits for "go N", then says CPU seconds and real tokens (no padding).
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

os.environ |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "TRANSFORMERS_OFFLINE": "1"}
os.environ |= {"TOKENIZERS_PARALLELISM": "false", "WANDB_DISABLED": "true"}

import numpy as np
import torch

torch.set_num_threads(1)
RANK, ALPHA, RATE, WARMUP = 16, 32, 3e-4, 2
NO_LOSS = -100


class Turns:
    """CPU seconds of `go N` steps, without loading and waiting."""

    def __init__(self, told: dict[str, Any]) -> None:
        self.left, self.n_tokens, self.done, self.steps = 0, 0, 0, told["steps"]
        self.began = 0.0

    def wait(self) -> None:
        line = sys.stdin.readline().split()
        if not line or line[0] == "quit":
            os._exit(0)
        self.left, self.n_tokens, self.began = int(line[1]), 0, time.process_time()

    def step(self, n_tokens: int) -> None:
        self.n_tokens, self.left, self.done = self.n_tokens + n_tokens, self.left - 1, self.done + 1
        if self.left == 0:
            say({"cpu_s": time.process_time() - self.began, "tokens": self.n_tokens})
            if self.done < self.steps:
                self.wait()


def say(what: dict[str, Any]) -> None:
    print(json.dumps(what), flush=True)


def examples_of(told: dict[str, Any]) -> tuple[list[dict[str, list[int]]], list[dict[str, list[int]]]]:
    found = json.loads((Path(told["folder"]) / "examples.json").read_text())
    return found["train"], found["dev"]


def base_of(told: dict[str, Any]) -> torch.nn.Module:
    import transformers

    return transformers.AutoModelForCausalLM.from_pretrained(told["base"], dtype=torch.float32, attn_implementation="sdpa")


@torch.no_grad()
def dev_loss(model: torch.nn.Module, dev: list[dict[str, list[int]]]) -> float:
    """Nats per labelled token, each example by itself, by the plain way for all systems."""
    model.eval()
    total, n = 0.0, 0
    for one in dev:
        labels = torch.tensor(one["labels"])[1:]
        bare = model.get_base_model()
        hidden = bare.model(input_ids=torch.tensor([one["input_ids"]]), use_cache=False, **_whole(bare)).last_hidden_state[0, :-1]
        logits = bare.lm_head(hidden[labels != NO_LOSS]).float()
        total += float(torch.nn.functional.cross_entropy(logits, labels[labels != NO_LOSS], reduction="sum"))
        n += int((labels != NO_LOSS).sum())
    return total / n


def _whole(bare: Any) -> dict[str, Any]:
    if bare.config._attn_implementation != "hagane_packed":
        return {}
    from hagane.train.attention import WHOLE

    return {"pieces": WHOLE}


def hagane(told: dict[str, Any], turns: Turns) -> torch.nn.Module:
    """Ours. `without` names what is switched off: packing, pieces (a 4-D mask instead), head (logits everywhere), lora (peft's layers)."""
    from hagane.train import lora_linear, objectives
    from hagane.train.loop import Event, Settings, train
    from hagane.train.model_folder import load_folder
    from hagane.train.objectives import NextToken
    from hagane.train.pack import best_fit
    from hagane.train.tune import Lora, add_adapter
    from hagane.train.words import NO_DOCUMENT, Batch

    without, T = told.get("without", ()), told["T"]
    train_rows, _ = examples_of(told)
    model = add_adapter(load_folder(Path(told["base"])), Lora(rank=RANK, alpha=ALPHA), seed=1)
    if "lora" in without:
        for one in model.modules():
            if getattr(one.__dict__.get("forward"), "__func__", None) is lora_linear._forward:
                del one.forward
    if "head" in without:
        objectives.NextToken.score = _plain_score  # type: ignore[method-assign]
    if "pieces" in without:
        _with_mask()
    lengths = [len(one["input_ids"]) for one in train_rows]
    rows = [sorted(row) for row in best_fit(lengths, T)]
    if "packing" in without:
        n = told["per_step"]
        rows = [[at] for at in range(len(train_rows) // n * n)]
        T = max(lengths)

    def filled(row: list[int]) -> tuple[np.ndarray, ...]:
        ids, targets = np.zeros(T, np.int64), np.full(T, NO_LOSS, np.int64)
        owner, places = np.full(T, NO_DOCUMENT, np.int32), np.arange(T)
        at = 0
        for n, number in enumerate(row):
            one = train_rows[number]
            end = at + len(one["input_ids"])
            ids[at:end], owner[at:end], places[at:end] = one["input_ids"], n, np.arange(end - at)
            targets[at : end - 1] = one["labels"][1:]
            at = end
        return ids, targets, owner, places

    class Feed:
        def batch(self, step: int) -> Batch:
            n = told["per_step"] if "packing" in without else 1
            picked = [rows[(step * n + at) % len(rows)] for at in range(n)]
            parts = [np.stack(part) for part in zip(*(filled(row) for row in picked), strict=True)]
            if "packing" in without:
                width = max(lengths[row[0]] for row in picked)
                parts = [part[:, :width] for part in parts]
            return Batch(*parts, step=step)

        def state(self, step: int) -> tuple[int, int, int]:
            return (0, 0, step)

        def documents(self, step: int, row: int) -> list[str]:
            return []

    settings = Settings(
        steps=told["steps"], learning_rate=RATE, warmup_steps=WARMUP, optimiser="adamw", weight_decay=0.0, micro_rows=8, seed=1
    )

    def watch(event: Event) -> None:
        if event.kind == "step":
            turns.step(int(event.values["tokens"]))

    turns.wait()
    train(model, NextToken(), Feed(), settings, watch=watch)
    return model


def _plain_score(self: Any, model: Any, micro: Any) -> Any:
    """Logits of every position, as before fused heads."""
    from hagane.train.model import logits
    from hagane.train.objectives import Scored

    all_BTV = logits(model, micro.ids_BT, micro.positions_BT, micro.documents_BT)
    return Scored(torch.nn.functional.cross_entropy(all_BTV.flatten(0, 1), micro.targets_BT.flatten(), reduction="sum"))


def _with_mask() -> None:
    """Packed attention by one 4-D mask over the whole row."""
    from functools import lru_cache

    from hagane.train import attention

    @lru_cache(maxsize=4)
    def mask(pieces: Any, T: int, window: int | None) -> torch.Tensor:
        owner, at = torch.full((1, T), -1), torch.arange(T)
        for n, piece in enumerate(pieces):
            owner[0, piece.start : piece.end] = n
        may = attention.mask_of(owner)
        return may if window is None else may & (at[:, None] - at < window)

    def masked(q: Any, k: Any, v: Any, pieces: Any, how: dict[str, Any]) -> torch.Tensor:
        may = mask(pieces.pieces, q.shape[2], how["window"])
        k, v = (x.repeat_interleave(q.shape[1] // k.shape[1], dim=1) for x in (k, v))
        return torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=may, scale=how["scaling"]).transpose(1, 2)

    attention._apart = masked


def trl(told: dict[str, Any], turns: Turns) -> torch.nn.Module:
    """TRL's SFTTrainer: best (packing, no gradient checkpointing, fp32) or default (what SFTConfig says)."""
    import transformers
    from datasets import Dataset
    from peft import LoraConfig
    from trl import SFTConfig, SFTTrainer

    train_rows, _ = examples_of(told)
    torch.manual_seed(1)
    best = told["system"] == "trl-best"
    how: dict[str, Any] = {"packing": True, "gradient_checkpointing": False, "bf16": False} if best else {}
    arguments = SFTConfig(
        output_dir=str(Path(told["folder"]) / "trl"), max_length=told["T"], max_steps=told["steps"], learning_rate=RATE,
        per_device_train_batch_size=1 if best else told["per_step"], warmup_steps=WARMUP, use_cpu=True, report_to="none",
        save_strategy="no", disable_tqdm=True, seed=1, **how,
    )  # fmt: skip
    tokenizer = transformers.AutoTokenizer.from_pretrained(told["base"])
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token

    class Watch(transformers.TrainerCallback):
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            turns.wait()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            turns.step(counted.pop(0))

    trainer = SFTTrainer(
        model=base_of(told), args=arguments, train_dataset=Dataset.from_list(train_rows), processing_class=tokenizer,
        peft_config=LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules="all-linear", task_type="CAUSAL_LM"), callbacks=[Watch()],
    )  # fmt: skip
    counted: list[int] = []
    real = trainer.training_step

    def counting(model: Any, inputs: dict[str, Any], *rest: Any, **named: Any) -> Any:
        mask = inputs.get("attention_mask")
        counted.append(int(mask.sum()) if mask is not None else inputs["input_ids"].numel())
        return real(model, inputs, *rest, **named)

    trainer.training_step = counting  # type: ignore[method-assign]
    trainer.train()
    return trainer.accelerator.unwrap_model(trainer.model)


def main() -> None:
    told = json.loads(sys.argv[1])
    turns = Turns(told)
    model = (trl if told["system"].startswith("trl") else hagane)(told, turns)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    loss = dev_loss(model.float(), examples_of(told)[1])
    say({"peak_mb": round(peak), "dev_loss": round(loss, 4)})


if __name__ == "__main__":
    main()
