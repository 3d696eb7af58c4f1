"""The commands `up`, `status` and `down` on the real services."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from anabranch_local.state import last_state, load_state
from anabranch_local.supervisor import RUN_VARIABLE
from anabranch_testkit import poll_until

pytestmark = [pytest.mark.connected, pytest.mark.slow, pytest.mark.timeout(600)]

ANABRANCH = Path(sys.executable).parent / "anabranch"
ROOT = Path(__file__).resolve().parents[3]
PARTS = ["kafka", *(path.parent.name for path in (ROOT / "services").glob("*/pyproject.toml"))]
CORES, READY_WITHIN = 2, 25.0  # seconds, with a warm cache
MEMORY = 2.5 * 1024  # MiB


def anabranch(*arguments: str, data: Path | None = None, code: int = 0) -> str:
    more = () if data is None else ("--data", str(data))
    done = subprocess.run([ANABRANCH, *arguments, *more], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == code, f"exit {done.returncode}: {done.stderr[-3000:]}{done.stdout[-1000:]}"
    return done.stdout


def status(data: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(anabranch("status", "--json", data=data))
    return document


def living(run: str) -> list[str]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(RUN_VARIABLE) == run and process.status() != psutil.STATUS_ZOMBIE:
                found.append(" ".join(process.cmdline())[:120])
        except psutil.Error:
            continue
    return found


def test_status_and_down_say_when_nothing_runs(tmp_path: Path) -> None:
    document = json.loads(anabranch("status", "--json", data=tmp_path, code=3))
    assert document["ready"] is False
    assert document["services"] == []
    assert json.loads(anabranch("down", "--json", data=tmp_path, code=3))["stopped"] is False


@pytest.mark.parametrize("wrong", ["gateway=2", "embedding", "embedding=0", "embedding=many", "nothing=1"])
def test_a_wrong_scale_is_wrong_usage(tmp_path: Path, wrong: str) -> None:
    anabranch("up", "--scale", wrong, data=tmp_path / "data", code=2)
    assert not (tmp_path / "data").exists()


def test_a_service_that_cannot_start_ends_up_with_its_last_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANABRANCH_GENERATION_BACKENDS", "crystal_ball")
    done = subprocess.run(
        [ANABRANCH, "up", "--detach", "--data", tmp_path / "data"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "generation does not start" in done.stderr
    assert "there is no backend 'crystal_ball'" in done.stderr
    assert load_state(tmp_path / "data") is None
    state = last_state(tmp_path / "data")
    assert state is not None
    assert living(state.run) == []


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("up") / "data"
    said = anabranch("up", "--detach", "--json", "--scale", "embedding=2", data=folder)
    assert json.loads(said)["ready"] is True, "stdout holds one JSON document and nothing else"
    yield folder
    subprocess.run([ANABRANCH, "down", "--data", folder], capture_output=True, check=False, timeout=60)


class TestEmbedded:
    """One platform, started once; the tests run in the order written."""

    def test_everything_is_ready_and_fits_the_memory(self, data: Path) -> None:
        document = status(data)
        assert document["ready"]
        assert sorted(service["name"] for service in document["services"]) == sorted([*PARTS, "embedding-2"])
        assert {service["state"] for service in document["services"]} == {"ready"}
        assert sum(service["rss_mb"] for service in document["services"]) < MEMORY
        assert set(document["endpoints"]) == {"grpc", "http", "kafka"}
        assert document["endpoints"]["http"].startswith("http://127.0.0.1:")
        key = Path(document["key_file"])
        assert len(key.read_text().strip().split()) == 1
        assert stat.S_IMODE(key.stat().st_mode) == 0o600
        assert stat.S_IMODE(data.stat().st_mode) == 0o700

    def test_only_loopback_is_listened_on(self, data: Path) -> None:
        state = load_state(data)
        assert state is not None
        for service in state.services:
            for connection in psutil.Process(service.pid).net_connections("inet"):
                if connection.status == psutil.CONN_LISTEN:
                    assert connection.laddr.ip in {"127.0.0.1", "::ffff:127.0.0.1"}, service.name

    def test_a_second_up_in_the_folder_is_refused(self, data: Path) -> None:
        anabranch("up", "--detach", data=data, code=1)
        anabranch("up", data=data, code=1)
        assert status(data)["ready"]

    @pytest.mark.parametrize("name", ["retrieval", "kafka"])
    async def test_what_is_killed_comes_back_on_its_port(self, data: Path, name: str) -> None:
        before = status(data)
        pid = next(service["pid"] for service in before["services"] if service["name"] == name)
        os.kill(pid, signal.SIGKILL)

        def back() -> bool:
            now = status(data)
            here = next(service for service in now["services"] if service["name"] == name)
            return bool(now["ready"] and here["pid"] != pid and here["restarts"] >= 1)

        await poll_until(back, deadline=60, what=f"{name} back")
        assert status(data)["endpoints"] == before["endpoints"]

    def test_down_leaves_no_process_and_the_next_start_is_fast_and_has_the_same_endpoints(self, data: Path) -> None:
        before = status(data)
        state = load_state(data)
        assert state is not None
        anabranch("down", data=data)
        assert living(state.run) == []
        assert not Path(state.sockets).exists()
        anabranch("status", data=data, code=3)
        anabranch("up", "--detach", data=data)
        after = status(data)
        # In processor time, which does not depend on what else runs here.
        times = [psutil.Process(service["pid"]).cpu_times() for service in after["services"]]
        assert sum(used.user + used.system for used in times) < CORES * READY_WITHIN
        assert after["endpoints"] == before["endpoints"]
        assert after["key_file"] == before["key_file"]

    async def test_the_crash_of_the_supervisor_leaves_no_orphans(self, data: Path) -> None:
        state = load_state(data)
        assert state is not None
        os.kill(state.supervisor.pid, signal.SIGKILL)
        await poll_until(lambda: not living(state.run), deadline=10, what="an end of all its processes")
        anabranch("status", data=data, code=3)


def test_in_the_foreground_with_weaviate_until_ctrl_c(tmp_path: Path) -> None:
    command = [str(ANABRANCH), "up", "--json", "--index", "weaviate", "--data", str(tmp_path / "data")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        document = json.loads(process.stdout.readline())
        assert document["ready"]
        assert "weaviate" in {service["name"] for service in document["services"]}
        state = load_state(tmp_path / "data")
        assert state is not None
        process.send_signal(signal.SIGINT)
        assert process.wait(40) == 0
    assert living(state.run) == []
