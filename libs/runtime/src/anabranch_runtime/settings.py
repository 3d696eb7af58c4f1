"""One frozen object of settings, read from the environment, with every fault named at once."""

from __future__ import annotations

import difflib
import json
import os
import re
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar, TypeVar, get_args

from pydantic import Field, SecretBytes, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from anabranch_observability import Format, Level
from anabranch_observability.redaction import REDACTED, is_secret

__all__ = ["ServiceSettings", "WrongSettings", "load"]

S = TypeVar("S", bound="ServiceSettings")
_PREFIX = re.compile(r"ANABRANCH_([A-Z][A-Z0-9]*)_")
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(us|ms|s|m|h|d)")
_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_MAX_PORT = 65535


class WrongSettings(ValueError):  # noqa: N818  reads as what went wrong
    """The environment does not give valid settings. `faults` has one sentence for each variable at fault."""

    def __init__(self, service: str, faults: list[str]) -> None:
        """Takes the service's name and the sentences."""
        count = "1 setting is wrong" if len(faults) == 1 else f"{len(faults)} settings are wrong"
        super().__init__(f"{service} cannot start: {count}.\n" + "\n".join(f"  {fault}" for fault in faults))
        self.faults = faults


class ServiceSettings(BaseSettings):
    """What every service can be told. A subclass adds its own and sets the prefix.

        class Settings(ServiceSettings):
            model_config = SettingsConfigDict(env_prefix="ANABRANCH_EMBEDDING_")
            batch: int = Field(default=32, ge=1, le=512, description="texts a batch")

    Durations are read as 20ms, 5s, 2m, 1h. An unknown variable with the prefix is a fault.
    """

    model_config: ClassVar[SettingsConfigDict] = SettingsConfigDict(frozen=True, extra="forbid", validate_default=True)

    kafka: str = Field(default="127.0.0.1:9092", min_length=1, description="Kafka: host:port, several with commas")
    listen: str = Field(default="127.0.0.1:0", description="gRPC: host:port or unix:/path, several with commas")
    ops_listen: str = Field(default="127.0.0.1:0", description="HTTP for /metrics, /livez and /readyz: host:port")
    log_level: Level = Field(default="info", description="debug, info, warning or error")
    log_format: Format = Field(default="auto", description="json, pretty, or auto: pretty on a terminal")
    data: Path = Field(default=Path("data"), description="working folder")
    address_file: Path | None = Field(default=None, description="where to write the bound addresses as JSON")
    drain_wait: timedelta = Field(
        default=timedelta(0),
        ge=timedelta(0),
        le=timedelta(seconds=5),
        description="after SIGTERM, the time load balancers get to look away",
    )

    @classmethod
    def service_name(cls) -> str:
        """The service's name, from the prefix. Raises TypeError when the subclass set none."""
        found = _PREFIX.fullmatch(str(cls.model_config.get("env_prefix", "")))
        if found is None:
            raise TypeError(f"{cls.__qualname__} needs model_config with env_prefix='ANABRANCH_<SERVICE>_'")
        return found[1].lower()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003  replaced by _Environment
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003  not read
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003  not read
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments, then the environment; nothing else."""
        return init_settings, _Environment(settings_cls)

    @field_validator("*", mode="before")
    @classmethod
    def _durations(cls, value: Any, info: ValidationInfo) -> Any:
        field = cls.model_fields.get(info.field_name or "")
        if (
            field is None
            or not isinstance(value, str)
            or timedelta not in (field.annotation, *get_args(field.annotation))
        ):
            return value
        found = _DURATION.fullmatch(value.strip())
        return timedelta(seconds=float(found[1]) * _UNITS[found[2]]) if found else value

    @field_validator("listen", "ops_listen")
    @classmethod
    def _addresses(cls, value: str, info: ValidationInfo) -> str:
        parts = value.split(",") if info.field_name == "listen" else [value]
        for part in parts:
            if part.startswith("unix:/") and info.field_name == "listen":
                continue
            host, _, port = part.rpartition(":")
            if not host or not port.isdigit() or int(port) > _MAX_PORT:
                allowed = "host:port or unix:/path" if info.field_name == "listen" else "host:port"
                raise ValueError(f"{part!r} is not {allowed}, as in 127.0.0.1:0")
        return value


class _Environment(EnvSettingsSource):
    """The environment, with what no field takes handed on, so that `extra="forbid"` sees it."""

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        """JSON, or the text as it is: validation then names the fault beside all the others."""
        try:
            return super().decode_complex_value(field_name, field, value)
        except ValueError:
            return value

    def __call__(self) -> dict[str, Any]:
        """Values by field, and unknown variables by their names."""
        values = super().__call__()
        prefix = str(self.settings_cls.model_config.get("env_prefix", ""))
        known = {f"{prefix}{name}".upper() for name in self.settings_cls.model_fields}
        for variable, value in os.environ.items():
            if prefix and variable.upper().startswith(prefix) and variable.upper() not in known:
                values.setdefault(variable, value)
        return values


def load(settings: type[S]) -> S:
    """Settings from the environment. Raises WrongSettings, which names every fault."""
    try:
        return settings()
    except ValidationError as error:
        prefix = str(settings.model_config.get("env_prefix", ""))
        variables = [f"{prefix}{name}".upper() for name in settings.model_fields]
        faults = [_sentence(fault, prefix, variables) for fault in error.errors(include_url=False)]
        raise WrongSettings(settings.service_name(), sorted(faults)) from None


def described(settings: type[ServiceSettings]) -> str:
    """The table of settings for people: variable, default, what it is."""
    prefix = str(settings.model_config.get("env_prefix", ""))
    lines = []
    for name, field in settings.model_fields.items():
        default = "required" if field.is_required() else _shown(field.get_default(call_default_factory=True), name)
        lines.append(f"  {prefix}{name.upper()} [{default}]\n      {field.description or ''}")
    return "\n".join(lines)


def _sentence(fault: Any, prefix: str, variables: list[str]) -> str:
    place = [str(part) for part in fault["loc"]]
    if fault["type"] == "extra_forbidden":
        short = [variable.removeprefix(prefix) for variable in variables]
        close = difflib.get_close_matches(place[0].upper().removeprefix(prefix), short, n=1, cutoff=0.7)
        advice = f"did you mean {prefix}{close[0]}? Otherwise unset it" if close else "unset it"
        return f"{place[0]}: there is no such setting; {advice}."
    name = place[0] if place else ""
    variable = f"{prefix}{name}".upper() if name else "the settings together"
    if fault["type"] == "missing":
        return f"{variable}: is not set and has no default; set it."
    problem = str(fault["msg"]).removeprefix("Value error, ")
    problem = problem[:1].lower() + problem[1:]
    inside = f" (at {'.'.join(place[1:])})" if len(place) > 1 else ""
    value = f"={_shown(fault['input'], name)}" if name else ""
    return f"{variable}{value}{inside}: {problem}; correct it, or unset it to get the default."


def _shown(value: Any, name: str) -> str:
    if is_secret(name) or isinstance(value, (SecretStr, SecretBytes)):
        return REDACTED
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    limit = 80
    return repr(text if len(text) <= limit else f"{text[:limit]}...")


def load_or_exit(settings: type[S]) -> S:
    """As `load`; prints the faults on standard error and exits with 2."""
    try:
        return load(settings)
    except WrongSettings as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(2) from None
