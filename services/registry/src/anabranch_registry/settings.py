"""What the registry can be told."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field, field_validator
from pydantic_settings import SettingsConfigDict

from anabranch_runtime import ServiceSettings

__all__ = ["Settings"]


class Settings(ServiceSettings):
    """Read from ANABRANCH_REGISTRY_*."""

    model_config: ClassVar[SettingsConfigDict] = SettingsConfigDict(env_prefix="ANABRANCH_REGISTRY_")

    database: str = Field(
        default="",
        description="variants and routing: sqlite:////path or postgresql://...; empty: a file in the data folder",
    )

    @property
    def database_url(self) -> str:
        """The database to use."""
        return self.database or f"sqlite:///{(self.data / 'registry.db').absolute()}"

    @field_validator("database")
    @classmethod
    def _kind(cls, value: str) -> str:
        if value and not value.startswith(("sqlite:", "postgresql:")):
            raise ValueError("a database url begins with sqlite: or postgresql:")
        return value
