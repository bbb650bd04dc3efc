"""The reference of the parity gate: a Hugging Face folder in transformers, fp32, greedy, one token after the other.

Legend: T tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
import transformers

from ..core.errors import ModelError, RefusedError
from .model_folder import check_folder, read_json
from .parity import Reference, Said


def reference_of(folder: Path, *, adapter: Path | None = None) -> Reference:
    """The model of `folder`, with a LoRA adapter on it when one is given. Raises: what `check_folder` raises."""
    check_folder(folder)
    model = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, use_safetensors=True, local_files_only=True
    ).eval()
    if adapter is not None:
        from .tune import load_adapter

        model = load_adapter(model, adapter).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    ends = ends_of(folder, tokenizer)

    def tokens(text: str) -> list[int]:
        return list(tokenizer(text, add_special_tokens=False).input_ids)

    def text(ids: Sequence[int]) -> str:
        return tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)

    def say(ids: Sequence[int], n_tokens: int) -> Said:
        return _say(model, list(ids), n_tokens, ends, text)

    @torch.inference_mode()
    def loss(ids: Sequence[int], targets: Sequence[int]) -> float:
        places = [place for place, target in enumerate(targets) if target >= 0]
        logits_TV = model(torch.tensor([list(ids)]), use_cache=False).logits[0, places].float()
        wanted = torch.tensor([targets[place] for place in places], dtype=torch.long)
        return float(torch.nn.functional.cross_entropy(logits_TV, wanted, reduction="sum"))

    return Reference(tokens, say, text, loss)


def rendered(folder: Path, questions: Sequence[str], *, chat: bool) -> list[str]:
    """Each question as the model reads it: through the folder's chat template, or as plain text behind what every text
    begins with. Raises: ModelError for a folder without a chat template that is to chat."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    if not chat:
        none = tokenizer("").input_ids
        return [tokenizer.decode(none) + question for question in questions]
    if not tokenizer.chat_template:
        raise ModelError(f"{folder.name} has no chat template", hint="name its family: template in train.yaml")
    return [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": question}], tokenize=False, add_generation_prompt=True
        )
        for question in questions
    ]


def tokens_of(folder: Path, questions: Sequence[str]) -> list[list[int]]:
    """Token ids of plain texts, as the folder's tokenizer makes them."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    return [list(tokenizer(question).input_ids) for question in questions]


def check_ends(folder: Path) -> None:
    """Raises: RefusedError for a chat template behind whose answers no token stands that ends the model's turn: a model
    served with it would never stop."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    if not tokenizer.chat_template:
        return
    turns = [{"role": "user", "content": "有給休暇は何日ですか。"}, {"role": "assistant", "content": "二十日です。"}]
    text = tokenizer.apply_chat_template(turns, tokenize=False)
    behind = list(tokenizer(text.rpartition("二十日です。")[2], add_special_tokens=False).input_ids)
    if not ends_of(folder, tokenizer) & set(behind[:1]):
        raise RefusedError(
            "the chat template never ends a turn: behind an answer stands no token that ends it",
            hint="the end of turn belongs behind every answer, and into eos_token_id of generation_config.json",
        )


def ends_of(folder: Path, tokenizer: object) -> frozenset[int]:
    """Every token that ends an answer: of generation_config.json, and the tokenizer's."""
    file = folder / "generation_config.json"
    said = read_json(file).get("eos_token_id") if file.is_file() else None
    own = getattr(tokenizer, "eos_token_id", None)
    return frozenset(n for n in [own, *(said if isinstance(said, list) else [said])] if isinstance(n, int))


@torch.inference_mode()
def _say(model: torch.nn.Module, prompt: list[int], n_tokens: int, ends: frozenset[int], text: object) -> Said:
    ids: list[int] = []
    margins: list[float] = []
    held, given = None, prompt
    while len(ids) < n_tokens:
        out = model(torch.tensor([given]), past_key_values=held, use_cache=True)
        held = out.past_key_values
        best = torch.topk(out.logits[0, -1].float(), 2)
        ids.append(int(best.indices[0]))
        margins.append(float(best.values[0] - best.values[1]))
        if ids[-1] in ends:
            return Said(text(ids[:-1]), True, tuple(ids), tuple(margins))
        given = [ids[-1]]
    return Said(text(ids), False, tuple(ids), tuple(margins))
