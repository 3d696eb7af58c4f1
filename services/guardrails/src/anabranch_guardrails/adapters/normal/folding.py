"""Characters that only look different, and those that do not show, brought to what a reader sees."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from anabranch_guardrails.adapters.normal.lookalikes import LOOKALIKES

__all__ = ["Folded", "Places", "fold"]

Places = NDArray[np.int32]

_TAGS: Final = range(0xE0020, 0xE007F)
_SELECTORS: Final = (range(0xFE00, 0xFE10), range(0xE0100, 0xE01F0))
_BIDI: Final = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_BLACK_FLAG: Final = "\U0001f3f4"
_JOINER: Final = "\u200d"
_CROSSED: Final = dict(zip("øØłŁđĐðħŧæœß", "oolldddhteos", strict=True))
"""Latin letters that do not come apart into a letter and an accent."""
_SMUGGLED: Final = 4
"""So many variation selectors in a row carry bytes, and choose no glyph."""
_GENUINE: Final = 0.2
"""Of the Greek and Cyrillic letters, so many that look like no Latin one make the text Greek or Russian."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Folded:
    """A text as it looks, and for each of its characters where in the text as it came it stood.

    `odd` counts what was hidden or disguised, by kind: `tags`, `bidi`, `invisible`, `lookalikes`, `smuggled`,
    `surrogates`, `styled`.
    """

    text: str
    starts: Places
    ends: Places
    odd: Mapping[str, int] = field(default_factory=dict)

    def span(self, start: int, end: int) -> tuple[int, int]:
        """Where characters `start` to `end` stood. `start` < `end`."""
        return int(self.starts[start]), int(self.ends[end - 1])

    def part(self, start: int, end: int) -> Folded:
        """Those characters alone."""
        return Folded(text=self.text[start:end], starts=self.starts[start:end], ends=self.ends[start:end])


@lru_cache(maxsize=8192)
def _plain(character: str) -> tuple[str, str]:  # noqa: PLR0911  one for each kind of character
    """What one character beyond ASCII becomes, and the kind of oddity."""
    code = ord(character)
    if code in _TAGS:
        return chr(code - 0xE0000), "tags"
    if any(code in part for part in _SELECTORS):
        return "", "selector"
    category = unicodedata.category(character)
    if category == "Cs":
        return " ", "surrogates"
    if character in _BIDI:
        return "", "bidi"
    if category == "Cf" or character in "\u034f\u115f\u1160\u3164\uffa0\u2800\u180e":
        return "", "invisible"
    if category == "Mn":
        return "", ""
    if category in {"Zs", "Zl", "Zp", "Cc"}:
        return " ", ""
    if character in LOOKALIKES:
        return character, "lookalikes"
    compatible = unicodedata.normalize("NFKC", character)
    folded = "".join(_base(one) for one in compatible)
    return folded or " ", "styled" if compatible != character and compatible.isascii() and compatible.isalnum() else ""


def _base(character: str) -> str:
    """Without accents, small."""
    if character.isascii():
        return character
    first = unicodedata.normalize("NFD", character)[0]
    if first.isascii():
        return first
    if character in _CROSSED:
        return _CROSSED[character]
    small = character.lower()
    return small if len(small) == 1 else character


def fold(text: str) -> Folded:
    """The text as it looks: linear in its length, never raises."""
    count = len(text)
    every = np.arange(count, dtype=np.int32)
    if text.isascii():
        return Folded(text=text, starts=every, ends=every + 1)
    pieces = [character if character.isascii() else _plain(character)[0] for character in text]
    kinds = Counter(
        {
            character: number
            for character, number in Counter(text).items()
            if not character.isascii() and _plain(character)[1]
        }
    )
    odd: Counter[str] = Counter()
    for character, number in kinds.items():
        odd[_plain(character)[1]] += number
    if odd["selector"] >= _SMUGGLED:
        odd["smuggled"] += _selected(text, pieces)
    del odd["selector"]
    if odd["tags"] and _BLACK_FLAG in text:
        odd["tags"] -= _flags(text, pieces)
    if odd["invisible"] and _JOINER in text:
        odd["invisible"] -= _joined(text)
    if odd["lookalikes"]:
        odd["lookalikes"] = _unmasked(text, pieces)
    lengths = np.fromiter(map(len, pieces), dtype=np.int32, count=count)
    starts = np.repeat(every, lengths)
    return Folded(
        text="".join(pieces), starts=starts, ends=starts + 1, odd={kind: n for kind, n in odd.items() if n > 0}
    )


def _selected(text: str, pieces: list[str]) -> int:
    """Puts in the bytes that runs of variation selectors carry; returns how many."""
    found, run = 0, []
    for place, character in enumerate([*text, ""]):
        code = ord(character) if character else 0
        if code in _SELECTORS[0] or code in _SELECTORS[1]:
            run.append((place, code - 0xFE00 if code < 0x10000 else code - 0xE0100 + 16))  # noqa: PLR2004  planes
            continue
        if len(run) >= _SMUGGLED:
            found += len(run)
            for where, byte in run:
                pieces[where] = chr(byte) if 32 <= byte < 127 else " "  # noqa: PLR2004  what ASCII shows
        run = []
    return found


def _flags(text: str, pieces: list[str]) -> int:
    """Takes out the tags that name a flag's region; returns how many."""
    found, at = 0, text.find(_BLACK_FLAG)
    while at >= 0:
        place = at + 1
        while place < len(text) and 0xE0020 <= ord(text[place]) <= 0xE007F and place - at <= 7:  # noqa: PLR2004  longest region
            pieces[place] = ""
            found += 1
            place += 1
        at = text.find(_BLACK_FLAG, at + 1)
    return found


def _joined(text: str) -> int:
    """How many joiners stand after a pictograph or a selector, as they should."""
    return sum(
        1
        for place in range(1, len(text))
        if text[place] == _JOINER and (unicodedata.category(text[place - 1]) in {"So", "Mn", "Sk"})
    )


def _unmasked(text: str, pieces: list[str]) -> int:
    """Puts Latin letters for those of other scripts that only look like them; returns how many there were.

    In a text that is really Greek or Russian only words that mix scripts are touched.
    """
    soft = sum(1 for piece in pieces if piece in LOOKALIKES)
    hard = sum(
        1
        for character in set(text)
        if "\u0370" <= character <= "\u052f" and character.isalpha() and character not in LOOKALIKES
        for _ in range(text.count(character))
    )
    if hard <= _GENUINE * soft:
        for place, piece in enumerate(pieces):
            if piece in LOOKALIKES:
                pieces[place] = LOOKALIKES[piece]
        return soft
    return _mixed(pieces)


def _mixed(pieces: list[str]) -> int:
    """The same in words that hold Latin letters too; small letters elsewhere."""
    found, latin = 0, False
    word: list[int] = []
    for place, piece in enumerate([*pieces, " "]):
        if piece == "" or piece.isalpha():
            latin = latin or (piece.isascii() and piece != "")
            if piece in LOOKALIKES:
                word.append(place)
            continue
        for where in word:
            pieces[where] = LOOKALIKES[pieces[where]] if latin else pieces[where].lower()
        found += len(word) if latin else 0
        word, latin = [], False
    return found
