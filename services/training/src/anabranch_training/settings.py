"""What the service can be told."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import ClassVar

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import SettingsConfigDict

from anabranch_runtime import ServiceSettings

__all__ = ["Settings"]


class Settings(ServiceSettings):
    """Read from ANABRANCH_TRAINING_*."""

    model_config: ClassVar[SettingsConfigDict] = SettingsConfigDict(
        frozen=True, extra="forbid", validate_default=True, env_prefix="ANABRANCH_TRAINING_"
    )

    database: str = Field(
        default="",
        description="feedback and runs: sqlite:////path or postgresql://...; empty: a file in the data folder",
    )
    retrieval: str = Field(min_length=1, description="retrieval: host:port or unix:/path, several with commas")
    registry: str = Field(min_length=1, description="registry: as above")
    feedback: str = Field(
        default="",
        description="feedback: as above; without it, data sets of words and what learns from them are refused",
    )
    artifacts: str = Field(default="", description="artifact store: folder or url; empty: `artifacts` beside the data")
    signing_key: Path | None = Field(
        default=None, description="PEM key that models are signed with; without one, retrieval refuses them"
    )
    runs_at_once: int = Field(default=1, ge=1, le=16, description="runs at the same time; of one corpus always one")
    look_every: timedelta = Field(
        default=timedelta(seconds=1), gt=timedelta(), description="how often schedules and the queue are looked at"
    )
    run_memory_bytes: int = Field(default=2 * 1024**3, ge=256 * 1024**2, description="address space of a run")
    run_cpu: timedelta = Field(default=timedelta(minutes=10), gt=timedelta(), description="processor time of a run")
    run_time: timedelta = Field(default=timedelta(minutes=20), gt=timedelta(), description="time of a run")
    run_nice: int = Field(default=5, ge=0, le=19, description="how far a run stands back for other processes")
    run_attempts: int = Field(default=3, ge=1, le=10, description="processes a run gets when they are killed")

    adapters_python: Path | None = Field(
        default=None, description="interpreter that has torch, peft and trl; without one, adapters are not trained here"
    )
    adapters_base: str = Field(default="", description="model that adapters are for: a folder, or a name in that cache")
    adapters_base_name: str = Field(
        default="", description="its name on papers and in the adapter; empty: the last part of the above"
    )
    adapters_parameters: dict[str, int | float | str] = Field(
        default_factory=dict, description='JSON: steps, batch, learning_rate, rank, ...; as in {"steps": 200}'
    )
    adapters_time: timedelta = Field(default=timedelta(hours=6), gt=timedelta(), description="time of such a run")
    adapters_memory_bytes: int = Field(default=0, ge=0, description="address space of such a run; 0: not limited")
    mlflow: str = Field(
        default="", description="MLflow tracking server that finished runs are told to, as in http://host:5000"
    )

    mlflow_token: SecretStr = Field(default=SecretStr(""), description="bearer token of that server")

    @property
    def database_url(self) -> str:
        """The database to use."""
        return self.database or f"sqlite:///{(self.data / 'training.db').absolute()}"

    @property
    def artifacts_root(self) -> str:
        """The artifact store to use."""
        return self.artifacts or str((self.data / "artifacts").absolute())

    @field_validator("mlflow")
    @classmethod
    def _url(cls, value: str) -> str:
        if value and not value.startswith(("http://", "https://")):
            raise ValueError("is not an http or https url, as in http://127.0.0.1:5000")
        return value.rstrip("/")

    @model_validator(mode="after")
    def _complete(self) -> Settings:
        if self.adapters_python is not None and not self.adapters_base:
            raise ValueError("ANABRANCH_TRAINING_ADAPTERS_PYTHON needs ANABRANCH_TRAINING_ADAPTERS_BASE")
        return self

    @field_validator("database")
    @classmethod
    def _kind(cls, value: str) -> str:
        if value and not value.startswith(("sqlite:", "postgresql:")):
            raise ValueError("a database url begins with sqlite: or postgresql:")
        return value
