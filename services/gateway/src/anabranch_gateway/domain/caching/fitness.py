"""Questions and answers that are never kept: what is personal, holds only for a while, or says nothing."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from enum import StrEnum
from typing import Final


class Unfit(StrEnum):
    """Why a question is not looked up, or an answer not kept."""

    FRESH = "fresh"
    HISTORY = "history"
    EXPLORED = "explored"
    PERSONAL = "personal"
    TIMELY = "timely"
    NOTHING_FOUND = "nothing_found"
    UNFINISHED = "unfinished"
    NEGATIVE = "negative"
    TOO_LARGE = "too_large"
    CHANGED = "changed"


# Whoever asks "what is my balance" must not get the answer of who asked before; and "how do I ..." is anyone's.
_PERSONAL: Final = re.compile(
    r"\b(?:my|our|ours|myself|ourselves|i've|i'd|i was|"
    r"(?:i'm|i am)(?! (?:trying|looking|wondering|curious|interested))|"
    r"i have|i had|i got|i owe|i ordered|i bought|i paid|am i|"
    r"was i|did i|have i|had i|about me|do i (?:have|owe|get|earn|qualify)|we have|do we have|"
    r"mein|meine|meinen|meinem|meiner|meines|unser|unsere|unserem|unseren|unserer|"
    r"mon|ma|mes|notre|nos|mis|nuestro|nuestra|nuestros|nuestras|mio|mia|miei|mie|nostro|nostra|"
    r"mijn|onze|meu|minha|meus|minhas|nosso|nossa)\b",
    re.IGNORECASE,
)
_DATA: Final = re.compile(
    r"[^\s@]{1,64}@[^\s@]{1,255}\.[a-z]{2,}"  # an address
    r"|(?:\+|\b00)\d[\d ()/.-]{6,}\d"  # a telephone
    r"|\b(?:\d[ -]?){12,18}\d\b"  # a card or an account
    r"|\b[a-z]{2}\d{2}(?: ?[a-z0-9]{4}){3,7}\b"  # an IBAN
    r"|\b\d{3}-\d{2}-\d{4}\b",  # a social security number
    re.IGNORECASE,
)
_TIMELY: Final = re.compile(
    r"\b(?:today|today's|tonight|tomorrow|yesterday|now|nowadays|currently|current|latest|newest|recent|recently|"
    r"lately|upcoming|so far|these days|right now|at the moment|as of|ago|still|yet|soon|up to date|at present|"
    r"presently|(?:this|last|next|past|coming|previous) (?:hour|day|night|morning|afternoon|evening|week|weekend|"
    r"month|quarter|year|season|decade|monday|tuesday|wednesday|thursday|friday|saturday|sunday)|"
    r"(?:in|over|for) the (?:last|past|next)|"
    r"heute|gestern|morgen|jetzt|aktuell\w*|derzeit\w*|neueste\w*|momentan\w*|"
    r"aujourd'hui|hier|demain|maintenant|actuel\w*|récent\w*|"
    r"hoy|ayer|mañana|ahora|actual|actualmente|oggi|ieri|domani|adesso|attual\w*|"
    r"vandaag|gisteren|nu|huidige|hoje|ontem|amanhã|agora|atual\w*)\b",
    re.IGNORECASE,
)
_OWNER: Final = re.compile(
    r"(?:^|_)(?:user|owner|customer|account|employee|patient|member|person|email|client|subscriber|contact|student)s?"
    r"(?:_|$)"
)
_NEGATIVE: Final = re.compile(
    r"\b(?:i (?:do not|don't|cannot|can't|could not|couldn't)|no (?:information|answer|results?|mention|passage)|"
    r"(?:is|are|was|were) not (?:mentioned|stated|given|available|provided|specified|found|answered)|unable to|"
    r"not (?:enough|sufficient) information|(?:do|does) not (?:contain|mention|say|provide|state|answer))\b",
    re.IGNORECASE,
)


def unfit_question(question: str, *, filters: Mapping[str, str]) -> Unfit | None:
    """Why a question's answer must not be given to others, or later; None where nothing speaks against it."""
    plain = question.replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
    if _PERSONAL.search(plain) or _DATA.search(plain) or any(_OWNER.search(key) for key in filters):
        return Unfit.PERSONAL
    return Unfit.TIMELY if _TIMELY.search(plain) else None


def unfit_answer(text: str, *, characters: int) -> Unfit | None:
    """Why an answer must not be given again: empty or negative ones may become wrong without any document changing."""
    if len(text) > characters:
        return Unfit.TOO_LARGE
    if not text.strip():
        return Unfit.UNFINISHED
    return Unfit.NEGATIVE if _NEGATIVE.search(text.replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")) else None


_SPACE: Final = re.compile(r"\s+")
_ENDS: Final = " \t\n.?!;:,…"
_COURTESY: Final = re.compile(
    r"^(?:please|hi|hello|hey|(?:can|could|would) you (?:please )?(?:tell me|explain|say)|tell me|do you know)"
    r"[ ,:]+(?=\w)"
)
_THANKS: Final = re.compile(r"[ ,.?!]{1,8}(?:please|thanks|thank you)$")


def normalised(question: str) -> str:
    """The question without what never changes its answer: case, spaces, final marks, courtesy."""
    text = unicodedata.normalize("NFKC", question).casefold().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
    text = _SPACE.sub(" ", text).strip(_ENDS)
    for _ in range(2):
        text = _THANKS.sub("", _COURTESY.sub("", text)).strip(_ENDS)
    return text
