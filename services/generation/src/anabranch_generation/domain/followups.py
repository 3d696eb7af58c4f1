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

_TURNS: Final = 12  # how far back a reference is followed
_OPENING: Final = re.compile(
    r"^(?:(?:and|but|also|or|so|ok|okay|then|well|now)\b[\s,]*)*(?:(?:what|how) about\b|what of\b)?[\s,]*",
    re.IGNORECASE,
)
_ABOUT: Final = re.compile(
    r"^(?:(?:and|but|also|or|so|ok|okay|well|now)\b[\s,]*)*(?:(?:what|how) about|what of)\b", re.IGNORECASE
)
_LINKED: Final = re.compile(r"^(?:and|but|also|or|what about|how about)\b", re.IGNORECASE)
_WH: Final = re.compile(
    r"^(?:in |at |on |by |for |from |to |of |with |since |until )?"
    r"(?:what|who|whom|whose|which|when|where|why|how|is|are|was|were|do|does|did|can|could|will|would|should|has|have|had"
    r"|may|might|name|list|describe|explain|tell|give|show|define|compare|summari[sz]e|find)\b",
    re.IGNORECASE,
)
_BARE: Final = re.compile(
    r"^(?:(?:(?:in|at|on|by|for|from|to|since|until) )?"
    r"(?:what|who|whom|which|when|where|why|how|how many|how much|how come|how long|how often|how far|how so|why not|who else"
    r"|what else|where else|when else|what (?:year|day|date|time|for)|which (?:one|year|ones)|by whom|by who))$",
    re.IGNORECASE,
)
_YEAR: Final = re.compile(r"\b(?:1[0-9]{3}|20[0-9]{2})s?\b")
_PERSON: Final = re.compile(r"\b(?:he|she|him|her|his|hers|himself|herself)\b", re.IGNORECASE)
_THING: Final = re.compile(r"\b(?:it|its|itself|they|them|their|theirs|this|that|these|those|there)\b", re.IGNORECASE)
_POSSESSIVE: Final = frozenset("his her its their".split())
_EXPLETIVE: Final = re.compile(
    r"\bit (?:true|possible|legal|illegal|safe|necessary|worth|better|important|ok|okay|bad|good|hard|easy|rain|snow|raining"
    r"|snowing|be)\b|\b(?:does|did|will|would|do) it (?:take|cost|mean|matter|make sense)\b"
    r"|\bwhat time is it\b|\b(?:is|was|are|were) there (?:an?|any|some|more|no|enough|other|still|such)\b|\bhow many .* are there\b"
    r"|\b(?:is|are|was|were) there\s*\??$|\bthere (?:is|are|was|were|be|been|exists?)\b",
    re.IGNORECASE,
)
_POINTING: Final = re.compile(r"\b(?:this|that|these|those) ([a-z][\w-]+)", re.IGNORECASE)
_FUNCTION: Final = frozenset(
    "is are was were be been do does did has have had can could will would should may might must in on at of for to from"
    " with by about mean means and or not happen happened work works so much many".split()
)
_RELATIVE: Final = re.compile(r"\b([\w'-]+),? (?:that|this)\b", re.IGNORECASE)


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
    mentions = Mentions.of(last, answer)
    fragment = _OPENING.sub("", question).strip(" ,?.!")
    opened = _ABOUT.match(question) is not None
    if not fragment:
        return question
    if _BARE.match(fragment):
        return f"{_open(last)}, and {_lower_first(fragment)}?"
    mended = _pronouns(question, mentions)
    if opened or _fragmentary(fragment, linked=_LINKED.match(question) is not None):
        return _elliptic(_OPENING.sub("", mended).strip(" ,?.!"), last, opened=opened)
    return mended


def _fragmentary(fragment: str, *, linked: bool) -> bool:
    """No question of its own: neither a question word nor a verb in front."""
    if _WH.match(fragment):
        return False
    return len(fragment.split()) <= (8 if linked else 4)  # noqa: PLR2004  longer ones are statements or keywords


def _elliptic(fragment: str, last: str, *, opened: bool) -> str:
    """The previous question with the new words in the place of what they replace."""
    year = _YEAR.search(fragment)
    if year and _YEAR.search(last):
        rest = _YEAR.sub("", fragment).strip().lower()
        if rest in ("", "in", "in the", "of", "for", "since", "by", "during", "on", "the"):
            return _closed(_YEAR.sub(year.group(), last, count=1))
    if fragment.split()[0].lower() in (
        "in",
        "at",
        "on",
        "during",
        "after",
        "before",
        "since",
        "until",
        "by",
        "for",
        "from",
    ):
        return _with_phrase(fragment, last)
    old = _replaceable(fragment, last)
    if old:
        return _closed(re.sub(rf"(?<!\w){re.escape(old)}(?!\w)", lambda _: _bare(fragment, old), last, count=1))
    return f"{_open(last)}, and {'what about ' if opened else ''}{fragment}?"


def _with_phrase(fragment: str, last: str) -> str:
    """A phrase of place or time: in the stead of one that begins alike and is of the same kind, else at the end."""
    preposition = fragment.split()[0].lower()
    has_year = _YEAR.search(fragment) is not None
    for match in re.finditer(rf"\b{preposition} (?:the )?(?:[A-Z][\w'-]*(?: [A-Z][\w'-]*)*|\d[\w,.]*)", last):
        if (_YEAR.search(match.group()) is not None) == has_year:
            return _closed(last[: match.start()] + fragment + last[match.end() :])
    return f"{_open(last)} {fragment}?"


def _replaceable(fragment: str, last: str) -> str:
    names = names_in(last)
    new = names_in(fragment) or ([fragment] if fragment[:1].isupper() else [])
    if new and names:
        return names[-1] if not fragment.lower().startswith(("his ", "her ", "its ")) else ""
    if not new:
        topic = topic_of(last)
        return topic if topic and topic[:1].islower() else ""
    topic = topic_of(last)
    return topic


def _bare(fragment: str, old: str) -> str:
    """Without an article that stands in front of the old words already, in either form."""
    return fragment[4:] if fragment.lower().startswith("the ") and old[:4].lower() != "the " else fragment


def _pronouns(question: str, mentions: Mentions) -> str:
    if _PERSON.search(question):
        if mentions.person and not _own_name(question, _PERSON):
            return _replace(question, _PERSON, mentions.person)
        return question
    if _EXPLETIVE.search(question) or not _THING.search(question):
        return question
    pointing = _POINTING.search(question)
    if pointing and pointing.group(1).lower() not in _FUNCTION and not _relative(question, pointing.start()):
        return _pointed(question, pointing, mentions)
    if mentions.thing and not _own_name(question, _THING):
        where = re.search(r"\bthere\b", question, re.IGNORECASE)
        if where:
            place = mentions.place or mentions.thing
            return question[: where.start()] + f"in {place}" + question[where.end() :]
        return _replace(question, _THING, mentions.thing)
    return question


def _pointed(question: str, pointing: re.Match[str], mentions: Mentions) -> str:
    noun = pointing.group(1)
    target = mentions.thing or mentions.person
    if not target or noun.lower() in target.lower().split():
        return question if not target else question[: pointing.start()] + target + question[pointing.end() :]
    if target[:1].isupper():
        return question[: pointing.start()] + target + question[pointing.end() :]
    return f"{question[: pointing.end()]} ({target}){question[pointing.end() :]}"


def _own_name(question: str, pronoun: re.Pattern[str]) -> bool:
    """The question names, before its pronoun, what the pronoun may stand for."""
    match = pronoun.search(question)
    return match is not None and bool(names_in(question[: match.start()]))


def _relative(question: str, start: int) -> bool:
    """`that` after a noun opens a clause: "the city that never sleeps"."""
    before = question[:start].split()
    return (
        bool(before)
        and before[-1].lower() not in _FUNCTION
        and before[-1].lower()
        not in (
            "what",
            "who",
            "when",
            "where",
            "why",
            "how",
            "which",
            "like",
            "after",
            "before",
            "than",
            "as",
            "near",
            "inside",
            "into",
        )
    )


def _replace(question: str, pronoun: re.Pattern[str], name: str) -> str:
    """The first pronoun becomes the name; those after it then have an antecedent in the question itself."""

    def written(match: re.Match[str]) -> str:
        word = match.group().lower()
        after = question[match.end() :].lstrip()
        if word in _POSSESSIVE and not (word == "her" and (not after or not after[0].isalpha())):
            return f"{name}'" if name.endswith("s") else f"{name}'s"
        if word in ("hers", "theirs"):
            return f"{name}'s"
        return name

    for match in pronoun.finditer(question):
        if match.group().lower() in ("that", "this") and _relative(question, match.start()):
            continue
        return question[: match.start()] + written(match) + question[match.end() :]
    return question


def _open(question: str) -> str:
    return question.rstrip(" ?.!")


def _closed(question: str) -> str:
    return f"{_open(question)}?"


def _lower_first(text: str) -> str:
    return text[:1].lower() + text[1:]
