"""The starter reader: Gemma 3 270M taught to read Japanese passages and to answer shortly, or to be silent.

    python recipes/starter_reader/train.py JAQUAD RUN --steps 440

JAQUAD: the folder with `train`. RUN: checkpoints, log.jsonl and, at the end and at --curve steps, adapters; a run that
was killed goes on. One step is one row of 2,048 tokens, some 25 questions. About 15 s a step on one core.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch
import transformers
from rows import Feed
from tokenizers import Tokenizer

from hagane.models.catalog import find
from hagane.models.gguf import read_header
from hagane.train.gguf_tokenizer import from_gguf, write_tokenizer
from hagane.train.loop import Event, Run, Settings
from hagane.train.model_folder import load_folder
from hagane.train.objectives import NextToken
from hagane.train.tune import Lora, add_adapter, save_adapter

BASE = "gemma3-270m"


def base_folder(folder: Path) -> Path:
    """The base as a folder of safetensors, de-quantised from its package's GGUF file once."""
    if (folder / "model.safetensors").is_file():
        return folder
    file = find(BASE)
    loaded = transformers.AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
    settings = {name: value for name, value in loaded.config.to_dict().items() if name != "quantization_config"}
    plain = transformers.Gemma3ForCausalLM(transformers.Gemma3TextConfig(**settings))
    plain.load_state_dict(loaded.state_dict())  # the loaded one counts as quantised and refuses to be saved
    plain.save_pretrained(folder)
    write_tokenizer(read_header(file).values, folder)
    return folder


def to_ids_of(file: Path):
    """Text to token ids exactly as llama.cpp makes them, without the mark of the beginning."""
    table = from_gguf(read_header(file).values)
    table.pop("hagane_why")
    tokenizer = Tokenizer.from_str(json.dumps(table))
    known: dict[str, list[int]] = {}

    def to_ids(text: str) -> list[int]:
        if text not in known:
            if len(known) > 200_000:
                known.clear()
            known[text] = tokenizer.encode(text, add_special_tokens=False).ids
        return known[text]

    return to_ids


def main() -> None:
    say = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    say.add_argument("jaquad", type=Path)
    say.add_argument("run", type=Path)
    say.add_argument("--steps", type=int, default=440)
    say.add_argument("--rate", type=float, default=5e-4)
    say.add_argument("--rank", type=int, default=16)
    say.add_argument("--above", type=int, default=6, help="blocks at the bottom that are left as they are")
    say.add_argument("--tokens", type=int, default=2048, help="tokens of a row")
    say.add_argument("--seed", type=int, default=1)
    say.add_argument("--threads", type=int, default=1)
    say.add_argument("--decay", type=float, default=0.25)
    say.add_argument("--curve", type=int, nargs="*", default=[], help="steps at which the adapter is kept")
    given = say.parse_args()
    torch.set_num_threads(given.threads)
    given.run.mkdir(parents=True, exist_ok=True)
    file = find(BASE)
    header = read_header(file).values
    bos, eos = header["tokenizer.ggml.bos_token_id"], header["tokenizer.ggml.eos_token_id"]
    feed = Feed(given.jaquad / "train", to_ids_of(file), T=given.tokens, seed=given.seed, bos=bos, eos=eos)
    lora = Lora(rank=given.rank, alpha=2 * given.rank, above=given.above)
    model = add_adapter(load_folder(base_folder(given.run / "base")), lora, seed=given.seed)
    settings = Settings(
        steps=given.steps, learning_rate=given.rate, warmup_steps=10, decay=given.decay, optimiser="adamw",
        weight_decay=0.0, micro_rows=1, seed=given.seed, save_every=10, keep=2,
    )  # fmt: skip
    log, began, n_answers = given.run / "log.jsonl", time.time(), 0

    def watch(event: Event) -> None:
        nonlocal n_answers
        values = dict(event.values)
        if event.kind == "step":
            n_answers += feed.answers(event.step - 1)
            if event.step in given.curve:
                save_adapter(model, given.run / f"adapter-{event.step}")
        with log.open("a", encoding="utf-8") as out:
            line = {"kind": event.kind, "step": event.step, **values, "answers": n_answers, "s": round(time.time() - began, 1)}
            print(json.dumps(line), file=out)

    run = Run(model, NextToken(), feed, settings, folder=given.run / "checkpoints", watch=watch)
    run.resume()
    done = run.go()
    save_adapter(model, given.run / "adapter")
    print(f"{done.why} after {done.step} steps")


if __name__ == "__main__":
    main()
