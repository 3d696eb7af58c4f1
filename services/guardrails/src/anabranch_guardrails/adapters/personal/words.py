"""What only the words before it make personal: a date of birth, a passport, a licence, a name."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from anabranch_guardrails.adapters.personal.kinds import DATE_OF_BIRTH, LICENCE, PASSPORT, PERSON, Found

_MONTH: Final = (
    r"(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?|"
    r"nov(?:ember)?|dec(?:ember)?)"
)
_BIRTH: Final = (
    r"(?:(?:was|am|were|is|i'm) born(?: on| in)?|born on|birth ?da(?:te|y)(?: is| was)?|date of birth(?: is| was)?|"
    r"d\.?o\.?b\.?(?: is)?)"
)
_BORN: Final = re.compile(
    rf"\b{_BIRTH}[^\d\n]{{0,16}}?\b(?P<date>\d{{1,2}}[./-]\d{{1,2}}[./-](?:\d{{4}}|\d{{2}})|\d{{4}}-\d{{1,2}}-\d{{1,2}}"
    rf"|\d{{1,2}}(?:st|nd|rd|th)?(?: of)? {_MONTH}\.?,? \d{{4}})(?!\d)"
    rf"|\b{_BIRTH}[ :]{{1,3}}(?P<month>{_MONTH}\.? \d{{1,2}}(?:st|nd|rd|th)?,? \d{{4}})(?!\d)",
    re.IGNORECASE,
)
_LICENCE: Final = re.compile(
    r"\b(?:driver'?s?|driving|drivers\u2019|driver\u2019s)[ -]?(?:licen[cs]e|permit)(?: number| no\.?| #)?"
    r"(?: is| was|:|=|#| ){0,3}\s?(?P<id>(?=[\w-]*\d)[A-Z0-9][A-Z0-9-]{4,19})(?!\w)",
    re.IGNORECASE,
)
_PASSPORT: Final = re.compile(
    r"\bpassport(?: number| no\.?| #)?(?: is| was|:|=|#| ){0,3}\s?(?P<id>(?=[\w]*\d{4})[A-Z0-9]{6,12})(?!\w)",
    re.IGNORECASE,
)
_CAPITAL: Final = r"[A-ZÀ-ÖØ-ÞŁŠŽČĆĐŐŰĀĒĪŌŪΑ-ΩА-Я][\w\u2019'-]{0,24}"
_NAMED: Final = re.compile(
    rf"\b(?:Mr|Mrs|Ms|Miss|Mx|Dr|Prof|Herr|Frau|Mme|Señora?|Sr|Sra)\.? "
    rf"(?P<titled>{_CAPITAL}(?: (?:[A-Z]\. ?)?{_CAPITAL}){{0,2}})"
    rf"|\b(?:[Mm]y name is|[Nn]ame: |I am called|call me by) ?"
    rf"(?P<called>{_CAPITAL}(?: (?:[A-Z]\. ?)?{_CAPITAL}){{0,3}})"
)


def introduced(text: str, *, digits: bool, names: bool) -> Iterator[Found]:
    """All of these; `digits`: whether the text has any."""
    if digits:
        for match in _BORN.finditer(text):
            group = "date" if match.group("date") else "month"
            yield Found(start=match.start(group), end=match.end(group), kind=DATE_OF_BIRTH, score=0.9)
        for kind, pattern in ((LICENCE, _LICENCE), (PASSPORT, _PASSPORT)):
            for match in pattern.finditer(text):
                yield Found(start=match.start("id"), end=match.end("id"), kind=kind, score=0.8)
    if names:
        for match in _NAMED.finditer(text):
            group = "titled" if match.group("titled") else "called"
            yield Found(start=match.start(group), end=match.end(group), kind=PERSON, score=0.7)
