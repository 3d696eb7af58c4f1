"""Rewrites a follow-up into a question that stands alone, by rules. English; other questions stay as they are.

A follow-up leans on what was said in one of three ways: by a pronoun ("When was he born?"), by leaving out all but
what is new ("And in 1990?", "What about Germany?", "Why?"), or by a noun that points back ("that city"). Each is
mended with words of the previous question, itself mended first, or of its answer. A question that leans on nothing is
returned unchanged, to the letter.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from anabranch_generation.domain.mentions import Mentions, names_in, topic_of
from anabranch_generation.domain.values import MAX_QUESTION, Condensed, Role, Turn
from anabranch_generation.domain.vocabulary import vocabulary

_TURNS: Final = 12  # how far back a reference is followed
_LONGEST_FRAGMENT: Final = 4
_LONGEST_LINKED: Final = 8

_LINK: Final = r"(?:(?:and|but|also|or|so|ok|okay|then|well|now)\b[\s,]*)"
_ABOUT: Final = re.compile(rf"^{_LINK}*(?:(?:what|how) about|what of)\b[\s,]*", re.IGNORECASE)
_OPENING: Final = re.compile(rf"^{_LINK}*(?:(?:(?:what|how) about|what of)\b)?[\s,]*", re.IGNORECASE)
_LINKED: Final = re.compile(rf"^{_LINK}", re.IGNORECASE)
_ASKS: Final = re.compile(
    r"^(?:in |at |on |by |for |from |to |of |with |since |until )?"
    r"(?:what|who|whom|whose|which|when|where|why|how|is|are|was|were|do|does|did|can|could|will|would|should|has|have"
    r"|had|may|might|name|list|describe|explain|tell|give|show|define|compare|summari[sz]e|find)\b",
    re.IGNORECASE,
)
_BARE: Final = re.compile(
    r"(?:(?:in|at|on|by|for|from|to|since|until) )?"
    r"(?:what|who|whom|which|when|where|why|how|how (?:many|much|come|long|often|far|so)|why not"
    r"|(?:who|what|where|when) else|what (?:year|day|date|time|for)|which (?:one|year|ones)|by whom|by who)",
    re.IGNORECASE,
)
_YEAR: Final = re.compile(r"\b(?:1[0-9]{3}|20[0-9]{2})s?\b")
_AROUND_YEAR: Final = frozenset(("", "in", "in the", "of", "for", "since", "by", "during", "on", "the"))
_PREPOSITIONS: Final = vocabulary("in at on during after before since until by for from of")

_PERSON: Final = re.compile(r"\b(?:he|she|him|her|his|hers|himself|herself)\b", re.IGNORECASE)
_THING: Final = re.compile(r"\b(?:it|its|itself|they|them|their|theirs|this|that|these|those|there)\b", re.IGNORECASE)
_THERE: Final = re.compile(r"\bthere\b", re.IGNORECASE)
_POSSESSIVE: Final = vocabulary("his its their")
_ALONE: Final = vocabulary("hers theirs")
_EXPLETIVE: Final = re.compile(
    r"\bit (?:true|possible|legal|illegal|safe|necessary|worth|better|important|ok|okay|bad|good|hard|easy|rain|snow"
    r"|raining|snowing|be)\b|\bit (?:(?:take|cost|make sense) to|matter)\b"
    r"|\bwhat time is it\b|\b(?:is|was|are|were) there (?:an?|any|some|more|no|enough|other|still|such)\b"
    r"|\bhow many .* are there\b|\b(?:is|are|was|were) there\s*\??$"
    r"|\bthere (?:is|are|was|were|be|been|exists?)\b",
    re.IGNORECASE,
)
_POINTING: Final = re.compile(r"\b(?:this|that|these|those) ([a-z][\w-]+)", re.IGNORECASE)
_PLACES: Final = vocabulary("city country state town place region island county continent village area province")
_FUNCTION: Final = vocabulary(
    "is are was were be been do does did has have had can could will would should may might must in on at of for to",
    "from with by about mean means and or not happen happened work works so much many",
)
# After these, `that` points at something; after a noun, it opens a clause ("the city that never sleeps").
_BEFORE_POINTING: Final = _FUNCTION | vocabulary(
    "what who when where why how which like after before than as near inside into"
)


def stand_alone(question: str, history: Sequence[Turn]) -> Condensed:
    """The question, mended with the history where it leans on it. At most 4,096 characters."""
    last, answer = "", ""
    for turn in history[-_TURNS:]:
        if turn.role is Role.USER:
            last = _mended(turn.text.strip(), last, answer) if last else turn.text.strip()
            answer = ""
        else:
            answer = turn.text.strip()
    if not last:
        return Condensed(question, changed=False)
    written = _mended(question.strip(), last, answer)
    if written == question.strip() or len(written) > MAX_QUESTION:
        return Condensed(question, changed=False)
    return Condensed(written, changed=True)


def _mended(question: str, last: str, answer: str) -> str:
    fragment = _fragment(question)
    if not fragment:
        return question
    if _BARE.fullmatch(fragment) and _ASKS.match(last):
        return f"{_open(last)}, and {fragment[:1].lower()}{fragment[1:]}?"
    mended = _named(question, Mentions.of(last, answer))
    about = _ABOUT.match(question) is not None
    # What is left out can be taken from an English question only.
    if _ASKS.match(last) and (about or _fragmentary(fragment, linked=_LINKED.match(question) is not None)):
        return _elliptic(_fragment(mended), last, about=about)
    return mended


def _fragment(question: str) -> str:
    return _OPENING.sub("", question).strip(" ,?.!")


def _fragmentary(fragment: str, *, linked: bool) -> bool:
    """No question of its own: it begins with neither a question word nor a verb. Longer ones are keywords."""
    limit = _LONGEST_LINKED if linked else _LONGEST_FRAGMENT
    return _ASKS.match(fragment) is None and len(fragment.split()) <= limit


def _elliptic(fragment: str, last: str, *, about: bool) -> str:
    """The previous question with the new words in the place of what they replace."""
    year = _YEAR.search(fragment)
    if year and _YEAR.search(last) and _YEAR.sub("", fragment).strip().lower() in _AROUND_YEAR:
        return _closed(_YEAR.sub(year.group(), last, count=1))
    if fragment.split(maxsplit=1)[0].lower() in _PREPOSITIONS:
        return _with_phrase(fragment, last)
    old = _replaceable(fragment, last)
    if old:
        new = fragment[4:] if fragment.lower().startswith("the ") else fragment
        return _closed(re.sub(rf"(?<!\w){re.escape(old)}(?!\w)", lambda _: new, last, count=1))
    return f"{_open(last)}, and {'what about ' if about else ''}{fragment}?"


def _with_phrase(fragment: str, last: str) -> str:
    """A phrase with a preposition: in the stead of one that begins alike and is of the same kind, else at the end."""
    preposition = fragment.split(maxsplit=1)[0].lower()
    has_year = _YEAR.search(fragment) is not None
    object_of = r"(?:the )?(?:[A-Z][\w'-]*(?: [A-Z][\w'-]*)*|\d[\w,.]*|[\w.-]+(?=\W*$))"
    for match in re.finditer(rf"\b{preposition} {object_of}", last):
        if (_YEAR.search(match.group()) is not None) == has_year:
            return _closed(last[: match.start()] + fragment + last[match.end() :])
    return f"{_open(last)} {fragment}?"


def _replaceable(fragment: str, last: str) -> str:
    """A name gives way to a name, a common noun to a common noun; empty when the question has no fellow."""
    names, topic = names_in(last), topic_of(last)
    if names_in(fragment) or fragment[:1].isupper():
        return names[-1] if names else topic
    return topic if topic[:1].islower() else ""


def _named(question: str, mentions: Mentions) -> str:
    """Its pronouns replaced by what they stand for, unless it names that itself."""
    if _PERSON.search(question):
        name = mentions.person
        return _replaced(question, _PERSON, name) if name and not _own_name(question, _PERSON) else question
    if _EXPLETIVE.search(question) or not _THING.search(question):
        return question
    pointing = _POINTING.search(question)
    if pointing and pointing.group(1).lower() not in _FUNCTION and not _opens_clause(question, pointing.start()):
        place = mentions.place if pointing.group(1).lower() in _PLACES else ""
        return _pointed(question, pointing, place or mentions.thing or mentions.person)
    if not mentions.thing or _own_name(question, _THING):
        return question
    there = _THERE.search(question)
    if there:
        return f"{question[: there.start()]}in {mentions.place}{question[there.end() :]}"
    return _replaced(question, _THING, mentions.thing)


def _pointed(question: str, pointing: re.Match[str], target: str) -> str:
    """`that city` becomes the city's name; with a common noun, both stay."""
    if not target:
        return question
    before, after = question[: pointing.start()], question[pointing.end() :]
    if pointing.group(1).lower() in target.lower().split() or names_in(f"x {target}"):
        return f"{before}{target}{after}"
    return f"{before}{pointing.group()} ({target}){after}"


def _own_name(question: str, pronoun: re.Pattern[str]) -> bool:
    """The question names, before its pronoun, what the pronoun may stand for."""
    match = pronoun.search(question)
    return match is not None and bool(names_in(question[: match.start()]))


def _opens_clause(question: str, start: int) -> bool:
    before = question[:start].split()
    return bool(before) and before[-1].lower() not in _BEFORE_POINTING


def _replaced(question: str, pronoun: re.Pattern[str], name: str) -> str:
    """The first pronoun becomes the name; those after it then have an antecedent in the question itself."""
    for match in pronoun.finditer(question):
        word = match.group().lower()
        if word in ("that", "this") and _opens_clause(question, match.start()):
            continue
        after = question[match.end() :].lstrip()
        owning = word in _POSSESSIVE or word in _ALONE or (word == "her" and after[:1].isalpha())
        ending = ("'" if name.endswith("s") else "'s") if owning else ""
        return f"{question[: match.start()]}{name}{ending}{question[match.end() :]}"
    return question


def _open(question: str) -> str:
    return question.rstrip(" ?.!")


def _closed(question: str) -> str:
    return f"{_open(question)}?"
