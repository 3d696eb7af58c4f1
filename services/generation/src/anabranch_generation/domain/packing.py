"""Which passages, which of their sentences, and how much of the conversation fit into a budget of tokens."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from anabranch_generation.domain.tokens import estimate_tokens
from anabranch_generation.domain.values import Passage, Sentence, Turn

HISTORY_SHARE: Final = 0.25
"""Of the budget, that the conversation may take; what it leaves is the passages'."""
_TURN_OVERHEAD: Final = 16
_LEAST: Final = 0.05  # relevance of a sentence that is far from the question: it still explains its neighbours


def pack(
    passages: Sequence[Passage],
    budget: int,
    *,
    overhead: int = 0,
    count: Callable[[str], int] = estimate_tokens,
) -> tuple[Passage, ...]:
    """What of the passages fits into `budget` tokens, in the order given (best first); 0 means all of them.

    What does not fit whole is chosen by relevance a token, sentence by sentence: a passage begins with the sentence
    nearest to the question and grows to both sides, as one run, so that offsets stay those of the document. A sentence
    counts by its nearness and its passage's rank; `overhead` is what every passage costs besides its text. The first
    passage gives at least one sentence, whatever the budget.
    """
    if not budget or sum(count(passage.text) + overhead for passage in passages) <= budget:
        return tuple(passages)
    runs = [_Run.of(passage, rank, overhead, count) for rank, passage in enumerate(passages)]
    waiting: list[tuple[float, int, int, int]] = []

    def offer(rank: int) -> None:
        for relevance, cost, side in runs[rank].next():
            heapq.heappush(waiting, (-relevance / max(1, cost), rank, side, cost))

    left = budget - runs[0].begin()
    offer(0)
    for rank in range(1, len(runs)):
        offer(rank)
    while waiting:
        _, rank, side, cost = heapq.heappop(waiting)
        if cost <= left and runs[rank].grow(side):
            left -= cost
            offer(rank)
    return tuple(cut for run in runs if (cut := run.cut()) is not None)


def recent(
    history: Sequence[Turn], budget: int, *, count: Callable[[str], int] = estimate_tokens
) -> tuple[tuple[Turn, ...], int]:
    """The newest turns that fit into `budget` tokens, oldest first, and what they cost."""
    kept: list[Turn] = []
    spent = 0
    for turn in reversed(history):
        cost = count(turn.text) + _TURN_OVERHEAD
        if spent + cost > budget:
            break
        spent += cost
        kept.append(turn)
    return tuple(reversed(kept)), spent


def shared(
    passages: Sequence[Passage],
    history: Sequence[Turn],
    budget: int,
    *,
    overhead: int = 0,
    count: Callable[[str], int] = estimate_tokens,
) -> tuple[tuple[Passage, ...], tuple[Turn, ...]]:
    """Passages and conversation within one budget: the newest turns get a quarter at most, passages the rest."""
    turns, spent = recent(history, int(budget * HISTORY_SHARE), count=count)
    return pack(passages, budget - spent, overhead=overhead, count=count), turns


@dataclass(slots=True)
class _Run:
    """The sentences of a passage taken so far, [first, last]; none yet when `first` is -1."""

    passage: Passage
    costs: list[int]
    relevance: list[float]
    overhead: int
    first: int = -1
    last: int = -1
    offered: set[int] = field(default_factory=set)

    @classmethod
    def of(cls, passage: Passage, rank: int, overhead: int, count: Callable[[str], int]) -> _Run:
        if not passage.sentences:
            return cls(passage, [count(passage.text)], [_LEAST / (1 + rank)], overhead)
        spans = passage.sentences
        ends = [*(after.start for after in spans[1:]), spans[-1].end]
        costs = [count(passage.text[one.start : max(one.end, end)]) for one, end in zip(spans, ends, strict=True)]
        weight = 1 / (1 + rank) ** 0.5
        return cls(passage, costs, [weight * _nearness(one, at) for at, one in enumerate(spans)], overhead)

    def _best(self) -> int:
        return max(range(len(self.relevance)), key=lambda at: (self.relevance[at], -at))

    def begin(self) -> int:
        """Takes the best sentence; returns what it costs."""
        self.first = self.last = self._best()
        return self.costs[self.first] + self.overhead

    def next(self) -> Iterator[tuple[float, int, int]]:
        """What can be taken next, and was not offered yet: relevance, cost and which."""
        if self.first < 0:
            best = self._best()
            offers = [(best, self.costs[best] + self.overhead)]
        else:
            offers = [(at, self.costs[at]) for at in (self.first - 1, self.last + 1) if 0 <= at < len(self.costs)]
        for at, cost in offers:
            if at not in self.offered:
                self.offered.add(at)
                yield self.relevance[at], cost, at

    def grow(self, at: int) -> bool:
        """Takes a sentence; False when it does not touch the run any more."""
        if self.first < 0:
            self.first = self.last = at
        elif at == self.first - 1:
            self.first = at
        elif at == self.last + 1:
            self.last = at
        else:
            return False
        return True

    def cut(self) -> Passage | None:
        """The passage with nothing but the run; None when nothing of it was taken."""
        if self.first < 0:
            return None
        sentences = self.passage.sentences
        if len(self.costs) == self.last - self.first + 1:
            return self.passage
        start, end = sentences[self.first].start, sentences[self.last].end
        return replace(
            self.passage,
            text=self.passage.text[start:end],
            start=self.passage.start + start,
            sentences=tuple(
                Sentence(s.start - start, s.end - start, s.similarity) for s in sentences[self.first : self.last + 1]
            ),
        )


def _nearness(sentence: Sentence, position: int) -> float:
    # Without similarities the beginning of a passage stands for it.
    if sentence.similarity is None:
        return max(_LEAST, 0.5 / (1 + position))
    return max(_LEAST, sentence.similarity)
