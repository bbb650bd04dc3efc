"""hagane.yaml to typed, frozen values; unknown keys refused with file and line; secrets only as env:NAME.

Each room owns its `...Config(Config)` with one description per field; `hagane.project` composes them.
Round trips keep comments (ruamel.yaml).
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.reader import ReaderError

from .errors import ConfigError, nearest


class Config(BaseModel):
    """Base of every room's configuration: frozen, nothing unknown, defaults in one place."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _empty_means_default(cls, given: Any) -> Any:
        """`sources:` with nothing behind it, as one leaves it after taking out the last entry."""
        if not isinstance(given, Mapping):
            return given
        spared = {name for name, field in cls.model_fields.items() if not field.is_required()}
        return {key: value for key, value in given.items() if value is not None or key not in spared}


C = TypeVar("C", bound=Config)


def yaml() -> YAML:
    """The one YAML dialect of the house: 1.2, round trip, no duplicate keys."""
    tool = YAML(typ="rt")
    tool.preserve_quotes = True
    tool.width = 4096
    tool.indent(mapping=2, sequence=4, offset=2)
    return tool


def read_yaml(path: Path) -> Any:
    """The file as ruamel's commented tree. Raises: ConfigError with file and line."""
    text = ""
    try:
        text = path.read_text(encoding="utf-8-sig")
        tree = yaml().load(text)
    except FileNotFoundError as cause:
        raise ConfigError(f"{path} does not exist", hint="hagane init makes a project here") from cause
    except MarkedYAMLError as cause:
        line = cause.problem_mark.line + 1 if cause.problem_mark else 1
        raise ConfigError(f"{path}:{line}: {cause.problem or 'not YAML'}", hint="mend that line") from cause
    except ReaderError as cause:
        line = text.count("\n", 0, cause.position) + 1
        raise ConfigError(f"{path}:{line}: a control character stands there", hint="take it out") from cause
    except (OSError, UnicodeError) as cause:
        raise ConfigError(f"{path} cannot be read: {type(cause).__name__}") from cause
    except (YAMLError, ValueError, RecursionError) as cause:
        raise ConfigError(f"{path} is not YAML: {type(cause).__name__}", hint="see docs/reference/config.md") from cause
    if not isinstance(tree, Mapping):
        raise ConfigError(f"{path}:1: a project file is a mapping", hint="begin with: version: 1")
    return tree


def write_yaml(tree: Any, path: Path) -> None:
    """Replace `path` by ruamel's tree, comments kept: the old file or the new one, whenever it ends. Raises: ConfigError."""
    new = path.with_name(f".{path.name}.new")
    try:
        with open(new, "w", encoding="utf-8") as out:
            yaml().dump(tree, out)
            out.flush()
            os.fsync(out.fileno())
        os.replace(new, path)
    except OSError as cause:
        new.unlink(missing_ok=True)
        raise ConfigError(f"{path} cannot be written: {cause.strerror}", hint="check space and rights") from cause


def parse(model: type[C], tree: Any, *, path: Path) -> C:
    """`tree` as `model`. Raises: ConfigError naming file, line, key, value and what would be right."""
    try:
        return model.model_validate(_plain(tree))
    except ValidationError as cause:
        first = cause.errors(include_url=False)[0]
        raise _explain(first, model, tree, path) from cause


def _plain(node: Any) -> Any:
    if isinstance(node, Mapping):
        return {str(key): _plain(value) for key, value in node.items()}
    if isinstance(node, Sequence) and not isinstance(node, str | bytes):
        return [_plain(value) for value in node]
    return node


def line_of(tree: Any, where: Sequence[Any]) -> int:
    """The line, counted from 1, of the key or item at `where` in ruamel's tree."""
    line = 0
    node = tree
    for key in where:
        marks = getattr(node, "lc", None)
        try:
            line = marks.key(key)[0] if isinstance(node, Mapping) else marks.item(key)[0]
            node = node[key]
        except (KeyError, IndexError, TypeError, AttributeError):
            break
    return line + 1


def _known_keys(model: type[BaseModel], where: Sequence[Any]) -> list[str]:
    """The field names that may stand beside the last key of `where`."""
    current: Any = model
    for key in where[:-1]:
        if isinstance(key, int) or not (isinstance(current, type) and issubclass(current, BaseModel)):
            continue
        field = current.model_fields.get(str(key))
        if field is None:
            return []
        inner = [a for a in (field.annotation, *getattr(field.annotation, "__args__", ())) if isinstance(a, type)]
        current = next((a for a in inner if issubclass(a, BaseModel)), None)
    return list(current.model_fields) if isinstance(current, type) and issubclass(current, BaseModel) else []


def _explain(error: Any, model: type[BaseModel], tree: Any, path: Path) -> ConfigError:
    where = list(error["loc"])
    dotted = ".".join(str(part) for part in where)
    line = line_of(tree, where)
    if error["type"] == "extra_forbidden":
        known = _known_keys(model, where)
        close = nearest(str(where[-1]), known)
        hint = f"did you mean {close!r}?" if close else (f"known keys: {', '.join(known)}" if known else None)
        return ConfigError(f"{path}:{line}: unknown key {dotted}", hint=hint)
    message = error["msg"].removeprefix("Value error, ")
    return ConfigError(f"{path}:{line}: {dotted}: {message}", hint="see docs/reference/config.md")


def secret(value: str, *, key: str) -> str:
    """The secret that `env:NAME` points at. Raises: ConfigError when written in the open or unset."""
    if not value.startswith("env:"):
        raise ConfigError(f"{key}: a secret may only be written as env:NAME", hint="export it and write env:NAME")
    name = value[4:]
    found = os.environ.get(name)
    if not found:
        raise ConfigError(f"{key}: the environment variable {name} is not set", hint=f"export {name}=...")
    return found
