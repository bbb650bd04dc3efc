"""The second factor: six digits of an authenticator app (TOTP, RFC 6238), each accepted once.

One step of 30 s of drift to either side (RFC 6238, 5.2). `used` is the last accepted step: no code counts twice, nor does
an older one; below 0 the secret is enrolled but not confirmed.
"""

from __future__ import annotations

import hmac
import unicodedata
from datetime import datetime

STEP_S = 30
DRIFT = 1
PENDING = -1


def new_secret() -> str:
    """160 random bits in base32."""
    from pyotp import random_base32

    return random_base32()


def address(secret: str, *, name: str) -> str:
    """The otpauth:// address that an app reads, usually from a QR code."""
    from pyotp import TOTP

    return TOTP(secret).provisioning_uri(name=name, issuer_name="Hagane")


def is_on(secret: str | None, used: int) -> bool:
    """Whether codes are asked for."""
    return secret is not None and used > PENDING


def step_of(secret: str, code: str, at: datetime, *, used: int) -> int | None:
    """The time step that `code` belongs to, if it is right now and newer than `used`; else None."""
    from pyotp import TOTP

    given = "".join(unicodedata.normalize("NFKC", code).split()).encode("utf-8", "surrogatepass")
    totp, now = TOTP(secret), int(at.timestamp()) // STEP_S
    found = None
    for step in range(now - DRIFT, now + DRIFT + 1):  # no early end: as long for a wrong one
        if hmac.compare_digest(totp.generate_otp(step).encode(), given) and step > used:
            found = step
    return found
