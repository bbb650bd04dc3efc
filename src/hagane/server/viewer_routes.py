"""The source viewer: a cited place of a document version, shown."""

from __future__ import annotations

from fastapi import APIRouter

router = APIRouter()
