"""Four ways to pre-train the same Llama on the same shards, each in its own loop; one process each.

Run by bench/pretrain.py (CPU seconds) and bench/gpu.py (wall-clock seconds of a GPU).

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
SHAPE = {"vocab": 4096, "width": 128, "depth": 4, "heads": 4, "ffn": 352}  # 1.3 M parameters
WARM_STEPS = 10  # of a GPU run: compiling, filling caches


def shape_of(told: dict[str, Any]) -> dict[str, int]:
    return told.get("shape") or SHAPE


def on_device(told: dict[str, Any], model: torch.nn.Module) -> torch.nn.Module:
    return model.to(told.get("device", "cpu"))


class Clock:
    """Counts training CPU seconds. Speed: blocks until the parent says how many steps are next. Race: evaluates at
    marks, with the clock stopped."""

    def __init__(self, told: dict[str, Any], logits: Callable[[torch.Tensor], torch.Tensor], model: torch.nn.Module) -> None:
        self.told, self.logits, self.model = told, logits, model
        self.n_steps, self.left, self.n_tokens = 0, 0, 0
        self.cpu_s, self.curve = 0.0, []
        self.began = 0.0
        if told["mode"] != "gpu":
            folder = Path(told["folder"])
            self.dev = torch.from_numpy(np.load(folder / "dev.npy").astype(np.int64))
            self.dev_bytes = json.loads((folder / "facts.json").read_text())["dev_bytes"]

    def start(self) -> None:
        """Just before the loop."""
        if self.told["mode"] == "speed":
            self._wait()
        self.began = time.process_time()

    def step(self, n_tokens: int) -> None:
        """After each optimiser step."""
        self.n_steps, self.n_tokens = self.n_steps + 1, self.n_tokens + n_tokens
        if self.told["mode"] == "gpu":
            self._on_gpu()
        elif self.told["mode"] == "speed":
            self.left -= 1
            if self.left == 0:
                say({"cpu_s": time.process_time() - self.began, "tokens": self.n_tokens})
                self.n_tokens = 0
                self._wait()
                self.began = time.process_time()
        elif self.n_steps % max(1, self.told["steps"] // 10) == 0 or self.n_steps == self.told["steps"]:
            self.cpu_s += time.process_time() - self.began
            self.curve.append([self.n_steps, round(self.cpu_s, 2), self.bits_per_byte()])
            self.began = time.process_time()

    def _on_gpu(self) -> None:
        """Wall-clock from the end of the warm-up to the end of the run, with everything that was queued done."""
        if self.n_steps not in (WARM_STEPS, self.told["steps"]):
            return
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        now = time.perf_counter()
        if self.n_steps == WARM_STEPS:
            self.began, self.n_tokens = now, 0
            return
        peak = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
        say({"tokens_per_s": self.n_tokens / (now - self.began), "peak_gb": peak / 1e9, "s": now - self.began})
        os._exit(0)

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

    shape = shape_of(told)
    config = transformers.LlamaConfig(
        vocab_size=shape["vocab"], hidden_size=shape["width"], num_hidden_layers=shape["depth"],
        num_attention_heads=shape["heads"], num_key_value_heads=shape["heads"], intermediate_size=shape["ffn"],
        max_position_embeddings=told["T"], tie_word_embeddings=True, use_cache=False, bos_token_id=None, eos_token_id=None,
        attn_implementation="sdpa",
    )  # fmt: skip
    torch.manual_seed(told["seed"])
    return on_device(told, transformers.LlamaForCausalLM(config).train())


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
    how = shape_of(told)
    shape = Shape(how["vocab"], how["width"], how["depth"], how["heads"], how["heads"], how["ffn"], T)
    model = on_device(told, from_scratch("llama", shape, seed=told["seed"]))

    def all_logits(ids_BT: torch.Tensor) -> torch.Tensor:
        return logits(model, ids_BT, torch.arange(ids_BT.shape[1]).expand_as(ids_BT), torch.zeros_like(ids_BT))

    clock = Clock(told, all_logits, model)
    settings = Settings(
        steps=told["steps"], learning_rate=told["rate"], warmup_steps=WARMUP, optimiser=optimiser, micro_rows=told["B"],
        seed=told["seed"], compile=told["compile"], bf16=told.get("bf16", False), fp8=told.get("fp8", False),
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
        adam_beta2=0.95, max_grad_norm=CLIP, seed=told["seed"], use_cpu=told.get("device", "cpu") == "cpu", bf16=told.get("bf16", False), report_to="none", save_strategy="no",
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

    T, B, shape = told["T"], told["B"], shape_of(told)
    config = Config(
        name="race", block_size=T, vocab_size=shape["vocab"], padded_vocab_size=shape["vocab"], n_layer=shape["depth"],
        n_head=shape["heads"], n_embd=shape["width"], rotary_percentage=1.0, parallel_residual=False, bias=False,
        norm_class_name="RMSNorm", mlp_class_name="LLaMAMLP", intermediate_size=shape["ffn"], norm_eps=1e-6,
    )  # fmt: skip
    precision = "bf16-mixed" if told.get("bf16") else "32-true"
    fabric = L.Fabric(accelerator=told.get("device", "cpu"), devices=1, precision=precision)
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
                yield rows.to(fabric.device)

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
