"""Where the text of a stream may be cut: never inside of what could still become something that a check finds."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

__all__ = ["LONGEST_OPEN", "Tail", "sentence_end", "tail_of"]

LONGEST_OPEN: Final = 2_048
"""Code points of an open end that are held at most; past this it is checked as it stands."""

_PLAIN: Final = re.compile(r"[^\W\d_]{1,24}[,;:!?…\"')»”]*\Z")
_PLAIN_OR_LAST: Final = re.compile(r"[^\W\d_]{1,24}[.,;:!?…\"')»”]*\Z")
"""The same where a point makes no address of it."""
_CAPITALS: Final = re.compile(r"[A-Z]{1,5}\Z")
_CITATION: Final = re.compile(r"\[\d{0,3}\]?")
"""Whatever becomes of it: what it shows by itself is no more than that."""
_ENDED: Final = re.compile(r"\[\d{1,4}\]\Z|[,.;:!?]\Z")
_GROUPS: Final = 8  # before the last one: the longest account numbers have nine
_MARKUP: Final = re.compile(r"<(?:[A-Za-z/!?][^>]*)?\Z")
_LINK: Final = re.compile(r"!?\[[^\[\]\n]{0,512}(?:\](?:\([^()\s]*(?:\s[^()\n]{0,256})?)?)?\Z")
_PRIVATE_KEY: Final = re.compile(r"-----BEGIN [A-Z ]{0,40}(?:-----(?:(?!-----END)[\s\S])*(?:-----END[^-]*-{0,4})?)?\Z")
_SENTENCE: Final = re.compile(r"[.!?。！？]+[\"'”’»)\]]*(?=\s|\Z)|\n")  # noqa: RUF001  full-width marks end sentences too


@dataclass(frozen=True, slots=True)
class Tail:
    """The open end of a text: from `start` on it may still become something else.

    `plain`: no more than a word of letters that goes on, perhaps, or a citation.
    """

    start: int
    plain: bool


def tail_of(text: str, begin: int, *, groups: bool = True) -> Tail:
    """The open end of `text`, looked for from `begin` on; `start` is the text's length where nothing is open.

    Open are: the last run without spaces, with (`groups`) the groups of digits and capitals before it (numbers of
    cards, phones and accounts have gaps; who looks for none looks for no addresses either), a tag or placeholder that
    is not closed, a link in Markdown, a private key's block.
    """
    low = max(begin, len(text) - LONGEST_OPEN)
    start = min(
        _construct(text, low, _MARKUP, "<"),
        _construct(text, low, _LINK, "["),
        _construct(text, low, _PRIVATE_KEY, "-"),
    )
    run, plain = _run(text, low, groups=groups)
    if run < start or (run == start and plain):
        return Tail(run, plain)
    if start < len(text):
        return Tail(start, plain=_CITATION.fullmatch(text, start) is not None)
    return Tail(len(text), plain=True)


def sentence_end(text: str, begin: int, end: int) -> int:
    """Where the last sentence that ends in `text[begin:end]` ends; `begin` where none does."""
    found = begin
    for match in _SENTENCE.finditer(text, begin, end):
        if match.end() < len(text) or match[0] == "\n":
            found = match.end()
    return found


def _construct(text: str, low: int, pattern: re.Pattern[str], first: str) -> int:
    if text.find(first, low) < 0:
        return len(text)
    match = pattern.search(text, low)
    return len(text) if match is None else match.start()


def _run(text: str, low: int, *, groups: bool) -> tuple[int, bool]:
    """Where the last run begins, taking groups that belong together for one; and whether it is a plain word."""
    end = len(text)
    edge = _back_over_space(text, low, end)
    start = _back_over_run(text, low, edge)
    last, goes_on = text[start:edge], edge == end
    found = end
    if goes_on and last:
        found = start
    if not groups or not _grouped(last):
        return found, found == end or (_PLAIN if groups else _PLAIN_OR_LAST).fullmatch(last) is not None
    for _ in range(_GROUPS + 1):
        run = text[start:edge]
        if not _grouped(run):
            break
        if any(character.isdigit() for character in run):
            found = start
        edge = _back_over_space(text, max(low, start - 3), start)
        if edge == start:
            break
        start = _back_over_run(text, low, edge)
    return found, found == end


def _grouped(run: str) -> bool:
    """Whether groups of a number may stand around it."""
    if _ENDED.search(run):
        return False  # a citation, or the end of a clause
    return any(character.isdigit() for character in run) or _CAPITALS.match(run) is not None


def _back_over_space(text: str, low: int, end: int) -> int:
    while end > low and text[end - 1].isspace():
        end -= 1
    return end


def _back_over_run(text: str, low: int, end: int) -> int:
    while end > low and not text[end - 1].isspace() and not _unspaced(text[end - 1]):
        end -= 1
    return end


def _unspaced(character: str) -> bool:
    """Whether it is of a script that writes without spaces: text may be cut after it."""
    return "\u3000" <= character <= "\u9fff" or "\uac00" <= character <= "\ud7af" or "\uff00" <= character <= "\uffef"
