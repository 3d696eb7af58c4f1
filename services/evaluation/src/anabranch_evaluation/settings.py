"""What evaluation can be told."""

from __future__ import annotations

from datetime import timedelta
from typing import ClassVar

from pydantic import Field, field_validator
from pydantic_settings import SettingsConfigDict

from anabranch_runtime import ServiceSettings

__all__ = ["Settings"]


class Settings(ServiceSettings):
    """Read from ANABRANCH_EVALUATION_*."""

    model_config: ClassVar[SettingsConfigDict] = SettingsConfigDict(
        frozen=True, extra="forbid", validate_default=True, env_prefix="ANABRANCH_EVALUATION_"
    )

    retrieval: str = Field(min_length=1, description="retrieval: host:port or unix:/path, several with commas")
    generation: str = Field(min_length=1, description="generation: as above")
    registry: str = Field(min_length=1, description="registry: as above")
    database: str = Field(
        default="",
        description="what it keeps: sqlite:////path or postgresql://...; empty: a file in the data folder",
    )
    questions_at_once: int = Field(default=4, ge=1, le=64, description="questions of one run asked at the same time")
    sample: float = Field(default=0.1, ge=0, le=1, description="share of answers that are scored live")
    prices: dict[str, tuple[float, float]] = Field(
        default={},
        description="JSON: model or backend -> [micro-dollars for a million prompt tokens, and completion tokens]",
    )
    retention: timedelta = Field(
        default=timedelta(days=90),
        ge=timedelta(days=1),
        description="how long exposures, opinions and scores are kept; those of active experiments always are",
    )
    look_every: timedelta = Field(
        default=timedelta(seconds=1), gt=timedelta(), description="how often experiments are looked at"
    )

    @property
    def database_url(self) -> str:
        """The database to use."""
        return self.database or f"sqlite:///{(self.data / 'evaluation.db').absolute()}"

    @field_validator("prices")
    @classmethod
    def _priced(cls, value: dict[str, tuple[float, float]]) -> dict[str, tuple[float, float]]:
        if any(not 0 <= one < float("inf") for pair in value.values() for one in pair):
            raise ValueError("a price is a finite number from 0")
        return value

    @field_validator("database")
    @classmethod
    def _kind(cls, value: str) -> str:
        if value and not value.startswith(("sqlite:", "postgresql:")):
            raise ValueError("a database url begins with sqlite: or postgresql:")
        return value
