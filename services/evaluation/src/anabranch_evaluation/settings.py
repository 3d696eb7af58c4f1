"""What evaluation can be told."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import ClassVar

from pydantic import Field, SecretStr, field_validator, model_validator
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
    embedding: str = Field(default="", description="embedding: as retrieval; empty: answers are scored by words alone")
    embedding_version: str = Field(default="", description="embedding version or alias; empty: that service's default")
    judge_url: str = Field(
        default="",
        description="base url of the judge's OpenAI-compatible server, as in http://host:8000/v1; empty: no judge",
    )
    judge_model: str = Field(default="", description="the model that judges there")
    judge_key: SecretStr = Field(default=SecretStr(""), description="bearer key of that server")
    judge_key_file: Path | None = Field(default=None, description="or a file that holds it")
    judge_votes: int = Field(default=4, ge=1, le=16, description="votes on an answer; every second in another order")
    judge_time: timedelta = Field(
        default=timedelta(seconds=20), gt=timedelta(), description="time that one call of the judge may take"
    )
    judge_at_once: int = Field(default=4, ge=1, le=64, description="calls of the judge at the same time")
    judge_sample: float = Field(default=0.1, ge=0, le=1, description="share of the answers scored live that it judges")

    reward: str = Field(
        default="",
        description="reward model that answers of runs are scored by, as in rw-0123456789ab; empty: none",
    )
    artifacts: str = Field(default="", description="artifact store of reward models: folder or URL; empty: in data")
    public_key: Path | None = Field(default=None, description="PEM key that reward models must be signed by")

    @property
    def artifact_store(self) -> str:
        """The artifact store to use."""
        return self.artifacts or str((self.data / "artifacts").absolute())

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

    @field_validator("judge_url")
    @classmethod
    def _url(cls, value: str) -> str:
        if value and not value.startswith(("http://", "https://")):
            raise ValueError("is not an http or https url, as in http://127.0.0.1:8000/v1")
        return value.rstrip("/")

    @model_validator(mode="after")
    def _complete(self) -> Settings:
        if bool(self.judge_url) != bool(self.judge_model):
            raise ValueError("a judge needs ANABRANCH_EVALUATION_JUDGE_URL and ANABRANCH_EVALUATION_JUDGE_MODEL")
        if self.judge_key_file is not None:
            if self.judge_key.get_secret_value():
                raise ValueError("ANABRANCH_EVALUATION_JUDGE_KEY and _JUDGE_KEY_FILE are both set: one key is needed")
            if not self.judge_key_file.is_file():
                raise ValueError(f"there is no file {self.judge_key_file} with the judge's key")
        return self

    @property
    def judge_secret(self) -> str:
        """The judge's key; empty: none."""
        if self.judge_key_file is not None:
            return self.judge_key_file.read_text(encoding="utf-8").strip()
        return self.judge_key.get_secret_value()
