"""How late the event loop is: the one figure that shows blocking code."""

from __future__ import annotations

import asyncio
import sys
import threading
import traceback
from collections import deque
from time import monotonic
from typing import Final

from anabranch_observability import gauge, get_logger, histogram
from anabranch_observability.names import runtime as names

__all__ = ["LoopLag"]

log = get_logger()

_TICK_SECONDS: Final = 0.25
_WINDOW: Final = int(60 / _TICK_SECONDS)
_STALLED_SECONDS: Final = 5.0


class LoopLag:
    """Wakes four times a second and measures by how much it was late; a thread reports a loop that never wakes it."""

    def __init__(self) -> None:
        """Measures nothing until `run`."""
        self._recent: deque[float] = deque(maxlen=_WINDOW)
        self._ticked = monotonic()
        self._stop = threading.Event()

    def maximum(self) -> float:
        """The greatest lag of the last minute, in seconds; counts a stall that still lasts."""
        waiting = monotonic() - self._ticked - _TICK_SECONDS
        return max(max(self._recent, default=0.0), waiting, 0.0)

    async def run(self) -> None:
        """Measure until cancelled."""
        watcher = threading.Thread(target=self._watch, args=(threading.get_ident(),), name="loop watcher", daemon=True)
        self._ticked = monotonic()
        watcher.start()
        lag_seconds, lag_max = histogram(names.LOOP_LAG_SECONDS), gauge(names.LOOP_LAG_MAX_SECONDS)
        try:
            while True:
                expected = monotonic() + _TICK_SECONDS
                await asyncio.sleep(_TICK_SECONDS)
                self._ticked = monotonic()
                late = max(self._ticked - expected, 0.0)
                self._recent.append(late)
                lag_seconds.observe(late)
                lag_max.set(max(self._recent))
        finally:
            self._stop.set()

    def _watch(self, thread: int) -> None:
        reported = 0.0
        while not self._stop.wait(1.0):
            ticked = self._ticked
            stalled = monotonic() - ticked
            if stalled > _STALLED_SECONDS and ticked != reported:
                reported = ticked
                frame = sys._current_frames().get(thread)  # noqa: SLF001  the one way to see another thread's stack
                stack = "".join(traceback.format_stack(frame)[-8:]) if frame is not None else ""
                log.error(names.Log.LOOP_STALLED, seconds=round(stalled, 1), stack=stack)
