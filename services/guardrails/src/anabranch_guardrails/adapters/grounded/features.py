"""What speaks for and against an answer being drawn from passages, as numbers."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise
from typing import Final

from anabranch_grounding import groundedness, sentences_of, stems

NAMES: Final = (
    "support",
    "least_support",
    "numbers_missing",
    "numbers_missing_share",
    "numbers_strange",
    "names_missing",
    "names_missing_share",
    "names_strange",
    "negations",
    "negations_turned",
    "words_missing_share",
    "words_missing_run",
    "least_stretch",
    "pairs_missing_share",
    "pairs_missing_most",
    "sentences",
    "length",
)
"""The features, in order; a trained head names them, and one that names others is refused."""
_TOKEN: Final = re.compile(r"[-+]?\d[\d,]*(?:\.\d+)?|[^\W\d_]+(?:['\u2019][^\W_]+)?|[^\W_]+")
_MARKER: Final = re.compile(r"\[\d+(?:, ?\d+)*\]")
_SPELT: Final = {
    word: str(value)
    for value, word in enumerate(
        (  # noqa: SIM905  twenty quoted words are no easier to read
            "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
            "seventeen eighteen nineteen twenty"
        ).split()
    )
} | {"thirty": "30", "forty": "40", "fifty": "50", "sixty": "60", "seventy": "70", "eighty": "80", "ninety": "90"}
_NEGATIONS: Final = frozenset(
    (
        "no",
        "not",
        "never",
        "none",
        "neither",
        "nor",
        "without",
        "cannot",
        "nobody",
        "nothing",
        "non",
        "hardly",
        "unable",
    )
)
_NEAR: Final = 6
"""Words on either side of a word that it is seen with."""
_OF_NAMES: Final = 20
"""The same for names: what is said of somebody goes on for sentences that do not name them again."""
_STRETCH: Final = 8
_KEPT: Final = 8_192
"""Characters of a passage that is remembered; longer ones are read anew."""
_MOST_SENTENCES: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """A word as it is compared: its stem, or its number."""

    stem: str
    number: bool
    name: bool
    negates: bool
    content: bool


def features(answer: str, contexts: Sequence[str]) -> dict[str, float]:
    """All of `NAMES`, of an answer and what it was drawn from."""
    grounding = groundedness(answer, contexts)
    told = [words_of(sentence) for sentence in sentences_of(_MARKER.sub("", answer))[:_MOST_SENTENCES]]
    held = _Held(contexts)
    facts = [_facts(words, held) for words in told if words]
    supports = [one.support for one in grounding.sentences]
    numbers = math.fsum(one["numbers"] for one in facts)
    names = math.fsum(one["names"] for one in facts)
    words = math.fsum(one["words"] for one in facts)
    pairs = math.fsum(one["pairs"] for one in facts)

    def total(key: str) -> float:
        return math.fsum(one[key] for one in facts)

    def most(key: str) -> float:
        return max((one[key] for one in facts), default=0.0)

    found = (
        grounding.score,
        min(supports, default=0.0),
        min(total("numbers_missing"), 5.0),
        total("numbers_missing") / numbers if numbers else 0.0,
        most("numbers_strange"),
        min(total("names_missing"), 5.0),
        total("names_missing") / names if names else 0.0,
        most("names_strange"),
        min(total("negations"), 3.0),
        min(total("negations_turned"), 2.0),
        total("words_missing") / words if words else 0.0,
        min(most("run"), 6.0),
        min((one["stretch"] for one in facts), default=0.0),
        total("pairs_missing") / pairs if pairs else 0.0,
        most("pairs_share"),
        math.log1p(len(facts)),
        math.log1p(words),
    )
    return dict(zip(NAMES, found, strict=True))


def words_of(sentence: str) -> list[Word]:
    """Its words in order."""
    return [
        _first(match.group()) if at == 0 else _word(match.group()) for at, match in enumerate(_TOKEN.finditer(sentence))
    ]


@lru_cache(maxsize=65_536)
def _word(shown: str) -> Word:
    lowered = shown.lower().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
    digits = shown[-1].isdigit()
    stem = _number(shown) if digits else _SPELT.get(lowered) or "".join(stems(shown))
    negates = lowered in _NEGATIONS or lowered.endswith("n't")
    return Word(
        stem=stem or lowered,
        number=digits or lowered in _SPELT,
        name=shown[0].isupper() and len(shown) > 1 and bool(stem),
        negates=negates,
        content=bool(stem) and not negates,
    )


def _first(shown: str) -> Word:
    """Every sentence begins with a capital: that makes no name."""
    return replace(_word(shown), name=False)


def _number(shown: str) -> str:
    plain = shown.replace(",", "").lstrip("+-")
    return plain.rstrip("0").rstrip(".") if "." in plain else plain


def _read(context: str) -> tuple[tuple[str, ...], tuple[bool, ...]]:
    """The content words of a passage in order, and whether each stands in a negated sentence."""
    order: list[str] = []
    turned: list[bool] = []
    for sentence in sentences_of(context):
        words = words_of(sentence)
        negated = sum(word.negates for word in words) % 2 == 1
        kept = [word.stem for word in words if word.content]
        order.extend(kept)
        turned.extend([negated] * len(kept))
    return tuple(order), tuple(turned)


_remembered = lru_cache(maxsize=1_024)(_read)
"""Passages come again, with other answers and sentence by sentence."""


class _Held:
    """What the passages hold: words, where each stands, and whether what surrounds it is negated."""

    def __init__(self, contexts: Sequence[str]) -> None:
        self.order: list[str] = []
        self.negated: list[bool] = []
        for context in contexts:
            order, negated = _remembered(context) if len(context) <= _KEPT else _read(context)
            self.order.extend(order)
            self.negated.extend(negated)
            # Words of different passages are not near each other.
            self.order.extend([""] * _OF_NAMES)
            self.negated.extend([False] * _OF_NAMES)
        self.places: dict[str, list[int]] = {}
        for place, stem in enumerate(self.order):
            if stem:
                self.places.setdefault(stem, []).append(place)

    def has(self, stem: str) -> bool:
        """Whether any passage has the word, or, for long words, one that begins alike."""
        return stem in self.places

    def around(self, stem: str, others: Sequence[str], *, reach: int) -> float:
        """The largest share of the other words that stand near one place of this word."""
        wanted = {other for other in others if other != stem}
        places = self.places.get(stem)
        if not wanted or not places:
            return 1.0 if places else 0.0
        best = 0
        for place in places[:_MOST_SENTENCES]:
            near = set(self.order[max(0, place - reach) : place + reach + 1])
            best = max(best, len(wanted & near))
        return best / len(wanted)

    def near(self, one: str, other: str) -> bool:
        """Whether the two stand near each other anywhere."""
        first, second = self.places.get(one), self.places.get(other)
        if not first or not second:
            return False
        at = 0
        for place in first:
            while at < len(second) and second[at] < place - _NEAR:
                at += 1
            if at < len(second) and second[at] <= place + _NEAR:
                return True
        return False


def _facts(words: Sequence[Word], held: _Held) -> Mapping[str, float]:
    content = [word for word in words if word.content]
    stems_in_order = [word.stem for word in content]
    present = [held.has(stem) for stem in stems_in_order]
    found = dict.fromkeys(
        ("numbers", "numbers_missing", "numbers_strange", "names", "names_missing", "names_strange"), 0.0
    )
    for at, word in enumerate(content):
        kind = "numbers" if word.number else "names" if word.name else ""
        if not kind:
            continue
        found[kind] += 1
        if not present[at]:
            found[f"{kind}_missing"] += 1
            continue
        company = [
            stem
            for place, stem in enumerate(stems_in_order[max(0, at - 4) : at + 5], start=max(0, at - 4))
            if place != at and present[place]
        ]
        reach = _NEAR if word.number else _OF_NAMES
        strangeness = 1.0 - held.around(word.stem, company, reach=reach)
        found[f"{kind}_strange"] = max(found[f"{kind}_strange"], strangeness)
    pairs = list(pairwise(stems_in_order))
    apart = sum(
        1 for at, (one, other) in enumerate(pairs) if present[at] and present[at + 1] and not held.near(one, other)
    )
    found |= {
        "words": float(len(content)),
        "words_missing": float(len(content) - sum(present)),
        "run": float(_longest_run(present)),
        "stretch": _least_stretch(present),
        "pairs": float(len(pairs)),
        "pairs_missing": float(apart),
        "pairs_share": apart / len(pairs) if pairs else 0.0,
        "negations": float(sum(word.negates for word in words)),
        "negations_turned": float(_turned(words, stems_in_order, held)),
    }
    return found


def _longest_run(present: Sequence[bool]) -> int:
    best = run = 0
    for one in present:
        run = 0 if one else run + 1
        best = max(best, run)
    return best


def _least_stretch(present: Sequence[bool]) -> float:
    """The least share of words that some stretch of the sentence has in the passages."""
    if len(present) <= _STRETCH:
        return sum(present) / len(present) if present else 1.0
    return min(sum(present[at : at + _STRETCH]) for at in range(len(present) - _STRETCH + 1)) / _STRETCH


def _turned(words: Sequence[Word], content: Sequence[str], held: _Held) -> bool:
    """Whether the place that has most of the sentence's words says it the other way round."""
    wanted = dict.fromkeys(content)
    # In the order of the sentence, so that equals are told apart the same way in every process.
    if not wanted:
        return False
    told = sum(word.negates for word in words) % 2 == 1
    votes: dict[int, int] = {}
    for stem in wanted:
        for place in held.places.get(stem, ())[:50]:
            votes[place // 12] = votes.get(place // 12, 0) + 1
    if not votes:
        return False
    best = max(votes, key=lambda bucket: votes[bucket] + votes.get(bucket + 1, 0))
    ends = range(best * 12, min((best + 2) * 12, len(held.order)))
    matching = [held.negated[place] for place in ends if held.order[place] in wanted]
    return bool(matching) and told != (sum(matching) * 2 > len(matching))
