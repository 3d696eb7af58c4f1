"""Pages of large things, cut so that they fit into a message."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

__all__ = ["fitting"]

M = TypeVar("M", bound=Any)

_MOST: Final = 3 << 20
_PAGE: Final = 50


async def fitting(size: int, page: Callable[[int], Awaitable[M]]) -> M:
    """Return a page of at most `size`, asking for smaller ones until it fits."""
    found = await page(size)
    size = size or _PAGE
    while found.ByteSize() > _MOST and size > 1:
        size //= 2
        found = await page(size)
    return found
