"""The one OpenAPI document: every route of the API, with the errors that it really gives."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from .access import OPEN, needs
from .errors import ErrorBody

METHODS = ("get", "post", "put", "patch", "delete")
ERRORS = {
    "400": "not understood: the body, a parameter or a header",
    "401": "nobody is signed in, or the token is not valid",
    "403": "not allowed",
    "404": "not there, or not for this caller",
    "409": "the project is not in a state that allows this",
    "413": "the body is too large",
    "415": "the content type is not taken",
    "429": "too often, or too much at once",
    "500": "the server made a mistake",
    "502": "the model failed",
    "503": "the server is busy",
    "507": "the disk is full or damaged",
}
FOREIGN = "422"  # the framework's own shape, which never leaves here


def describe(app: FastAPI) -> dict[str, Any]:
    """The document, made once per application."""
    made: dict[str, Any] | None = getattr(app.state, "openapi", None)
    if made is None:
        made = app.state.openapi = _describe(app)
    return made


def _describe(app: FastAPI) -> dict[str, Any]:
    document = get_openapi(title=app.title, version=app.version, routes=app.routes, description="What the page and other programs use.")
    parts = document.setdefault("components", {})
    schemas = parts.setdefault("schemas", {})
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    error = ErrorBody.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas |= error.pop("$defs", {})
    schemas["ErrorBody"] = error
    parts["securitySchemes"] = {
        "token": {"type": "http", "scheme": "bearer", "description": "an API token"},
        "session": {"type": "apiKey", "in": "cookie", "name": "hagane_session", "description": "the page; changes need X-CSRF-Token, too"},
    }
    needed = {(route.path_format, method.lower()): need for route, need in needs(app) for method in route.methods}
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorBody"}}}
    for path, operations in document.get("paths", {}).items():
        for method, operation in operations.items():
            if method not in METHODS:
                continue
            answers = operation.setdefault("responses", {})
            answers.pop(FOREIGN, None)
            for status, said in ERRORS.items():
                answers.setdefault(status, {"description": said, "content": content})
            need = needed[path, method]
            operation["security"] = [] if need == OPEN else [{"token": []}, {"session": []}]
            operation["x-needs"] = need
    return document
