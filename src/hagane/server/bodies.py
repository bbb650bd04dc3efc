"""What the page's own API takes: every body refuses fields that it does not know."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Body(BaseModel):
    """Base of all bodies; surrounding white space is no part of a value."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)
