"""Live scores of an answer: what can be said of it without knowing what is right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from anabranch_grounding import (
    SCORER_VERSION,
    Meaning,
    Support,
    groundedness,
    relevance,
    sentences_of,
    version_of,
)

SUPPORTED: Final = 0.5
"""Support from which a passage bears a sentence out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """0 to 1 each, by name; a metric that is not defined for the answer is left out."""

    scores: Mapping[str, float]
    sentences: Sequence[Support] = ()
    version: str = SCORER_VERSION


def texts_of(question: str, answer: str, contexts: Sequence[str], *, cited: Sequence[str] = ()) -> list[str]:
    """The texts whose meaning `score_answer` asks for."""
    return [question, *(part for text in (answer, *contexts, *cited) for part in sentences_of(text))]


def score_answer(
    question: str,
    answer: str,
    contexts: Sequence[str],
    *,
    cited: Sequence[str] = (),
    abstained: bool = False,
    meaning: Meaning | None = None,
) -> Scores:
    """Groundedness, answer relevance, context precision and, where passages are cited, citation precision.

    `context_precision`: precision averaged over the ranks of the passages that bear a sentence of the answer out.
    `citation_precision`: share of the cited texts that share a supported sentence with the answer. An abstention has
    none of these. `meaning` holds `texts_of` the same.
    """
    if abstained or not answer.strip() or not contexts:
        return Scores(scores={}, version=version_of(meaning.version if meaning else None))
    whole = groundedness(answer, contexts, meaning)
    found: dict[str, float] = {
        "groundedness": whole.score,
        "answer_relevance": relevance(question, answer, meaning),
    }
    useful = [_bears_out(answer, context, meaning) for context in contexts]
    hits = [place for place, good in enumerate(useful, start=1) if good]
    found["context_precision"] = (
        sum(count / place for count, place in enumerate(hits, start=1)) / len(hits) if hits else 0.0
    )
    if cited:
        found["citation_precision"] = sum(_bears_out(answer, text, meaning) for text in cited) / len(cited)
    return Scores(scores=found, sentences=whole.sentences, version=version_of(meaning.version if meaning else None))


def _bears_out(answer: str, context: str, meaning: Meaning | None) -> bool:
    return any(one.support >= SUPPORTED for one in groundedness(answer, [context], meaning).sentences)
