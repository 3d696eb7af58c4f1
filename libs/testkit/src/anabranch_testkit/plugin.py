"""The pytest plugin: fixtures of real parts, each started on first use, once a process (so once per xdist worker)."""

from __future__ import annotations

import asyncio
import itertools
import os
import re
import tempfile
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

from anabranch_local import process
from anabranch_local.cache import bytecode_environment
from anabranch_testkit.polling import poll_until as _poll_until
from anabranch_testkit.postgres import PostgresServer

if TYPE_CHECKING:
    from anabranch_local.kafka import KafkaServer
    from anabranch_rpc import Servicer

Unique = Callable[[str], str]
Serve = Callable[..., Awaitable[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class WeaviateEndpoints:
    """Both as `host:port`."""

    http: str
    grpc: str


# How long an example takes says more about the machine's other work than about the code: speed is measured elsewhere.
settings.register_profile("anabranch", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("anabranch")


def pytest_configure() -> None:
    """Let the processes that tests start find what was compiled."""
    os.environ.update(bytecode_environment())


def pytest_runtestloop(session: pytest.Session) -> None:
    """Fetch and build what the chosen tests need before the first one runs: it can take longer than a test may."""
    if session.config.option.collectonly:
        return
    needed = {name for item in session.items if isinstance(item, pytest.Function) for name in item.fixturenames}
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")

    def say(phrase: str) -> None:
        if reporter is not None:
            reporter.write_line(phrase)

    if "kafka_server" in needed:
        from anabranch_local.jars import kafka_classpath  # noqa: PLC0415 - most test runs need no Kafka

        kafka_classpath(progress=say)
    if "weaviate" in needed:
        from anabranch_local.weaviate import weaviate_program  # noqa: PLC0415 - most test runs need no Weaviate

        weaviate_program(progress=say)


@pytest.fixture(scope="session")
def kafka_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaServer]:
    """The run's own `anabranch_local.kafka.KafkaServer`, for tests that look at its process. Do not stop this one."""
    from anabranch_local import kafka as local  # noqa: PLC0415 - most test runs need no Kafka
    from anabranch_local.provisioning import provision  # noqa: PLC0415 - as above

    with local.KafkaServer(tmp_path_factory.mktemp("kafka")) as server:
        # In a thread: whoever asked for this fixture may have an event loop in this one.
        with ThreadPoolExecutor(1) as thread:
            thread.submit(lambda: asyncio.run(provision(server.bootstrap))).result()
        yield server


@pytest.fixture(scope="session")
def kafka(kafka_server: KafkaServer) -> str:
    """`host:port` of a real broker where every topic of the project exists."""
    return kafka_server.bootstrap


@pytest.fixture(scope="session")
def weaviate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WeaviateEndpoints]:
    """Where a real Weaviate listens, open to all. Tests keep apart by collection names (`unique`)."""
    from anabranch_local import weaviate as local  # noqa: PLC0415 - most test runs need no Weaviate

    with local.WeaviateServer(tmp_path_factory.mktemp("weaviate")) as server:
        yield WeaviateEndpoints(http=server.http, grpc=server.grpc)


@pytest.fixture(scope="session")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Url, with its password, of a real Redis. Tests keep apart by prefixes of their keys (`unique`)."""
    from anabranch_local.process import StartError  # noqa: PLC0415 - most test runs need no Redis
    from anabranch_local.redis import RedisServer, redis_program  # noqa: PLC0415 - as above

    try:
        redis_program()
    except StartError as error:
        pytest.skip(str(error))
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server.url


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """The run's PostgreSQL; tests want `postgres`, a database of their own in it."""
    with PostgresServer() as server:
        yield server


@pytest.fixture
def postgres(postgres_server: PostgresServer) -> Iterator[str]:
    """Url (SQLAlchemy, asyncpg) of an empty PostgreSQL database, dropped after the test."""
    url = postgres_server.create_database()
    yield url
    postgres_server.drop_database(url)


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.connected)])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Url of an empty database, once on SQLite and once on PostgreSQL (that half is `connected`)."""
    if request.param == "sqlite":
        return f"sqlite+aiosqlite:///{tmp_path / 'test.db'}"
    return str(request.getfixturevalue("postgres"))


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
async def grpc_server(short_dir: Path) -> AsyncIterator[Serve]:
    """A function that serves servicers by `anabranch_rpc.Server` in this event loop, and gives the target.

    As in `target = await grpc_server(servicer, ...)`; options of `Server` by name. Stopped after the test.
    """
    from anabranch_rpc import Server  # noqa: PLC0415 - most test runs need no gRPC

    servers: list[Server] = []

    async def serve(*servicers: Servicer, **options: Any) -> str:
        server = Server(servicers, listen=f"unix:{short_dir / f'{len(servers)}.sock'}", **options)
        await server.start()
        servers.append(server)
        await server.set_serving(serving=True)
        return server.address

    yield serve
    for server in servers:
        await server.stop(timedelta(seconds=1))


@pytest.fixture
def short_dir() -> Iterator[Path]:
    """A private folder with a path short enough for unix sockets (about 100 characters in all)."""
    with tempfile.TemporaryDirectory(prefix="ab-") as folder:
        yield Path(folder)
