"""`serve(build, Settings)`: what every service's `__main__` is."""

from __future__ import annotations

import argparse
import asyncio
import gc
import inspect
import os
import signal
import sys
import threading
from collections.abc import Awaitable, Callable, Sequence
from time import sleep
from typing import Final, NoReturn, TypeVar

from anabranch_bus import Bus
from anabranch_faults import Fault, Invalid
from anabranch_observability import configure, gauge, get_logger, shutdown
from anabranch_observability.names import runtime as names
from anabranch_runtime.process import BUS_DRAIN, Process
from anabranch_runtime.service import Service
from anabranch_runtime.settings import ServiceSettings, described, load_or_exit

__all__ = ["serve"]

log = get_logger()

S = TypeVar("S", bound=ServiceSettings)

Build = Callable[..., Service | Awaitable[Service]]

_OK: Final = 0
_FAILED: Final = 1
_WRONG_SETTINGS: Final = 2
_DRAIN_SECONDS: Final = 25.0


def serve(
    build: Build,
    settings: type[S],
    *,
    bus: Callable[[S], Bus] | None = None,
    argv: Sequence[str] | None = None,
) -> NoReturn:
    """Run the service that `build(settings, bus=bus)` wires, until SIGTERM or SIGINT. Never returns.

    Exit codes: 0 after a signal and a drain; 1 when it failed (the log says why); 2 when settings are wrong, which is
    found before any socket is opened. `--check` only looks at the settings. `bus` makes another bus than Kafka.
    """
    name = settings.service_name()
    parser = argparse.ArgumentParser(
        prog=f"anabranch_{name}",
        description=f"The {name} service. It is told what to do by environment variables:\n\n{described(settings)}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--check", action="store_true", help="check the settings, start nothing")
    arguments = parser.parse_args(argv)
    chosen = load_or_exit(settings)
    if arguments.check:
        sys.stdout.write(f"{name}: settings are in order\n")
        raise SystemExit(_OK)
    configure(service=name, level=chosen.log_level, format=chosen.log_format)
    code = asyncio.run(_run(build, chosen, name, bus or _kafka))
    shutdown()
    raise SystemExit(code)


async def _run(build: Build, settings: S, name: str, bus: Callable[[S], Bus]) -> int:
    process = Process(settings, name=name)
    gauge(names.INFO).labels(service=name, version=_version(name)).set(1)
    log.info(names.Log.SERVICE_STARTING, pid=os.getpid(), kafka=settings.kafka)
    starting = asyncio.create_task(_start(process, build, settings, bus), name="start")
    last = _LastResort()
    signalled = _on_signals(process, starting, last)
    code = _FAILED
    try:
        await starting
        # What a start has made lives as long as the process: garbage collections, which hold up every request, need
        # not look at it again.
        gc.collect()
        gc.freeze()
        await process.ended.wait()
        if process.failure is None:
            code = _OK
        else:
            log.error(names.Log.SERVICE_FAILED, reason=process.failure)
    except asyncio.CancelledError:
        code = _OK if signalled.is_set() else _FAILED
    except Invalid as fault:
        log.error(names.Log.SERVICE_FAILED, reason=str(fault))  # noqa: TRY400  the sentence says it
        code = _WRONG_SETTINGS
    except (Fault, OSError) as fault:
        log.error(names.Log.SERVICE_FAILED, reason=str(fault))  # noqa: TRY400  the sentence says it
    except Exception as error:
        log.exception(names.Log.SERVICE_FAILED, reason=f"{type(error).__name__}: {error}")
    last.arm()
    await process.stop()
    return code


async def _start(process: Process, build: Build, settings: S, bus: Callable[[S], Bus]) -> None:
    await process.start_operators()
    built = build(settings, bus=bus(settings))
    await process.start(await built if inspect.isawaitable(built) else built)


def _kafka(settings: ServiceSettings) -> Bus:
    # Half a second of import, wanted only once the settings are known to be right.
    from anabranch_bus import KafkaBus  # noqa: PLC0415  see above
    from anabranch_bus.kafka.settings import BusSettings  # noqa: PLC0415  see above

    name = settings.service_name()
    return KafkaBus(
        BusSettings(
            bootstrap=settings.kafka,
            client_id=f"anabranch-{name}",
            state=settings.data / "bus",
            code_version=_version(name),
            drain=BUS_DRAIN,
        )
    )


def _on_signals(process: Process, starting: asyncio.Task[None], last: _LastResort) -> asyncio.Event:
    signalled = asyncio.Event()
    loop = asyncio.get_running_loop()
    own = os.getpid()

    def stop() -> None:
        if signalled.is_set():
            os._exit(_FAILED)  # asked twice: somebody does not want to wait
        signalled.set()
        starting.cancel()
        process.ended.set()

    def on_signal(number: int, _frame: object) -> None:
        if os.getpid() != own:  # a child that was forked: the signal is for it, and it has nothing to drain
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        last.arm()
        loop.call_soon_threadsafe(stop)

    # Not loop.add_signal_handler: a loop that is blocked would never hear of the signal.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)
    return signalled


class _LastResort:
    """Ends the process 25 seconds after it was armed, whatever blocks the drain: the event loop, a library's thread."""

    def __init__(self) -> None:
        """Starts the thread that waits; a signal handler must not start one, and may write to a pipe."""
        waits, self._armed = os.pipe()

        def wait() -> None:
            os.read(waits, 1)
            sleep(_DRAIN_SECONDS)
            os._exit(_FAILED)

        threading.Thread(target=wait, name="last resort", daemon=True).start()

    def arm(self) -> None:
        """Start counting; once is enough."""
        os.write(self._armed, b".")


def _version(name: str) -> str:
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415  only needed here

    try:
        return version(f"anabranch-{name}")
    except PackageNotFoundError:
        return "unknown"
