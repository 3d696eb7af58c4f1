"""Whether two answers say the same."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Final

from anabranch_gateway.domain.caching.wording import split, stem

_WORD: Final = re.compile(r"[^\W_]+(?:[.,'\-][^\W_]+)*", re.UNICODE)
_MARK: Final = re.compile(r"\[\d+\]")
_FILLERS: Final = split("a an the is are was were of in on at to and or it its that this by for with as be been")
_NEGATIONS: Final = split("not no never none without neither nor cannot isn't wasn't aren't don't doesn't didn't")
_SAME: Final = 0.75
_HELD: Final = 0.9


def agrees(cached: str, fresh: str, *, cached_quotes: Sequence[str] = (), fresh_quotes: Sequence[str] = ()) -> bool:
    """Whether a person who was given one answer would not be told otherwise by the other.

    The same quotes are the same answer. Else what one says of numbers and negations the other must not contradict, and
    their words must be nearly the same, or those of one nearly all in the other. In doubt they do not agree.
    """
    if cached_quotes and set(map(_plain, cached_quotes)) == set(map(_plain, fresh_quotes)):
        return True
    left, right = _words(cached), _words(fresh)
    if left == right:
        return True
    if bool(_NEGATIONS & set(left)) != bool(_NEGATIONS & set(right)):
        return False
    numbers = [{word for word in words if any(character.isdigit() for character in word)} for words in (left, right)]
    if numbers[0] != numbers[1] and not (
        numbers[0] and numbers[1] and (numbers[0] <= numbers[1] or numbers[1] <= numbers[0])
    ):
        return False
    mine, theirs = (Counter(stem(word) for word in words if word not in _FILLERS) for words in (left, right))
    shared = sum((mine & theirs).values())
    if not shared:
        return False
    fewer = min(sum(mine.values()), sum(theirs.values()))
    return 2 * shared / (sum(mine.values()) + sum(theirs.values())) >= _SAME or shared / fewer >= _HELD


def _plain(text: str) -> str:
    return " ".join(_words(text))


def _words(text: str) -> list[str]:
    return _WORD.findall(_MARK.sub(" ", text).casefold().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'"))
