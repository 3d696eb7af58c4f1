"""Markers like [1] in a stream of text become citations; those that point nowhere are dropped."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from anabranch_generation.adapters.extractive.features import analyse
from anabranch_generation.adapters.extractive.question import read
from anabranch_generation.adapters.extractive.text import words
from anabranch_generation.domain import Citation, Delta, Passage, Span

# "[1]", "[1, 2]" and "[1][2]", with the blanks in front that go with a marker that is dropped.
_MARKER: Final = re.compile(r"[ \t]*\[\s*(\d{1,3}(?:\s*,\s*\d{1,3})*)\s*\]")
# What may still become a marker when more text comes.
_BEGUN: Final = re.compile(r"[ \t]*(?:\[[\d,\s]{0,24})?$")
_SENTENCE_END: Final = re.compile(r"[.!?](?=\s|$)")


@dataclass(slots=True)
class CitationStream:
    """Takes a text in pieces and gives it back as Delta and Citation events, in order.

    `feed` holds back what may be half a marker; `end` gives it out. Offsets are those of the text given out.
    """

    passages: Sequence[Passage]
    supports: list[float] = field(default_factory=list)
    text: str = ""
    _held: str = ""

    def feed(self, piece: str) -> Iterator[Delta | Citation]:
        """The events that are certain now."""
        self._held += piece
        begun = _BEGUN.search(self._held)
        keep = begun.start() if begun else len(self._held)
        ready, self._held = self._held[:keep], self._held[keep:]
        yield from self._given(ready)

    def end(self) -> Iterator[Delta | Citation]:
        """The rest."""
        ready, self._held = self._held, ""
        yield from self._given(ready)

    def _given(self, ready: str) -> Iterator[Delta | Citation]:
        at = 0
        for marker in _MARKER.finditer(ready):
            if marker.start() > at:
                yield self._say(ready[at : marker.start()])
            at = marker.end()
            numbers = [int(n) for n in marker.group(1).split(",")]
            valid = [n for n in dict.fromkeys(numbers) if 1 <= n <= len(self.passages)]
            if not valid:
                continue
            claim = self._claim()
            blanks = marker.group()[: len(marker.group()) - len(marker.group().lstrip(" \t"))]
            yield self._say(blanks + "".join(f"[{n}]" for n in valid))
            for number in valid:
                yield self._citation(number, claim)
        if at < len(ready):
            yield self._say(ready[at:])

    def _say(self, text: str) -> Delta:
        self.text += text
        return Delta(text)

    def _claim(self) -> Span:
        """The sentence that ends where the text stands now, without the markers around it."""
        said = self.text
        end = len(said.rstrip())
        # Markers directly in front belong to the same sentence: "... in 1889. [1][2]".
        while (marker := re.search(r"[ \t]*\[\d{1,3}\]$", said[:end])) is not None:
            end = marker.start()
        start = 0
        for stop in _SENTENCE_END.finditer(said, 0, max(0, end - 1)):
            start = stop.end()
        while (marker := re.compile(r"\s*\[\d{1,3}\]").match(said, start, end)) is not None:
            start = marker.end()
        start += len(said[start:end]) - len(said[start:end].lstrip())
        return Span(start, max(start, end))

    def _citation(self, number: int, claim: Span) -> Citation:
        passage = self.passages[number - 1]
        start, end, support = best_sentence(self.text[claim.start : claim.end], passage)
        self.supports.append(support)
        return Citation(
            number=number,
            passage=passage,
            text=passage.text[start:end],
            span=passage.in_document(start, end),
            answer_span=claim,
            support=support,
        )


def best_sentence(claim: str, passage: Passage) -> tuple[int, int, float]:
    """The sentence of a passage that shares most with a claim, and the share of the claim's terms that stand in it."""
    read_sentences = analyse(passage.text, tuple((s.start, s.end) for s in passage.sentences))
    terms = read(claim).terms
    title = {w.stem for w in words(passage.title)}
    total = sum(terms.values())
    best, best_support, best_rank = (0, len(passage.text)), 0.0, -1.0
    for sentence in read_sentences:
        hit = sum(weight for term, weight in terms.items() if term in sentence.stems)
        known = sum(weight for term, weight in terms.items() if term in sentence.stems or term in title)
        # A short sentence that holds the same is the more exact one.
        rank = hit - 0.001 * sentence.size
        if rank > best_rank:
            best, best_rank = (sentence.start, sentence.end), rank
            best_support = known / total if total else 0.0
    return (*best, best_support)
