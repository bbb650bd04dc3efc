"""The page's chat: conversations, questions, answers as they are sure, feedback."""

from __future__ import annotations

from fastapi import APIRouter

router = APIRouter()
