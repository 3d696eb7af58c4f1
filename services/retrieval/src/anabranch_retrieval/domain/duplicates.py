"""Near-duplicate passages: of several that say the same in the same words, only the best is worth a place."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

_WORD = re.compile(r"\w+")
_SHINGLE = 3
_SAME = 0.85  # Jaccard of the shingles; a changed date or name in a paragraph stays above, another paragraph far below
_CLINGING = 4
_ALIKE = 0.75  # Jaccard of the words; a text that shares 0.85 of another's shingles shares more of its words

T = TypeVar("T")


def without_near_duplicates(ranked: Iterable[T], *, text: Callable[[T], str]) -> Iterator[T]:
    """Yields what does not repeat something yielded before. Lazy: reads no further than its caller does."""
    kept: list[_Text] = []
    for candidate in ranked:
        fresh = _Text(text(candidate))
        if any(fresh.repeats(other) for other in kept):
            continue
        kept.append(fresh)
        yield candidate


class _Text:
    """A text as sets of what it is made of; the costly one is made when the cheap ones do not tell texts apart."""

    __slots__ = ("_shingles", "_text", "_words")

    def __init__(self, text: str) -> None:
        self._text = text.casefold()
        self._words = frozenset(self._text.split())
        self._shingles: frozenset[object] | None = None

    def repeats(self, other: _Text) -> bool:
        few, many = sorted((len(self._words), len(other._words)))
        if few < _ALIKE * many:
            return False
        shared = len(self._words & other._words)
        # Punctuation clings to these words, so in a short text a stop more or less weighs much.
        if shared + _CLINGING < _ALIKE * (few + many - shared):
            return False
        mine, others = self.shingles, other.shingles
        overlap = len(mine & others)
        return overlap >= _SAME * (len(mine) + len(others) - overlap)

    @property
    def shingles(self) -> frozenset[object]:
        if self._shingles is None:
            words = _WORD.findall(self._text)
            if len(words) < _SHINGLE:
                # Too short for shingles, or without words: the same only when equal.
                self._shingles = frozenset([" ".join(words) or self._text.strip()])
            else:
                self._shingles = frozenset(zip(words, words[1:], words[2:], strict=False))
        return self._shingles
