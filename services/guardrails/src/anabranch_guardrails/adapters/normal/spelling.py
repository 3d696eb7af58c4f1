"""Words spelt apart, with figures for letters, by ROT13 or backwards: read as the words that are known."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from itertools import islice, pairwise, product
from typing import Final

import numpy as np

from anabranch_guardrails.adapters.normal.folding import Folded
from anabranch_guardrails.adapters.normal.words import Words

__all__ = ["respelt", "turned"]

_FIGURES: Final = {
    "0": "o", "1": "il", "2": "z", "3": "e", "4": "a", "5": "s", "6": "g", "7": "t", "8": "b", "9": "g", "@": "a",
    "$": "s", "!": "i", "|": "li", "+": "t", "(": "c", "<": "c", "€": "e", "£": "l",
}  # fmt: skip
_ANY: Final = "".join(re.escape(figure) for figure in _FIGURES)
_LEET: Final = re.compile(rf"[A-Za-z{_ANY}]+")
_APART: Final = re.compile(
    rf"(?<![A-Za-z0-9])[A-Za-z{_ANY}]"
    rf"(?:(?:[ .\-_*|/,~'·•]|\s)(?:\s{{0,3}}|[-/|]\s)[A-Za-z{_ANY}](?![A-Za-z0-9])){{3,}}"
)
_WORD: Final = re.compile(r"[A-Za-z]+")
_LONGEST: Final = 4_096
"""Letters that are run together and taken apart into words, at most."""
_LONG_WORD: Final = 24
_TRIED: Final = 8
_ROT13: Final = str.maketrans(
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz", "NOPQRSTUVWXYZABCDEFGHIJKLMnopqrstuvwxyzabcdefghijklm"
)
_USUAL: Final = 3.2
"""Letters a word, at least, on average: any letters at all can be cut into very short words."""
_ENOUGH: Final = 3
_STRANGE: Final = 0.5
"""Of the words, so many unknown make a text that may be cut into words wrongly."""


def respelt(folded: Folded, words: Words) -> Iterator[tuple[str, Folded]]:
    """The text with letters brought together and figures read as letters; nothing where neither is there."""
    joined = _together(folded, words)
    if joined is not None:
        yield "apart", joined
    plain = _unfigured(joined or folded, words)
    if plain is not None:
        yield "figures", plain
    whole = _recut(plain or joined or folded, words)
    if whole is not None:
        yield "recut", whole


def turned(folded: Folded, words: Words) -> Iterator[tuple[str, Folded]]:
    """The stretches that read as words by ROT13, or backwards, and do not as they stand."""
    spots = [(match.start(), match.end(), match.group()) for match in _WORD.finditer(folded.text)]
    known = words.costs
    strange = [word for *_, word in spots if word.lower() not in known]
    if len(spots) < _ENOUGH or len(strange) < _ENOUGH:
        return
    stretch = _stretch(spots, strange, words, lambda word: word.translate(_ROT13))
    if stretch is not None:
        part = folded.part(*stretch)
        yield "rot13", Folded(text=part.text.translate(_ROT13), starts=part.starts, ends=part.ends)
    stretch = _stretch(spots, strange, words, lambda word: word[::-1])
    if stretch is not None:
        part = folded.part(*stretch)
        low, high = int(part.starts.min(initial=0)), int(part.ends.max(initial=1))
        count = len(part.text)
        # Runs of words backwards: each place alone would give spans that end before they begin.
        yield (
            "backwards",
            Folded(text=part.text[::-1], starts=np.full(count, low, np.int32), ends=np.full(count, high, np.int32)),
        )


def _stretch(
    spots: list[tuple[int, int, str]], strange: list[str], words: Words, read: Callable[[str], str]
) -> tuple[int, int] | None:
    """The stretch with most words that are known only when read so; `strange` are the words not known as they stand."""
    if sum(0.9 * min(len(word), 6) / 4 for word in strange if read(word).lower() in words) < _ENOUGH - 0.01:
        return None  # no stretch adds up to enough: only these words count for it
    best, bounds = 0.0, None
    total, first = 0.0, 0
    for start, end, word in spots:
        if total <= 0:
            total, first = 0.0, start
        length = min(len(word), 6) / 4
        total += length * ((read(word).lower() in words) - (word.lower() in words) - 0.1)
        if total > best:
            best, bounds = total, (first, end)
    return bounds if best >= _ENOUGH else None


def _together(folded: Folded, words: Words) -> Folded | None:
    """With letters that stand alone in a row made into words."""
    text, at = folded.text, 0
    pieces: list[str] = []
    places: list[int] = []
    for match in _APART.finditer(text):
        start, end = match.span()
        keep = [place for place in range(start, end) if text[place].isalnum() or text[place] in _FIGURES]
        if end - start > _LONGEST * 2:
            keep = keep[:_LONGEST]
        gaps = [after - before for before, after in pairwise(keep)]
        usual = min(gaps)
        ends = {place for place, gap in enumerate(gaps, 1) if gap > usual}
        letters = "".join(text[place] for place in keep)
        if not ends:
            plain = "".join(_FIGURES.get(letter, letter)[0] for letter in letters).lower()
            ends = set(words.boundaries(plain))
        pieces.append(text[at:start])
        places.extend(range(at, start))
        for number, place in enumerate(keep, 1):
            pieces.append(text[place])
            places.append(place)
            if number in ends and number < len(keep):
                pieces.append(" ")
                places.append(place)
        at = end
    if not at:
        return None
    pieces.append(text[at:])
    places.extend(range(at, len(text)))
    return _taken(folded, "".join(pieces), places)


def _taken(folded: Folded, text: str, places: list[int]) -> Folded:
    where = np.asarray(places, dtype=np.int32)
    return Folded(text=text, starts=folded.starts[where], ends=folded.ends[where])


def _unfigured(folded: Folded, words: Words) -> Folded | None:
    """With words in figures written in letters; as long as before."""
    text = folded.text
    found: list[tuple[int, str]] = []
    numbers: list[tuple[int, str]] = []
    for match in _LEET.finditer(text):
        word = match.group()
        if word.isalpha() or len(word) > _LONG_WORD:
            continue
        plain = _read(word, words)
        if plain is not None:
            (found if any(one.isalpha() for one in word) else numbers).append((match.start(), plain))
    if not found:
        return None
    letters = list(text)
    for start, plain in found + (numbers if len(found) >= _ENOUGH - 1 else []):
        letters[start : start + len(plain)] = plain
    return Folded(text="".join(letters), starts=folded.starts, ends=folded.ends)


def _read(word: str, words: Words) -> str | None:
    """The known word that it spells, without what may be punctuation at its end."""
    for cut in {len(word), len(word.rstrip("!$+|(<"))}:
        part = word[:cut]
        if part.isalpha() or len(part) < 2:  # noqa: PLR2004  a letter alone is no word
            continue
        choices = [_FIGURES.get(letter, letter.lower()) for letter in part]
        for letters in islice(product(*choices), _TRIED):
            if "".join(letters) in words:
                return "".join(letters) + word[cut:]
    if sum(1 for one in word if one.isalpha()) * 2 >= len(word) and len(word) > _ENOUGH:
        return "".join(_FIGURES.get(letter, letter)[0] for letter in word)
    return None


def _recut(folded: Folded, words: Words) -> Folded | None:
    """The letters cut into words anew, where hardly any word is known and they would be."""
    spots = [(match.start(), match.end()) for match in _WORD.finditer(folded.text)]
    count = sum(end - start for start, end in spots)
    if not 12 <= count <= _LONGEST:  # noqa: PLR2004  fewer letters say nothing
        return None
    costs, small = words.costs, folded.text.lower() if folded.text.isascii() else ""
    known = sum(
        end - start for start, end in spots if (small[start:end] if small else folded.text[start:end].lower()) in costs
    )
    if known > _STRANGE * count:
        return None
    places = [place for start, end in spots for place in range(start, end)]
    letters = "".join(folded.text[place] for place in places).lower()
    ends = words.boundaries(letters)
    starts = [0, *ends[:-1]]
    covered = sum(end - start for start, end in zip(starts, ends, strict=True) if end - start > 1)
    if covered < 0.85 * count:
        return None
    pieces: list[str] = []
    where: list[int] = []
    for start, end in zip(starts, ends, strict=True):
        pieces += [folded.text[place] for place in places[start:end]] + [" "]
        where += [*places[start:end], places[end - 1]]
    return _taken(folded, "".join(pieces), where)
