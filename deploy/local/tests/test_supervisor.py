"""A platform of stand-ins: what the supervisor does when its parts, or it itself, behave badly."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from anabranch_local.child import bound
from anabranch_local.state import ServiceState, State, last_state, load_state
from anabranch_local.supervisor import RUN_VARIABLE, sweep
from anabranch_local.up import report, stop
from anabranch_testkit import poll_until

pytestmark = pytest.mark.connected

Supervise = Callable[[Path, list[dict[str, str]]], list[str]]


class Platform:
    """One supervisor as a process, and questions about it."""

    def __init__(self, data: Path, command: list[str]) -> None:
        self.data = data
        self.out = data.parent / "supervisor.out"
        with self.out.open("wb") as out:
            self.process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, start_new_session=True)

    async def ready(self) -> State:
        def look() -> State | None:
            assert self.process.poll() is None, self.out.read_text()
            state = load_state(self.data)
            return state if state is not None and state.ready else None

        return await poll_until(look, deadline=30)

    def service(self, name: str) -> ServiceState:
        state = last_state(self.data)
        assert state is not None
        return {service.name: service for service in state.services}[name]

    def ended(self, *, within: float = 20) -> int:
        return self.process.wait(within)


@pytest.fixture
def start(tmp_path: Path, supervise: Supervise) -> Iterator[Callable[..., Platform]]:
    platforms: list[Platform] = []

    def started(*stages: dict[str, str]) -> Platform:
        platforms.append(Platform(tmp_path / "data", supervise(tmp_path / "data", list(stages))))
        return platforms[-1]

    yield started
    for platform in platforms:
        if platform.process.poll() is None:
            platform.process.terminate()
            platform.process.wait(30)
        sweep(platform.data)


def processes_of(run: str) -> list[int]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(RUN_VARIABLE) == run and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


async def test_everything_starts_and_down_leaves_no_process(start: Callable[..., Platform]) -> None:
    platform = start({"store": "serves"}, {"one": "serves", "two": "has a child"})
    state = await platform.ready()
    document = report(state)
    assert document["ready"]
    assert [service["name"] for service in document["services"]] == ["store", "one", "two"]
    assert all(service["state"] == "ready" and service["rss_mb"] > 1 for service in document["services"])
    assert document["endpoints"]["grpc"] == "127.0.0.1:1"
    assert len(processes_of(state.run)) == 4

    assert stop(platform.data)
    assert platform.ended() == 0
    assert processes_of(state.run) == []
    assert load_state(platform.data) is None
    assert (platform.data / "one.log").read_text() == "hello\nbye\n"
    assert not stop(platform.data)


def test_the_data_folder_is_its_owners_alone(start: Callable[..., Platform], tmp_path: Path) -> None:
    (tmp_path / "data").mkdir(mode=0o755)
    start({"one": "dies"}).ended()
    assert (tmp_path / "data").stat().st_mode & 0o777 == 0o700


async def test_a_killed_child_is_started_again(start: Callable[..., Platform]) -> None:
    platform = start({"one": "has a child"})
    state = await platform.ready()
    killed = platform.service("one").pid
    os.kill(killed, signal.SIGKILL)

    def back() -> bool:
        now = platform.service("one")
        return now.state == "ready" and now.pid != killed and now.restarts == 1

    await poll_until(back, deadline=15)
    assert len(processes_of(state.run)) == 2, "what the killed one had started is gone, too"


async def test_a_child_that_stops_answering_is_shown(start: Callable[..., Platform]) -> None:
    platform = start({"one": "serves"})
    state = await platform.ready()
    os.kill(platform.service("one").pid, signal.SIGSTOP)
    try:
        document = report(state)
    finally:
        os.kill(platform.service("one").pid, signal.SIGCONT)
    assert not document["ready"]
    assert document["services"][0]["state"] == "unready"
    assert "timed out" in document["services"][0]["reason"]


async def test_two_supervisors_in_one_folder_are_refused(start: Callable[..., Platform]) -> None:
    first = start({"one": "serves"})
    await first.ready()
    out = first.out.read_text()
    second = start({"one": "serves"})
    assert second.ended() == 1
    assert f"already runs in {first.data} (process {first.process.pid})" in second.out.read_text()
    assert out.endswith("ready\n")
    assert first.service("one").state == "ready"


async def test_the_crash_of_the_supervisor_leaves_no_orphans(start: Callable[..., Platform]) -> None:
    platform = start({"store": "serves"}, {"one": "is deaf"})
    state = await platform.ready()
    platform.process.kill()
    platform.process.wait()
    await poll_until(lambda: not processes_of(state.run), deadline=5)
    assert load_state(platform.data) is None


async def test_what_a_crash_left_behind_is_ended_at_the_next_start(start: Callable[..., Platform]) -> None:
    platform = start({"one": "has a child"})
    before = await platform.ready()
    platform.process.kill()
    platform.process.wait()
    await poll_until(lambda: len(processes_of(before.run)) == 1)  # the grandchild: nobody watches its parent
    after = await start({"one": "serves"}).ready()
    assert after.run != before.run
    assert processes_of(before.run) == []


def test_wrong_settings_end_the_start_at_once_with_the_log(start: Callable[..., Platform]) -> None:
    began = time.monotonic()
    platform = start({"store": "serves"}, {"one": "wrong settings", "two": "serves"})
    assert platform.ended() == 1
    state = last_state(platform.data)
    assert state is not None
    assert "one does not start: it ended with status 2" in state.failure
    assert state.failure.endswith("ANABRANCH_X: there is no such setting")
    assert processes_of(state.run) == []
    assert time.monotonic() - began < 15


def test_a_service_that_keeps_dying_ends_the_start(start: Callable[..., Platform]) -> None:
    platform = start({"one": "dies"})
    assert platform.ended() == 1
    state = last_state(platform.data)
    assert state is not None
    assert "cannot go on" in state.failure
    assert (platform.data / "one.log").read_text().count("cannot go on") == 3


async def test_a_service_that_ignores_the_request_to_stop_is_killed(start: Callable[..., Platform]) -> None:
    platform = start({"one": "is deaf"})
    state = await platform.ready()
    assert stop(platform.data)
    assert processes_of(state.run) == []


async def test_stop_during_the_start_stops(start: Callable[..., Platform]) -> None:
    platform = start({"one": "serves", "two": "is never ready"})

    def two_runs() -> bool:
        return platform.service("two").pid != 0

    await poll_until(two_runs, deadline=15)
    platform.process.terminate()
    assert platform.ended() == 0
    state = last_state(platform.data)
    assert state is not None
    assert processes_of(state.run) == []


def test_a_log_is_bounded_while_its_writer_goes_on(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("ab", buffering=0) as writer:
        writer.write(b"old\n")
        bound(log)
        writer.write(b"new\n")
    assert log.read_bytes() == b"new\n"
    assert (tmp_path / "log.1").read_bytes() == b"old\n"
