"""Near-duplicate passages: of several that say the same in the same words, only the best is worth a place."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

_WORD = re.compile(r"\w+")
_SHINGLE = 3
_SAME = 0.85  # Jaccard of the shingles; a changed date or name in a paragraph stays above, another paragraph far below

T = TypeVar("T")


def without_near_duplicates(ranked: Iterable[T], *, text: Callable[[T], str]) -> Iterator[T]:
    """Yields what does not repeat something yielded before. Lazy: reads no further than its caller does.

    Linear in the words read: overlaps are counted through an inverted map from shingle to passages.
    """
    holders: dict[int, list[int]] = {}
    sizes: list[int] = []
    for candidate in ranked:
        shingles = _shingles(text(candidate))
        overlaps = Counter(holder for shingle in shingles for holder in holders.get(shingle, ()))
        if any(overlap >= _SAME * (len(shingles) + sizes[holder] - overlap) for holder, overlap in overlaps.items()):
            continue
        number = len(sizes)
        sizes.append(len(shingles))
        for shingle in shingles:
            holders.setdefault(shingle, []).append(number)
        yield candidate


def _shingles(text: str) -> set[int]:
    words = _WORD.findall(text.casefold())
    if len(words) < _SHINGLE:
        # Too short for shingles (or without words): the same only when equal.
        return {hash(" ".join(words) or text.strip())}
    return {hash(gram) for gram in zip(words, words[1:], words[2:], strict=False)}
