"""The effective hagane.yaml as a tree that a person can read: every key, its value, whether that is the default."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from hagane.core.config import read_yaml
from hagane.core.types import Principal

from .config import FILE, ProjectConfig
from .wire import Project


def settings(project: Project, *, by: Principal) -> dict[str, Any]:
    """{"file", "sections"}: each section has "key", "meaning" and "rows" of {"key", "value", "given", "default",
    "meaning"}. `given`: the file says so; otherwise it is the default. Secrets stand as they are written (env:NAME),
    never as what they point at. Raises: AuditError, ConfigError."""
    project.ledger.audit.record("list", principal=by.name, what="settings")
    written = _plain(read_yaml(project.folder / FILE))
    sections = []
    alone = {"key": "", "meaning": ProjectConfig.__doc__ or "", "rows": []}
    for name, field in ProjectConfig.model_fields.items():
        value, given = getattr(project.config, name), written.get(name)
        if isinstance(value, BaseModel | Mapping | tuple) and not isinstance(value, str):
            rows = list(_rows(name, value, given))
            sections.append({"key": name, "meaning": field.description or "", "rows": rows})
        else:
            alone["rows"].append(_row(name, value, given is not None, field))
    return {"file": FILE, "sections": [alone, *sections]}


def _rows(path: str, value: Any, written: Any) -> Iterator[dict[str, Any]]:
    """The plain values at and below `path`."""
    if isinstance(value, BaseModel):
        for name, field in type(value).model_fields.items():
            inner = getattr(value, name)
            mine = written.get(name) if isinstance(written, Mapping) else None
            if isinstance(inner, BaseModel) or _holds_models(inner):
                yield from _rows(f"{path}.{name}", inner, mine)
            else:
                yield _row(f"{path}.{name}", inner, mine is not None, field)
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _rows(f"{path}.{name}", inner, written.get(name) if isinstance(written, Mapping) else None)
    elif isinstance(value, tuple):
        for at, inner in enumerate(value):
            name = getattr(inner, "name", None) or str(at)
            mine = written[at] if isinstance(written, list) and at < len(written) else None
            yield from _rows(f"{path}[{name}]", inner, mine)


def _holds_models(value: Any) -> bool:
    inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, tuple) else ()
    return any(isinstance(one, BaseModel) for one in inner)


def _row(key: str, value: Any, given: bool, field: Any) -> dict[str, Any]:
    default = None if field.is_required() else field.get_default(call_default_factory=True)
    return {"key": key, "value": _said(value), "given": given, "default": _said(default), "meaning": field.description or ""}


def _said(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple | list):
        return ", ".join(map(str, value)) or "[]"
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {_said(inner)}" for name, inner in value.items()) or "{}"
    return str(value)


def _plain(node: Any) -> Any:
    if isinstance(node, Mapping):
        return {str(key): _plain(value) for key, value in node.items()}
    return [_plain(value) for value in node] if isinstance(node, list) else node
