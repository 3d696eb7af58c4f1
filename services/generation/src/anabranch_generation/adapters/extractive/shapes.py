"""What a sentence could be the answer to: dates, numbers, people, places and reasons by their writing."""

from __future__ import annotations

import re
from typing import Final

from anabranch_generation.adapters.extractive.question import Question, Wanted
from anabranch_generation.adapters.extractive.text import STOP, Word
from anabranch_generation.domain.vocabulary import vocabulary

_MONTHS: Final = vocabulary(
    "january february march april may june july august september october november december",
)
_DATE_WORDS: Final = _MONTHS | vocabulary(
    "century centuries decade spring summer autumn winter monday tuesday wednesday thursday friday saturday sunday",
    "today tomorrow yesterday morning evening midnight noon bc bce ad easter christmas",
)
_NUMBER_WORDS: Final = vocabulary(
    "two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen",
    "eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred thousand million billion",
    "trillion dozen half third quarter percent once twice single double couple zero none",
)
_REASON: Final = re.compile(
    r"\b(?:because|due to|since|in order to|so that|caused|as a result|reason|therefore|thus|led to|leads? to|owing"
    r"|result(?:s|ed|ing)? (?:in|from)|purpose|intended|designed to|aim|allow|enable"
    r"|to (?:avoid|prevent|protect|make))\b",
    re.IGNORECASE,
)
_MANNER: Final = re.compile(r"\b(?:by|through|using|via|with|when|first|then|process|method)\b", re.IGNORECASE)
_PLACE: Final = re.compile(r"\b(?:in|at|near|from|to|on|of|into|across|between|around) (?:the )?[A-Z]")
_DEFINES: Final = re.compile(
    r"\b(?:is|are|was|were) (?:an?|the|any|one of)\b"
    r"|\b(?:refers? to|known as|defined as|called|means?|consists? of|describes?)\b",
    re.IGNORECASE,
)
_ORG: Final = vocabulary("the a an this these in on at")
_FIRST_YEAR, _LAST_YEAR = 1000, 2100


def year(word: Word) -> bool:
    """Looks like a year."""
    return word.number and word.raw.isdigit() and len(word.raw) == 4 and _FIRST_YEAR <= int(word.raw) <= _LAST_YEAR  # noqa: PLR2004  four digits


class Shapes:
    """What is written in one sentence, found once per text.

    `names`: runs of capitalised words, as tuples of stems, with the sentence's first word only inside a longer run.
    """

    __slots__ = ("dates", "defines", "manner", "names", "numbers", "place", "quoted", "reason")

    def __init__(self, text: str, found: list[Word]) -> None:
        """Reads the sentence."""
        self.dates = tuple(
            w.stem for w in found if year(w) or (w.low in _DATE_WORDS and (w.capital or w.low not in ("may", "march")))
        )
        self.numbers = tuple(w.stem for w in found if w.number or w.low in _NUMBER_WORDS)
        self.names = _runs(found)
        self.reason = _REASON.search(text) is not None
        self.manner = _MANNER.search(text) is not None
        self.place = _PLACE.search(text) is not None
        self.defines = _DEFINES.search(text) is not None
        self.quoted = '"' in text or "``" in text or "\u201c" in text


def _runs(found: list[Word]) -> tuple[tuple[str, ...], ...]:
    runs: list[tuple[str, ...]] = []
    run: list[str] = []
    last_end = -2
    for i, word in enumerate(found):
        if word.capital and word.low not in _ORG and (i > 0 or word.low not in STOP):
            if run and word.start - last_end > 2:  # noqa: PLR2004  a comma or a quote parts two names
                runs.append(tuple(run))
                run = []
            run.append(word.stem)
            last_end = word.end
        elif run:
            runs.append(tuple(run))
            run = []
    if run:
        runs.append(tuple(run))
    return tuple(runs)


def fits(shapes: Shapes, question: Question) -> float:
    """How well the sentence could hold an answer of the wanted shape that the question does not hold itself, 0 to 1."""
    known = question.stems
    new_names = [run for run in shapes.names if any(s not in known for s in run)]
    wanted = question.wanted
    if wanted is Wanted.DATE:
        fit = 1.0 if any(d not in known for d in shapes.dates) else 0.3 * bool(shapes.numbers)
    elif wanted is Wanted.NUMBER:
        new = [n for n in shapes.numbers if n not in known]
        fit = 1.0 if any(n not in shapes.dates for n in new) else 0.4 * bool(new)
    elif wanted is Wanted.PERSON:
        fit = 1.0 if any(len(r) > 1 for r in new_names) else 0.7 * bool(new_names)
    elif wanted is Wanted.PLACE:
        fit = 0.6 * bool(new_names) + 0.4 * shapes.place
    elif wanted in (Wanted.REASON, Wanted.MANNER, Wanted.DEFINITION):
        fit = float(
            {Wanted.REASON: shapes.reason, Wanted.MANNER: shapes.manner, Wanted.DEFINITION: shapes.defines}[wanted]
        )
    else:
        fit = 0.5 + 0.25 * bool(new_names) + 0.25 * shapes.quoted
    return fit
