"""Single sign-on by OpenID Connect: authorization code with PKCE, state bound to the browser, nonce, verified ID token.

Nothing of what the provider says counts before its signature, issuer, audience, times and nonce were checked. A state
serves once. Addresses are https; http is for a provider on this machine only.
Source: OpenID Connect Core 1.0, 3.1; RFC 7636 (PKCE); RFC 9700 (best current practice).
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from hagane.core.config import secret
from hagane.core.errors import BusyError, ConfigError, HaganeError, NotFoundError, SignInError
from hagane.core.log import get
from hagane.project.config_server import OidcConfig

from .limits import is_loopback

log = get("server.oidc")

PRE_COOKIE = "hagane_before"  # binds a sign-on that has begun to one browser
SSO_BACK = "/sign-in/sso/back"
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
SKEW_S = 60
KEPT_S, MOST = 600, 20_000  # how long a sign-on may take, and how many may be under way
FRESH_S = 3_600  # how long the provider's addresses and keys are believed
WAIT_S = 10
LONGEST_BYTES = 1_000_000
AT_ONCE = 16  # questions to the provider: while it hangs, nobody may use up our threads by knocking


class SsoRefusedError(SignInError):
    """`step` is where it failed: state (nothing was begun here), denied, code, id_token, azp, sub, userinfo."""

    code = "sso"
    step = ""


class SsoUnreachableError(HaganeError):
    http_status, code, retryable = 502, "sso_unreachable", True


@dataclass(frozen=True, slots=True)
class Identity:
    """Whom the provider vouches for."""

    issuer: str
    subject: str
    name: str
    display: str
    groups: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Begun:
    """A sign-on under way."""

    browser: str  # sha256 of the cookie that began it
    nonce: str
    verifier: str
    back: str
    next: str
    until: float


class Sso:
    """One provider. Synchronous; thread-safe."""

    def __init__(self, config: OidcConfig, *, clock: Callable[[], float] = time.time) -> None:
        """Raises: ConfigError for an issuer without https, or a secret that is not set."""
        check_address(config.issuer, what="server.oidc.issuer")
        self.config = config
        self._secret = secret(config.client_secret, key="server.oidc.client_secret") if config.client_secret else None
        self._clock = clock
        self._lock = threading.Lock()
        self._turns = threading.BoundedSemaphore(AT_ONCE)
        self._begun: OrderedDict[str, _Begun] = OrderedDict()
        self._known: tuple[float, Mapping[str, Any]] | None = None
        self._keys: tuple[float, Any] | None = None

    @classmethod
    def of(cls, site: Any) -> Sso:
        """The site's provider, made when first asked for. Raises: NotFoundError when there is none; ConfigError."""
        config = site.project.config.server.oidc
        if config is None:
            raise NotFoundError("there is nothing here")
        if site.sso is None or site.sso.config != config:
            site.sso = cls(config)
        return site.sso

    # going there

    def begin(self, *, back: str, next: str) -> tuple[str, str]:
        """(the provider's address to send the browser to, the value of the cookie that binds it).
        Raises: SsoUnreachableError."""
        state, nonce, binding = (secrets.token_urlsafe(32) for _ in range(3))
        verifier = secrets.token_urlsafe(48)
        where = self._provider()["authorization_endpoint"]
        session = self._session(back)
        address, _ = session.create_authorization_url(where, state=state, code_verifier=verifier, nonce=nonce)
        with self._lock:
            self._begun[state] = _Begun(_digest(binding), nonce, verifier, back, next, self._clock() + KEPT_S)
            while len(self._begun) > MOST:
                self._begun.popitem(last=False)
        return address, binding

    # coming back

    def finish(self, *, state: str, code: str, denied: bool, binding: str) -> tuple[Identity, str]:
        """(who it is, where they wanted to go). Raises: SsoRefusedError, SsoUnreachableError."""
        with self._lock:
            begun = self._begun.pop(state, None)  # once, whatever comes of it
        if begun is None or begun.until < self._clock() or not hmac.compare_digest(_digest(binding), begun.browser):
            raise _refused("state")
        if denied or not code:
            raise _refused("denied")
        token = self._exchange(begun, code)
        claims = self._claims(token.get("id_token"), begun.nonce)
        return self._identity(claims, token.get("access_token")), begun.next

    def _session(self, back: str) -> Any:
        from authlib.integrations.requests_client import OAuth2Session

        method = None if self._secret else "none"
        scope = " ".join(self.config.scopes)
        return OAuth2Session(
            self.config.client_id,
            self._secret,
            scope=scope,
            redirect_uri=back,
            code_challenge_method="S256",
            token_endpoint_auth_method=method,
            default_timeout=WAIT_S,
        )

    def _exchange(self, begun: _Begun, code: str) -> Mapping[str, Any]:
        import requests
        from authlib.common.errors import AuthlibBaseError

        where = self._provider()["token_endpoint"]
        try:
            with self._turn(), self._session(begun.back) as session:
                return session.fetch_token(where, code=code, code_verifier=begun.verifier, allow_redirects=False)
        except requests.RequestException as cause:
            raise _unreachable(cause) from cause
        except (AuthlibBaseError, ValueError, KeyError, TypeError) as cause:
            raise _refused("code", cause) from cause

    def _claims(self, id_token: Any, nonce: str) -> Mapping[str, Any]:
        """The ID token's claims, each checked. Raises: SsoRefusedError."""
        from joserfc import jwt
        from joserfc.errors import InvalidKeyIdError, JoseError

        if not isinstance(id_token, str) or len(id_token) > LONGEST_BYTES:
            raise _refused("id_token")
        essential = {"essential": True}
        wanted = jwt.JWTClaimsRegistry(
            now=int(self._clock()),
            leeway=SKEW_S,
            iss={**essential, "value": self._provider()["issuer"]},
            aud={**essential, "value": self.config.client_id},
            nonce={**essential, "value": nonce},
            sub=essential,
            exp=essential,
            iat=essential,
        )
        try:
            try:
                read = jwt.decode(id_token, self._key_set(), algorithms=ALGORITHMS)
            except (InvalidKeyIdError, ValueError):  # the provider has new keys
                read = jwt.decode(id_token, self._key_set(anew=True), algorithms=ALGORITHMS)
            wanted.validate(read.claims)
        except (JoseError, ValueError, KeyError, TypeError) as cause:
            raise _refused("id_token", cause) from cause
        audience = read.claims["aud"]
        alone = audience == self.config.client_id or audience == [self.config.client_id]
        party = read.claims.get("azp")
        if (party is not None and party != self.config.client_id) or (party is None and not alone):
            raise _refused("azp")
        if not read.claims["sub"]:
            raise _refused("sub")
        return read.claims

    def _identity(self, claims: Mapping[str, Any], access_token: Any) -> Identity:
        """Name and groups from the ID token, else from the provider's userinfo about the same subject."""
        known = dict(claims)
        where = self._provider().get("userinfo_endpoint")
        if self.config.groups_claim not in known and where and isinstance(access_token, str):
            more = self._read(where, {"Authorization": f"Bearer {access_token}"})
            if more.get("sub") != claims["sub"]:
                raise _refused("userinfo")
            known = more | known
        groups = known.get(self.config.groups_claim, ())
        listed = [groups] if isinstance(groups, str) else groups if isinstance(groups, list) else []
        subject = str(claims["sub"])
        name = next((v for k in ("preferred_username", "email") if isinstance(v := known.get(k), str) and v), subject)
        display = known.get("name")
        return Identity(
            issuer=str(claims["iss"]),
            subject=subject,
            name=name,
            display=display if isinstance(display, str) else "",
            groups=tuple(group for group in listed if isinstance(group, str)),
        )

    # what the provider says about itself

    def _provider(self) -> Mapping[str, Any]:
        if self._known is None or self._known[0] < self._clock():
            issuer = self.config.issuer.rstrip("/")
            told = self._read(issuer + "/.well-known/openid-configuration")
            if str(told.get("issuer", "")).rstrip("/") != issuer:
                raise SsoUnreachableError("the identity provider goes by another name", hint="compare server.oidc.issuer with its own document")
            for name in ("authorization_endpoint", "token_endpoint", "jwks_uri", "userinfo_endpoint"):
                if name in told or name != "userinfo_endpoint":
                    check_address(str(told.get(name, "")), what=f"the provider's {name}")
            self._known = (self._clock() + FRESH_S, told)
        return self._known[1]

    def _key_set(self, *, anew: bool = False) -> Any:
        from joserfc.jwk import KeySet

        if anew or self._keys is None or self._keys[0] < self._clock():
            told = self._read(self._provider()["jwks_uri"])
            usable = [key for key in told.get("keys", ()) if key.get("kty") != "oct" and key.get("use", "sig") == "sig"]
            self._keys = (self._clock() + FRESH_S, KeySet.import_key_set({"keys": usable}))
        return self._keys[1]

    @contextlib.contextmanager
    def _turn(self) -> Generator[None, None, None]:
        """One of the few places at the provider. Raises: BusyError at once when there is none."""
        if not self._turns.acquire(blocking=False):
            raise BusyError("too many sign-ons at once", hint="try again in a moment")
        try:
            yield
        finally:
            self._turns.release()

    def _read(self, address: str, headers: Mapping[str, str] | None = None) -> dict[str, Any]:
        """A JSON object of the provider, at most 1 MB, from that address and no other."""
        import requests

        try:
            with self._turn(), requests.get(address, headers=dict(headers or {}), timeout=WAIT_S, allow_redirects=False, stream=True) as answer:
                if answer.status_code != 200:
                    raise _unreachable(f"status {answer.status_code}")
                data = answer.raw.read(LONGEST_BYTES + 1, decode_content=True)
            told = json.loads(data) if len(data) <= LONGEST_BYTES else None
        except (requests.RequestException, OSError, ValueError) as cause:
            raise _unreachable(cause) from cause
        if not isinstance(told, dict):
            raise _unreachable("no JSON object")
        return told


def check_address(address: str, *, what: str) -> None:
    """Raises: ConfigError for anything but https, or http on this machine."""
    parts = urlsplit(address)
    local = parts.scheme == "http" and is_loopback(parts.hostname or "")
    if not parts.hostname or (parts.scheme != "https" and not local) or parts.username or parts.fragment:
        raise ConfigError(f"{what}: {address!r} is not an https address", hint="http is for a provider on this machine only")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _refused(step: str, cause: BaseException | None = None) -> SsoRefusedError:
    log.warning("sign-on refused", step=step, kind=type(cause).__name__ if cause else None)
    error = SsoRefusedError("the identity provider's answer was not accepted", hint="begin again on the sign-in page")
    error.step = step
    return error


def _unreachable(cause: object) -> SsoUnreachableError:
    log.warning("provider unreachable", kind=type(cause).__name__ if isinstance(cause, BaseException) else str(cause))
    return SsoUnreachableError("the identity provider does not answer", hint="try again, or sign in with a password")
