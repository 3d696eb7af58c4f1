"""What the gateway can be told."""

from __future__ import annotations

import ipaddress
from datetime import timedelta
from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator
from pydantic_settings import SettingsConfigDict

from anabranch_faults import Invalid
from anabranch_gateway.domain import names
from anabranch_runtime import ServiceSettings

SECOND = timedelta(seconds=1)


class StoredSettings(ServiceSettings):
    """Where keys and sessions are: all that the administration of keys needs."""

    model_config: ClassVar[SettingsConfigDict] = SettingsConfigDict(
        env_prefix="ANABRANCH_GATEWAY_", frozen=True, extra="ignore", validate_default=True
    )

    tenant: str = Field(default="default", description="tenant that gets a key at the first start")
    database: str = Field(
        default="",
        description="keys and sessions: sqlite:////path or postgresql://...; empty: a file in the data folder",
    )

    @property
    def database_url(self) -> str:
        """The database to use."""
        return self.database or f"sqlite:///{(self.data / 'gateway.db').absolute()}"

    @field_validator("tenant")
    @classmethod
    def _tenant(cls, value: str) -> str:
        try:
            return names.tenant(value)
        except Invalid as fault:
            raise ValueError(fault.problem) from fault


class Settings(StoredSettings):
    """All of it."""

    model_config: ClassVar[SettingsConfigDict] = SettingsConfigDict(
        env_prefix="ANABRANCH_GATEWAY_", frozen=True, extra="forbid", validate_default=True
    )

    listen: str = Field(default="127.0.0.1:7400", description="public gRPC: host:port, several with commas")
    http_listen: str = Field(default="127.0.0.1:7480", description="OpenAI-compatible HTTP: host:port")
    exposed: bool = Field(
        default=False,
        description="allows addresses that other machines reach; put TLS in front: keys travel in plain text",
    )
    key_file: Path | None = Field(default=None, description="where the first key is handed over; empty: data/key")
    retrieval: str = Field(min_length=1, description="retrieval: host:port or unix:/path, several with commas")
    generation: str = Field(min_length=1, description="generation: as above")
    ingestion: str = Field(min_length=1, description="ingestion: as above")
    feedback: str = Field(min_length=1, description="feedback: as above; asking goes on while it is down")
    guardrails: str = Field(default="", description="guardrails: as above; empty: nothing is checked")
    guards_on_failure: Literal["closed", "open"] = Field(
        default="closed", description="while guardrails are away: closed refuses questions, open answers unchecked"
    )
    guards_patience: timedelta = Field(
        default=3 * SECOND, gt=timedelta(), description="a check that takes longer counts as guardrails being away"
    )
    texts_at_once: int = Field(default=256, ge=1, description="texts checked at the same time; more are refused")
    texts_at_once_per_tenant: int = Field(default=128, ge=1, description="as above, of one tenant")
    unrecorded_tenants: str = Field(
        default="", description="tenants whose answers are recorded without content, with commas between"
    )
    exploration: float = Field(
        default=0.01, ge=0, le=1, description="share of recorded answers shown with two passages changed in place"
    )
    assignment_salt: str = Field(default="anabranch", description="deals people to variants; keep it, or all move")
    deadline: timedelta = Field(default=30 * SECOND, gt=timedelta(), description="for calls that set none themselves")
    questions_at_once: int = Field(default=256, ge=1, description="answered at the same time; more are refused")
    questions_at_once_per_tenant: int = Field(default=128, ge=1, description="as above, of one tenant")
    watches_at_once: int = Field(default=1_000, ge=1, description="documents watched at the same time")
    watches_at_once_per_tenant: int = Field(default=500, ge=1, description="as above, of one tenant")
    redis: str = Field(
        default="",
        description="redis:// or unix:// url where several gateways count quotas; empty: in process and database",
    )
    redis_password_file: Path | None = Field(default=None, description="its password, where the url has none")
    quota_on_failure: Literal["auto", "closed", "open"] = Field(
        default="auto",
        description="while quotas cannot be read: closed refuses, open lets through, auto refuses under a hard budget",
    )
    quota_patience: timedelta = Field(
        default=SECOND, gt=timedelta(), description="an answer of the store of quotas that takes longer is none"
    )
    quota_lease: timedelta = Field(
        default=30 * SECOND, ge=SECOND, description="places and reservations of a gateway that died end after it"
    )
    key_memory: timedelta = Field(
        default=5 * SECOND, ge=timedelta(), description="how long a key's state is remembered: a revoked one works on"
    )
    session_turns: int = Field(default=20, ge=2, le=50, description="turns kept of a session")
    session_lasts: timedelta = Field(default=1800 * SECOND, ge=SECOND, description="after its last question")
    sessions_per_tenant: int = Field(default=10_000, ge=1, description="the oldest make room")
    answers_waiting: int = Field(default=1_000, ge=1, description="records held in memory while Kafka is slow or away")
    usages_waiting: int = Field(default=10_000, ge=1, description="metered calls held in memory, as above")
    cache_entries: int = Field(default=10_000, ge=0, description="answers kept to be given again; 0: none are")
    cache_entries_per_tenant: int = Field(default=2_500, ge=1, description="as above, of one tenant")
    cache_mebibytes: int = Field(default=128, ge=1, description="of all kept answers; a tenant has at most a quarter")
    cache_lasts: timedelta = Field(default=86_400 * SECOND, gt=timedelta(), description="an answer is kept at most")
    cache_error_bound: float = Field(
        default=0.02,
        ge=0,
        le=0.5,
        description="share of answers to nearly the same question that a fresh one may contradict; 0: none are given",
    )
    cache_probe_share: float = Field(
        default=0.02, ge=0, le=1, description="of those, answered afresh all the same, to see whether they agree"
    )
    http_body_bytes: int = Field(default=4 * 1024 * 1024, ge=1024, description="largest HTTP body")

    @property
    def first_key_file(self) -> Path:
        """Where the first key is handed over."""
        return self.key_file or self.data / "key"

    @property
    def unrecorded(self) -> frozenset[str]:
        """Tenants whose answers are recorded without content."""
        return frozenset(part.strip() for part in self.unrecorded_tenants.split(",") if part.strip())

    @field_validator("http_listen")
    @classmethod
    def _http_address(cls, value: str) -> str:
        host, _, port = value.rpartition(":")
        if not host or not port.isdigit():
            raise ValueError(f"{value!r} is not host:port, as in 127.0.0.1:0")
        return value

    @field_validator("unrecorded_tenants")
    @classmethod
    def _tenants(cls, value: str) -> str:
        for part in value.split(","):
            if part.strip() and not names.TENANT.fullmatch(part.strip()):
                raise ValueError(f"{part.strip()!r} is not a tenant")
        return value

    @model_validator(mode="after")
    def _loopback(self) -> Self:
        for address in (*self.listen.split(","), self.http_listen):
            if not self.exposed and not _stays_here(address):
                raise ValueError(
                    f"{address} can be reached from other machines; listen on 127.0.0.1, or set "
                    "ANABRANCH_GATEWAY_EXPOSED=true"
                )
        return self


def _stays_here(address: str) -> bool:
    if address.startswith("unix:"):
        return True
    host = address.rpartition(":")[0].strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
