"""An ear at Python's own audit events: whoever connects, sends or asks for a name beyond loopback is refused.

Installed by conftest.py for all tests, and, through `sitecustomize`, in every process of the journey (law 7).
Native code does not pass here; where the machine allows, the journey runs in a network namespace of its own.
"""

from __future__ import annotations

import ipaddress
import sys
from collections.abc import Callable
from typing import Any

EVENTS = {"socket.connect": 1, "socket.sendto": 1, "socket.sendmsg": 1, "socket.bind": 1}  # position of the address
NAMES = {"socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"}


class OutboundSocket(AssertionError):
    """Something reached for the network."""


def is_local(address: Any) -> bool:
    """True for Unix sockets, loopback addresses and `localhost`; None and "" mean this machine."""
    host = address[0] if isinstance(address, tuple) else None if isinstance(address, str | bytes) else address
    if isinstance(host, bytes):
        host = host.decode("ascii", "replace")
    if host in (None, "", "localhost") or not isinstance(host, str):
        return True
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False


def beyond(event: str, arguments: tuple[Any, ...]) -> Any:
    """The address or name beyond loopback that an audit event speaks of, else None."""
    if event in EVENTS:
        address = arguments[EVENTS[event]]
        return None if is_local(address) else address
    if event in NAMES and not is_local((arguments[0],)):
        return arguments[0]
    return None


def install(tell: Callable[[str], None]) -> None:
    """For the rest of this process: `tell` of each attempt and refuse it. Raises there: OutboundSocket."""

    def hear(event: str, arguments: tuple[Any, ...]) -> None:
        if not event.startswith("socket."):
            return
        found = beyond(event, arguments)
        if found is not None:
            tell(f"{event} {found}")
            raise OutboundSocket(f"{event} {found}: nothing here may leave this machine")

    sys.addaudithook(hear)
