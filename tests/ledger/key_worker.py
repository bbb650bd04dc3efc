"""A worker that opens and seals with the keys that it was sent."""

from __future__ import annotations

from typing import Any

from hagane.ledger.keys import Keys


class Opens:
    def __init__(self, init: dict[str, Any]) -> None:
        self.keys = Keys.of_worker(init)

    def handle(self, request: dict[str, Any]) -> dict[str, Any]:
        cipher = self.keys.cipher_for(request["name"])
        return {"data": cipher.seal(request["seal"], aad=b"") if "seal" in request else cipher.open(request["data"], aad=b"")}
