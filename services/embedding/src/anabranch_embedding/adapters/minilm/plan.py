"""Which texts go through the model together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

__all__ = ["RUN_TOKENS", "plan"]

RUN_TOKENS: Final = 256
"""A run of one long text or several short ones fills the cores' vector units and still fits their caches; a larger one
is no faster a token, and makes a query wait longer."""

_SPARE: Final = 8
"""Padding allowed is an eighth of the longest text."""


def plan(lengths: Sequence[int], *, budget: int = RUN_TOKENS) -> list[list[int]]:
    """Return groups of indices, every index once, longest first.

    A group holds texts of about one length: no text is padded by more than an eighth (or two tokens), and a group of
    several takes at most `budget` tokens with its padding.
    """
    groups: list[list[int]] = []
    longest = 0
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        padding = longest - lengths[index]
        if groups and padding <= max(2, longest // _SPARE) and (len(groups[-1]) + 1) * longest <= budget:
            groups[-1].append(index)
        else:
            groups.append([index])
            longest = lengths[index]
    return groups
