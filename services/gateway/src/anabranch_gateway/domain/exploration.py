"""A little chance in the order of what is shown.

People look at what is on top, and what they say of passages says as much about the place as about the passage. Where
two ranks change places by chance, the same passage is seen at two of them: from that, the pull of a place can be told
from the worth of a passage.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from random import Random
from typing import TypeVar

T = TypeVar("T")


def explored(passages: Sequence[T], *, answer_id: str, share: float) -> tuple[Sequence[T], bool]:
    """The passages in the order to show, and whether chance has had a hand in it.

    For a `share` of answers two ranks change places: neighbours in one half of the cases, any two in the other. The
    answer's id alone decides, so that the same answer is the same wherever it is worked out again.
    """
    if len(passages) < 2:  # noqa: PLR2004  it takes two to change places
        return passages, False
    seed = hashlib.blake2b(f"exploration\n{answer_id}".encode(), digest_size=16).digest()
    chance = Random(seed)  # noqa: S311  dealt, not secret
    if chance.random() >= share:
        return passages, False
    if chance.random() < 0.5:  # noqa: PLR2004  one half
        first = chance.randrange(len(passages) - 1)
        second = first + 1
    else:
        first, second = sorted(chance.sample(range(len(passages)), 2))
    shown = list(passages)
    shown[first], shown[second] = shown[second], shown[first]
    return shown, True
