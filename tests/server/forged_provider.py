"""An identity provider on loopback that says whatever a test wants: for everything that a good one never says."""

from __future__ import annotations

import base64
import hmac
import json
import threading
import time
from collections.abc import Callable, Mapping
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

from joserfc import jwt
from joserfc.jwk import RSAKey


class Forged:
    """`claims` changes the claims of the next ID token; `sign` makes the token of them; `answers` adds addresses."""

    def __init__(self) -> None:
        self.key = key("k1")
        self.shown = [self.key]
        self.claims: Callable[[dict[str, Any]], Mapping[str, Any]] = lambda claims: claims
        self.sign: Callable[[Mapping[str, Any]], str] = self.signed
        self.answers: dict[str, Any] = {}
        self.asked: list[dict[str, str]] = []  # what came to the token address
        self.paths: list[str] = []
        self.nonce = ""
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer._answer(self)

            do_POST = do_GET

            def log_message(self, *given: Any) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def signed(self, claims: Mapping[str, Any]) -> str:
        return jwt.encode({"alg": "RS256", "kid": self.key.kid}, dict(claims), self.key)

    def by_public_key_as_secret(self, claims: Mapping[str, Any]) -> str:
        """The classic confusion: HMAC with the public key's text as the secret."""
        head = f"{_part({'alg': 'HS256', 'kid': 'k1'})}.{_part(claims)}"
        mark = hmac.digest(self.key.as_pem(private=False), head.encode(), "sha256")
        return f"{head}.{base64.urlsafe_b64encode(mark).rstrip(b'=').decode()}"

    def unsigned(self, claims: Mapping[str, Any]) -> str:
        return f"{_part({'alg': 'none'})}.{_part(claims)}."

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        path = handler.path.partition("?")[0]
        self.paths.append(path)
        body = handler.rfile.read(int(handler.headers.get("content-length") or 0)).decode()
        told = self._told(path, {name: values[0] for name, values in parse_qs(body).items()})
        if isinstance(told, str):  # an address to go to
            handler.send_response(302)
            handler.send_header("Location", told)
            handler.end_headers()
            return
        data = json.dumps(told).encode() if told is not None else b""
        handler.send_response(200 if told is not None else 404)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data)

    def _told(self, path: str, form: dict[str, str]) -> Any:
        if path in self.answers:
            return self.answers[path]
        if path == "/.well-known/openid-configuration":
            places = {"authorization_endpoint": "/authorize", "token_endpoint": "/token", "jwks_uri": "/keys"}
            return {"issuer": self.url} | {name: self.url + place for name, place in places.items()}
        if path == "/keys":
            return {"keys": [key.as_dict(private=False) for key in self.shown]}
        if path == "/token":
            self.asked.append(form)
            now = int(time.time())
            claims = {"iss": self.url, "aud": "hagane", "sub": "s1", "exp": now + 300, "iat": now, "nonce": self.nonce, "groups": ["社員"]}
            claims["preferred_username"] = "suzuki"
            return {"access_token": "a", "token_type": "Bearer", "id_token": self.sign(self.claims(claims))}
        return None

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def _part(value: Mapping[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


@cache
def key(kid: str) -> RSAKey:
    """Made once per name: a key takes a while."""
    return RSAKey.generate_key(2048, {"kid": kid, "use": "sig", "alg": "RS256"})
