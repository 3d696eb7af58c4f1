"""What the embedding service can be told."""

from __future__ import annotations

from datetime import timedelta
from typing import ClassVar, Literal, Self

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import SettingsConfigDict

from anabranch_runtime import ServiceSettings

__all__ = ["Settings"]


class Settings(ServiceSettings):
    """Read from ANABRANCH_EMBEDDING_*."""

    model_config: ClassVar[SettingsConfigDict] = SettingsConfigDict(env_prefix="ANABRANCH_EMBEDDING_")

    model: Literal["int8", "fp32", "openai"] = Field(
        default="int8", description="the default version: all-MiniLM-L6-v2 as int8 or fp32, or the remote endpoint"
    )
    threads: int = Field(default=0, ge=0, le=256, description="threads for documents; 0: one a core")
    niceness: int = Field(
        default=5, ge=0, le=19, description="how much lower the priority of those threads is (Linux only)"
    )
    waiting_texts: int = Field(
        default=4096, ge=1, le=1_000_000, description="texts of documents admitted at once; more is refused for now"
    )
    waiting_queries: int = Field(default=256, ge=1, le=100_000, description="queries waiting at most; as above")
    openai_url: str | None = Field(
        default=None, pattern=r"^https?://", description="an OpenAI-compatible server's base, as http://host:8000/v1"
    )
    openai_model: str = Field(default="", description="the model's name there")
    openai_dimension: int = Field(default=0, ge=0, le=65_536, description="dimension of its vectors; checked at start")
    openai_key: SecretStr | None = Field(default=None, description="bearer key for it")
    openai_timeout: timedelta = Field(
        default=timedelta(seconds=10),
        gt=timedelta(0),
        le=timedelta(minutes=5),
        description="for one request to it",
    )
    openai_batch: int = Field(default=32, ge=1, le=2048, description="texts in one request to it")
    openai_concurrency: int = Field(default=4, ge=1, le=256, description="requests to it at once")

    @model_validator(mode="after")
    def _remote_is_complete(self) -> Self:
        if self.model == "openai" and self.openai_url is None:
            raise ValueError("model is openai, so OPENAI_URL must be set, too")
        if self.openai_url is not None and not (self.openai_model and self.openai_dimension):
            raise ValueError("with OPENAI_URL, OPENAI_MODEL and OPENAI_DIMENSION must be set, too")
        return self
