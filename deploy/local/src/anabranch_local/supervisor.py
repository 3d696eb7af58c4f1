"""The process that runs a platform: starts the parts in order, keeps them running, stops them in reverse."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

import psutil
from filelock import FileLock, Timeout

from anabranch_local.child import Child
from anabranch_local.parts import Part
from anabranch_local.process import StartError
from anabranch_local.state import ProcessId, State, last_state, save_state

RUN_VARIABLE = "ANABRANCH_RUN"
_STOP_BUDGET = timedelta(seconds=30)
_START_BUDGET = timedelta(seconds=180)


class AlreadyRunningError(RuntimeError):
    """Another supervisor holds this data folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Parts that start side by side, and stop side by side within `grace`, after those of the stages behind.

    The next stage starts once all are ready and `then` has run, or at once if `wait` is false.
    """

    phrase: str
    parts: Sequence[Part]
    grace: timedelta
    wait: bool = True
    then: Callable[[], None] | None = None


@dataclass(kw_only=True)
class Supervisor:
    """Runs `stages` in a data folder.

    `compose` gets the state so far and the progress callback, and returns the stages and the state with endpoints. It
    is called once the folder is locked and what an earlier run left behind is gone. `ready` is called once all are.
    """

    data_dir: Path
    compose: Callable[[State, Callable[[str], None]], tuple[Sequence[Stage], State]]
    progress: Callable[[str], None] = lambda _: None
    ready: Callable[[State], None] = lambda _: None
    _state: State = field(init=False)
    _stages: Sequence[Stage] = field(init=False, default=())
    _children: dict[str, Child] = field(init=False, default_factory=dict)
    _tasks: list[asyncio.Task[None]] = field(init=False, default_factory=list)
    _asked: int = field(init=False, default=0)

    async def run(self) -> None:
        """Start everything, serve until SIGTERM or SIGINT, stop everything.

        Raises:
            AlreadyRunningError: another one runs in the folder.
            StartError: a part did not become ready. Everything has been stopped again.
        """
        self.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.data_dir.chmod(0o700)
        lock = FileLock(self.data_dir / "lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            state = last_state(self.data_dir)
            pid = f" (process {state.supervisor.pid})" if state else ""
            raise AlreadyRunningError(f"a platform already runs in {self.data_dir}{pid}") from None
        try:
            sweep(self.data_dir)
            await self._run()
        finally:
            lock.release()

    async def _run(self) -> None:
        self._state = State(
            data_dir=str(self.data_dir), run=uuid.uuid4().hex, supervisor=ProcessId.of(os.getpid()), phase="starting"
        )
        save_state(self._state)
        stop = asyncio.Event()
        self._listen_for_signals(stop)
        starting = asyncio.create_task(self._start())
        stopping = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not stop.is_set():
                await starting  # raises what went wrong
                await self._serve(stopping)
        except StartError as error:
            self._state = replace(self._state, failure=str(error))
            raise
        finally:
            starting.cancel()
            stopping.cancel()
            with suppress(asyncio.CancelledError, StartError):
                await starting
            await self._stop()

    async def _start(self) -> None:
        try:
            # Fetching and building happens in here, and may take minutes: a thread keeps signals answered.
            self._stages, self._state = await asyncio.to_thread(self.compose, self._state, self._note)
            for stage in self._stages:
                self._note(stage.phrase)
                for part in stage.parts:
                    child = self._children[part.name] = Child(part, changed=self._publish)
                    self._tasks.append(asyncio.create_task(child.run(), name=part.name))
                if stage.wait:
                    await self._all_ready()
                if stage.then is not None:
                    await asyncio.to_thread(stage.then)
            await self._all_ready()
        except (OSError, RuntimeError) as error:  # of the registries, the toolchain, the broker: told in their words
            raise StartError(str(error)) from error

    async def _all_ready(self) -> None:
        ready = asyncio.create_task(self._first_ready())
        try:
            await asyncio.wait(
                {ready, *self._tasks}, return_when=asyncio.FIRST_COMPLETED, timeout=_START_BUDGET.total_seconds()
            )
            for task in self._tasks:
                if task.done():
                    task.result()  # raises StartError
            if not ready.done():
                late = [c for c in self._children.values() if c.state.state != "ready"]
                reasons = "\n".join(f"{child.part.name}: {child.reason}" for child in late)
                raise StartError(f"not ready after {_START_BUDGET.total_seconds():g} s:\n{reasons}")
        finally:
            ready.cancel()

    async def _first_ready(self) -> None:
        for child in self._children.values():
            await child.first_ready()

    async def _serve(self, stopping: asyncio.Task[bool]) -> None:
        self._state = replace(self._state, ready=True, phase="")
        self._publish()
        self.ready(self._state)
        done, _ = await asyncio.wait({stopping, *self._tasks}, return_when=asyncio.FIRST_COMPLETED)
        for task in done - {stopping}:
            task.result()  # a child's task never ends by itself once it was ready: a fault of this program shows here

    async def _stop(self) -> None:
        self._note("stopping")
        end = time.monotonic() + _STOP_BUDGET.total_seconds()
        for stage in reversed(self._stages):
            here = [self._children[part.name] for part in stage.parts if part.name in self._children]
            left = timedelta(seconds=max(0.0, end - time.monotonic()))
            await asyncio.gather(*(child.stop(grace=min(stage.grace, left)) for child in here))
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._state.sockets:
            shutil.rmtree(self._state.sockets, ignore_errors=True)
        self._state = replace(self._state, ready=False, phase="")
        self._publish()

    def _listen_for_signals(self, stop: asyncio.Event) -> None:
        def asked() -> None:
            self._asked += 1
            stop.set()
            if self._asked > 1:  # somebody does not want to wait
                for child in self._children.values():
                    child.kill()

        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(number, asked)

    def _note(self, phrase: str) -> None:
        """What is being done now. May be called from any thread."""
        self._state = replace(self._state, phase=phrase)
        if phrase:
            self.progress(phrase)
        self._publish()

    def _publish(self) -> None:
        self._state = replace(self._state, services=tuple(child.state for child in self._children.values()))
        save_state(self._state)


def sweep(data_dir: Path) -> None:
    """End what a supervisor that crashed left behind: processes (found by their run's id) and sockets."""
    state = last_state(data_dir)
    if state is None or state.running:
        return
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get(RUN_VARIABLE) == state.run:
                process.kill()
                process.wait(5)
    if state.sockets:
        shutil.rmtree(state.sockets, ignore_errors=True)
