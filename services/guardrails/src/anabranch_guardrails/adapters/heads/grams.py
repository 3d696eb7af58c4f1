"""A text as hashed n-grams of characters and words, each at its place: any part of it is weighed in no time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["CHARACTER_BITS", "SIZES", "WORD_BITS", "WORD_KINDS", "Grams", "grams"]

CHARACTER_BITS: Final = 16
WORD_BITS: Final = 16
SIZES: Final = (2, 3, 4, 5)
"""Of n-grams of characters."""
WORD_KINDS: Final = 5
"""A word; it and the next; and the one after next; and the third from it; all three in a row."""

_PRIME: Final = np.uint64(1_099_511_628_211)
_MIX: Final = np.uint64(0x9E3779B97F4A7C15)
_LONGEST_WORD: Final = 40
_SPACE: Final = 32
_ZERO: Final = 48

_KINDS: Final = np.full(128, 1, dtype=np.uint8)
"""0 white, 1 sign, 2 letter or digit."""
_KINDS[:33] = 0
for _code in (*range(48, 58), *range(65, 91), *range(97, 123), 39):
    _KINDS[_code] = 2


@dataclass(frozen=True, slots=True)
class Grams:
    """Buckets of n-grams and their places in the text.

    `characters[k, i]` is the bucket of the n-gram of SIZES[k] that begins at compact place i; `words[k, j]` that of the
    j-th word's k-th kind, which begins at `word_places[j]`. `compact[i]` is where the text's
    i-th character is then.
    """

    characters: NDArray[np.uint32]
    words: NDArray[np.uint32]
    word_places: NDArray[np.int32]
    compact: NDArray[np.int32]


def _bucket(hashes: NDArray[np.uint64], kind: int, bits: int) -> NDArray[np.uint32]:
    mixed = (hashes + np.uint64(kind * 7919 + 1)) * _MIX
    mixed ^= mixed >> np.uint64(29)
    mixed *= _MIX
    return (mixed >> np.uint64(64 - bits)).astype(np.uint32)


def grams(text: str) -> Grams:
    """Of a text: letters as small ones, digits alike, white space as one space."""
    points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    kinds = np.where(points < 128, _KINDS[np.minimum(points, 127)], 2)  # noqa: PLR2004  ASCII
    white = kinds == 0
    keep = np.ones(len(points), dtype=bool)
    keep[1:] = ~(white[1:] & white[:-1])
    compact = np.cumsum(keep, dtype=np.int32) - 1 if len(points) else np.zeros(0, np.int32)
    codes = points[keep].astype(np.uint64)
    kinds = kinds[keep]
    codes = np.where((codes >= 65) & (codes <= 90), codes + 32, codes)  # noqa: PLR2004  capitals
    codes = np.where(kinds == 0, _SPACE, codes)
    codes = np.where((codes >= 48) & (codes <= 57), _ZERO, codes).astype(np.uint64)  # noqa: PLR2004  digits
    count = len(codes)
    padded = np.concatenate([codes, np.full(max(SIZES), _SPACE, dtype=np.uint64)])
    rolling = np.zeros(count, dtype=np.uint64)
    characters = np.empty((len(SIZES), count), dtype=np.uint32)
    row = 0
    for size in range(max(SIZES)):
        rolling = rolling * _PRIME + padded[size : size + count]
        if size + 1 in SIZES:
            characters[row] = _bucket(rolling, size, CHARACTER_BITS)
            row += 1
    words, places = _words(codes, kinds)
    return Grams(characters=characters, words=words, word_places=places, compact=compact)


def _words(codes: NDArray[np.uint64], kinds: NDArray[np.uint8]) -> tuple[NDArray[np.uint32], NDArray[np.int32]]:
    inside = kinds == 2  # noqa: PLR2004  letter or digit
    edges = np.flatnonzero(np.diff(np.concatenate([[False], inside, [False]]).astype(np.int8)))
    starts, ends = edges[::2], edges[1::2]
    if not len(starts):
        return np.zeros((WORD_KINDS, 0), np.uint32), np.zeros(0, np.int32)
    lengths = np.minimum(ends - starts, _LONGEST_WORD)
    hashes = np.zeros(len(starts), dtype=np.uint64)
    for step in range(int(lengths.max())):
        more = lengths > step
        hashes[more] = hashes[more] * _PRIME + codes[starts[more] + step]
    hashes += lengths.astype(np.uint64)
    after = np.concatenate([hashes, np.zeros(3, dtype=np.uint64)])
    count = len(hashes)
    first, second, third, fourth = (after[gap : gap + count] for gap in range(4))
    words = np.empty((WORD_KINDS, count), dtype=np.uint32)
    words[0] = _bucket(first, 11, WORD_BITS)
    words[1] = _bucket(first * _MIX + second, 12, WORD_BITS)
    words[2] = _bucket(first * _MIX + third, 13, WORD_BITS)
    words[3] = _bucket(first * _MIX + fourth, 14, WORD_BITS)
    words[4] = _bucket((first * _MIX + second) * _PRIME + third, 15, WORD_BITS)
    return words, starts.astype(np.int32)
