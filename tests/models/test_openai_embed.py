"""The embedder over HTTP stays on this machine, whatever the label of a text."""

from __future__ import annotations

import pytest

from hagane.core.errors import RefusedError
from hagane.models.openai_embed import OpenAIEmbedder


@pytest.mark.parametrize(
    "address", ["http://127.0.0.1:8000/v1", "http://127.8.9.10/v1", "https://[::1]:8000/v1", "http://LOCALHOST/v1"]
)
def test_address_on_this_machine_is_taken(address: str) -> None:
    assert OpenAIEmbedder(address=address, model="埋め込み", dim=4).dim == 4


@pytest.mark.parametrize(
    "address",
    [
        "https://api.example.com/v1", "http://192.0.2.1/v1", "http://10.0.0.1/v1", "http://0.0.0.0/v1", "http:///v1",
        "http://127.0.0.1.example.com/v1", "http://localhost.example.com/v1", "http://127.0.0.1@example.com/v1",
        "http://埋め込み.example/v1",
    ],
)  # fmt: skip
def test_address_elsewhere_is_refused_with_a_hint(address: str) -> None:
    with pytest.raises(RefusedError, match="not on this machine") as refused:
        OpenAIEmbedder(address=address, model="埋め込み")
    assert "localhost" in str(refused.value.hint)
