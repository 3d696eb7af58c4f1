"""What the service can be told."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import SettingsConfigDict

from anabranch_runtime import ServiceSettings

__all__ = ["Settings"]


class Settings(ServiceSettings):
    """Read from ANABRANCH_GUARDRAILS_*."""

    model_config: ClassVar[SettingsConfigDict] = SettingsConfigDict(
        frozen=True, extra="forbid", validate_default=True, env_prefix="ANABRANCH_GUARDRAILS_"
    )

    workers: int = Field(default=2, ge=1, le=256, description="threads that checks run in")
    texts_waiting: int = Field(default=64, ge=0, le=100_000, description="texts that may wait for one, beside those")
    streams_at_once: int = Field(default=256, ge=1, le=100_000, description="answers that may be checked at once")
    passages_remembered: int = Field(
        default=100_000, ge=0, le=10_000_000, description="results of passages that are kept, so as not to look again"
    )
    blocked_waiting: int = Field(
        default=1_000, ge=1, le=1_000_000, description="records of blocked texts that may wait for the broker"
    )
    moderation_url: str = Field(
        default="",
        description="an OpenAI-compatible server with /v1/moderations, for the check `moderation`; empty: none",
    )
    moderation_key: SecretStr = Field(default=SecretStr(""), description="its key")
    moderation_model: str = Field(default="omni-moderation-latest", min_length=1, description="its model")
    moderation_onnx: Path | None = Field(
        default=None,
        description="a folder with model.onnx (and tokenizer.json, unless it reads text), for the check `moderation`",
    )
    moderation_threshold: float = Field(default=0.5, ge=0, le=1, description="score from which it has found something")

    @field_validator("moderation_url")
    @classmethod
    def _address(cls, value: str) -> str:
        if value and not value.startswith(("http://", "https://")):
            raise ValueError("an address begins with http:// or https://")
        return value.rstrip("/")

    @model_validator(mode="after")
    def _one(self) -> Settings:
        if self.moderation_url and self.moderation_onnx is not None:
            raise ValueError("give moderation_url or moderation_onnx, not both")
        return self
