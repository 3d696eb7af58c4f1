"""What the service can be told."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from anabranch_runtime import ServiceSettings


class Settings(ServiceSettings):
    """Read from ANABRANCH_EVALUATION_*."""

    model_config: ClassVar[SettingsConfigDict] = SettingsConfigDict(
        frozen=True, extra="forbid", validate_default=True, env_prefix="ANABRANCH_EVALUATION_"
    )

    most_corpora: int = Field(default=10_000, ge=1, description="corpora counted apart; further ones are refused")
