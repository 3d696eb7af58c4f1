"""Which passages, and which of their sentences, fit into a budget of tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from anabranch_generation.domain.tokens import estimate_tokens
from anabranch_generation.domain.values import Passage, Sentence


def pack(
    passages: Sequence[Passage],
    budget: int,
    *,
    overhead: int = 0,
    count: Callable[[str], int] = estimate_tokens,
) -> tuple[Passage, ...]:
    """The passages that fit into `budget` tokens, in the order given (best first); 0 means all of them.

    A passage that does not fit whole gives its nearest sentences, whole and in the order of its text, as one run, so
    that offsets stay those of the document; the rest is left out. `overhead` is what every passage costs besides its
    text. The first passage gives at least one sentence, whatever the budget.
    """
    if not budget:
        return tuple(passages)
    packed: list[Passage] = []
    left = budget
    for passage in passages:
        cost = count(passage.text) + overhead
        if cost <= left:
            packed.append(passage)
            left -= cost
            continue
        cut = _cut(passage, left - overhead, count, required=not packed)
        if cut is not None:
            packed.append(cut)
        break
    return tuple(packed)


def _cut(passage: Passage, budget: int, count: Callable[[str], int], *, required: bool) -> Passage | None:
    """The longest run of sentences within the budget that is grown from the one nearest to the question."""
    sentences = passage.sentences
    if not sentences:
        return passage if required else None
    first = last = max(range(len(sentences)), key=lambda i: _nearness(sentences[i], i))

    def cost(begin: int, end: int) -> int:
        return count(passage.text[sentences[begin].start : sentences[end].end])

    if cost(first, last) > budget and not required:
        return None
    while True:
        grown = [
            (begin, end)
            for begin, end in ((first, last + 1), (first - 1, last))
            if begin >= 0 and end < len(sentences) and cost(begin, end) <= budget
        ]
        if not grown:
            break
        # The neighbour that is nearer to the question comes first.
        first, last = max(grown, key=lambda run: _nearness(sentences[run[0] if run[0] < first else run[1]], 0))
    start, end = sentences[first].start, sentences[last].end
    return replace(
        passage,
        text=passage.text[start:end],
        start=passage.start + start,
        sentences=tuple(Sentence(s.start - start, s.end - start, s.similarity) for s in sentences[first : last + 1]),
    )


def _nearness(sentence: Sentence, position: int) -> tuple[float, int]:
    # Without similarities the beginning of a passage stands for it.
    return (sentence.similarity if sentence.similarity is not None else 0.0, -position)
