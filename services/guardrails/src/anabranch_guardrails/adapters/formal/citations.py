"""The check `citations`: numbers that name no passage, and passages that do not hold what they are cited for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from anabranch_grounding import groundedness
from anabranch_guardrails.adapters.options import Options
from anabranch_guardrails.domain import Finding, Span, Subject

__all__ = ["Citations", "configured"]

VERSION: Final = "citations-1"
KIND: Final = "CITATION"
MOST_CHARACTERS: Final = 100_000
_MARKER: Final = re.compile(r"(?<![\[!])\[\^?(\d{1,6}(?:\s{0,2}[,;\u2013-]\s{0,2}\d{1,6}){0,20})\](?!\(|:\s)")
_CODE: Final = re.compile(r"```.{0,20000}?(?:```|\Z)|`[^`\n]{1,500}`", re.DOTALL)
_NUMBER: Final = re.compile(r"\d+")
_SENTENCE_END: Final = re.compile(r"[.!?\u3002]['\")\]]{0,2}(?=\s|\[|\Z)|\n")
_MOST_SENTENCES: Final = 40
_NOT_HELD: Final = 0.25
"""Support by the cited passages under which a sentence is not theirs."""


class Citations:
    """Finds citations of what is not there (score 1), and of what does not say so (score by how little)."""

    name = "citations"
    version = VERSION

    def look(self, subject: Subject) -> Finding:
        """Spans are the markers."""
        if not subject.citations:
            return Finding(score=0.0)
        text = subject.text[:MOST_CHARACTERS]
        code = [match.span() for match in _CODE.finditer(text)] if "`" in text else []
        spans: list[Span] = []
        outside = strangers = 0
        for at, match in enumerate(_MARKER.finditer(text)):
            if any(start <= match.start() < end for start, end in code):
                continue
            numbers = [int(found) for found in _NUMBER.findall(match.group(1))]
            if any(not 1 <= number <= subject.citations for number in numbers):
                spans.append(Span(start=match.start(), end=match.end(), kind=KIND))
                outside += 1
            elif at < _MOST_SENTENCES and (score := self._strange(subject, text, match.start(), numbers)):
                spans.append(Span(start=match.start(), end=match.end(), kind=KIND, score=score))
                strangers += 1
        reasons = [f"{outside} of passages that there are not"] if outside else []
        if strangers:
            reasons.append(f"{strangers} of passages that do not hold the sentence")
        if len(subject.text) > MOST_CHARACTERS:
            reasons.append(f"only the first {MOST_CHARACTERS} characters were looked at")
        return Finding(
            score=max((span.score for span in spans), default=0.0), spans=tuple(spans), reason="; ".join(reasons)
        )

    @staticmethod
    def _strange(subject: Subject, text: str, place: int, numbers: list[int]) -> float:
        """How little the cited passages hold of the sentence before the marker; 0: enough, or nothing to tell by."""
        cited = [subject.contexts[number - 1].text for number in numbers if number <= len(subject.contexts)]
        if len(cited) < len(numbers):
            return 0.0
        sentence = _sentence_before(text, place)
        support = groundedness(sentence, cited)
        if not support.sentences or support.score >= _NOT_HELD:
            return 0.0
        return 0.9 * (1.0 - support.score / _NOT_HELD) if support.score else 0.9


def configured(options: Mapping[str, object]) -> Citations:
    """No options."""
    Options(options)
    return Citations()


def _sentence_before(text: str, place: int) -> str:
    """The sentence that a marker stands in or behind."""
    before = text[max(0, place - 2_000) : place].rstrip()
    body = before.rstrip(".!?\u3002 ")
    start = 0
    for match in _SENTENCE_END.finditer(body):
        start = match.end()
    return _MARKER.sub("", body[start:]).strip()
