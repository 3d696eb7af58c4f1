"""A real Redis."""

from __future__ import annotations

from pathlib import Path

import pytest
import redis

from anabranch_local import redis as local
from anabranch_local.process import StartError
from anabranch_local.redis import RedisServer, redis_program


@pytest.fixture(autouse=True)
def _one_is_here() -> None:
    try:
        redis_program()
    except StartError as error:
        pytest.skip(str(error))


@pytest.mark.connected
def test_what_is_durable_survives_a_crash_at_the_same_address_and_strangers_are_refused(tmp_path: Path) -> None:
    with RedisServer(tmp_path, durable=True) as server:
        url = server.url
        with redis.Redis.from_url(url) as client:
            client.set("thing", "1")
        with redis.Redis(port=server.port) as stranger, pytest.raises(redis.AuthenticationError):
            stranger.get("thing")
        assert server.password_file.stat().st_mode & 0o777 == 0o600
        server.kill()
        assert not server.answers()
        server.start()
        assert server.url == url
        with redis.Redis.from_url(url) as client:
            assert client.get("thing") == b"1"


@pytest.mark.connected
def test_a_unix_socket_takes_the_place_of_the_port(tmp_path: Path, short_dir: Path) -> None:
    with RedisServer(tmp_path, socket=short_dir / "redis.sock") as server:
        with redis.Redis.from_url(server.url) as client:
            assert client.ping()
            assert client.config_get("port") == {"port": "0"}
        server.stop()
        assert not server.process.alive


@pytest.mark.connected
def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with RedisServer(tmp_path / "one") as server, pytest.raises(StartError, match=str(server.port)):
        RedisServer(tmp_path / "two", port=server.port).start()


def test_without_the_packaged_one_the_first_on_the_path_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "find_spec", lambda name: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(StartError, match="valkey-server"):
        redis_program()
    program = tmp_path / "valkey-server"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    assert redis_program() == program
