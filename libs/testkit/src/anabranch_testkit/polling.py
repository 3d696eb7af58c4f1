"""Waiting for what happens elsewhere: with a deadline, never with a fixed sleep."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, TypeVar, overload

T = TypeVar("T")


@overload
async def poll_until(
    probe: Callable[[], Awaitable[T | None]],
    *,
    deadline: timedelta | float = ...,
    every: timedelta = ...,
    what: str = ...,
) -> T: ...


@overload
async def poll_until(
    probe: Callable[[], T | None],
    *,
    deadline: timedelta | float = ...,
    every: timedelta = ...,
    what: str = ...,
) -> T: ...


async def poll_until(
    probe: Callable[[], Any],
    *,
    deadline: timedelta | float = timedelta(seconds=10),
    every: timedelta = timedelta(milliseconds=20),
    what: str = "",
) -> Any:
    """Call `probe` until it returns something true, and return that.

    Args:
        probe: Plain or async function. An AssertionError or LookupError it raises counts as "not yet".
        deadline: Time allowed in all; a bare number is seconds.
        every: Pause between calls.
        what: What is waited for, for the message.

    Raises:
        AssertionError: the deadline passed. Its cause is the probe's last error, if it raised.
    """
    limit = deadline.total_seconds() if isinstance(deadline, timedelta) else deadline
    loop = asyncio.get_running_loop()
    end = loop.time() + limit
    while True:
        last: object = None
        try:
            result = probe()
            value = await result if inspect.isawaitable(result) else result
            if value:
                return value
            last = value
        except (AssertionError, LookupError) as error:
            last = error
        if loop.time() > end:
            cause = last if isinstance(last, BaseException) else None
            raise AssertionError(f"not within {limit:g} s: {what or repr(probe)}; last seen: {last!r}") from cause
        await asyncio.sleep(every.total_seconds())
