"""Sets of words, written as the words are."""

from __future__ import annotations


def vocabulary(*lines: str) -> frozenset[str]:
    """The words of the lines."""
    return frozenset(word for line in lines for word in line.split())
