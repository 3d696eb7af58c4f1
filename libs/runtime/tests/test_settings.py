"""Settings are one frozen object; what is wrong with them is said at once, by variable."""

from datetime import timedelta
from pathlib import Path
from typing import ClassVar

import pytest
from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import SettingsConfigDict

from anabranch_runtime import ServiceSettings, WrongSettings, load


class Settings(ServiceSettings):
    model_config: ClassVar[SettingsConfigDict] = SettingsConfigDict(env_prefix="ANABRANCH_THING_")

    batch: int = Field(default=32, ge=1, le=512, description="texts a batch")
    wait: timedelta = Field(default=timedelta(milliseconds=5), description="for company")
    pause: timedelta | None = Field(default=None, description="between batches")
    weights: dict[str, float] = Field(default_factory=dict, description="by name")
    api_key: SecretStr = Field(default=SecretStr(""), min_length=0, max_length=10, description="of the backend")


class Demanding(Settings):
    model: str = Field(description="which model")


def faults(kind: type[ServiceSettings] = Settings) -> list[str]:
    with pytest.raises(WrongSettings) as caught:
        load(kind)
    return caught.value.faults


def test_without_any_variable_the_defaults_hold() -> None:
    settings = load(Settings)
    assert (settings.kafka, settings.listen, settings.batch) == ("127.0.0.1:9092", "127.0.0.1:0", 32)


def test_variables_are_read_with_the_services_prefix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANABRANCH_THING_BATCH", "7")
    monkeypatch.setenv("ANABRANCH_THING_DATA", "/srv/thing")
    monkeypatch.setenv("ANABRANCH_OTHER_BATCH", "rubbish of another service")
    settings = load(Settings)
    assert (settings.batch, settings.data) == (7, Path("/srv/thing"))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("20ms", timedelta(milliseconds=20)),
        ("1.5s", timedelta(seconds=1.5)),
        ("2m", timedelta(minutes=2)),
        ("1h", timedelta(hours=1)),
        ("PT3S", timedelta(seconds=3)),
    ],
)
def test_durations_are_written_as_people_write_them(
    monkeypatch: pytest.MonkeyPatch, text: str, value: timedelta
) -> None:
    monkeypatch.setenv("ANABRANCH_THING_WAIT", text)
    monkeypatch.setenv("ANABRANCH_THING_PAUSE", text)
    settings = load(Settings)
    assert (settings.wait, settings.pause) == (value, value)


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        load(Settings).batch = 1


def test_an_unknown_variable_is_refused_and_the_near_one_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANABRANCH_THING_BACTH", "7")
    monkeypatch.setenv("ANABRANCH_THING_COLOUR", "red")
    assert faults() == [
        "ANABRANCH_THING_BACTH: there is no such setting; did you mean ANABRANCH_THING_BATCH? Otherwise unset it.",
        "ANABRANCH_THING_COLOUR: there is no such setting; unset it.",
    ]


def test_every_fault_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    rubbish = {
        "BATCH": "many",
        "WAIT": "soon",
        "WEIGHTS": "{not json",
        "LISTEN": "nowhere",
        "OPS_LISTEN": "127.0.0.1:99999",
        "LOG_LEVEL": "loud",
        "LOG_FORMAT": "xml",
        "DRAIN_WAIT": "1h",
        "KAFKA": "",
        "NONSENSE": "x",
    }
    for name, value in rubbish.items():
        monkeypatch.setenv(f"ANABRANCH_THING_{name}", value)
    found = faults(Demanding)
    named = {fault.removeprefix("ANABRANCH_THING_").split("=")[0].split(":")[0] for fault in found}
    assert named == {*rubbish, "MODEL"}
    assert len(found) == len(named)


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert faults(Demanding) == ["ANABRANCH_THING_MODEL: is not set and has no default; set it."]


def test_a_wrong_secret_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANABRANCH_THING_API_KEY", "swordfish-and-more")
    (fault,) = faults()
    assert "ANABRANCH_THING_API_KEY" in fault
    assert "swordfish" not in fault


@pytest.mark.parametrize("value", ["127.0.0.1:0", "unix:/run/x.sock", "0.0.0.0:80,unix:/run/x.sock", "[::1]:80"])
def test_addresses_to_listen_on(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("ANABRANCH_THING_LISTEN", value)
    assert load(Settings).listen == value


@pytest.mark.parametrize("value", ["", "80", ":80", "unix:relative", "127.0.0.1:port", "127.0.0.1:80,"])
def test_addresses_that_are_none(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("ANABRANCH_THING_LISTEN", value)
    (fault,) = faults()
    assert "host:port or unix:/path" in fault


def test_a_service_without_a_prefix_is_a_bug_of_its_author() -> None:
    with pytest.raises(TypeError, match="env_prefix"):
        ServiceSettings.service_name()
    assert Settings.service_name() == "thing"
