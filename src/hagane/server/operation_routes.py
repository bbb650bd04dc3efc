"""For whoever runs it: health, readiness, metrics, jobs, settings."""

from __future__ import annotations

from fastapi import APIRouter

router = APIRouter()
