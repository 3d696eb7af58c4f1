"""How a command finds the platform: the data folder of `anabranch up`, or an endpoint and key given by environment."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import ParamSpec, TypeVar

import click

from anabranch_cli.output import NotRunning
from anabranch_client import Anabranch, AsyncAnabranch
from anabranch_local.state import State, find_data_dir, load_state

__all__ = ["Platform", "data_option", "platform"]

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Platform:
    """Where to reach the platform. `state` is None when it was not started on this machine."""

    endpoint: str
    key: str
    kafka: str
    tenant: str
    state: State | None

    def client(self) -> Anabranch:
        """A synchronous client; use it as a context manager."""
        return Anabranch(endpoint=self.endpoint, key=self.key)

    def async_client(self) -> AsyncAnabranch:
        """An asynchronous client; use it as an async context manager."""
        return AsyncAnabranch(endpoint=self.endpoint, key=self.key)

    def local_state(self) -> State:
        """The local processes. Raises NotRunning when the platform runs elsewhere."""
        if self.state is None:
            raise NotRunning("this command talks to the services themselves: run it where `anabranch up` runs")
        return self.state


def data_option(command: Callable[P, T]) -> Callable[P, T]:
    """Adds --data; the command gets it as `data`."""

    @click.option(
        "--data",
        type=click.Path(path_type=Path, file_okay=False),
        help="Data folder of `anabranch up`. Default: $ANABRANCH_DATA_DIR, else the nearest .anabranch.",
    )
    @wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> T:
        return command(*args, **kwargs)

    return wrapped


def platform(data: Path | None) -> Platform:
    """Finds the platform. ANABRANCH_ENDPOINT with ANABRANCH_KEY or ANABRANCH_KEY_FILE wins over a data folder.

    Raises NotRunning.
    """
    endpoint = os.environ.get("ANABRANCH_ENDPOINT", "")
    if endpoint and data is None:
        key_file = os.environ.get("ANABRANCH_KEY_FILE")
        key = Path(key_file).read_text().strip() if key_file else os.environ.get("ANABRANCH_KEY", "")
        return Platform(
            endpoint=endpoint,
            key=key,
            kafka=os.environ.get("ANABRANCH_KAFKA", ""),
            tenant=os.environ.get("ANABRANCH_TENANT", "default"),
            state=None,
        )
    folder = find_data_dir(data)
    state = load_state(folder)
    if state is None:
        raise NotRunning(f"nothing runs in {folder}; start it with `anabranch up --detach`")
    return Platform(
        endpoint=state.grpc,
        key=Path(state.key_file).read_text().strip(),
        kafka=state.kafka,
        tenant=state.tenant,
        state=state,
    )
