"""Which addresses are on this machine: the only ones a model may have until destinations have ceilings."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from ..core.errors import ConfigError, RefusedError


def check_address(address: str, *, key: str, gets: str) -> str:
    """The host of `address`. `key` names the line of hagane.yaml, `gets` what would be sent there.
    Raises: ConfigError for no http address, RefusedError for one that is not on this machine."""
    try:
        parts = urlsplit(address)
        host, _ = parts.hostname or "", parts.port
    except ValueError as cause:
        raise ConfigError(f"{key} {address!r} is no http address") from cause
    if parts.scheme not in ("http", "https"):
        raise ConfigError(f"{key} {address!r} is no http address")
    if not on_this_machine(host):
        raise RefusedError(
            f"{key} {address!r} is not on this machine; it would get {gets} of every label",
            hint="use 127.0.0.1, ::1 or localhost; a later version compares labels with destinations",
        )
    return host


def on_this_machine(host: str) -> bool:
    """True for localhost and loopback addresses."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
