"""One service, running: started in order, ready when it is, drained in order."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from time import monotonic
from typing import Final

from anabranch_observability import gauge, get_logger
from anabranch_observability.names import runtime as names
from anabranch_rpc import Server
from anabranch_runtime.http import HttpServer, operators_app
from anabranch_runtime.lag import LoopLag
from anabranch_runtime.service import Service, Task
from anabranch_runtime.settings import ServiceSettings

__all__ = ["BUS_DRAIN", "Process"]

log = get_logger()

_POLL_SECONDS: Final = 0.05
# Together with what a drain waits for load balancers (5 s at most), these stay under 25 seconds.
_RPC_GRACE: Final = timedelta(seconds=5)
BUS_DRAIN: Final = timedelta(seconds=9)
"""How long handlers of the bus may finish; what is left over is redelivered."""

_TASKS_SECONDS: Final = 1.0
_CLOSING_SECONDS: Final = 2.0


class Process:
    """Runs a service under its settings, in this event loop.

    `start()` returns once everything is bound and started, ready or not; `failed` is set to the reason when a
    background task crashes; `stop()` drains. Used by `serve()`, and by tests in place of a process.
    """

    def __init__(self, settings: ServiceSettings, *, name: str) -> None:
        """Starts nothing."""
        self._settings = settings
        self._name = name
        self._service: Service | None = None
        self._lag = LoopLag()
        self._ops = HttpServer(operators_app(self.unready, max_lag=self._lag.maximum), listen=settings.ops_listen)
        self._rpc: Server | None = None
        self._http: HttpServer | None = None
        self._tasks: list[asyncio.Task[object]] = []
        self._serving = False
        self._stage = "starting"
        self._begun = monotonic()
        self.ended = asyncio.Event()
        self.failure: str | None = None

    @property
    def addresses(self) -> dict[str, str]:
        """Where it listens: `ops`, `rpc` when it serves gRPC, `http` when it has an endpoint of its own."""
        found = {"ops": self._ops.address}
        if self._rpc is not None and self._rpc.addresses:
            found["rpc"] = ",".join(self._rpc.addresses)
        if self._http is not None:
            found["http"] = self._http.address
        return found

    def unready(self) -> list[str]:
        """Why the service takes no requests, a sentence each; empty when it does."""
        if self._stage or self._service is None:
            return [self._stage or "starting"]
        reasons = []
        if self._service.bus is not None and (reason := self._service.bus.ready) is not None:
            reasons.append(reason)
        for check in self._service.ready:
            try:
                reason = check()
            except Exception as error:  # noqa: BLE001  a check that fails is a reason, not a crash
                reason = f"a readiness check failed: {type(error).__name__}: {error}"
            if reason is not None:
                reasons.append(reason)
        return reasons

    async def start_operators(self) -> None:
        """Open the operators' endpoint, before anything slow. Raises OSError."""
        await self._ops.start()
        self._spawn(self._lag.run)

    async def start(self, service: Service) -> None:
        """Start in order. Raises what the first part that cannot start raises; `stop()` then undoes the rest."""
        self._service = service
        if not self._ops.address:
            await self.start_operators()
        for step in service.starting:
            await step()
        if service.rpc:
            self._rpc = Server(
                service.rpc,
                listen=self._settings.listen.split(","),
                errors=service.errors,
                authenticate=service.authenticate,
                default_deadline=service.default_deadline,
                deadline_exempt=service.deadline_exempt,
                max_message_bytes=service.max_message_bytes,
                larger_messages=service.larger_messages,
            )
            await self._rpc.start()
        if service.http is not None:
            self._http = HttpServer(service.http.app, listen=service.http.listen)
            await self._http.start()
        log.info(names.Log.SERVICE_LISTENING, **self.addresses)
        if self._settings.address_file is not None:
            await asyncio.to_thread(_write_atomically, self._settings.address_file, self.addresses)
        if service.bus is not None:
            self._stage = "connecting to Kafka"
            await service.bus.start()
        for task in service.background:
            self._spawn(task)
        self._stage = ""
        self._spawn(self._follow_readiness)

    async def stop(self) -> None:
        """Drain: NOT_SERVING, finish calls, `draining`, finish Kafka and commit, end tasks, close; 25 s at most."""
        self._stage = "draining"
        log.info(names.Log.SERVICE_DRAINING)
        gauge(names.READY).set(0)
        service = self._service
        if self._rpc is not None:
            await self._rpc.set_serving(serving=False)
            await asyncio.sleep(self._settings.drain_wait.total_seconds())
        await asyncio.gather(
            *([self._phase("grpc", self._rpc.stop(_RPC_GRACE), _RPC_GRACE.total_seconds() + 1)] if self._rpc else []),
            *([self._phase("http", self._http.stop(), _RPC_GRACE.total_seconds())] if self._http else []),
        )
        for step in service.draining if service is not None else ():
            await self._phase("draining", step(), _CLOSING_SECONDS)
        if service is not None and service.bus is not None:
            await self._phase("bus", service.bus.stop(), BUS_DRAIN.total_seconds() + 1)
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_TASKS_SECONDS)
        for step in reversed(service.closing if service is not None else ()):
            await self._phase("closing", step(), _CLOSING_SECONDS)
        await self._phase("ops", self._ops.stop(), _CLOSING_SECONDS)
        if self._settings.address_file is not None:
            self._settings.address_file.unlink(missing_ok=True)
        log.info(names.Log.SERVICE_STOPPED, seconds_up=round(monotonic() - self._begun, 1))

    async def _phase(self, phase: str, work: Awaitable[object], seconds: float) -> None:
        try:
            await asyncio.wait_for(work, seconds)
        except TimeoutError:
            log.error(names.Log.DRAIN_EXPIRED, phase=phase, seconds=seconds)  # noqa: TRY400  the phase says it
        except Exception:
            # One part that cannot close must not keep the others from doing so.
            log.exception(names.Log.CLOSING_FAILED, phase=phase)

    def _spawn(self, work: Task) -> None:
        async def guarded() -> object:
            try:
                return await work()
            except Exception as error:
                if self._stage != "draining":
                    log.exception(names.Log.TASK_FAILED, task=_name_of(work))
                    self.failure = f"the task {_name_of(work)} crashed: {type(error).__name__}: {error}"
                    self.ended.set()
                return None

        self._tasks.append(asyncio.create_task(guarded(), name=_name_of(work)))

    async def _follow_readiness(self) -> None:
        """Health on gRPC is told; `/readyz` asks by itself."""
        first = True
        while True:
            reasons = self.unready()
            serving = not reasons
            if serving != self._serving:
                self._serving = serving
                gauge(names.READY).set(serving)
                if self._rpc is not None:
                    await self._rpc.set_serving(serving=serving)
                if serving:
                    took = monotonic() - self._begun
                    if first:
                        gauge(names.START_SECONDS).set(took)
                    log.info(names.Log.SERVICE_READY, **({"seconds": round(took, 2)} if first else {}))
                    first = False
                else:
                    log.warning(names.Log.SERVICE_UNREADY, reasons=reasons)
            await asyncio.sleep(_POLL_SECONDS if not serving else _POLL_SECONDS * 4)


def _name_of(work: Task) -> str:
    return str(getattr(work, "__qualname__", None) or type(work).__qualname__)


def _write_atomically(path: Path, addresses: dict[str, str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        scratch.write_text(json.dumps(addresses) + "\n")
        scratch.replace(path)
    finally:
        with suppress(FileNotFoundError):
            scratch.unlink()
