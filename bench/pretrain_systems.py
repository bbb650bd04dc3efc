"""Four ways to pre-train the same Llama on the same shards, each in its own loop: run by bench/pretrain.py, one process each.

    PYTHON bench/pretrain_systems.py '{"system": "hagane", "folder": ..., ...}'

Every loop calls `Clock.step` after each step and knows nothing else of the race. CPU seconds are those of this process
(one thread), without loading, without evaluation, without waiting for its turn.
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "WANDB_DISABLED": "true"}

import numpy as np
import torch

torch.set_num_threads(1)
WARMUP, WEIGHT_DECAY, CLIP = 10, 0.1, 1.0
SHAPE = {"vocab": 4096, "width": 128, "depth": 4, "heads": 4, "ffn": 352}


class Clock:
    """Counts training CPU seconds. Speed: blocks until the parent says how many steps are next. Race: evaluates at
    marks, with the clock stopped."""

    def __init__(self, told: dict[str, Any], logits: Callable[[torch.Tensor], torch.Tensor], model: torch.nn.Module) -> None:
        self.told, self.logits, self.model = told, logits, model
        self.n_steps, self.left, self.n_tokens = 0, 0, 0
        self.cpu_s, self.curve = 0.0, []
        dev = np.load(Path(told["folder"]) / "dev.npy")
        self.dev, self.dev_bytes = torch.from_numpy(dev.astype(np.int64)), json.loads((Path(told["folder"]) / "facts.json").read_text())["dev_bytes"]
        self.began = 0.0

    def start(self) -> None:
        """Just before the loop."""
        if self.told["mode"] == "speed":
            self._wait()
        self.began = time.process_time()

    def step(self, n_tokens: int) -> None:
        """After each optimiser step."""
        self.n_steps, self.n_tokens = self.n_steps + 1, self.n_tokens + n_tokens
        if self.told["mode"] == "speed":
            self.left -= 1
            if self.left == 0:
                say({"cpu_s": time.process_time() - self.began, "tokens": self.n_tokens})
                self.n_tokens = 0
                self._wait()
                self.began = time.process_time()
            return
        if self.n_steps % max(1, self.told["steps"] // 10) == 0 or self.n_steps == self.told["steps"]:
            self.cpu_s += time.process_time() - self.began
            self.curve.append([self.n_steps, round(self.cpu_s, 2), self.bits_per_byte()])
            self.began = time.process_time()

    def _wait(self) -> None:
        line = sys.stdin.readline().split()
        if not line or line[0] == "quit":
            sys.stdout.flush()
            os._exit(0)
        self.left = int(line[1])

    @torch.no_grad()
    def bits_per_byte(self) -> float:
        """Every window of held-out text by itself."""
        training = self.model.training
        self.model.eval()
        total = 0.0
        for rows in self.dev.split(16):
            logits = self.logits(rows[:, :-1])
            total += float(torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), rows[:, 1:].flatten(), reduction="sum"))
        self.model.train(training)
        return round(total / math.log(2) / self.dev_bytes, 4)


def say(what: dict[str, Any]) -> None:
    print(json.dumps(what), flush=True)


def tokens_of(told: dict[str, Any]) -> np.ndarray:
    """The shards' tokens in one stream, as loops without documents read them."""
    return np.load(Path(told["folder"]) / "tokens.npy", mmap_mode="r")


def windows(told: dict[str, Any]) -> Iterator[torch.Tensor]:
    """(B, T + 1) rows of the stream, all once in an order drawn by the seed, then again."""
    stream, T, draw = tokens_of(told), told["T"], np.random.default_rng(told["seed"])
    n = (len(stream) - 1) // T
    waiting: list[int] = []
    while True:
        while len(waiting) < told["B"]:
            waiting += draw.permutation(n).tolist()
        rows, waiting = waiting[: told["B"]], waiting[told["B"] :]
        yield torch.from_numpy(np.stack([stream[row * T : row * T + T + 1] for row in rows]).astype(np.int64))


def llama(told: dict[str, Any]) -> torch.nn.Module:
    """The class of transformers, tied, fp32, as all but litgpt take it."""
    import transformers

    config = transformers.LlamaConfig(
        vocab_size=SHAPE["vocab"], hidden_size=SHAPE["width"], num_hidden_layers=SHAPE["depth"],
        num_attention_heads=SHAPE["heads"], num_key_value_heads=SHAPE["heads"], intermediate_size=SHAPE["ffn"],
        max_position_embeddings=told["T"], tie_word_embeddings=True, use_cache=False, bos_token_id=None, eos_token_id=None,
        attn_implementation="sdpa",
    )  # fmt: skip
    torch.manual_seed(told["seed"])
    return transformers.LlamaForCausalLM(config).train()


def hagane(told: dict[str, Any], *, optimiser: str = "muon") -> Clock:
    """Ours: packed rows, documents apart; Muon and warm-up, stable, decay are the defaults."""
    from hagane.train.feed import ShardFeed
    from hagane.train.loader import Loader
    from hagane.train.loop import Event, Settings, train
    from hagane.train.model import from_scratch, logits
    from hagane.train.objectives import NextToken
    from hagane.train.pack import plan_rows
    from hagane.train.scaling import Shape
    from hagane.train.shard_set import ShardSet

    folder, T = Path(told["folder"]), told["T"]
    shards = ShardSet(folder / "train")
    feed = ShardFeed(Loader(shards, plan_rows(shards, folder / f"rows-{T}", T=T, seed=0), batch=told["B"]), seed=told["seed"])
    shape = Shape(SHAPE["vocab"], SHAPE["width"], SHAPE["depth"], SHAPE["heads"], SHAPE["heads"], SHAPE["ffn"], T)
    model = from_scratch("llama", shape, seed=told["seed"])

    def all_logits(ids_BT: torch.Tensor) -> torch.Tensor:
        return logits(model, ids_BT, torch.arange(ids_BT.shape[1]).expand_as(ids_BT), torch.zeros_like(ids_BT))

    clock = Clock(told, all_logits, model)
    settings = Settings(
        steps=told["steps"], learning_rate=told["rate"], warmup_steps=WARMUP, optimiser=optimiser, micro_rows=told["B"],
        seed=told["seed"], compile=told["compile"],
    )  # fmt: skip

    def watch(event: Event) -> None:
        if event.kind == "step":
            clock.step(int(event.values["tokens"]))

    clock.start()
    train(model, NextToken(), feed, settings, watch=watch)
    return clock


def hagane_adamw(told: dict[str, Any]) -> Clock:
    """Ours with the optimiser of the others."""
    return hagane(told, optimiser="adamw")


def nanogpt(told: dict[str, Any]) -> Clock:
    """The plain loop that people copy from nanoGPT: random crops, AdamW with decay on matrices, cosine to a tenth."""
    model = llama(told)
    decay = [one for one in model.parameters() if one.dim() >= 2]
    rest = [one for one in model.parameters() if one.dim() < 2]
    groups = [{"params": decay, "weight_decay": WEIGHT_DECAY}, {"params": rest, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=told["rate"], betas=(0.9, 0.95), fused=True)
    run = torch.compile(model) if told["compile"] else model
    clock = Clock(told, lambda ids: model(input_ids=ids).logits, model)
    stream, T, draw = tokens_of(told), told["T"], np.random.default_rng(told["seed"])
    clock.start()
    for step in range(told["steps"]):
        for group in optimiser.param_groups:
            group["lr"] = told["rate"] * cosine(step, told["steps"])
        places = draw.integers(0, len(stream) - T, told["B"])
        rows = torch.from_numpy(np.stack([stream[at : at + T + 1] for at in places]).astype(np.int64))
        logits = run(input_ids=rows[:, :-1]).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        clock.step(told["B"] * T)
    return clock


def cosine(step: int, steps: int) -> float:
    if step < WARMUP:
        return (step + 1) / (WARMUP + 1)
    return 0.1 + 0.45 * (1 + math.cos(math.pi * (step - WARMUP) / max(1, steps - WARMUP)))


def hf_trainer(told: dict[str, Any]) -> Clock:
    """transformers' Trainer with its AdamW and its cosine."""
    import transformers

    model, B, T = llama(told), told["B"], told["T"]
    stream = tokens_of(told)
    n = len(stream) // T

    class Rows(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return n

        def __getitem__(self, row: int) -> dict[str, torch.Tensor]:
            ids = torch.from_numpy(stream[row * T : row * T + T].astype(np.int64))
            return {"input_ids": ids, "labels": ids}

    clock = Clock(told, lambda ids: model(input_ids=ids).logits, model)

    class Watch(transformers.TrainerCallback):
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            clock.start()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            clock.step(B * T)

    arguments = transformers.TrainingArguments(
        output_dir=str(Path(told["folder"]) / "hf"), per_device_train_batch_size=B, max_steps=told["steps"],
        learning_rate=told["rate"], lr_scheduler_type="cosine", warmup_steps=WARMUP, weight_decay=WEIGHT_DECAY,
        adam_beta2=0.95, max_grad_norm=CLIP, seed=told["seed"], use_cpu=True, report_to="none", save_strategy="no",
        logging_steps=50, disable_tqdm=True, torch_compile=told["compile"], optim="adamw_torch_fused",
    )  # fmt: skip
    trainer = transformers.Trainer(model=model, args=arguments, train_dataset=Rows(), callbacks=[Watch()])
    trainer.remove_callback(transformers.trainer_callback.PrinterCallback)
    trainer.train()
    return clock


def litgpt(told: dict[str, Any]) -> Clock:
    """litgpt's model, loss, learning rate and loop (`litgpt.pretrain.fit`), called with our rows."""
    import lightning as L
    from litgpt import GPT, Config
    from litgpt import pretrain as theirs
    from litgpt.args import EvalArgs, TrainArgs

    T, B = told["T"], told["B"]
    config = Config(
        name="race", block_size=T, vocab_size=SHAPE["vocab"], padded_vocab_size=SHAPE["vocab"], n_layer=SHAPE["depth"],
        n_head=SHAPE["heads"], n_embd=SHAPE["width"], rotary_percentage=1.0, parallel_residual=False, bias=False,
        norm_class_name="RMSNorm", mlp_class_name="LLaMAMLP", intermediate_size=SHAPE["ffn"], norm_eps=1e-6,
    )  # fmt: skip
    fabric = L.Fabric(accelerator="cpu", devices=1, precision="32-true")
    fabric.print = lambda *_, **__: None  # type: ignore[method-assign]
    fabric.log_dict = lambda *_, **__: None  # type: ignore[method-assign]
    fabric.seed_everything(told["seed"], verbose=False)
    model = GPT(config)
    theirs.initialize_weights(fabric, model, n_layer=config.n_layer, n_embd=config.n_embd)
    model.lm_head.weight = model.transformer.wte.weight
    plain = model
    model = fabric.setup(torch.compile(model) if told["compile"] else model)
    optimiser = fabric.setup_optimizers(
        torch.optim.AdamW(model.parameters(), lr=told["rate"], betas=(0.9, 0.95), weight_decay=WEIGHT_DECAY, fused=True)
    )
    clock = Clock(told, plain, plain)

    class Rows:
        """The loop asks for the next batch when a step is done."""

        def __len__(self) -> int:
            return 1 << 30

        def __iter__(self) -> Iterator[torch.Tensor]:
            clock.start()
            for n, rows in enumerate(windows(told)):
                if n:
                    clock.step(B * T)
                yield rows

    theirs.validate = lambda *_, **__: torch.tensor(0.0)
    state = {"model": model, "optimizer": optimiser, "iter_num": 0, "step_count": 0}
    arguments = TrainArgs(
        save_interval=None, log_interval=50, global_batch_size=B, micro_batch_size=B, lr_warmup_steps=WARMUP,
        max_tokens=told["steps"] * B * T, max_norm=CLIP, min_lr=told["rate"] / 10, tie_embeddings=True,
    )  # fmt: skip
    theirs.fit(
        fabric, 1, state, Rows(), None, Path(told["folder"]), None, arguments,
        EvalArgs(interval=1 << 30, initial_validation=False, final_validation=False),
    )  # fmt: skip
    return clock


SYSTEMS = {"hagane": hagane, "hagane-adamw": hagane_adamw, "nanogpt": nanogpt, "hf-trainer": hf_trainer, "litgpt": litgpt}


def main() -> None:
    told = json.loads(sys.argv[1])
    clock = SYSTEMS[told["system"]](told)
    say({"cpu_s": round(clock.cpu_s, 2), "steps": clock.n_steps, "tokens": clock.n_tokens, "bits_per_byte": clock.curve[-1][2], "curve": clock.curve})


if __name__ == "__main__":
    main()
