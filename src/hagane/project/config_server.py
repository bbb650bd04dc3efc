"""The part of hagane.yaml that is about the server, encryption, the audit and models by name."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from hagane.core.config import Config
from hagane.core.errors import LabelError
from hagane.core.labels import Clearance


def _clearance(text: str) -> str:
    try:
        return str(Clearance.parse(text))
    except LabelError as cause:
        raise ValueError(f"{cause}") from cause


ClearanceText = Annotated[str, AfterValidator(_clearance)]
RoleName = Literal["reader", "annotator", "builder", "officer", "admin"]


class GrantConfig(Config):
    """What members of a group of the identity provider become."""

    role: RoleName = Field("reader", description="reader, annotator, builder, officer or admin")
    clearance: ClearanceText = Field(description="LEVEL, LEVEL:c1+c2 or LEVEL:*")


class OidcConfig(Config):
    """Single sign-on by OpenID Connect (authorization code with PKCE)."""

    issuer: str = Field(description="address of the provider; its /.well-known/openid-configuration is read")
    client_id: str = Field(description="as registered there")
    client_secret: str | None = Field(None, description="env:NAME; none for a public client")
    scopes: tuple[str, ...] = Field(("openid", "profile", "email"), description="what is asked for")
    groups_claim: str = Field("groups", description="the claim that lists the groups")
    groups: dict[str, GrantConfig] = Field(default_factory=dict, description="group of the provider to role and clearance; others may not sign in")


class TlsConfig(Config):
    """Certificate and key for HTTPS."""

    certificate: str = Field(description="PEM file, relative to hagane.yaml or absolute")
    key: str = Field(description="PEM file")


class ServerConfig(Config):
    """How `hagane serve` listens and whom it lets in."""

    host: str = Field("127.0.0.1", description="address to bind to; beyond loopback it insists on TLS or a trusted proxy")
    port: int = Field(8750, ge=0, le=65535, description="0: any free one")
    url: str | None = Field(None, description="the address that people type, when a proxy stands in front")
    tls: TlsConfig | None = Field(None, description="certificate and key")
    trusted_proxies: tuple[str, ...] = Field((), description="addresses or networks whose X-Forwarded-* headers count")
    session_hours: float = Field(12.0, gt=0, description="longest session")
    idle_minutes: float = Field(120.0, gt=0, description="a session ends after this long without a request")
    upload_mb: int = Field(200, ge=1, description="largest uploaded file, megabytes")
    upload_total_gb: float = Field(20.0, gt=0, description="all uploads together, gigabytes")
    body_kb: int = Field(2048, ge=16, description="largest other request body, kilobytes")
    answers_each: int = Field(16, ge=1, le=256, description="answers that one account may have open at once; 256 are open in all")
    oidc: OidcConfig | None = Field(None, description="single sign-on")
    otel: str | None = Field(None, description="OTLP/HTTP address for traces (extra otel); none: no traces")
    otel_content: bool = Field(False, description="put questions and answers into traces, too")


class EncryptionConfig(Config):
    """Encryption at rest: switched on by naming a key."""

    key: str | None = Field(None, description="file:PATH, env:NAME or keyring:NAME of the master key; none: not encrypted")
    blind_index: bool | None = Field(None, description="keyed hashes instead of words in the index; default: on when encrypted")


class AuditConfig(Config):
    """The audit log's anchor."""

    checkpoint: str | None = Field(None, description="where signed checkpoints are copied to, besides .hagane/audit")
    every: int = Field(1000, ge=1, description="records between two checkpoints")


class ModelConfig(Config):
    """A model that answers through another program's OpenAI-compatible port on this machine."""

    wire: Literal["openai"] = Field("openai", description="openai")
    address: str = Field(description="for example http://127.0.0.1:8000/v1; loopback only until destinations have ceilings")
    model: str = Field(description="its name there")
    key: str | None = Field(None, description="env:NAME")
