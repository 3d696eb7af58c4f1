"""What the service can be told."""

from __future__ import annotations

from typing import ClassVar

from pydantic_settings import SettingsConfigDict

from anabranch_runtime import ServiceSettings


class Settings(ServiceSettings):
    """Read from ANABRANCH_GUARDRAILS_*."""

    model_config: ClassVar[SettingsConfigDict] = SettingsConfigDict(
        frozen=True, extra="forbid", validate_default=True, env_prefix="ANABRANCH_GUARDRAILS_"
    )
