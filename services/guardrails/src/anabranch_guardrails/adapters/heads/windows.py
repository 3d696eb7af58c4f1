"""Sentences of a text, and a few in a row: what heads look at in turn."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["Windows", "windows"]

_BREAK: Final = re.compile(r"(?<=[.!?;])[\"')\]]*\s+|[。！？]|\n+|\s*\|\s*|\t|\s--+\s|(?<=[:}])\s{2,}")  # noqa: RUF001  CJK stops
_SHORT: Final = 14
"""Characters; what is shorter goes with the next."""
_LONG: Final = 320
_STRIDE: Final = 220
_MOST: Final = 2_000


@dataclass(frozen=True, slots=True)
class Windows:
    """Places in the text: of single sentences (`starts[:single]`), then of two and three in a row.

    `first` and `last` number the sentences that a window holds.
    """

    starts: NDArray[np.int32]
    ends: NDArray[np.int32]
    first: NDArray[np.int32]
    last: NDArray[np.int32]
    single: int


def _sentences(text: str) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    start = 0
    for match in _BREAK.finditer(text):
        if match.start() - start >= _SHORT or (
            text[match.start() : match.end()].count("\n") > 1 and match.start() > start
        ):
            found.append((start, match.start()))
            start = match.end()
    if start < len(text) and text[start:].strip():
        found.append((start, len(text)))
    even: list[tuple[int, int]] = []
    for begin, end in found:
        if end - begin <= _LONG:
            even.append((begin, end))
            continue
        for at in range(begin, end, _STRIDE):
            cut = min(end, at + _LONG)
            even.append((at, cut))
            if cut == end:
                break
    return even[:_MOST]


def windows(text: str, *, rows: int = 3) -> Windows:
    """Of one to `rows` sentences; at least one, unless the text is empty."""
    sentences = _sentences(text) or ([(0, len(text))] if text else [])
    count = len(sentences)
    singles = np.asarray(sentences, dtype=np.int32).reshape(count, 2)
    numbers = np.arange(count, dtype=np.int32)
    starts, ends, first, last = [singles[:, 0]], [singles[:, 1]], [numbers], [numbers]
    for row in range(2, rows + 1):
        if count >= row:
            starts.append(singles[: count - row + 1, 0])
            ends.append(singles[row - 1 :, 1])
            first.append(numbers[: count - row + 1])
            last.append(numbers[row - 1 :])
    return Windows(
        starts=np.concatenate(starts),
        ends=np.concatenate(ends),
        first=np.concatenate(first),
        last=np.concatenate(last),
        single=count,
    )
