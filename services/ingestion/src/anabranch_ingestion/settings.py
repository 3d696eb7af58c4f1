"""What ingestion can be told."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator
from pydantic_settings import NoDecode, SettingsConfigDict

from anabranch_ingestion.adapters.sources import Root
from anabranch_runtime import ServiceSettings

_MIB = 1 << 20
Listed = Annotated[tuple[str, ...], NoDecode]


class Settings(ServiceSettings):
    """Environment variables begin with ANABRANCH_INGESTION_."""

    model_config: ClassVar[SettingsConfigDict] = SettingsConfigDict(
        env_prefix="ANABRANCH_INGESTION_", frozen=True, extra="forbid", validate_default=True
    )

    database: str = Field(default="", description="database url; empty: SQLite in the working folder")
    tenants: Listed = Field(
        default=("*",), description="tenants whose documents are taken, with commas; * takes every one"
    )
    uri_roots: Listed = Field(
        default=(), description="where bodies may be read by uri, with commas: file:///folder, s3://bucket/prefix"
    )
    workers: int = Field(default=2, ge=1, le=64, description="processes that read documents")
    spare_workers: int = Field(
        default=2, ge=0, le=64, description="more of them, while all others are held up by slow documents"
    )
    parse_time: timedelta = Field(
        default=timedelta(seconds=20),
        ge=timedelta(seconds=1),
        le=timedelta(minutes=10),
        description="how long reading one document may take",
    )
    parse_memory_mib: int = Field(default=512, ge=256, le=8192, description="memory of one such process, MiB")
    body_mib: int = Field(default=20, ge=1, le=1024, description="largest body, MiB")
    text_mib: int = Field(default=20, ge=1, le=256, description="largest text in a document, MiB")
    slow_after: timedelta = Field(
        default=timedelta(seconds=1),
        ge=timedelta(milliseconds=10),
        le=timedelta(seconds=30),
        description="a document that takes longer is put aside, so that others go on",
    )
    overdue_after: timedelta = Field(
        default=timedelta(minutes=10),
        ge=timedelta(seconds=1),
        description="an accepted document that is not answered by then is reported",
    )
    keep: timedelta = Field(
        default=timedelta(days=31),
        ge=timedelta(days=8),
        description="how long events and old statuses are remembered; more than the topics' retention",
    )
    guardrails: str = Field(
        default="", description="guardrails: host:port or unix:/path, several with commas; empty: nothing is checked"
    )
    guards_on_failure: Literal["closed", "open"] = Field(
        default="closed", description="while guardrails are away: closed lets documents wait, open takes them unchecked"
    )
    guards_patience: timedelta = Field(
        default=timedelta(seconds=10),
        gt=timedelta(),
        description="a check that takes longer counts as guardrails being away",
    )
    max_records: int = Field(default=64, ge=1, le=1000, description="most records of a batch")

    @field_validator("tenants", "uri_roots", mode="before")
    @classmethod
    def _with_commas(cls, value: Any) -> Any:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("uri_roots")
    @classmethod
    def _roots(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for root in value:
            Root.parse(root)
        return value

    @field_validator("tenants")
    @classmethod
    def _some(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value:
            raise ValueError("name at least one tenant, or * for every one")
        return value

    @property
    def database_url(self) -> str:
        """Where documents are remembered."""
        return self.database or f"sqlite:///{self.data.resolve() / 'ingestion.db'}"

    @property
    def body_bytes(self) -> int:
        """Largest body."""
        return self.body_mib * _MIB

    @property
    def text_bytes(self) -> int:
        """Largest text."""
        return self.text_mib * _MIB

    @property
    def parse_memory_bytes(self) -> int:
        """Memory of a worker."""
        return self.parse_memory_mib * _MIB
