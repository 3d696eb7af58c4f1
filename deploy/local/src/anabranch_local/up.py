"""Starting a platform here or in the background, stopping it, and looking at it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from anabranch_local.probes import reason_unready
from anabranch_local.process import StartError, tail
from anabranch_local.state import ServiceState, State, last_state, load_state
from anabranch_local.supervisor import AlreadyRunningError, Supervisor, sweep
from anabranch_local.topology import Options, compose

Progress = Callable[[str], None]
_STOP_PATIENCE = timedelta(seconds=40)


def run_here(
    options: Options, *, progress: Progress = lambda _: None, ready: Callable[[State], None] = lambda _: None
) -> None:
    """Run a platform in this process until SIGTERM or Ctrl-C. `ready` is called once, with the endpoints.

    Raises:
        AlreadyRunningError, StartError
    """
    supervisor = Supervisor(
        data_dir=options.data_dir, compose=partial(compose, options), progress=progress, ready=ready
    )
    asyncio.run(supervisor.run())


def run_detached(options: Options, *, progress: Progress = lambda _: None) -> State:
    """Run a platform in a session of its own; returns once everything is ready.

    Raises:
        AlreadyRunningError, StartError: with the last lines of the failing part's log.
    """
    if state := load_state(options.data_dir):
        raise AlreadyRunningError(
            f"a platform already runs in {options.data_dir} (process {state.supervisor.pid}); "
            "stop it with `anabranch down`"
        )
    log = options.data_dir / "logs" / "supervisor.log"
    options.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    log.parent.mkdir(exist_ok=True)
    with log.open("ab") as out:
        process = subprocess.Popen(  # noqa: S603 - our own command
            [sys.executable, "-m", "anabranch_local.up", options.to_json()],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            cwd="/",
            start_new_session=True,
        )
    try:
        return _follow(process, options.data_dir, log, progress)
    except KeyboardInterrupt:
        process.send_signal(signal.SIGTERM)
        process.wait()
        raise


def _follow(process: subprocess.Popen[bytes], data_dir: Path, log: Path, progress: Progress) -> State:
    shown = ""
    while True:
        ended = process.poll() is not None
        state = last_state(data_dir)
        mine = state is not None and state.supervisor.pid == process.pid
        if state is not None and mine and state.ready and not ended:
            return state
        if process.returncode == 0:
            raise StartError("it was stopped while it started")
        if ended:
            raise StartError(state.failure if state is not None and mine and state.failure else tail(log))
        if state is not None and mine and state.phase != shown:
            shown = state.phase
            progress(shown)
        time.sleep(0.1)


def stop(data_dir: Path, *, progress: Progress = lambda _: None) -> bool:
    """Stop what runs in a data folder, and what a crashed supervisor left there. Blocks until all is gone.

    Returns whether a platform was running.
    """
    state = load_state(data_dir)
    if state is None:
        sweep(data_dir)
        return False
    supervisor = psutil.Process(state.supervisor.pid)
    supervisor.terminate()
    end = time.monotonic() + _STOP_PATIENCE.total_seconds()
    shown: tuple[str, ...] = ()
    while state.supervisor.alive and time.monotonic() < end:
        now = last_state(data_dir)
        left = tuple(s.name for s in now.services if s.state != "stopped") if now else ()
        if left and left != shown:
            progress(f"stopping: {', '.join(reversed(left))}")
            shown = left
        time.sleep(0.05)
    if state.supervisor.alive:
        with suppress(psutil.NoSuchProcess):
            supervisor.kill()
            supervisor.wait(5)
        sweep(data_dir)
    return True


def report(state: State) -> dict[str, Any]:
    """The document of `anabranch status --json`: asks every part now. Blocks for about a second at most."""
    with ThreadPoolExecutor(max(1, len(state.services))) as pool:
        services = list(pool.map(_service, state.services))
    document: dict[str, Any] = {
        "ready": state.ready and all(service["state"] == "ready" for service in services),
        "tenant": state.tenant,
        "services": services,
        "endpoints": {"grpc": state.grpc, "http": state.http, "kafka": state.kafka},
        "key_file": state.key_file,
        "data_dir": state.data_dir,
        "index": state.index,
    }
    if state.phase:
        document["phase"] = state.phase
    return document


def _service(service: ServiceState) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "name": service.name,
        "state": service.state,
        "pid": service.pid,
        "rss_mb": service.rss_mb,
        "restarts": service.restarts,
        "log": service.log,
    }
    if service.state == "ready" and (reason := reason_unready(service.probe)) is not None:
        shown |= {"state": "unready", "reason": reason}
    return shown


def main() -> None:
    """The supervisor as a process of its own. Exit status: 0 when told to stop, 1 when the start failed."""
    options = Options.from_json(sys.argv[1])
    code = 0
    try:
        run_here(options, progress=lambda phrase: print(time.strftime("%FT%T"), phrase, flush=True))  # noqa: T201 - its log
    except (AlreadyRunningError, StartError) as error:
        print(time.strftime("%FT%T"), error, flush=True)  # noqa: T201 - its log
        code = 1
    os._exit(code)  # a download or a build that was cut short would hold the process back for minutes


if __name__ == "__main__":
    main()
