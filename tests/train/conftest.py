"""What the tests of the room share: two small tokenizers, trained once."""

from __future__ import annotations

from pathlib import Path

import japanese_sentences
import pytest

from hagane.core.labels import Label

HR = Label.parse("confidential:hr")
N_TOKENS = 1500


@pytest.fixture(scope="session")
def spm(tmp_path_factory) -> Path:
    """SentencePiece BPE with the Llama family's marks."""
    pytest.importorskip("sentencepiece", reason="needs the extra train")
    from hagane.train.template import family
    from hagane.train.tokenizer import train_sentencepiece

    folder = tmp_path_factory.mktemp("spm")
    train_sentencepiece(
        japanese_sentences.texts(), folder, kind=family("llama"), n_tokens=N_TOKENS, label=HR, coverage=0.98
    )
    return folder


@pytest.fixture(scope="session")
def byte_bpe(tmp_path_factory) -> Path:
    """Byte-level BPE with Qwen2's regex and the Qwen family's marks."""
    from hagane.train.template import family
    from hagane.train.tokenizer import train_byte_bpe

    folder = tmp_path_factory.mktemp("byte")
    train_byte_bpe(japanese_sentences.texts(), folder, kind=family("qwen"), n_tokens=N_TOKENS, label=HR)
    return folder
