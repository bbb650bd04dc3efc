"""For officers: audit, label requests, who may see what."""

from __future__ import annotations

from fastapi import APIRouter

router = APIRouter()
