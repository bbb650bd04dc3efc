"""Wrong sign-ins per address, kept in memory: a flood is stopped before it costs anything.

The lock of an account stands in its row. Where someone signed in before, that lock does not hold: otherwise whoever
knows a name could keep its owner out (OWASP, "device cookies"); such an address has its own count of wrong tries.
"""

from __future__ import annotations

import ipaddress
import threading
from collections import OrderedDict
from datetime import datetime, timedelta

WINDOW = timedelta(minutes=10)
ALLOWED = 30  # wrong tries of one address within the window
_KEPT = 20_000  # addresses and pairs remembered
_FREE = 10  # wrong passwords in a row before a delay
_FIRST_S, _LONGEST_S = 30, 900


def delay(failed: int) -> timedelta:
    """How long an account is closed after `failed` wrong passwords in a row: nothing below 10, then 30 s, doubling,
    at most 15 minutes. A guesser gets fewer than 100 tries a day."""
    if failed < _FREE:
        return timedelta()
    return timedelta(seconds=min(_FIRST_S * 2 ** min(failed - _FREE, 10), _LONGEST_S))


class Throttle:
    """Wrong tries by address, and which addresses an account is known at. Thread-safe; forgets the oldest."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._wrong: OrderedDict[str, list[datetime]] = OrderedDict()
        self._known: OrderedDict[tuple[str, str], tuple[int, datetime]] = OrderedDict()  # wrong in a row, closed until

    def closed(self, address: str, at: datetime) -> bool:
        """Whether `address` was wrong too often."""
        with self._lock:
            return bool(address) and len(self._recent(_network(address), at)) >= ALLOWED

    def wrong(self, address: str, user: str | None, at: datetime) -> None:
        """A wrong try from `address`, at the account `user` if there is one."""
        if not address:
            return
        with self._lock:
            key = _network(address)
            _put(self._wrong, key, [*self._recent(key, at), at])
            if user is not None and (pair := (user, key)) in self._known:
                failed = self._known[pair][0] + 1
                _put(self._known, pair, (failed, at + delay(failed)))

    def right(self, address: str, user: str, at: datetime) -> None:
        """`user` signed in from `address`."""
        if address:
            with self._lock:
                _put(self._known, (user, _network(address)), (0, at))

    def knows(self, address: str, user: str, at: datetime) -> bool:
        """Whether `user` signed in from `address` before, and was not wrong there too often since."""
        with self._lock:
            found = self._known.get((user, _network(address))) if address else None
        return found is not None and found[1] <= at

    def _recent(self, key: str, at: datetime) -> list[datetime]:
        return [time for time in self._wrong.get(key, ()) if at - time < WINDOW]


def _put(kept: OrderedDict, key: object, value: object) -> None:
    kept[key] = value
    kept.move_to_end(key)
    if len(kept) > _KEPT:
        kept.popitem(last=False)


def _network(address: str) -> str:
    """An IPv4 address, or the /64 of an IPv6 one: whoever has one of those has all of it."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address[:64]
    if parsed.version == 4:
        return str(parsed)
    if parsed.ipv4_mapped:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((parsed, 64), strict=False))
