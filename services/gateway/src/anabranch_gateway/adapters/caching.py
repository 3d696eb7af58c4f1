"""The answer cache's verifier as it is packaged, what retrieval found in the cache's words, and the cache's figures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import timedelta
from functools import cache
from importlib.resources import files
from typing import Final, cast

from anabranch.generation.v1 import generation_service_pb2 as generation
from anabranch.retrieval.v1 import retrieval_service_pb2 as retrieval
from anabranch_gateway.application.caching import AnswerCache, Entry, Lookup
from anabranch_gateway.domain.answers import Citation, Passage
from anabranch_gateway.domain.caching.features import Source
from anabranch_gateway.domain.caching.shelf import Shelf
from anabranch_gateway.domain.caching.verifier import Verifier, verifier_from
from anabranch_gateway.domain.caching.wording import stems
from anabranch_observability import counter, gauge, get_logger, histogram
from anabranch_observability.names import gateway as names

log = get_logger()

_READ: Final = 2  # passages whose words are looked at
_CHARACTERS: Final = 2_000


def answer_cache(
    *,
    entries: int,
    entries_per_tenant: int,
    mebibytes: int,
    lasts: timedelta,
    error_bound: float,
    probe_share: float,
) -> AnswerCache | None:
    """The cache of a process, ready for use; None where nothing is to be kept. A tenant has a quarter of its room."""
    if not entries:
        return None
    room = mebibytes * 1024 * 1024
    shelf = Shelf[Entry](
        entries=entries, room=room, entries_of_tenant=min(entries_per_tenant, entries), room_of_tenant=room // 4
    )
    return AnswerCache(
        shelf=shelf,
        watcher=CacheFigures(),
        verifier=packaged_verifier() if error_bound else None,
        error_bound=error_bound,
        probe_share=probe_share,
        lasts=lasts,
    )


@cache
def packaged_verifier() -> Verifier:
    """The verifier that comes with the gateway."""
    text = (files("anabranch_gateway.adapters") / "verifier" / "verifier.json").read_text(encoding="utf-8")
    return verifier_from(json.loads(text))


def sources_of(passages: Sequence[Passage]) -> tuple[Source, ...]:
    """Passages as retrieval gave them, as the cache compares them."""
    return tuple(
        Source(
            document_id=each.document.document_id,
            version=each.document.version,
            chunk_id=each.chunk_id,
            similarity=_similarity(each),
            sentence=_best(each),
            words=stems(each.text[:_CHARACTERS]) if place < _READ else frozenset(),
        )
        for place, each in enumerate(cast("Sequence[retrieval.Passage]", passages))
    )


def cited_by(citations: Sequence[Citation]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The chunks that an answer cites, and what it quotes of them."""
    found = cast("Sequence[generation.Citation]", citations)
    return tuple(each.chunk_id for each in found), tuple(each.text for each in found if each.text)


class CacheFigures:
    """The CacheWatcher port on metrics and the log."""

    def looked(self, lookup: Lookup, *, seconds: float) -> None:
        """See the port."""
        counter(names.CACHE_LOOKUPS).labels(outcome=lookup.unfit or lookup.outcome).inc()
        histogram(names.CACHE_LOOKUP_SECONDS).observe(seconds)

    def compared(self, *, probe: bool, agreed: bool) -> None:
        """See the port."""
        kind, outcome = "probe" if probe else "miss", "agreed" if agreed else "contradicted"
        counter(names.CACHE_CHECKS).labels(kind=kind, outcome=outcome).inc()

    def forgot(self, reason: str, number: int) -> None:
        """See the port."""
        counter(names.CACHE_FORGOTTEN).labels(reason=reason).inc(number)
        if reason not in ("changed", "expired", "room"):
            log.info(names.Log.CACHE_CLEARED, reason=reason, answers=number)

    def holding(self, entries: int) -> None:
        """See the port."""
        gauge(names.CACHE_ENTRIES).set(entries)

    def tightened(self, *, share: float) -> None:
        """See the port."""
        log.warning(names.Log.CACHE_TIGHTENED, share=share)


def _similarity(passage: retrieval.Passage) -> float:
    known = [each.similarity for each in passage.sentences if each.has_similarity]
    return max(known, default=passage.vector_score)


def _best(passage: retrieval.Passage) -> int:
    known = [(each.similarity, -place) for place, each in enumerate(passage.sentences) if each.has_similarity]
    return -max(known)[1] if known else -1
