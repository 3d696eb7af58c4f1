"""The composition root: the one place that names concrete classes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

from grpc import StatusCode

from anabranch_bus import Bus
from anabranch_faults import Transient
from anabranch_feedback.adapters.redaction import PatternRedactor
from anabranch_feedback.adapters.store.ledger import SqlLedger
from anabranch_feedback.adapters.store.shelf import SqlShelf
from anabranch_feedback.adapters.telemetry import Telemetry
from anabranch_feedback.application.answering import Joiner, LookAfter, RecordAnswers
from anabranch_feedback.application.erasing import EraseUser
from anabranch_feedback.application.ports import Clock
from anabranch_feedback.application.reading import Read
from anabranch_feedback.application.reviewing import GetAgreement, SubmitReview
from anabranch_feedback.application.sampling import Sampler, SampleScored
from anabranch_feedback.application.taking import Rules, TakeFeedback
from anabranch_feedback.domain.limits import RateLimit
from anabranch_feedback.domain.sampling import Bars, Shares
from anabranch_feedback.entrypoints import kafka, rpc
from anabranch_feedback.messages import CODEC
from anabranch_feedback.settings import Settings
from anabranch_observability import get_logger
from anabranch_observability.names import feedback as names
from anabranch_runtime import Service
from anabranch_store import Database, OutboxRelay

__all__ = ["build", "database_of"]

log = get_logger()

_FORGET = timedelta(hours=1)


def database_of(url: str) -> Database:
    """Return the service's database at `url`."""
    return Database(url, schema="feedback", migrations="anabranch_feedback.adapters.migrations")


def build(settings: Settings, *, bus: Bus, clock: Clock | None = None) -> Service:
    """Wire the service; start nothing. `clock` replaces the wall's, in tests."""
    now = clock or _now
    telemetry = Telemetry()
    database = database_of(settings.database_url)
    ledger = SqlLedger(database, encode=kafka.encoded)
    shelf = SqlShelf(database)
    relay = OutboxRelay(database, bus.publish_encoded)
    shares = Shares(
        random=settings.review_random,
        thumb_down=settings.review_thumb_down,
        abstained=settings.review_abstained,
        low_score=settings.review_low_score,
        disagreement=settings.review_disagreement,
    )
    bars = Bars(
        scores=dict.fromkeys(settings.review_scores, settings.review_low_score_below),
        agreement=settings.review_agreement_below,
    )
    sampler = Sampler(shares)
    joiner = Joiner(codec=CODEC, log=telemetry, sampler=sampler)
    take = TakeFeedback(
        ledger=ledger,
        redactor=PatternRedactor(phone_region=settings.phone_region),
        codec=CODEC,
        limit=RateLimit(per_minute=settings.rate, burst=settings.burst),
        clock=now,
        log=telemetry,
        rules=Rules(
            tenants=None if "*" in settings.tenants else frozenset(settings.tenants),
            grace=settings.grace,
        ),
        sampler=sampler,
    )
    upkeep = LookAfter(
        ledger=ledger,
        joiner=joiner,
        clock=now,
        log=telemetry,
        wait=settings.wait,
        keep=settings.keep,
        keep_answers=settings.keep_answers,
    )
    kafka.register(
        bus,
        take=take,
        record_answers=RecordAnswers(ledger=ledger, joiner=joiner, clock=now, sampler=sampler),
        sample_scored=SampleScored(ledger=ledger, clock=now, shares=shares, bars=bars),
        max_records=settings.max_records,
    )
    use = rpc.UseCases(
        take=take,
        read=Read(shelf),
        erase=EraseUser(ledger=ledger, codec=CODEC, clock=now),
        submit=SubmitReview(shelf=shelf, take=take),
        agreement=GetAgreement(shelf=shelf, codec=CODEC),
        raters=settings.review_raters,
    )
    return Service(
        name="feedback",
        bus=bus,
        rpc=[rpc.servicer(use)],
        errors={rpc.RateLimited: StatusCode.RESOURCE_EXHAUSTED},
        starting=[database.migrate],
        background=[relay.run, _every(settings.sweep, upkeep.sweep), _every(_FORGET, upkeep.forget)],
        closing=[database.close],
    )


def _now() -> datetime:
    return datetime.now(UTC)


def _every(period: timedelta, work: Callable[[], Awaitable[object]]) -> Callable[[], Awaitable[None]]:
    """Runs it now and then; an outage is waited out, and said once each time."""

    async def run() -> None:
        while True:
            try:
                await work()
            except Transient as fault:
                log.warning(names.Log.UPKEEP_FAILED, problem=str(fault))
            await asyncio.sleep(period.total_seconds())

    return run
