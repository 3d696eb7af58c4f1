"""English text to the terms of the keyword half. The same at index and at query time, and for every index."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from functools import lru_cache
from zlib import crc32

# PyStemmer ships no types.
import Stemmer  # type: ignore[import-not-found, unused-ignore]

Analyse = Callable[[str], list[str]]

_WORD = re.compile(r"\w+")
_MAX_TERM = 64  # longer runs are data (base64, hashes); cut, not dropped, so that they can still be found
_MAX_TERMS = 8_192

# Lucene's English list, and the words questions are made of: they carry no topic and cost the longest postings.
_STOP_WORDS = frozenset(
    """
    a about also am an and are as at be been being between but by can could did do does during for from had has have he
    her him his how i if in into is it its me my no not of on or our she should so such than that the their them then
    there these they this to us was we were what when where which who whom whose why will with would you your
    """.split()  # noqa: SIM905  a list of seventy quoted words would be harder to read
)


def english() -> Analyse:
    """Returns a function from text to terms, in order: case and accents folded, stop words left out, stemmed.

    It gives at least one term for any text that is not blank: of stop words alone it keeps the words, of signs alone
    the signs. Terms hold no white space. About 40 us for a paragraph; not to be shared between threads.
    """
    stem = Stemmer.Stemmer("english").stemWord

    @lru_cache(maxsize=50_000)
    def term(word: str) -> str:
        folded = _fold(word)
        return "" if folded in _STOP_WORDS else str(stem(folded))[:_MAX_TERM]

    def analyse(text: str) -> list[str]:
        words = _WORD.findall(text)[:_MAX_TERMS]
        terms = [found for found in map(term, words) if found]
        if terms:
            return terms
        return [_fold(word)[:_MAX_TERM] or word[:_MAX_TERM] for word in words or text.split()[:_MAX_TERMS]]

    return analyse


def numbered() -> Callable[[str], list[int]]:
    """As `english`, with each term as a number below 2**32: the same in every process and version of Python.

    Two terms share a number once in four billion. About 20 us for a paragraph of words met before; not to be shared
    between threads.
    """
    stem = Stemmer.Stemmer("english").stemWord

    @lru_cache(maxsize=50_000)
    def number(word: str) -> int:
        folded = _fold(word)
        return -1 if folded in _STOP_WORDS else crc32(str(stem(folded))[:_MAX_TERM].encode())

    def analyse(text: str) -> list[int]:
        words = _WORD.findall(text)[:_MAX_TERMS]
        numbers = [found for found in map(number, words) if found >= 0]
        return numbers or [crc32(_fold(word)[:_MAX_TERM].encode()) for word in words]

    return analyse


def _fold(word: str) -> str:
    if word.isascii():
        return word.lower()
    decomposed = unicodedata.normalize("NFKD", word.casefold())
    # A fold may leave a blank inside (U+00A8 becomes space and diaeresis); a term never holds one.
    return "".join(sign for sign in decomposed if not unicodedata.combining(sign) and not sign.isspace())
