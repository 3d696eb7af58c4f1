"""Commits: explicit offsets, after effects, coalesced.

A lane says what is settled and goes on; one commit is on its way at a time and carries the latest of every partition,
so commits cost no lane its time. A crash before a commit repeats at most what was settled in the milliseconds since.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final

from aiokafka import TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError

from anabranch_observability import get_logger
from anabranch_observability.names import bus as names

__all__ = ["Committer"]

log = get_logger()

_RETRY_SECONDS: Final = 0.2


class Committer:
    """Commits for one consumer."""

    def __init__(self, group: str, consumer: Callable[[], Any]) -> None:
        """`consumer` gives the client as it is now."""
        self._group = group
        self._consumer = consumer
        self._pending: dict[TopicPartition, int] = {}
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self.failing_since: float | None = None
        self._task = asyncio.create_task(self._run(), name=f"commits of {group}")

    def note(self, tp: TopicPartition, offset: int) -> None:
        """Everything below `offset` is settled."""
        self._pending[tp] = offset
        self._idle.clear()
        self._wake.set()

    def drop(self) -> None:
        """Forget what is not committed yet: the partitions are no longer ours."""
        self._pending.clear()
        if not self._wake.is_set():
            self._idle.set()

    async def flush(self, patience: timedelta) -> bool:
        """Wait until everything noted is committed; return whether it is."""
        try:
            async with asyncio.timeout(patience.total_seconds()):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True

    async def close(self) -> None:
        """Stop committing."""
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._wake.wait()
            self._wake.clear()
            batch, self._pending = self._pending, {}
            try:
                if batch:
                    await self._consumer().commit(batch)
                self.failing_since = None
            except (CommitFailedError, IllegalStateError) as error:
                # The group went on without us. The records come again, here or elsewhere.
                log.warning(names.Log.COMMIT_REFUSED, group=self._group, error=type(error).__name__)
            except Exception as error:
                if not isinstance(error, KafkaError):
                    log.exception(names.Log.COMMIT_REFUSED, group=self._group, error=type(error).__name__)
                self.failing_since = self.failing_since or loop.time()
                self._pending = batch | self._pending
                await asyncio.sleep(_RETRY_SECONDS)
                self._wake.set()
            if not self._pending:
                self._idle.set()
