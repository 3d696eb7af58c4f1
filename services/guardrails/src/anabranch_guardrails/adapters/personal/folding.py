"""A text as patterns read it: plain digits, dashes and spaces, and where each character stood."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import Final

_ZERO_WIDTH: Final = frozenset("\u00ad\u200b\u200c\u200d\u2060\ufeff\u200e\u200f\u202a\u202b\u202c\u202d\u202e")
_DASHES: Final = frozenset("\u2010\u2011\u2012\u2013\u2014\u2212\ufe58\ufe63\uff0d")
_SPACES: Final = frozenset(
    "\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Folded:
    """`text` to be searched; `places` says where its characters stood, None for where they stand."""

    text: str
    places: tuple[int, ...] | None = None

    def span(self, start: int, end: int) -> tuple[int, int]:
        """Where that is in the text as it came."""
        if self.places is None:
            return start, end
        return self.places[start], self.places[end - 1] + 1


def folded(text: str) -> Folded:
    """Digits of all scripts and full-width letters as ASCII, odd dashes and spaces as plain ones, nothing unseen."""
    if text.isascii():
        return Folded(text=text)
    swaps = {char: _plain(char) for char in set(text) if not char.isascii()}
    if all(new == old for old, new in swaps.items()):
        return Folded(text=text)
    kept: list[str] = []
    places: list[int] = []
    for place, char in enumerate(text):
        new = swaps.get(char, char)
        if new:
            kept.append(new)
            places.append(place)
    return Folded(text="".join(kept), places=tuple(places))


def _plain(char: str) -> str:
    if char in _ZERO_WIDTH:
        return ""
    if char in _DASHES:
        return "-"
    if char in _SPACES:
        return " "
    digit = unicodedata.decimal(char, None)
    if digit is not None:
        return str(digit)
    if "\uff01" <= char <= "\uff5e":
        return chr(ord(char) - 0xFEE0)
    return char
