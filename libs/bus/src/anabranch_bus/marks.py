"""Marks of what is being handled, so that a record that ends the process is found out.

One small file a partition, written before a batch is handled and cleared after. It is not synced: what a write has
put into the page cache survives the end of the process, by signal, by the memory killer or by a crash in C code, which
is all a record can do; a machine that loses power forgets a mark, and then one end is not counted, which is no harm.

The first end puts a whole batch under suspicion; its records are then handled one at a time, each with a mark of its
own, and from the second end on with nothing else in flight, so that blame never falls on a neighbour. A large batch is
narrowed down first: handled in pieces of the root of its size, each with a mark, so that a process that was killed for
no fault of a record (by an operator, by the memory killer) is soon back at full speed. An end over a piece is not
charged.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from math import isqrt
from pathlib import Path
from typing import Final

from anabranch_observability import get_logger
from anabranch_observability.names import bus as names

__all__ = ["Gate", "Mark", "Marks"]

log = get_logger()

_SIZE: Final = 128
_FEW: Final = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """Records first..last (offsets) were being handled; with this, the process has ended `times` times over them."""

    first: int
    last: int
    times: int

    @property
    def alone(self) -> bool:
        """Whether it is about one record."""
        return self.first == self.last

    @property
    def piece(self) -> int:
        """How many of these to handle at once: at most a root's number of calls for a large batch, then singles."""
        size = self.last - self.first + 1
        return isqrt(size) if size > _FEW else 1

    def over(self, first: int, last: int) -> Mark:
        """The mark of a part of these, when it is their turn. Only who is handled by itself is charged."""
        return Mark(first=first, last=last, times=self.times + (self.piece == 1))


class Marks:
    """The marks of one partition."""

    def __init__(self, folder: Path | None, *, group: str, topic: str, partition: int) -> None:
        """Opens the file, and reads what an earlier process left. Without a folder nothing is kept."""
        self._file: int | None = None
        self.found: Mark | None = None
        if folder is None:
            return
        try:
            (folder / group).mkdir(parents=True, exist_ok=True)
            path = folder / group / f"{topic}-{partition}.mark"
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            self.found = _read(os.pread(self._file, _SIZE, 0))
        except OSError as error:
            # Handling without marks is better than not handling: they only guard against a rare record.
            log.warning(names.Log.MARKER_FAILED, folder=str(folder), error=str(error))

    def begin(self, mark: Mark) -> None:
        """From now on, an end of the process is charged to these records."""
        self._write(json.dumps({"first": mark.first, "last": mark.last, "times": mark.times}).encode())

    def clear(self) -> None:
        """Nothing is being handled."""
        self._write(b"")

    def close(self) -> None:
        """Let go of the file; what it says stays."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _write(self, content: bytes) -> None:
        if self._file is not None:
            try:
                os.pwrite(self._file, content.ljust(_SIZE), 0)
            except OSError as error:
                log.warning(names.Log.MARKER_FAILED, error=str(error))


def _read(content: bytes) -> Mark | None:
    try:
        found = json.loads(content)
        return Mark(first=int(found["first"]), last=int(found["last"]), times=int(found["times"]))
    except (ValueError, KeyError, TypeError):
        return None  # empty: nothing was being handled


class Gate:
    """Lets many in, or one alone; who wants to be alone goes before those who come later."""

    def __init__(self) -> None:
        """Starts open."""
        self._inside = 0
        self._alone = False
        self._wanted = 0
        self._waiting: list[asyncio.Future[None]] = []

    @asynccontextmanager
    async def enter(self, *, alone: bool) -> AsyncIterator[None]:
        """Be inside; `alone` waits until everyone has left, and keeps others out."""
        if alone:
            self._wanted += 1
            try:
                while self._alone or self._inside:
                    await self._change()
            finally:
                self._wanted -= 1
                self._wake()
        else:
            while self._alone or self._wanted:
                await self._change()
        self._inside += 1
        self._alone = alone
        try:
            yield
        finally:
            self._inside -= 1
            self._alone = False
            self._wake()

    def _change(self) -> asyncio.Future[None]:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        return future

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)
