"""Words, stems and sentences of a text. Pure Python; what is found is cached by text, since passages come again."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Final

import snowballstemmer  # type: ignore[import-untyped]  # ships no stubs

from anabranch_generation.domain.vocabulary import vocabulary

_COMPOUND: Final = re.compile(r"[^\W\d_]\w*(?:[._]\w+)+")
_FIELD: Final = re.compile(r"([^\W\d_][\w /-]{0,40}?)\s*[:=|]\s*\|?\s*(\S.*)", re.DOTALL)
_LONGEST_FIELD: Final = 300
_WORD: Final = re.compile(r"\d+(?:[.,]\d+)*|[^\W\d_]+(?:['\u2019][^\W\d_]+)*|\d+")
_STEMMER: Final = snowballstemmer.stemmer("english")

# Words that say how a sentence is built, not what it is about; they carry no weight in overlap.
STOP: Final = vocabulary(
    "a about above after again against all also am an and any are as at be became because become been before being",
    "below between both but by came can come could did do does doing done down during each either else ever every",
    "few for from further get gets give given go goes got had has have having he her here hers herself him himself",
    "his how i if in into is it its itself just let like ll made make makes many may me mean means meant might more",
    "most much must my name named neither no nor not now of off on once one only or other our out over own part",
    "please same say says shall she should so some such take takes tell than that the their them then there these",
    "they thing this those through to too under until up upon us use used very was we were what when where whether",
    "which while who whom whose why will with within would ye yes yet you your yours 's s t d re ve",
)

# Frequent content words: a match says a little. Stands in for document frequencies nobody carries along.
COMMON: Final = vocabulary(
    "year time first new people state world city country area number group system work life day way place kind type",
    "form large small old long high great early late modern known called include including several different large",
    "major main important common general national american british english history war government company school",
    "university family man woman men women person game song film movie book show series season episode team play",
    "player king law power water land house born died die live lived start started begin began end ended happen",
    "happened found founded build built found become set second two three four five six seven eight nine ten end",
    "current total percent century many people original famous popular term word name official located live need",
    "work role help cause change result purpose difference process example meaning body line side point",
)


@lru_cache(maxsize=65_536)
def stem(word: str) -> str:
    """The stem of one folded word; a number without leading zeros."""
    if word[0] == "0":
        return word.lstrip("0") or "0"
    if word.isascii() and word.isalpha():
        return str(_STEMMER.stemWord(word))
    return word


@lru_cache(maxsize=65_536)
def fold(word: str) -> str:
    """Lower case, without accents and possessive."""
    low = word.lower()
    if not low.isascii():
        low = "".join(
            c for c in unicodedata.normalize("NFKD", low.replace("\u2019", "'")) if not unicodedata.combining(c)
        )
    return low.removesuffix("'s")


@dataclass(frozen=True, slots=True)
class Word:
    """A word where it stands: `start` and `end` in the text, its stem, and what its writing says."""

    start: int
    end: int
    raw: str
    low: str
    stem: str

    @property
    def capital(self) -> bool:
        """Written with a capital."""
        return self.raw[0].isupper()

    @property
    def number(self) -> bool:
        """Written in digits."""
        return self.raw[0].isdigit()


def words(text: str) -> list[Word]:
    """All words, in order."""
    found = []
    for match in _WORD.finditer(text):
        raw = match.group()
        low = fold(raw)
        found.append(Word(match.start(), match.end(), raw, low, stem(low)))
    return found


def compounds(text: str) -> frozenset[str]:
    """Names with dots and underscores, whole: `linger.ms`, `max_tokens`."""
    return frozenset(match.group().lower() for match in _COMPOUND.finditer(text))


def field(text: str) -> tuple[str, str] | None:
    """Key and value of a line like `Status: Active`, `Default: | 5` or a row `status | Active`; else None."""
    match = _FIELD.fullmatch(text) if len(text) <= _LONGEST_FIELD else None
    return (match.group(1), match.group(2)) if match else None


_END: Final = re.compile(r"[.!?…]+(?:[\"'\u201d\u2019)\]]|\s'')*(?=\s|$)|\n\s*\n|\n(?=\s*[-*•])")
_LAST: Final = re.compile(r"\S*$")
_DOTTED: Final = re.compile(r"[a-z]|(?:[a-z]\.)+[a-z]")
_SHORT: Final = vocabulary(
    "mr mrs ms dr prof st jr sr vs e.g i.e no vol fig inc ltd co corp gen col lt sgt capt rev hon gov sen rep pres",
    "dept est approx c ca cf al jan feb mar apr jun jul aug sep sept oct nov dec p pp ed eds bros mt ft",
)


def sentences(text: str) -> list[tuple[int, int]]:
    """Offsets of the sentences of a text, in order, not overlapping, without the white space around them."""
    found: list[tuple[int, int]] = []
    start = 0
    for match in _END.finditer(text):
        end = match.end()
        if match.group() == "." and _goes_on(text, start, match.start(), end):
            continue
        start = _add(found, text, start, end)
    _add(found, text, start, len(text))
    return found


def _goes_on(text: str, start: int, dot: int, end: int) -> bool:
    last = _LAST.search(text[start:dot])
    before = last.group().lower().lstrip("(\"'[\u201c\u2018") if last else ""
    following = text[end : end + 40].lstrip()
    if not following:
        return False
    return following[0].islower() or before in _SHORT or _DOTTED.fullmatch(before) is not None


def _add(found: list[tuple[int, int]], text: str, start: int, end: int) -> int:
    piece = text[start:end]
    stripped = piece.strip()
    if stripped:
        begin = start + len(piece) - len(piece.lstrip())
        found.append((begin, begin + len(stripped)))
    return end


def bigrams(stems: Sequence[str]) -> frozenset[tuple[str, str]]:
    """Neighbouring pairs."""
    return frozenset(pairwise(stems))
