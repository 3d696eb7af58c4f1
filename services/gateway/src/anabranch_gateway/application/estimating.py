"""The most that a call can come to, said before it is made.

The prompt is bounded from above: exact where its tokens are known, else one token a byte, which no byte-level tokenizer
passes. The answer is bounded by what the call is told to keep to: the caller's `max_tokens`, or what answers of the
variant and model have come to. That bound goes to the model with the call, so what was reserved is not passed.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

# For the frame of a chat: roles, separators, the beginning of the answer.
FRAME_TOKENS: Final = 8
FRAMES: Final = 16
STEP: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """Tokens, at most. `completion` is also what the model has to be told as its bound."""

    prompt: int
    completion: int

    @property
    def tokens(self) -> int:
        """Both."""
        return self.prompt + self.completion


class Lengths:
    """A quantile of the last `size` lengths. Answers that were cut off would have been longer: they count double."""

    __slots__ = ("_order", "_size", "_sorted")

    def __init__(self, *, size: int = 256) -> None:
        self._size = size
        self._order: deque[int] = deque()
        self._sorted: list[int] = []

    def __len__(self) -> int:
        """How many are known."""
        return len(self._order)

    def add(self, tokens: int, *, cut: bool) -> None:
        """One more answer; the oldest makes room."""
        seen = tokens * 2 if cut else tokens
        if len(self._order) >= self._size:
            del self._sorted[bisect_left(self._sorted, self._order.popleft())]
        self._order.append(seen)
        insort(self._sorted, seen)

    def quantile(self, share: float) -> int:
        """The smallest length that `share` of the answers do not pass. Needs one at least."""
        return self._sorted[min(len(self._sorted) - 1, math.ceil(share * len(self._sorted)) - 1)]


class Estimator:
    """Learns how long answers are, by variant and model.

    Until `enough` answers are known, `most` is taken. After that, `share` of the answers fit even without the `slack`
    that goes on top. A longer one is cut off by the model's bound, and in being cut off makes room for the next.
    """

    def __init__(
        self,
        *,
        most: int = 1_024,
        least: int = 64,
        enough: int = 20,
        share: float = 0.95,
        slack: float = 1.5,
        kinds: int = 1_000,
    ) -> None:
        """Takes the bounds, in tokens; `kinds` is how many variants and models are remembered."""
        if not (0 < least <= most and enough >= 1 and 0 < share <= 1 and slack >= 1 and kinds >= 1):
            raise ValueError("least <= most, 0 < share <= 1 and slack >= 1 must hold")
        self._most = most
        self._least = least
        self._enough = enough
        self._share = share
        self._slack = slack
        self._kinds = kinds
        self._lengths: OrderedDict[tuple[str, str], Lengths] = OrderedDict()

    def estimate(
        self,
        *,
        variant_id: str,
        model: str,
        texts: Sequence[str] = (),
        prompt_tokens: int | None = None,
        max_tokens: int = 0,
    ) -> Estimate:
        """Of one call: `texts` is all that goes into the prompt, or `prompt_tokens` its exact number.

        `max_tokens` is the bound that the caller or the variant has set; 0: none.
        """
        prompt = prompt_tokens if prompt_tokens is not None else prompt_bound(texts)
        completion = max_tokens if max_tokens > 0 else self._learned(variant_id, model)
        return Estimate(prompt=prompt, completion=completion)

    def observe(self, *, variant_id: str, model: str, completion_tokens: int, cut: bool) -> None:
        """What an answer came to; `cut`: it ended because of the bound that was set by `estimate`."""
        name = (variant_id, model)
        lengths = self._lengths.pop(name, None) or Lengths()
        lengths.add(max(0, completion_tokens), cut=cut)
        self._lengths[name] = lengths
        while len(self._lengths) > self._kinds:
            self._lengths.popitem(last=False)

    def _learned(self, variant_id: str, model: str) -> int:
        lengths = self._lengths.get((variant_id, model))
        if lengths is None or len(lengths) < self._enough:
            return self._most
        wanted = math.ceil(lengths.quantile(self._share) * self._slack / STEP) * STEP
        return min(self._most, max(self._least, wanted))


def prompt_bound(texts: Sequence[str]) -> int:
    """A number of tokens that a prompt of these texts does not pass: byte-level tokens hold a byte at least."""
    return sum(len(text.encode("utf-8", "surrogatepass")) for text in texts) + FRAME_TOKENS * (len(texts) + FRAMES)
