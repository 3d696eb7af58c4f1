"""A small pool of workers, started before they are needed and replaced when they are used up, stuck or dead.

Ordinary documents find an idle worker. When every worker has been busy for a while, spare ones are started, so that a
document nobody can finish does not hold up its neighbours; it is killed at its time limit, and costs itself alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from secrets import token_hex
from tempfile import gettempdir
from typing import Any

from anabranch_faults import Unreachable
from anabranch_ingestion.adapters.isolation import frames
from anabranch_ingestion.adapters.isolation.sandbox import resident_bytes
from anabranch_ingestion.adapters.parsing.reading import ReadLimits
from anabranch_ingestion.application.ports import Body
from anabranch_ingestion.domain.chunking import Window
from anabranch_ingestion.domain.documents import Parsed
from anabranch_ingestion.domain.refusals import Reason, Refused

_WATCH = 0.05
_START = 60.0
_LARGE_ANSWER = 256 << 10
_ENVIRONMENT = {
    "TOKIO_WORKER_THREADS": "1",
    "RAYON_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MALLOC_ARENA_MAX": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "LANG": "C.UTF-8",
    "PYTHONUTF8": "1",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolLimits:
    """Sizes and limits. `spare` workers exist only while all `workers` have been busy for `patience`."""

    workers: int = 2
    spare: int = 2
    patience: timedelta = timedelta(milliseconds=300)
    time: timedelta = timedelta(seconds=20)
    memory_bytes: int = 512 << 20
    documents: int = 1_000
    # A worker that holds more than this between documents is replaced: memory it was made to keep is not given back.
    idle_bytes: int = 256 << 20


WORKER = ("-I", "-m", "anabranch_ingestion.adapters.isolation.worker")
"""What Python runs in a worker."""

Told = Callable[[str, dict[str, Any]], None]
"""What happens to workers, for logs and metrics: an event of `started`, `lost`, `retired`, and its facts."""


class WorkerPool:
    """Reads documents in worker processes. One event loop; many calls at once."""

    def __init__(
        self,
        limits: PoolLimits,
        read_limits: ReadLimits,
        window: Window,
        *,
        told: Told,
        program: Sequence[str] = WORKER,
    ) -> None:
        """Starts nothing."""
        self._limits = limits
        self._read_limits = read_limits
        self._window = window
        self._told = told
        self._program = program
        self._idle: deque[_Worker] = deque()
        self._alive: set[_Worker] = set()
        self._starting = 0
        self._free = asyncio.Condition()
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False
        self._broken = ""

    async def start(self) -> None:
        """Starts the workers. Raises Unreachable when none comes up."""
        await asyncio.gather(*(self._add() for _ in range(self._limits.workers)))
        if not self._alive:
            raise Unreachable(f"no parser process starts: {self._broken}")

    async def close(self) -> None:
        """Kills all workers."""
        self._closed = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*(worker.kill() for worker in list(self._alive)), return_exceptions=True)
        self._alive.clear()
        self._idle.clear()

    def ready(self) -> str | None:
        """Why no document can be read, None when all is well."""
        return None if self._alive or self._starting else f"no parser process starts: {self._broken}"

    @property
    def pids(self) -> list[int]:
        """The processes alive, for watching them."""
        return [worker.pid for worker in self._alive]

    async def parse(self, body: Body, *, title: str) -> Parsed:
        """The document, read and cut. Raises Refused; Unreachable when no worker can be had."""
        is_text = body.text is not None
        data = body.text.encode("utf-8", "replace") if body.text is not None else body.data
        head = {
            "is_text": is_text,
            "content_type": body.content_type,
            "filename": body.filename,
            "title": title,
            "text_bytes": self._read_limits.text_bytes,
            "members": self._read_limits.archive.members,
            "window": frames.window_to_json(self._window),
        }
        try:
            return await self._once(head, data)
        except _Killed:
            # Something outside ended the worker (the system short of memory?): that is not the document's fault, once.
            try:
                return await self._once(head, data)
            except _Killed:
                raise Refused(Reason.UNPARSEABLE, "the parser was killed while reading it, twice; split it") from None

    async def _once(self, head: dict[str, Any], data: bytes) -> Parsed:
        # Unguessable, so that what reads one document cannot answer for the next.
        number = token_hex(8)
        request = frames.request({**head, "number": number}, data)
        worker = await self._take()
        try:
            answer = await worker.ask(request, self._limits)
            if len(answer) > _LARGE_ANSWER:
                return await asyncio.to_thread(frames.answer_from, answer, number)
            return frames.answer_from(answer, number)
        except frames.Failed as failed:
            self._told("failed", {"traceback": str(failed)})
            problem = "the parser failed on it; open the document, save it anew and send it again"
            raise Refused(Reason.UNPARSEABLE, problem) from failed
        except ValueError as error:
            worker.trusted = False
            self._told("failed", {"traceback": str(error)})
            raise Refused(Reason.UNPARSEABLE, "the parser answered nonsense about it") from error
        except BaseException as error:
            worker.problem = str(error) or type(error).__name__
            raise
        finally:
            await self._settle(worker)

    async def _settle(self, worker: _Worker) -> None:
        """After an answer, or none: the worker goes on, is used up, or is not to be trusted any more."""
        worker.documents += 1
        if not worker.trusted or not worker.alive:
            self._told("lost", {"pid": worker.pid, "problem": worker.problem})
            self._forget(worker)
            await asyncio.shield(worker.kill())
            self._restore()
        elif worker.documents >= self._limits.documents or resident_bytes(worker.pid) > self._limits.idle_bytes:
            self._retire(worker)
        else:
            await self._give(worker)

    # -- workers

    async def _take(self) -> _Worker:
        patience = self._limits.patience.total_seconds()
        async with self._free:
            while True:
                while self._idle:
                    worker = self._idle.popleft()
                    if worker.alive:
                        return worker
                    self._forget(worker)
                if len(self._alive) + self._starting < self._limits.workers:
                    self._spawn()
                try:
                    await asyncio.wait_for(self._free.wait(), patience)
                except TimeoutError:
                    if len(self._alive) + self._starting < self._limits.workers + self._limits.spare:
                        self._spawn()
                if not self._alive and not self._starting and self._broken:
                    raise Unreachable(f"no parser process starts: {self._broken}")

    async def _give(self, worker: _Worker) -> None:
        if len(self._alive) > self._limits.workers and len(self._idle) >= self._limits.workers:
            self._retire(worker)
            return
        async with self._free:
            self._idle.append(worker)
            self._free.notify()

    def _retire(self, worker: _Worker) -> None:
        self._forget(worker)
        self._told("retired", {"pid": worker.pid, "documents": worker.documents})
        self._background(worker.kill())
        self._restore()

    def _restore(self) -> None:
        if not self._closed and len(self._alive) + self._starting < self._limits.workers:
            self._spawn()

    def _forget(self, worker: _Worker) -> None:
        self._alive.discard(worker)

    def _spawn(self) -> None:
        self._starting += 1
        self._background(self._add(counted=True))

    async def _add(self, *, counted: bool = False) -> None:
        self._starting += not counted
        try:
            worker = await _Worker.start(self._limits, self._program)
        except (OSError, TimeoutError, _Killed, _Crashed) as error:
            self._broken = f"{type(error).__name__} {error}"
            worker = None
        finally:
            self._starting -= 1
        async with self._free:
            if worker is not None:
                self._broken = ""
                self._alive.add(worker)
                self._idle.append(worker)
                self._told("started", {"pid": worker.pid, "held": worker.held})
            self._free.notify_all()

    def _background(self, work: Any) -> None:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class _Killed(Exception):  # noqa: N818  it reads as what happened
    """The worker got a SIGKILL that was not ours."""


class _Crashed(Exception):  # noqa: N818  as above
    """The worker could not be started."""


class _Worker:
    """One process and its pipes."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.pid = process.pid
        self.documents = 0
        self.held: list[str] = []
        self.trusted = True
        self.problem = ""

    @classmethod
    async def start(cls, limits: PoolLimits, program: Sequence[str]) -> _Worker:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *program,
            str(limits.memory_bytes),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env={**_ENVIRONMENT, "PATH": os.environ.get("PATH", "")},
            cwd=gettempdir(),
            start_new_session=True,
            limit=1 << 20,
        )
        worker = cls(process)
        try:
            async with asyncio.timeout(_START):
                answer = json.loads(await worker._receive())
        except BaseException as error:
            await worker.kill()
            if isinstance(error, (asyncio.IncompleteReadError, ValueError)):
                raise _Crashed(f"exit code {process.returncode}") from error
            raise
        worker.held = [str(name) for name in answer.get("ready", [])]
        return worker

    @property
    def alive(self) -> bool:
        return self._process.returncode is None

    async def ask(self, request: bytes, limits: PoolLimits) -> bytes:
        """The answer's bytes. Raises Refused over a limit or after a crash; _Killed."""
        # Until it has answered, it may be stuck or worse.
        self.trusted = False
        exchange = asyncio.ensure_future(self._exchange(request))
        deadline = time.monotonic() + limits.time.total_seconds()
        pause = 0.005
        try:
            while True:
                done, _ = await asyncio.wait((exchange,), timeout=pause)
                if done:
                    answer = await exchange
                    self.trusted = True
                    return answer
                pause = _WATCH
                if resident_bytes(self.pid) > limits.memory_bytes:
                    megabytes = limits.memory_bytes >> 20
                    raise Refused(
                        Reason.UNPARSEABLE,
                        f"reading it takes more than {megabytes} MiB of memory; split or simplify it",
                    )
                if time.monotonic() > deadline:
                    seconds = limits.time.total_seconds()
                    raise Refused(Reason.UNPARSEABLE, f"reading it takes more than {seconds:g} s; split or simplify it")
        except (asyncio.IncompleteReadError, ConnectionError, ValueError) as error:
            raise await self._post_mortem() from error
        finally:
            exchange.cancel()
            with contextlib.suppress(BaseException):
                await exchange

    async def kill(self) -> None:
        """Ends the process and everything in its session."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
        await self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()

    async def _exchange(self, request: bytes) -> bytes:
        stdin = self._process.stdin
        if stdin is None:
            raise ConnectionError("the worker has no input")
        stdin.write(request)
        await stdin.drain()
        return await self._receive()

    async def _receive(self) -> bytes:
        stdout = self._process.stdout
        if stdout is None:
            raise ConnectionError("the worker has no output")
        (size,) = frames.RESPONSE.unpack(await stdout.readexactly(frames.RESPONSE.size))
        if size > frames.LARGEST_RESPONSE:
            raise ValueError("a worker answered with more than a document can be")
        return await stdout.readexactly(size)

    async def _post_mortem(self) -> Exception:
        try:
            code = await asyncio.wait_for(self._process.wait(), 1.0)
        except TimeoutError:
            return Refused(Reason.UNPARSEABLE, "the parser answered nonsense about it")
        if code == -signal.SIGKILL:
            return _Killed()
        what = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        # Native code that cannot allocate ends its process.
        return Refused(
            Reason.UNPARSEABLE,
            f"the parser crashed on it ({what}), or ran out of memory; open it, save it anew and send it again",
        )
