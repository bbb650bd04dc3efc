"""Names to objects, loaded late: a table holds "module:Class" strings, so nothing heavy loads until used.

Foreign packages add backends through the entry point group `hagane.<seam>` (same door as our own).
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import Any

from .errors import ConfigError, MissingExtraError, nearest


def load(table: Mapping[str, str], name: str, *, what: str, extra: str | None = None) -> Any:
    """The class or function that `name` stands for in `table` or among the entry points `hagane.<what>`.

    Raises: ConfigError for an unknown name, MissingExtraError when its package is not installed.
    """
    target = table.get(name)
    if target is None:
        foreign = {point.name: point.value for point in entry_points(group=f"hagane.{what}")}
        target = foreign.get(name)
    if target is None:
        close = nearest(name, table)
        raise ConfigError(
            f"{what} {name!r} is not one of {', '.join(sorted(table))}",
            hint=f"did you mean {close!r}?" if close else None,
        )
    module, _, attribute = target.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as cause:
        missing = (cause.name or "").partition(".")[0]
        if missing in ("", "hagane"):
            raise
        raise MissingExtraError(
            f"{what} {name!r} needs the package {missing!r}, which is not installed",
            hint=f"pip install 'hagane[{extra}]'" if extra else f"pip install {missing}",
        ) from cause
