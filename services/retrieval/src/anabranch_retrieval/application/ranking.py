"""From the best hits of a search to their features, and to the order of a reranker."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from time import perf_counter
from typing import Final

import numpy as np
from numpy.typing import NDArray

from anabranch_retrieval.application.ports import Rerankers
from anabranch_retrieval.domain import (
    CANDIDATES,
    Hit,
    Question,
    Reranker,
    Terms,
    Words,
    features_of,
    order,
    words_of,
)

_KNOWN: Final = 20_000  # chunks whose terms are kept in memory, all corpora together; about 1 KiB each


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranked:
    """Hits, best first. marks: chunk id to score and features, of those that were candidates. applied: the reranker's
    version, empty when the order is that of the search.
    """  # noqa: D205  the fields, in one paragraph

    hits: Sequence[Hit]
    marks: dict[str, tuple[float | None, tuple[float, ...]]]
    applied: str
    seconds: float


@dataclass(slots=True, kw_only=True)
class Ranking:
    """Computes features of the best CANDIDATES hits and lets a reranker order them; what comes after them stays there.

    Runs on the event loop: about a millisecond, and some more for passages not met before.
    """

    terms: Terms
    rerankers: Rerankers
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    _known: OrderedDict[tuple[str, str], Words] = field(default_factory=OrderedDict)

    def __call__(
        self, hits: Sequence[Hit], question: Question, vector: NDArray[np.float32], reranker: Reranker | None
    ) -> Ranked:
        """Order hits, which are in fused order. Without a reranker only the features are added."""
        began = perf_counter()
        candidates = hits[:CANDIDATES]
        corpus = str(question.corpus)
        words = [self._words((corpus, hit.chunk.id), hit) for hit in candidates]
        rows = features_of(candidates, words, query=self.terms(question.text), vector=vector, now=self.now())
        scores = reranker.score(rows) if reranker is not None and candidates else None
        if scores is not None and not np.isfinite(scores).all():
            scores = None  # no order follows from these
        features = [tuple(row) for row in rows.tolist()] if question.with_features else [()] * len(candidates)
        by_row = scores.tolist() if scores is not None else [None] * len(candidates)
        marks = {hit.chunk.id: mark for hit, mark in zip(candidates, zip(by_row, features, strict=True), strict=True)}
        placed = [candidates[row] for row in order(scores)] if scores is not None else list(candidates)
        return Ranked(
            hits=[*placed, *hits[CANDIDATES:]],
            marks=marks,
            applied=reranker.version if reranker is not None and (scores is not None or not candidates) else "",
            seconds=perf_counter() - began,
        )

    def _words(self, name: tuple[str, str], hit: Hit) -> Words:
        # A chunk's id is its content's: another version of its document has other chunks.
        known = self._known.get(name)
        if known is None:
            known = self._known[name] = words_of(hit.chunk, self.terms)
            if len(self._known) > _KNOWN:
                self._known.popitem(last=False)
        else:
            self._known.move_to_end(name)
        return known
