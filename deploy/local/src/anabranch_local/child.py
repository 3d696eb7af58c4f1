"""Keeping one part running: launched, watched, launched again after a pause when it ends by itself."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import psutil

from anabranch_local.parts import Part
from anabranch_local.probes import reason_unready
from anabranch_local.process import Process, StartError, tail
from anabranch_local.state import ProcessId, ServiceState

_FIRST_PAUSE = timedelta(milliseconds=500)
_LONGEST_PAUSE = timedelta(seconds=30)
_STEADY = timedelta(seconds=60)
"""After so long without a crash, the next pause is the first one again."""
_MOST_FAILED_STARTS = 3
_WRONG_SETTINGS = 2
_ASK = timedelta(milliseconds=100)
_WATCH = timedelta(milliseconds=250)
_LOG_LIMIT = 20 * 1024 * 1024


class Child:
    """A part under supervision.

    `changed` is called whenever `state` has. Everything runs on the event loop that runs `run`.
    """

    def __init__(self, part: Part, *, changed: Callable[[], None]) -> None:
        self.part = part
        self._changed = changed
        self._process: Process | None = None
        self._id = ProcessId(pid=0, created=0.0)
        self._phase = "stopped"
        self._restarts = 0
        self._stopping = False
        self._stopped = asyncio.Event()
        self._ready_once = asyncio.Event()
        self.reason = "not started"

    @property
    def state(self) -> ServiceState:
        """As `anabranch status` shows it."""
        return ServiceState(
            name=self.part.name,
            state=self._phase,
            pid=self._id.pid,
            created=self._id.created,
            restarts=self._restarts,
            probe=self.part.probe,
            log=str(self.part.log),
        )

    async def first_ready(self) -> None:
        """Return once it has been ready. Cancel when it takes too long."""
        await self._ready_once.wait()

    async def run(self) -> None:
        """Launch, watch, launch again, until `stop`.

        Raises:
            StartError: it never became ready: it ended three times before, or said at once that its settings are wrong.
        """
        failed_starts = 0
        pause = _FIRST_PAUSE
        loop = asyncio.get_running_loop()
        while not self._stopping:
            began = loop.time()
            try:
                status = await self._once()
            except StartError as error:
                status, self.reason = None, str(error)
            if self._stopping:
                return
            if not self._ready_once.is_set():
                failed_starts += 1
                if status == _WRONG_SETTINGS or failed_starts == _MOST_FAILED_STARTS:
                    self._show("failed")
                    raise StartError(f"{self.part.name} does not start: {self.reason}")
            if loop.time() - began > _STEADY.total_seconds():
                pause = _FIRST_PAUSE
            self._restarts += 1
            self._show("restarting")
            await self._sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)

    async def _once(self) -> int | None:
        """One life of the process; its exit status."""
        self._show("starting")
        process = self._process = await asyncio.to_thread(self.part.launch)
        if self._stopping:  # asked to stop while it was being launched
            await self._end(process)
            return None
        try:
            self._id = ProcessId.of(process.pid)
        except psutil.NoSuchProcess:
            self._id = ProcessId(pid=process.pid, created=0.0)
        self._show("starting")
        while process.alive and not self._stopping:
            pause = _WATCH
            if self._phase == "starting":
                pause = _ASK
                self.reason = await asyncio.to_thread(_unready, self.part.probe)
                if not self.reason:
                    self._ready_once.set()
                    self._show("ready")
            elif self.part.log.exists() and self.part.log.stat().st_size > _LOG_LIMIT:
                await asyncio.to_thread(bound, self.part.log)
            await self._sleep(pause)
        if not self._stopping:
            # What it had started itself must not live on beside its successor.
            await asyncio.to_thread(process.kill)
            self.reason = f"it ended with status {process.returncode}; {self.part.log} says:\n{tail(self.part.log)}"
        return process.returncode

    async def stop(self, *, grace: timedelta) -> None:
        """End it: SIGTERM, SIGKILL after `grace`. Returns when it is gone; `run` returns too."""
        self._stopping = True
        self._stopped.set()
        if self._process is not None:
            await self._end(self._process, grace)
        self._id = ProcessId(pid=0, created=0.0)
        self._show("stopped")

    def kill(self) -> None:
        """End it at once."""
        self._stopping = True
        self._stopped.set()
        if self._process is not None:
            self._process.kill()

    async def _end(self, process: Process, grace: timedelta = timedelta(0)) -> None:
        process.terminate()
        loop = asyncio.get_running_loop()
        end = loop.time() + grace.total_seconds()
        while process.alive and loop.time() < end:  # noqa: ASYNC110 - the end of a process is no event
            await asyncio.sleep(0.02)
        process.kill()

    async def _sleep(self, pause: timedelta) -> None:
        """Sleep, but not past `stop`."""
        try:
            await asyncio.wait_for(self._stopped.wait(), pause.total_seconds())
        except TimeoutError:
            return

    def _show(self, phase: str) -> None:
        self._phase = phase
        self._changed()


def _unready(probe: str) -> str:
    return reason_unready(probe) or ""


def bound(log: Path) -> None:
    """Move what a log holds to `<log>.1` and empty it. Its writer appends, so it goes on at the beginning."""
    shutil.copyfile(log, log.with_name(log.name + ".1"))
    with log.open("r+b") as file:
        file.truncate(0)
