"""The page's documents: upload, status, labels, versions, sources."""

from __future__ import annotations

from fastapi import APIRouter

router = APIRouter()
