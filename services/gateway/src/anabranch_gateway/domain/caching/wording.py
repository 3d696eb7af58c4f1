"""How a question is worded, and how two wordings differ."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import permutations
from typing import Final

from anabranch_gateway.domain.caching.fitness import normalised


def split(words: str) -> frozenset[str]:
    """Words of a list with spaces between."""
    return frozenset(words.split())


_WORD: Final = re.compile(r"[^\W_]+(?:['.\-_][^\W_]+)*", re.UNICODE)
_NUMBER: Final = re.compile(r"\d+(?:[.,]\d+)*")
_CARDINALS: Final = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen"
_ORDINALS: Final = "first second third fourth fifth sixth seventh eighth ninth tenth"
_DIGITS: Final = {word: str(value) for value, word in enumerate(_CARDINALS.split())} | {
    word: str(value) for value, word in enumerate(_ORDINALS.split(), start=1)
}
_NEGATIONS: Final = split(
    "not no never without none nobody nothing neither nor cannot except unless exclude excluding un non fail fails"
)
_STOP: Final = split(
    "a an the of in on at to for by with from and or is are was were be been being do does did has have had it its "
    "this that these those there as into about please tell me you can could would will should may might must i we us "
    "name give what which who whom whose when where why how s know find out like exactly so"
)
_KINDS: Final = (
    ("number", re.compile(r"\bhow (?:many|much|long|old|far|tall|large|big|often|high|deep|wide)\b|\bwhat number\b")),
    (
        "time",
        re.compile(
            r"\bwhen\b|\b(?:what|which) (?:\w+ )?(?:year|date|day|month|century|decade|time|season)\b|\bon what date\b"
        ),
    ),
    (
        "place",
        re.compile(r"\bwhere\b|\b(?:what|which) (?:\w+ )?(?:city|country|state|place|town|county|region|location)\b"),
    ),
    (
        "person",
        re.compile(r"\bwho(?:m|se)?\b|\b(?:what|which) (?:\w+ )?(?:person|actor|actress|author|singer|man|woman)\b"),
    ),
    ("reason", re.compile(r"\bwhy\b|\bwhat (?:is|was) the reason\b|\bfor what reason\b")),
    ("manner", re.compile(r"\bhow\b|\bin what way\b")),
    ("choice", re.compile(r"^(?:is|are|was|were|do|does|did|has|have|had|can|could|will|would|should)\b")),
)
_OPPOSITES: Final = (
    "first/last oldest/youngest older/younger highest/lowest higher/lower largest/smallest larger/smaller "
    "biggest/smallest bigger/smaller longest/shortest longer/shorter most/least more/less more/fewer best/worst "
    "maximum/minimum max/min before/after early/late earliest/latest north/south northern/southern east/west "
    "eastern/western start/end begin/end begin/finish open/close increase/decrease win/lose won/lost winner/loser "
    "buy/sell male/female father/mother brother/sister husband/wife son/daughter king/queen top/bottom left/right "
    "inside/outside above/below import/export enable/disable enabled/disabled include/exclude born/died "
    "birth/death advantage/disadvantage allow/forbid add/remove upper/lower inner/outer cause/effect "
    "producer/consumer source/target home/away accept/reject create/delete"
)
_SAME_WORDS: Final = (
    "year date/created built/constructed start/begin/began/begun/commence movie/film writer/author "
    "wrote/author/written big/large wife/spouse located/situated city/town born/birthplace named/called "
    "kind/type/sort purpose/goal/aim biggest/largest famous/known person/individual country/nation show/series "
    "job/occupation/profession default/standard setting/option/parameter value/amount created/made "
    "founded/established sang/singer/sung played/portrayed actor/played initially/originally picture/film"
)
_SUFFIXES: Final = ("ations", "ation", "ings", "ing", "ies", "ed", "es", "ly", "s")
_SHORTEST: Final = 3
_PREFIX: Final = 5


@dataclass(frozen=True, slots=True)
class Wording:
    """What is compared of a question."""

    text: str
    content: tuple[str, ...]  # stems, in order
    words: tuple[str, ...]  # all, in order
    numbers: frozenset[str]
    negations: int
    names: frozenset[str]  # stems of words written with a capital inside the sentence
    capitals: bool  # whether it is written with capitals at all
    kind: str


@lru_cache(maxsize=8_192)
def worded(question: str) -> Wording:
    """Reads a question."""
    text = normalised(question)
    words = tuple(_WORD.findall(text))
    content: list[str] = []
    numbers: set[str] = set()
    negations = 0
    for word in words:
        if word in _NEGATIONS or word.endswith(("n't", "n\N{RIGHT SINGLE QUOTATION MARK}t")):
            negations += 1
            continue
        plain = word.removesuffix("'s")
        number = _DIGITS.get(plain)
        if number is not None or _NUMBER.search(plain):
            numbers.add(number or plain)
        if plain not in _STOP:
            content.append(stem(plain))
    names = [word for word in _WORD.findall(question)[1:] if word[:1].isupper()]
    kind = next((name for name, pattern in _KINDS if pattern.search(text)), "other")
    return Wording(
        text=text,
        content=tuple(content),
        words=words,
        numbers=frozenset(numbers),
        negations=negations,
        names=frozenset(stem(name.casefold().removesuffix("'s")) for name in names) - _STOP,
        capitals=any(character.isupper() for character in question[1:]),
        kind=kind,
    )


@lru_cache(maxsize=512)
def stems(text: str) -> frozenset[str]:
    """Stems of a passage's words."""
    return frozenset(stem(word.removesuffix("'s")) for word in _WORD.findall(text.casefold()))


def stem(word: str) -> str:
    """A word without its ending, roughly."""
    for suffix in _SUFFIXES:
        if word.endswith(suffix) and len(word) - len(suffix) >= _SHORTEST and not word.endswith("ss"):
            cut = word[: -len(suffix)]
            return f"{cut}y" if suffix == "ies" else cut
    return word


def alike(left: str, right: str) -> bool:
    """Whether two stems may be one word: the same beginning, or one slip of the fingers apart."""
    if left == right:
        return True
    if any(character.isdigit() for character in left + right):
        return False
    if min(len(left), len(right)) >= _PREFIX and left[:_PREFIX] == right[:_PREFIX]:
        return True
    return min(len(left), len(right)) > _SHORTEST and _one_slip(left, right)


def _one_slip(left: str, right: str) -> bool:
    if abs(len(left) - len(right)) > 1:
        return False
    start = next((at for at, pair in enumerate(zip(left, right, strict=False)) if pair[0] != pair[1]), None)
    if start is None:
        return True
    if len(left) == len(right):
        swapped = (
            left[start + 1 : start + 2] == right[start : start + 1] and left[start] == right[start + 1 : start + 2]
        )
        return left[start + 1 :] == right[start + 1 :] or (swapped and left[start + 2 :] == right[start + 2 :])
    longer, shorter = (left, right) if len(left) > len(right) else (right, left)
    return longer[start + 1 :] == shorter[start:]


def unmatched(left: Sequence[str], right: Sequence[str]) -> tuple[list[str], list[str]]:
    """Stems of each side that have no counterpart on the other."""
    rest = list(right)
    alone = []
    for one in left:
        found = next((other for other in rest if one == other), None)
        if found is None:
            found = next((other for other in rest if alike(one, other)), None)
        if found is None:
            alone.append(one)
        else:
            rest.remove(found)
    return alone, rest


def opposed(left: Iterable[str], right: Iterable[str]) -> bool:
    """Whether one side says the opposite of a word of the other."""
    return any((one, other) in _OPPOSITES_STEMMED for one in left for other in right)


def synonyms(left: Iterable[str], right: Iterable[str]) -> int:
    """How many words of one side have another name on the other."""
    others = list(right)
    return sum(any((one, other) in _SAME_STEMMED for other in others) for one in left)


_OPPOSITES_STEMMED: Final = {
    (stem(one), stem(other)) for each in _OPPOSITES.split() for one, other in permutations(each.split("/"), 2)
}
_SAME_STEMMED: Final = {
    (stem(one), stem(other)) for each in _SAME_WORDS.split() for one, other in permutations(each.split("/"), 2)
}
