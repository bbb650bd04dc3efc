"""Models: embedders, chat models and their files. A backend is one file; tables hold names, loaded late."""

from __future__ import annotations

EMBEDDERS = {
    "e5-small": "hagane.models.e5:E5Small",
    "hf": "hagane.models.hf_embed:HfEmbedder",
    "openai": "hagane.models.openai_embed:OpenAIEmbedder",
    "fake": "hagane.models.fake:HashEmbedder",
}

CHAT_MODELS = {
    "llama-cpp": "hagane.models.llama_cpp:LlamaCpp",
    "openai": "hagane.models.openai_chat:OpenAIChat",
    "fake": "hagane.models.fake:FakeChat",
}
