"""What tests of the answer cache are written in terms of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from anabranch_gateway.application.caching import AnswerCache, CachedAnswer, CacheQuestion, Entry, Lookup
from anabranch_gateway.domain.answers import FinishReason
from anabranch_gateway.domain.caching.features import FEATURES, Source
from anabranch_gateway.domain.caching.shelf import Shelf
from anabranch_gateway.domain.caching.verifier import FORMAT, Verifier, verifier_from


class Noted:
    """The CacheWatcher port, remembering what it was told."""

    def __init__(self) -> None:
        """Nothing was told yet."""
        self.outcomes: Counter[str] = Counter()
        self.checks: Counter[tuple[bool, bool]] = Counter()
        self.forgotten: Counter[str] = Counter()
        self.entries = 0
        self.shares: list[float] = []

    def looked(self, lookup: Lookup, *, seconds: float) -> None:
        """See the port."""
        del seconds
        self.outcomes[lookup.unfit or lookup.outcome] += 1

    def compared(self, *, probe: bool, agreed: bool) -> None:
        """See the port."""
        self.checks[probe, agreed] += 1

    def forgot(self, reason: str, number: int) -> None:
        """See the port."""
        self.forgotten[reason] += number

    def holding(self, entries: int) -> None:
        """See the port."""
        self.entries = entries

    def tightened(self, *, share: float) -> None:
        """See the port."""
        self.shares.append(share)


def source(chunk: str, document: str = "d", version: int = 1, **more: Any) -> Source:
    """A passage that was found."""
    return Source(document_id=document, version=version, chunk_id=chunk, similarity=more.pop("similarity", 0.8), **more)


SOURCES = (source("c1"), source("c2", "e"))


def vector(first: int, second: int = 0) -> bytes:
    """An int8 vector."""
    return bytes([first & 0xFF, second & 0xFF, 0, 0])


def question(text: str, **more: Any) -> CacheQuestion:
    """A question as the cache sees it."""
    given: dict[str, Any] = {
        "tenant": "acme",
        "corpus": "handbook",
        "variant_id": "v-1",
        "sources": SOURCES,
        "vector": vector(127),
    }
    return CacheQuestion(question=text, **given | more)


def answer(text: str, **more: Any) -> CachedAnswer:
    """An answer that may be kept."""
    given: dict[str, Any] = {
        "answer_id": f"a-{text}",
        "citations": (),
        "cited": ("c1",),
        "quotes": (),
        "reason": FinishReason.STOP,
        "abstained": False,
        "backend": "extractive",
        "model": "minilm",
    }
    return CachedAnswer(text=text, **given | more)


def constant(logit: float) -> Verifier:
    """A verifier that is always as sure."""
    leaf: dict[str, Sequence[float]] = {"feature": [0], "threshold": [0.0], "low": [0], "high": [0], "value": [logit]}
    content = {
        "format": FORMAT,
        "features": list(FEATURES),
        "version": "cv-test",
        "depth": 0,
        "scale": 1.0,
        "shift": 0.0,
    }
    return verifier_from({**content, "trees": [leaf]})


def cache(*, taught: int = 60, **more: Any) -> tuple[AnswerCache, Noted]:
    """A cache that is sure of everything and probes nothing, and what it tells. `taught`: comparisons that agreed."""
    noted = Noted()
    given: dict[str, Any] = {
        "shelf": Shelf[Entry](),
        "watcher": noted,
        "verifier": constant(14.0),
        "random": lambda: 0.999,
    }
    made = AnswerCache(**given | more)
    for _ in range(taught):
        made.teach("acme", "handbook", logit=6.0, wrong=False)
    return made, noted
