"""From the best hits of a search to their features, and to the order of a reranker."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from time import perf_counter
from typing import Final

import numpy as np
from numpy.typing import NDArray

from anabranch_retrieval.application.ports import Rerankers
from anabranch_retrieval.domain import (
    CANDIDATES,
    Chunk,
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
    """Hits, best first. places: chunk id to row, of those that were candidates. applied: the reranker's version, empty
    when the order is that of the search.
    """  # noqa: D205  the fields, in one paragraph

    hits: Sequence[Hit]
    applied: str = ""
    seconds: float = 0.0
    places: Mapping[str, int] = field(default_factory=dict)
    rows: NDArray[np.float32] | None = None  # a row of FEATURES for each candidate, where they are wanted
    scores: NDArray[np.float64] | None = None

    def score(self, hit: Hit) -> float | None:
        """The reranker's; None without one, or when the hit was no candidate."""
        place = self.places.get(hit.chunk.id)
        return None if place is None or self.scores is None else float(self.scores[place])

    def features(self, hit: Hit) -> tuple[float, ...]:
        """In the order of FEATURES; empty when not wanted, or when the hit was no candidate."""
        place = self.places.get(hit.chunk.id)
        return () if place is None or self.rows is None else tuple(self.rows[place].tolist())


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
        self,
        hits: Sequence[Hit],
        question: Question,
        vector: NDArray[np.float32],
        reranker: Reranker | None,
        choose: Callable[[Sequence[Hit]], Sequence[Hit]] = tuple,
    ) -> Ranked:
        """Order hits, which are in fused order. Without a reranker only the features are added.

        choose: which of the hits in their order are returned; features are for these.
        """
        candidates = hits[:CANDIDATES]
        chosen = choose(hits) if reranker is None else ()
        began = perf_counter()
        corpus = str(question.corpus)
        places = {hit.chunk.id: place for place, hit in enumerate(candidates)}
        words = [self._words((corpus, hit.chunk.id), hit.chunk) for hit in candidates]
        wanted = None
        if reranker is None:
            wanted = [places[hit.chunk.id] for hit in chosen if hit.chunk.id in places]
            places = {candidates[place].chunk.id: row for row, place in enumerate(wanted)}
        query = self.terms(question.text)
        rows = features_of(candidates, words, query=query, vector=vector, now=self.now(), wanted=wanted)
        scores = reranker.score(rows) if reranker is not None and candidates else None
        if scores is not None and not np.isfinite(scores).all():
            scores = None  # no order follows from these
        placed = [candidates[row] for row in order(scores)] if scores is not None else list(candidates)
        seconds = perf_counter() - began
        return Ranked(
            hits=chosen if reranker is None else choose([*placed, *hits[CANDIDATES:]]),
            applied=reranker.version if reranker is not None and (scores is not None or not candidates) else "",
            seconds=seconds,
            # Most candidates are not returned: their numbers stay what they are, an array.
            places=places,
            rows=rows if question.with_features else None,
            scores=scores,
        )

    def learn(self, chunk: Chunk) -> bool:
        """Make the chunk's terms before it is searched for, about 0.1 ms; False when no more are kept."""
        if len(self._known) >= _KNOWN:
            return False
        self._words((str(chunk.document.corpus), chunk.id), chunk)
        return True

    def _words(self, name: tuple[str, str], chunk: Chunk) -> Words:
        # A chunk's id is its content's: another version of its document has other chunks.
        known = self._known.get(name)
        if known is None:
            known = self._known[name] = words_of(chunk, self.terms)
            if len(self._known) > _KNOWN:
                self._known.popitem(last=False)
        else:
            self._known.move_to_end(name)
        return known
