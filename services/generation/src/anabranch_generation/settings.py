"""What the service can be told."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import ClassVar, Final

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import SettingsConfigDict

from anabranch_runtime import ServiceSettings

BACKENDS: Final = ("extractive", "openai", "tensorrt_llm")


class Settings(ServiceSettings):
    """Read from ANABRANCH_GENERATION_*."""

    model_config: ClassVar[SettingsConfigDict] = SettingsConfigDict(
        frozen=True, extra="forbid", validate_default=True, env_prefix="ANABRANCH_GENERATION_"
    )

    backends: str = Field(
        default="extractive", description=f"backends to load, with commas, the default first: {', '.join(BACKENDS)}"
    )
    max_concurrent: int = Field(default=64, ge=1, le=10_000, description="answers written at once; more are refused")
    max_tokens: int = Field(default=2048, ge=1, le=32_768, description="tokens of an answer a request may ask for")
    answer_time: timedelta = Field(
        default=timedelta(seconds=60), gt=timedelta(0), description="time one answer may take, within the deadline"
    )
    condense_time: timedelta = Field(
        default=timedelta(seconds=10), gt=timedelta(0), description="time a model may take to rewrite a follow-up"
    )
    default_tokens: int = Field(
        default=512, ge=1, le=32_768, description="tokens of a model's answer when none are asked"
    )
    context_tokens: int = Field(
        default=3000, ge=64, le=200_000, description="tokens of passages in a model's prompt when none are asked"
    )
    openai_url: str = Field(
        default="", description="base url of an OpenAI-compatible server, as in http://host:8000/v1"
    )
    openai_key: SecretStr = Field(default=SecretStr(""), description="bearer key of that server")
    openai_models: str = Field(default="", description="models to use there, with commas, the default first")
    openai_connect_time: timedelta = Field(
        default=timedelta(seconds=5), gt=timedelta(0), description="time to connect to that server"
    )
    openai_read_time: timedelta = Field(
        default=timedelta(seconds=30), gt=timedelta(0), description="longest silence of that server"
    )
    openai_retries: int = Field(default=2, ge=0, le=5, description="further tries before the first token")
    tensorrt_model: str = Field(default="", description="folder or hub name of the model tensorrt_llm loads")
    tensorrt_adapters: str = Field(
        default="", description="LoRA adapters, with commas: ad-... from the artifact store, or name=folder"
    )
    tensorrt_parallel: int = Field(default=1, ge=1, le=64, description="GPUs the model is spread over")
    tensorrt_max_lora_rank: int = Field(default=64, ge=1, le=512, description="largest rank of an adapter")
    artifacts: str = Field(default="", description="artifact store of adapters: folder or URL; empty: in data")
    public_key: Path | None = Field(
        default=None, description="PEM key that adapters must be signed by; without it none of the store is loaded"
    )

    @field_validator("backends")
    @classmethod
    def _known(cls, value: str) -> str:
        names = [name.strip() for name in value.split(",")]
        unknown = [name for name in names if name not in BACKENDS]
        if unknown:
            raise ValueError(f"there is no backend {unknown[0]!r}; the backends are {', '.join(BACKENDS)}")
        if len(set(names)) < len(names):
            raise ValueError("names a backend twice")
        return ",".join(names)

    @field_validator("openai_url")
    @classmethod
    def _url(cls, value: str) -> str:
        if value and not value.startswith(("http://", "https://")):
            raise ValueError("is not an http or https url, as in http://127.0.0.1:8000/v1")
        return value.rstrip("/")

    @field_validator("tensorrt_adapters")
    @classmethod
    def _pairs(cls, value: str) -> str:
        for pair in split(value):
            name, _, folder = pair.partition("=")
            if not name or (not folder and ("=" in pair or not pair.startswith("ad-"))):
                raise ValueError(f"{pair!r} is neither name=folder nor an artifact, as in ad-0123456789ab")
        return value

    @model_validator(mode="after")
    def _complete(self) -> Settings:
        needs = {"openai": ("openai_url", "openai_models"), "tensorrt_llm": ("tensorrt_model",)}
        for backend in self.names:
            for field in needs.get(backend, ()):
                if not getattr(self, field):
                    raise ValueError(f"the backend {backend} needs ANABRANCH_GENERATION_{field.upper()}")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """The backends to load."""
        return tuple(self.backends.split(","))

    @property
    def artifact_store(self) -> str:
        """The artifact store to use."""
        return self.artifacts or str((self.data / "artifacts").absolute())


def split(value: str) -> tuple[str, ...]:
    """The parts of a list with commas."""
    return tuple(part.strip() for part in value.split(",") if part.strip())
