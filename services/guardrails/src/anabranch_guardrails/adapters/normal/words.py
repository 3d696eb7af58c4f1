"""Words that are known, and the words in letters that were pulled apart or run together."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Final

__all__ = ["Words", "known_words"]

_LONGEST: Final = 18
_STRANGE: Final = -11.0
"""Cost of each letter that belongs to no known word, as a logarithm of probability."""


@dataclass(frozen=True, slots=True)
class Words:
    """Words and the logarithms of their probabilities."""

    costs: Mapping[str, float]

    def __contains__(self, word: str) -> bool:
        """Whether it is known; small letters only."""
        return word in self.costs

    def boundaries(self, letters: str) -> list[int]:
        """Where words end in letters that run together, by the most probable words; the last is the length."""
        best = [0.0] + [-math.inf] * len(letters)
        last = [0] * (len(letters) + 1)
        costs = self.costs
        for end in range(1, len(letters) + 1):
            best[end], last[end] = best[end - 1] + _STRANGE, end - 1
            for start in range(max(0, end - _LONGEST), end):
                cost = costs.get(letters[start:end])
                if cost is not None and best[start] + cost > best[end]:
                    best[end], last[end] = best[start] + cost, start
        ends = []
        end = len(letters)
        while end:
            ends.append(end)
            end = last[end]
        return ends[::-1]


@lru_cache(maxsize=1)
def known_words() -> Words:
    """Those that come with the package."""
    counts: dict[str, int] = json.loads((files("anabranch_guardrails") / "models" / "words.json").read_text("utf-8"))
    total = sum(counts.values())
    return Words({word: math.log(count / total) for word, count in counts.items()})
