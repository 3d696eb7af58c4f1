"""Processes that log to a file and never outlive the process that started them."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

from anabranch_local import guard

_GUARD = Path(guard.__file__)
_EPHEMERAL_FIRST = 32_768
# Ports that were dealt out and may not be listened on yet: a part that starts later must not be given one of them.
_dealt: set[int] = set()
_spawner: ThreadPoolExecutor | None = None
_spawner_lock = threading.Lock()


class StartError(RuntimeError):
    """A process did not come up. The message ends with the last lines of its log."""


def guarded(command: Sequence[str]) -> list[str]:
    """The command, made to die with the thread that runs it."""
    return [sys.executable, "-I", "-S", str(_GUARD), str(os.getpid()), *command]


def _spawn(command: Sequence[str], log: Path, env: Mapping[str, str], cwd: Path | None) -> subprocess.Popen[bytes]:
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as out:
        return subprocess.Popen(  # noqa: S603 - the command is the caller's
            guarded(command),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env=dict(env),
            cwd=cwd,
            start_new_session=True,
        )


def _in_lasting_thread() -> ThreadPoolExecutor:
    # Linux sends the death signal when the *thread* that forked ends, so all forks happen in one that lasts.
    global _spawner  # noqa: PLW0603 - one per process by nature
    with _spawner_lock:
        if _spawner is None:
            _spawner = ThreadPoolExecutor(1, "spawner")
        return _spawner


class Process:
    """One running command, with its output appended to `log`.

    It is killed when this process dies, in whatever way. `stop` ends its whole process group.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        log: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        self.log = log
        self._popen = (
            _in_lasting_thread().submit(_spawn, command, log, os.environ if env is None else env, cwd).result()
        )

    @property
    def pid(self) -> int:
        """Process id, which is also the id of its group."""
        return self._popen.pid

    @property
    def returncode(self) -> int | None:
        """Exit status; negative for a signal; None while it runs."""
        return self._popen.poll()

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self.returncode is None

    def terminate(self) -> None:
        """Ask it to stop; returns at once."""
        if self.alive:
            with suppress(ProcessLookupError):
                self._popen.terminate()

    def kill(self) -> None:
        """End it and what it started; returns when it is gone."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        self._popen.wait()

    def wait(self, *, grace: timedelta) -> bool:
        """Block until it ends, for `grace` at most; whether it did."""
        try:
            self._popen.wait(grace.total_seconds())
        except subprocess.TimeoutExpired:
            return False
        return True

    def stop(self, *, grace: timedelta = timedelta(seconds=20)) -> None:
        """SIGTERM, then SIGKILL to the whole group after `grace`. Blocks until it is gone."""
        self.terminate()
        self.wait(grace=grace)
        self.kill()

    def tail(self, lines: int = 20) -> str:
        """The last lines of the log."""
        return tail(self.log, lines)


def tail(log: Path, lines: int = 20) -> str:
    """The last lines of a log file; empty when there is none."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 65_536))
            return "\n".join(file.read().decode(errors="replace").splitlines()[-lines:])
    except FileNotFoundError:
        return ""


def port_is_free(port: int) -> bool:
    """Whether a server could listen on this loopback port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def free_port(preferred: int = 0) -> int:
    """A loopback port nobody listens on: `preferred` if it is free.

    Otherwise one that was not given out before, below the ephemeral range: there, a client that retries a stopped
    server can connect to itself and so take the very port the server wants back.
    """
    if preferred and port_is_free(preferred):
        _dealt.add(preferred)
        return preferred
    source = random.SystemRandom()
    for _ in range(200):
        port = source.randrange(20_000, _EPHEMERAL_FIRST)
        if port not in _dealt and port_is_free(port):
            _dealt.add(port)
            return port
    raise StartError("no free loopback port between 20000 and 32767")


def await_ready(process: Process, probe: Callable[[], bool], *, deadline: timedelta, what: str) -> None:
    """Call `probe` until it is true; StartError with the log's tail when the process ends or time runs out."""
    end = time.monotonic() + deadline.total_seconds()
    while not probe():
        if not process.alive:
            raise StartError(f"{what} ended with status {process.returncode}; its log says:\n{process.tail()}")
        if time.monotonic() > end:
            raise StartError(f"{what} was not ready after {deadline}; its log says:\n{process.tail()}")
        time.sleep(0.05)
