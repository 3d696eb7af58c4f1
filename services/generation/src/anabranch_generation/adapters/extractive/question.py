"""What a question asks for: its weighted terms and the shape of its answer."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final

from anabranch_generation.adapters.extractive.text import COMMON, STOP, Word, bigrams, compounds, stem, words
from anabranch_generation.domain.vocabulary import vocabulary


class Wanted(Enum):
    """The shape an answer would have."""

    PERSON = "person"
    DATE = "date"
    PLACE = "place"
    NUMBER = "number"
    REASON = "reason"
    MANNER = "manner"
    DEFINITION = "definition"
    CHOICE = "choice"
    THING = "thing"


# The rule that fits nearest to the question's beginning tells.
_PATTERNS: Final[Mapping[Wanted, tuple[str, ...]]] = {
    Wanted.NUMBER: (
        r"\bhow (?:many|much|old|tall|long|far|big|large|high|deep|heavy|fast|often|wide|hot|cold|close)\b",
        (
            r"\b(?:what|which) (?:\w+ )?(?:number|percent|percentage|population|amount|age|size|length|height|distance"
            r"|temperature|rank|cost|price|speed|rate|proportion|fraction|budget|salary|total)\b"
        ),
        r"\b(?:population|percentage|number|amount|length|height|cost|price) of\b",
    ),
    Wanted.DATE: (
        r"^(?:\w+ )?when\b|, when\b|\b(?:what time|what day)\b",
        r"\b(?:what|which|in what|in which) (?:\w+ )?(?:year|years|date|month|decade|century|day|era|period)\b",
    ),
    Wanted.PERSON: (
        r"^(?:\w+ )?(?:who|whom|whose)\b|, (?:who|whom|whose)\b",
        (
            r"\b(?:what|which) (?:\w+ )?(?:person|actor|actress|president|king|queen|author|singer|artist|composer"
            r"|scientist|player|director|writer|poet|leader|emperor|pope|general|philosopher|architect)\b"
        ),
    ),
    Wanted.PLACE: (
        r"^(?:\w+ )?where\b|, where\b",
        (
            r"\b(?:what|which) (?:\w+ )?(?:city|cities|country|countries|state|states|county|town|region|continent"
            r"|place|location|area|province|island|river|street|neighborhood|capital|district|village|nation)\b"
        ),
    ),
    Wanted.REASON: (
        r"\bwhy\b|\bwhat (?:was|is|were|are) the (?:reason|purpose|cause)\b|\bwhat caused\b|\bfor what reason\b",
    ),
    Wanted.MANNER: (r"\bhow (?:do|does|did|is|are|was|were|can|could|to|has|have)\b",),
    Wanted.DEFINITION: (
        r"\bwhat (?:is|are|was|were) (?:an?|the)? ?[\w-]+(?: [\w-]+)?\??$",
        r"\bdefine\b|\bmeaning of\b|\bdefinition of\b|\bwhat does .* mean|\bwhat is meant",
    ),
    Wanted.CHOICE: (r"\b\w+ or \w+\b",),
}
_RULES: Final = tuple((re.compile(pattern), wanted) for wanted, patterns in _PATTERNS.items() for pattern in patterns)


_COMPOUND_WEIGHT: Final = 2.0
# What fields are called that answer such questions.
_KEYS: Final[Mapping[Wanted, frozenset[str]]] = {
    Wanted.PERSON: frozenset(
        map(stem, vocabulary("author authors by owner creator maintainer contact written director"))
    ),
    Wanted.DATE: frozenset(
        map(stem, vocabulary("date created released published updated since born died founded year"))
    ),
    Wanted.PLACE: frozenset(map(stem, vocabulary("location place city country address capital"))),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """`terms` maps a stem to its prior weight (0 to 1.5); `names` are stems of proper nouns and numbers.

    `keys` are stems that the key of a field with the answer may have.
    """

    text: str
    terms: dict[str, float]
    names: frozenset[str]
    numbers: frozenset[str]
    pairs: frozenset[tuple[str, str]]
    stems: frozenset[str]
    wanted: Wanted
    keys: frozenset[str]
    focus: str

    @property
    def weight(self) -> float:
        """The sum of the terms' weights; never 0."""
        return sum(self.terms.values()) or 1.0


def read(text: str) -> Question:
    """What the question asks for."""
    found = words(text)
    content = [w for w in found if w.low not in STOP]
    terms: dict[str, float] = {}
    for word in content:
        terms[word.stem] = max(terms.get(word.stem, 0.0), _prior(word))
    names = {w.stem for i, w in enumerate(found) if w.low not in STOP and (w.number or (w.capital and i > 0))}
    whole = compounds(text)
    terms.update(dict.fromkeys(whole, _COMPOUND_WEIGHT))
    kind = wanted(text)
    return Question(
        text=text,
        terms=terms,
        names=frozenset(names) | whole,
        numbers=frozenset(w.low for w in content if w.number),
        pairs=bigrams([w.stem for w in content]),
        stems=frozenset(w.stem for w in found),
        wanted=kind,
        keys=frozenset(w.stem for w in found) | _KEYS.get(kind, frozenset()),
        focus=_focus(found),
    )


def wanted(text: str) -> Wanted:
    """The first rule that fits, at the place nearest to the question's beginning."""
    low = " ".join(text.lower().split())
    best: tuple[int, Wanted] | None = None
    for pattern, kind in _RULES:
        match = pattern.search(low)
        if match and (best is None or match.start() < best[0]):
            best = (match.start(), kind)
    return best[1] if best else Wanted.THING


def _focus(found: list[Word]) -> str:
    """The noun asked for: the first content word after what or which."""
    for i, word in enumerate(found):
        if word.low in ("what", "which"):
            for nxt in found[i + 1 : i + 3]:
                if nxt.low not in STOP:
                    return nxt.stem
                if nxt.low not in ("kind", "type"):
                    return ""
    return ""


def _prior(word: Word) -> float:
    if word.number:
        return 1.2
    if word.low in COMMON:
        return 0.5
    if word.capital:
        return 1.2
    return 1.0 if len(word.low) > 3 else 0.8  # noqa: PLR2004  a short word is more often a frequent one
