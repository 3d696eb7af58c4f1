"""What the service can be told."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, ClassVar

from pydantic import Field, field_validator
from pydantic_settings import NoDecode, SettingsConfigDict

from anabranch_runtime import ServiceSettings

__all__ = ["Settings"]

Listed = Annotated[tuple[str, ...], NoDecode]


class Settings(ServiceSettings):
    """Read from ANABRANCH_FEEDBACK_*."""

    model_config: ClassVar[SettingsConfigDict] = SettingsConfigDict(
        frozen=True, extra="forbid", validate_default=True, env_prefix="ANABRANCH_FEEDBACK_"
    )

    database: str = Field(
        default="", description="sqlite:////path or postgresql://...; empty: a file in the data folder"
    )
    tenants: Listed = Field(
        default=("*",), description="tenants whose feedback is taken, with commas; * takes every one"
    )
    wait: timedelta = Field(
        default=timedelta(days=7),
        ge=timedelta(seconds=1),
        description="how long a feedback may wait for its answer's record before it is rejected",
    )
    grace: timedelta = Field(
        default=timedelta(minutes=10),
        ge=timedelta(0),
        description="how long the record of an answer may be on its way: Give says NOT_FOUND for an older one",
    )
    sweep: timedelta = Field(
        default=timedelta(seconds=5),
        ge=timedelta(milliseconds=100),
        le=timedelta(hours=1),
        description="how often waiting feedback is looked through",
    )
    rate: float = Field(default=120, ge=0, description="feedbacks a person may give a minute; 0: no limit")
    burst: int = Field(default=240, ge=1, description="feedbacks a person may give at once")
    phone_region: str = Field(
        default="US", pattern=r"^[A-Z]{2}$", description="whose phone numbers are meant without a country code"
    )
    review_random: float = Field(default=0.01, ge=0, le=1, description="share of answers that raters see")
    review_thumb_down: float = Field(default=0.25, ge=0, le=1, description="likewise, of those with a thumb down")
    review_abstained: float = Field(default=0.05, ge=0, le=1, description="likewise, of those that abstained")
    review_low_score: float = Field(default=0.25, ge=0, le=1, description="likewise, of those that scored low")
    review_disagreement: float = Field(
        default=0.5, ge=0, le=1, description="likewise, of those over which people, or the judge's votes, disagree"
    )
    review_scores: Listed = Field(
        default=("groundedness", "judge"),
        description="metrics whose low scores count, with commas; `judge` is a language model's score",
    )
    review_low_score_below: float = Field(default=0.5, ge=0, le=1, description="a score below this is low")
    review_agreement_below: float = Field(
        default=0.7, ge=0, le=1, description="the judge's votes disagree when fewer than this share agree"
    )
    review_raters: int = Field(default=2, ge=1, le=100, description="raters an answer is shown to")
    keep: timedelta = Field(
        default=timedelta(days=31),
        ge=timedelta(days=8),
        description="how long events are remembered; more than the topics' retention",
    )
    keep_answers: timedelta = Field(
        default=timedelta(days=180),
        ge=timedelta(days=8),
        description="how long answers are kept that nobody said anything about",
    )
    max_records: int = Field(default=500, ge=1, le=1000, description="most records of a batch")

    @field_validator("tenants", "review_scores", mode="before")
    @classmethod
    def _with_commas(cls, value: Any) -> Any:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("tenants")
    @classmethod
    def _some(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value:
            raise ValueError("name at least one tenant, or * for every one")
        return value

    @field_validator("database")
    @classmethod
    def _kind(cls, value: str) -> str:
        if value and not value.startswith(("sqlite:", "sqlite+aiosqlite:", "postgresql:", "postgresql+asyncpg:")):
            raise ValueError("a database url begins with sqlite: or postgresql:")
        return value

    @property
    def database_url(self) -> str:
        """The database to use."""
        return self.database or f"sqlite:///{(self.data / 'feedback.db').absolute()}"
