"""The OpenAI-compatible API: chat completions, responses, embeddings, models."""

from __future__ import annotations

from fastapi import APIRouter

router = APIRouter()
