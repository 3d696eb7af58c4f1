"""The pytest plugin: fixtures of real parts, each started on first use, once a process (so once per xdist worker)."""

from __future__ import annotations

import asyncio
import itertools
import re
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from anabranch_local import process
from anabranch_testkit.polling import poll_until as _poll_until

if TYPE_CHECKING:
    from anabranch_local.kafka import KafkaServer

Unique = Callable[[str], str]


@pytest.fixture(scope="session")
def kafka_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaServer]:
    """The run's own `anabranch_local.kafka.KafkaServer`, for tests that look at its process. Do not stop this one."""
    from anabranch_local import kafka as local  # noqa: PLC0415 - most test runs need no Kafka
    from anabranch_local.provisioning import provision  # noqa: PLC0415 - as above

    with local.KafkaServer(tmp_path_factory.mktemp("kafka")) as server:
        asyncio.run(provision(server.bootstrap))
        yield server


@pytest.fixture(scope="session")
def kafka(kafka_server: KafkaServer) -> str:
    """`host:port` of a real broker where every topic of the project exists."""
    return kafka_server.bootstrap


@pytest.fixture
def unique(request: pytest.FixtureRequest) -> Unique:
    """Names nobody else uses: `unique("topic")` gives `topic-<test>-<random>-<n>`, of letters, digits and hyphens."""
    test = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower())[:24].strip("-")
    random = uuid.uuid4().hex[:8]
    count = itertools.count(1)
    return lambda name: f"{name}-{test}-{random}-{next(count)}"


@pytest.fixture
def poll_until() -> object:
    """`anabranch_testkit.poll_until`, for tests that would rather not import it."""
    return _poll_until


@pytest.fixture
def free_port() -> Callable[[], int]:
    """A function that gives a loopback port nobody listens on."""
    return process.free_port


@pytest.fixture
def short_dir() -> Iterator[Path]:
    """A private folder with a path short enough for unix sockets (about 100 characters in all)."""
    with tempfile.TemporaryDirectory(prefix="ab-") as folder:
        yield Path(folder)
