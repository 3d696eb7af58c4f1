"""Whom and what a question and its answer speak of. By capitals and word order; English."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

_MARKER: Final = re.compile(r"\s*\[\d+\]")
_QUOTED: Final = re.compile(r"[\"“]([^\"”]{2,60})[\"”]")
_TOKEN: Final = re.compile(r"\d[\w.,-]*\w|[^\W_][\w'’.-]*[^\W_]|[^\W_]")
_JOINING: Final = frozenset("of the de la le van von der di da du del bin al and for on".split())
_NOT_NAMES: Final = frozenset(
    "what who whom whose which when where why how is are was were do does did can could will would should has have had may"
    " might name list describe explain tell give show define compare find in on at by for from to of with the a an and but"
    " or so also i it he she they we you this that these those there his her its their my your our about yes no not if as"
    " after before during since until according although while because however most many some several both all one two"
    " please ok okay then now i'm i've".split()
)
_AUXILIARY: Final = frozenset("is are was were do does did can could will would should has have had may might".split())
_STOP: Final = _NOT_NAMES | frozenset(
    "be been being get got much more very old long far big large tall high deep often first last new used work works made"
    " make mean means called known happen happened main kind type number year years time many than into out up over just"
    " use uses begin start end come came go goes went take takes took cost costs live lives eat".split()
)
_PERSON_ASKED: Final = re.compile(r"\b(?:who|whom|whose)\b", re.IGNORECASE)
_THING_ASKED: Final = re.compile(
    r"^(?:in |on |at |from |to )?(?:what|which)\b(?! (?:year|date|day|century|month|time|percent|percentage|number|age))",
    re.IGNORECASE,
)
_PLACE_ASKED: Final = re.compile(
    r"\bwhere\b|\b(?:what|which) (?:\w+ )?(?:city|country|state|town|capital|place|region|island|county|continent)\b"
    r"|\bcapital of\b",
    re.IGNORECASE,
)
_LONGEST_ANSWER: Final = 8


def names_in(text: str) -> list[str]:
    """Runs of capitalised words, and quoted titles, in order. A capital that opens a sentence counts inside a run only."""
    found: list[tuple[int, str]] = [(m.start(), m.group(1)) for m in _QUOTED.finditer(text)]
    for start, run in _runs(text):
        if not any(begin <= start < begin + len(name) + 2 for begin, name in found):
            found.append((start, run))
    return [name for _, name in sorted(found)]


def _runs(text: str) -> list[tuple[int, str]]:
    runs: list[tuple[int, str]] = []
    begin = end = -1
    last_capital = -1
    opening = True

    def close() -> None:
        nonlocal begin, end, last_capital
        if begin >= 0:
            runs.append((begin, text[begin:last_capital].removesuffix("'s").removesuffix("’s")))
        begin = end = last_capital = -1

    for match in _TOKEN.finditer(text):
        word = match.group()
        low = word.lower().removesuffix("'s").removesuffix("’s")
        gap = text[end : match.start()] if end >= 0 else ""
        name = word[0].isupper() and low not in _NOT_NAMES
        joined = begin >= 0 and gap == " "
        if name and (not opening or joined or _follows_name(text, match.end()) or _inner_capital(word)):
            if not joined:
                close()
                begin = match.start()
            end = last_capital = match.end()
            if word.endswith(("'s", "’s")):
                close()
        elif joined and (low in _JOINING or word[0].isdigit()):
            end = match.end()
            if word[0].isdigit() and not re.fullmatch(r"(?:1\d|20)\d\d", word):
                last_capital = end
        else:
            close()
        opening = text[match.end() : match.end() + 1] in (".", "!", "?", ":") and not re.fullmatch(r"[A-Z]", word)
    close()
    return runs


def _inner_capital(word: str) -> bool:
    return any(c.isupper() or c.isdigit() for c in word[1:])


def _follows_name(text: str, end: int) -> bool:
    """A capitalised word after it, or a verb that speaks of one thing."""
    after = text[end:].lstrip(" ")
    return bool(after) and (
        after[0].isupper() or re.match(r"(?:is|was|has|had|became|wrote|lies|,)\b", after) is not None
    )


def topic_of(question: str) -> str:
    """What a question is about: its last name, else the noun phrase after its auxiliary, else its last long word."""
    names = names_in(question)
    if names:
        return names[-1]
    words = [m.group() for m in _TOKEN.finditer(question)]
    for i, word in enumerate(words):
        if word.lower() in _AUXILIARY:
            phrase: list[str] = []
            for after in words[i + 1 :]:
                low = after.lower()
                if low in ("the", "a", "an") and not phrase:
                    continue
                if low in _STOP or (phrase and _verbal(low)):
                    if phrase:
                        break
                    continue
                phrase.append(after)
                if len(phrase) == 3:  # noqa: PLR2004  a longer phrase has run into the predicate
                    break
            if phrase:
                return " ".join(phrase[:2] if len(phrase) > 1 else phrase)
    content = [w for w in words if w.lower() not in _STOP and len(w) > 2]  # noqa: PLR2004  shorter ones are particles
    return content[-1] if content else ""


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
        """From a question and its answer. Who was asked for is in the answer; what was spoken of, in the question."""
        topic = topic_of(question)
        given = _given(question, answer)
        if _PERSON_ASKED.search(question):
            return cls(person=given or _capital(topic), thing=topic, place=topic)
        place = given if given and _PLACE_ASKED.search(question) else ""
        thing = given if given and _THING_ASKED.search(question) and not _of_one(question) else topic
        return cls(person=_capital(topic) or given, thing=place or thing, place=place or topic)


def _given(question: str, answer: str) -> str:
    """The name that the answer adds: the whole of a short answer, else its first name that the question has not."""
    text = _MARKER.sub("", answer).strip()
    if not text:
        return ""
    known = question.lower()
    names = [n for n in names_in(text) if n.lower() not in known]
    if names:
        return names[0]
    short = text.rstrip(". ")
    if len(short.split()) <= _LONGEST_ANSWER and short[:1].isupper() and short.split()[0].lower() not in _NOT_NAMES:
        return short if short.lower() not in known else ""
    return ""


def _of_one(question: str) -> bool:
    """`What is X?`, `What did X do?`: the next question is about X, not about what was said of it."""
    return bool(names_in(question)) and re.search(r"\b(?:of|in|is the|was the|are the)\b", question) is None


def _capital(topic: str) -> str:
    return topic if topic[:1].isupper() else ""
