"""What was counted in the last minute."""

from __future__ import annotations

from collections import deque
from typing import Final

MINUTE: Final = 60


class Minute:
    """Counts by seconds. The second that is just leaving counts in full: no 60 seconds hold more than the bound."""

    __slots__ = ("_seconds", "_sum")

    def __init__(self) -> None:
        self._seconds: deque[list[int]] = deque()
        self._sum = 0

    @property
    def idle(self) -> bool:
        """Whether nothing is left."""
        return not self._seconds

    def sum(self, second: int) -> int:
        """All of the last minute."""
        while self._seconds and self._seconds[0][0] <= second - MINUTE - 1:
            self._sum -= self._seconds.popleft()[1]
        return self._sum

    def add(self, second: int, number: int) -> None:
        """Counts `number`, which may be negative, in a second that is not over a minute ago."""
        for each in reversed(self._seconds):
            if each[0] == second:
                each[1] += number
                self._sum += number
                return
        if number > 0:
            self._seconds.append([second, number])
            self._sum += number

    def wait(self, excess: int, *, now: float) -> float:
        """Seconds until `excess` has left."""
        for second, number in self._seconds:
            excess -= number
            if excess <= 0:
                return max(0.001, second + MINUTE + 1 - now)
        return float(MINUTE)
