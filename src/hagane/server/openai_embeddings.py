"""POST /v1/embeddings: texts to vectors of the project's embedder, as numbers or base64."""

from __future__ import annotations

import base64
import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from hagane.core.types import Principal
from hagane.project import talk
from hagane.project.wire import Project

from .openai_shapes import ModelId, ParameterError, refuse_unknown

TEXTS = 2048  # in one request, as OpenAI has it


class EmbeddingsBody(BaseModel):
    """POST /v1/embeddings."""

    model_config = ConfigDict(extra="allow", frozen=True)

    model: ModelId
    input: str | Annotated[list[str], Field(min_length=1, max_length=TEXTS)]
    dimensions: int | None = Field(None, ge=1, description="the embedder's own; others are refused")
    encoding_format: Literal["float", "base64"] | None = None
    input_type: Literal["query", "passage"] = Field("passage", description="embedders such as e5 tell questions from passages")


def vectors(project: Project, body: EmbeddingsBody, *, by: Principal) -> bytes:
    """The answer as JSON. Raises: ParameterError, UnknownModelError, UsageError, AuditError, ModelError."""
    refuse_unknown(body.model_extra or {}, frozenset({"user"}), {})
    texts = [body.input] if isinstance(body.input, str) else body.input
    if not all(text.strip() for text in texts):
        raise ParameterError("input", "a text is empty", code="invalid_value")
    if body.dimensions is not None and body.dimensions != (dim := talk.embedding_dim(project)):
        raise ParameterError("dimensions", f"this embedder has {dim}", code="invalid_value", hint=f"leave it out, or say {dim}")
    rows, n_tokens = talk.embed(project, texts, model=body.model, kind=body.input_type, by=by)
    as_text = body.encoding_format == "base64"
    data: list[dict[str, Any]] = [
        {"object": "embedding", "index": n, "embedding": base64.b64encode(row.astype("<f4").tobytes()).decode() if as_text else row.tolist()}
        for n, row in enumerate(rows)
    ]
    usage = {"prompt_tokens": n_tokens, "total_tokens": n_tokens}
    return json.dumps({"object": "list", "model": body.model, "data": data, "usage": usage}).encode()
