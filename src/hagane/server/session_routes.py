"""Signing in and out: first set-up, password, second factor, single sign-on."""

from __future__ import annotations

from fastapi import APIRouter

router = APIRouter()
