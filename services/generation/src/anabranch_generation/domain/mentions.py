"""Whom and what a question and its answer speak of. By capitals and word order; English."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from anabranch_generation.domain.vocabulary import vocabulary

_MARKER: Final = re.compile(r"\s*\[\d+\]")
_QUOTED: Final = re.compile(r"[\"\u201c]([^\"\u201d]{2,60})[\"\u201d]")
_TOKEN: Final = re.compile(r"\d[\w.,-]*\w|[^\W_][\w'\u2019.-]*[^\W_]|[^\W_]")
_OWNING: Final = ("'s", "\u2019s")
_JOINING: Final = vocabulary("of the de la le van von der di da du del bin al and for on")
_AUXILIARY: Final = vocabulary("is are was were do does did can could will would should has have had may might")
_NOT_NAMES: Final = _AUXILIARY | vocabulary(
    "what who whom whose which when where why how name list describe explain tell give show define compare find",
    "in on at by for from to of with the a an and but or so also i it he she they we you this that these those there",
    "his her its their my your our about yes no not if as after before during since until according although while",
    "because however most many some several both all one two please ok okay then now i'm i've",
)
_STOP: Final = _NOT_NAMES | vocabulary(
    "be been being get got much more very old long far big large tall high deep often first last new used work works",
    "made make mean means called known happen happened main kind type number year years time many than into out up",
    "over just use uses begin start end come came go goes went take takes took cost costs live lives eat",
)
_PERSON_ASKED: Final = re.compile(r"\b(?:who|whom|whose)\b", re.IGNORECASE)
_PLACE_ASKED: Final = re.compile(
    r"\bwhere\b|\b(?:what|which) (?:\w+ )?(?:city|country|state|town|capital|place|region|island|county|continent)\b"
    r"|\bcapital of\b",
    re.IGNORECASE,
)
# "Which river ...?" and "What is the capital of ...?" ask for one thing, and the next question is about the answer.
# "What is X?" and "What did X do?" do not.
_THING_ASKED: Final = re.compile(
    r"^(?:in |on |at |from |to |of )?(?:what|which) "
    r"(?:(?!(?:is|are|was|were|do|does|did|can|could|will|would|has|have|had|happen\w*|year|date|day|century|month|time"
    r"|percent|percentage|number|age)\b)\w+|(?:is|was) the [\w -]+ (?:of|in|on|for) )",
    re.IGNORECASE,
)
_WHO_IS: Final = re.compile(r"^who(?:'s| is| was| are| were) (?:the )?(?=[A-Z])", re.IGNORECASE)
# Nouns that belong to the name in front of them.
_KINDS: Final = vocabulary(
    "program programme project company band group team party war river mission library protocol language theory method",
    "system act agreement treaty movement family dynasty empire museum school prize award framework engine standard",
)
_ASKING: Final = vocabulary("i you we one")
_LONGEST_ANSWER: Final = 8
_LONGEST_PHRASE: Final = 2
_PARTICLE: Final = 2


def names_in(text: str) -> list[str]:
    """Runs of capitalised words, and quoted titles, in order.

    A capital that opens a sentence counts when a name or a verb of one thing follows.
    """
    found: list[tuple[int, str]] = [(m.start(), m.group(1)) for m in _QUOTED.finditer(text)]
    quoted = [(begin, begin + len(name) + 2) for begin, name in found]
    found += [(at, run) for at, run in _runs(text) if not any(begin <= at < end for begin, end in quoted)]
    return [name for _, name in sorted(found)]


def _runs(text: str) -> list[tuple[int, str]]:
    runs: list[tuple[int, str]] = []
    begin = end = stop = -1  # the run's start, the end of its last word, and the end of its last capital
    opening = True
    for match in _TOKEN.finditer(text):
        word = match.group()
        joined = begin >= 0 and text[end : match.start()] == " "
        if _name(word) and (joined or not opening or _opens_name(text, match)):
            if not joined:
                _keep(runs, text, begin, stop)
                begin = match.start()
            end = stop = match.end()
            if word.endswith(_OWNING):
                _keep(runs, text, begin, stop)
                begin = -1
        elif joined and (word.lower() in _JOINING or word[0].isdigit()):
            end = match.end()
            stop = end if word[0].isdigit() and not _year(word) else stop
        else:
            _keep(runs, text, begin, stop)
            begin = -1
        opening = text[match.end() : match.end() + 1] in (".", "!", "?", ":") and len(word) > 1
    _keep(runs, text, begin, stop)
    return runs


def _keep(runs: list[tuple[int, str]], text: str, begin: int, stop: int) -> None:
    if begin >= 0:
        runs.append((begin, _unowned(text[begin:stop])))


def _name(word: str) -> bool:
    return word[0].isupper() and _unowned(word).lower() not in _NOT_NAMES


def _unowned(name: str) -> str:
    for ending in _OWNING:
        name = name.removesuffix(ending)
    return name


def _year(word: str) -> bool:
    return re.fullmatch(r"(?:1\d|20)\d\d", word) is not None


def _opens_name(text: str, match: re.Match[str]) -> bool:
    after = text[match.end() :].lstrip(" ")
    if any(c.isupper() or c.isdigit() for c in match.group()[1:]) or after[:1].isupper():
        return True
    return re.match(r"(?:is|was|has|had|became|wrote|lies)\b", after) is not None


def topic_of(question: str) -> str:
    """What a question is about: its last name, else the noun phrase after its auxiliary, else its last long word."""
    names = names_in(question)
    if names:
        return names[-1]
    words = [m.group() for m in _TOKEN.finditer(question)]
    for i, word in enumerate(words):
        if word.lower() in _AUXILIARY and (phrase := _noun_phrase(words[i + 1 :])):
            return phrase
    content = [w for w in words if w.lower() not in _STOP and len(w) > _PARTICLE]
    return content[-1] if content else ""


def _noun_phrase(words: list[str]) -> str:
    phrase: list[str] = []
    if words and words[0].lower() in _ASKING:
        words = words[2:]  # "do I install docker": the subject says nothing, and its verb follows
    for word in words:
        low = word.lower()
        if low == "of" and phrase:
            phrase = []  # "the symptoms of measles" is about measles
        elif low in _STOP or (phrase and _verbal(low)):
            if phrase:
                break
        else:
            phrase.append(word)
            if len(phrase) > _LONGEST_PHRASE:
                break  # it has run into the predicate
    return " ".join(phrase[:_LONGEST_PHRASE])


def _verbal(word: str) -> bool:
    return word.endswith(("ed", "ing", "s")) and not word.endswith("ss")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mentions:
    """What pronouns of the next question stand for; each empty when nothing fits."""

    person: str = ""
    thing: str = ""
    place: str = ""

    @classmethod
    def of(cls, question: str, answer: str) -> Mentions:
        """From a question and its answer: who and what was asked for is in the answer, what was spoken of is not."""
        bare = topic_of(question)
        topic = _with_article(bare, question)
        given = _given(question, answer)
        if _capital(bare) and _WHO_IS.sub("", question).rstrip(" ?.") == bare:
            return cls(person=bare, thing=topic, place=topic)
        if _PERSON_ASKED.search(question):
            return cls(person=given or _capital(bare), thing=topic, place=topic)
        named = _with_article(given, answer)
        thing = named if given and _THING_ASKED.search(question) else topic
        place = named if given and _PLACE_ASKED.search(question) else topic
        return cls(person=_capital(bare) or given, thing=thing, place=place)


def _given(question: str, answer: str) -> str:
    """The name that the answer adds: its first that the question has not, else the whole of a short answer."""
    text = _MARKER.sub("", answer).strip()
    known = question.lower()
    asked = names_in(question)
    for name in names_in(text):
        # "Ludwig van Beethoven" adds nothing to a question about Beethoven.
        if name.lower() not in known and not any(own in name for own in asked):
            return name
    short = text.rstrip(". ")
    words = short.split()
    if 0 < len(words) <= _LONGEST_ANSWER and short[0].isupper() and words[0].lower() not in _NOT_NAMES:
        return short if short.lower() not in known else ""
    return ""


def _with_article(name: str, text: str) -> str:
    """`the Louvre`, and `the Apollo program`, where the text says so."""
    found = re.search(rf"\b[Tt]he ({re.escape(name)})\b(?: ([a-z]+))?", text) if name else None
    if found is None:
        return name
    noun = found.group(2)
    return f"the {name} {noun}" if noun in _KINDS else f"the {name}"


def _capital(topic: str) -> str:
    return topic if topic[:1].isupper() else ""
