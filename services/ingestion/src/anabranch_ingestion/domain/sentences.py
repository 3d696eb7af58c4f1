"""Sentence spans by rule: terminators, abbreviations, initials, numbers, quotes and list markers.

Linear in the length of the text, no model, no data files. English and its neighbours by rule; scripts with their own
full stop (CJK, Devanagari, Arabic) by that stop. Where the rules cannot know, two sentences stay one: a span that is
a little long still quotes correctly, one cut inside "Dr. Who" does not.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

# The look-behind lets a run of dots be tried once, from its beginning.
_STOP = re.compile(
    r"(?<![.!?\u2026])[.!?\u2026]++[\"'\u201d\u2019\u00bb)\]]*+(?=\s)"
    r"|[\u3002\uff01\uff1f\uff61]++[\u300d\u300f\u201d\u2019\uff09]*+"
    r"|[\u0964\u0965\u06d4\u061f]++(?=\s)"
    r"|\n(?=[ \t]*(?:[-*\u2022\u2023\u25e6\u25aa\u2013]|\(?\d{1,3}[.)])[ \t]+\S)"
)
_WORD_BEFORE = re.compile(r"[^\s(\[\"\u201c\u2018']+$")
_NEXT = re.compile(r"\s+[\"'\u201c\u2018\u00ab(\[]*(\S+)")
_INITIAL = re.compile(r"^(?:[^\W\d_]\.)+$")
_LIST_NUMBER = re.compile(r"^\(?(?:\d{1,3}|[a-zA-Z]|[ivxIVX]{1,4})\.$")

# Never the end of a sentence.
_TITLES_WORDS = (
    "mr mrs ms dr prof sr jr st rev gen col maj capt lt sgt hon pres gov sen rep messrs mt ft no nos vol vols pp p "
    "fig figs eq eqs sec secs ch chap ed eds al vs v cf viz e.g i.e eg ie approx ca c resp esp incl nr art cl para "
    "op cit trans dept univ assn bros cmdr adm supt insp"
)
_TITLES = frozenset(_TITLES_WORDS.split())
# The end of a sentence only when what follows looks like a beginning.
_MAYBE_WORDS = (
    "inc ltd co corp llc plc etc u.s u.k u.n e.u d.c a.m p.m am pm b.c a.d ph.d m.d b.a m.a jan feb mar apr jun jul "
    "aug sep sept oct nov dec mon tue wed thu fri sat sun ave blvd rd hwy min max est"
)
_MAYBE = frozenset(_MAYBE_WORDS.split())
_STARTERS_WORDS = (
    "a an the this that these those he she it they we you i his her its their our my there here in on at as by for "
    "from to with when while if although after before since because but and or so however moreover furthermore then "
    "thus what who where why how which all some many most each every no not one two both"
)
_STARTERS = frozenset(_STARTERS_WORDS.split())
_WORD_TAIL = 64


def sentences(text: str) -> list[tuple[int, int]]:
    """Spans of the sentences of a paragraph, in order, disjoint, holding every non-blank character."""
    spans: list[tuple[int, int]] = []
    start = 0
    for stop in _stops(text):
        _append(spans, text, start, stop)
        start = stop
    _append(spans, text, start, len(text))
    return spans


def _stops(text: str) -> Iterator[int]:
    since = 0
    for match in _STOP.finditer(text):
        end = match.end()
        mark = match.group()
        if mark[0] == ".":
            if not _ends_at_full_stop(text, match.start(), end, since):
                continue
        elif mark[0] in "!?\u2026" and not _begins(text, end):
            continue
        since = end
        yield end


def _ends_at_full_stop(text: str, dot: int, end: int, since: int) -> bool:  # noqa: PLR0911  one return a case
    following = _NEXT.match(text, end)
    if following is None:
        return True
    word = following.group(1)
    if word[0].islower():
        return False
    if end - dot > 1:
        # "..." or a closing quote or bracket: the case of what follows has decided.
        return True
    before = _WORD_BEFORE.search(text, max(0, dot - _WORD_TAIL), dot)
    if before is None:
        return True
    token = before.group()
    name = token.lower()
    if name in _TITLES:
        # "No. 5" goes on, "said no. The" does not.
        return name == "no" and word.lower().strip(".,") in _STARTERS
    if name in _MAYBE or _INITIAL.match(token + "."):
        return word.lower().strip(".,;:'\u2019\"") in _STARTERS and not (name == "i" and word == "I")
    # A number that opens its line or its sentence is a list marker.
    return not (_LIST_NUMBER.match(token + ".") and _opens(text, since, before.start()))


def _begins(text: str, end: int) -> bool:
    following = _NEXT.match(text, end)
    return following is None or not following.group(1)[0].islower()


def _opens(text: str, since: int, position: int) -> bool:
    if position - since > _WORD_TAIL:
        since = position - _WORD_TAIL
    before = text[since:position].rstrip(" \t")
    return not before or before[-1] == "\n"


def _append(spans: list[tuple[int, int]], text: str, start: int, end: int) -> None:
    part = text[start:end]
    stripped = part.strip()
    if stripped:
        begin = start + len(part) - len(part.lstrip())
        spans.append((begin, begin + len(stripped)))
