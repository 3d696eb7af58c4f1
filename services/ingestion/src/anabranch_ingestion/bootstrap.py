"""Ingestion, wired: the one file that names concrete classes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

from anabranch.ingestion.v1.ingestion_service_pb2_grpc import add_IngestionServiceServicer_to_server
from anabranch_bus import Bus
from anabranch_faults import Transient
from anabranch_ingestion.adapters.guardrails import GrpcGuards
from anabranch_ingestion.adapters.isolation.pool import PoolLimits, WorkerPool
from anabranch_ingestion.adapters.parsing.reading import ReadLimits
from anabranch_ingestion.adapters.reader import IsolatedReader
from anabranch_ingestion.adapters.sources import AllowedSources
from anabranch_ingestion.adapters.store.documents import SqlDocuments
from anabranch_ingestion.adapters.store.watching import StatusWatch
from anabranch_ingestion.adapters.telemetry import Telemetry
from anabranch_ingestion.adapters.tokens import MiniLmTokens
from anabranch_ingestion.application.answers import LookAfter, RecordDead, RecordIndexed
from anabranch_ingestion.application.bodies import Limits, ReadBodies
from anabranch_ingestion.application.changes import IngestChanges
from anabranch_ingestion.application.checking import CheckDocuments
from anabranch_ingestion.application.ports import Reader
from anabranch_ingestion.domain.chunking import Window
from anabranch_ingestion.entrypoints import kafka, rpc
from anabranch_ingestion.settings import Settings
from anabranch_observability import get_logger
from anabranch_observability.names import ingestion as names
from anabranch_rpc import Servicer, connect
from anabranch_runtime import Service
from anabranch_store import Database, OutboxRelay

log = get_logger()

_RESUME = timedelta(seconds=5)
_OVERDUE = timedelta(seconds=15)
_FORGET = timedelta(hours=1)


def build(settings: Settings, *, bus: Bus, reader: Reader | None = None) -> Service:
    """The service, not yet started. `reader` replaces the worker processes, in tests."""
    telemetry = Telemetry()
    database = Database(settings.database_url, schema="ingestion", migrations="anabranch_ingestion.adapters.migrations")
    relay = OutboxRelay(database, bus.publish_encoded)
    documents = SqlDocuments(database)
    watching = StatusWatch(database)
    window = Window()
    read_limits = ReadLimits(text_bytes=settings.text_bytes)
    pool = WorkerPool(
        PoolLimits(
            workers=settings.workers,
            spare=settings.spare_workers,
            time=settings.parse_time,
            memory_bytes=settings.parse_memory_bytes,
        ),
        read_limits,
        window,
        told=telemetry.worker,
    )
    channel = connect(settings.guardrails) if settings.guardrails else None
    check: CheckDocuments | None = None
    if channel is not None:
        guards = GrpcGuards(channel, patience=settings.guards_patience)
        check = CheckDocuments(guards=guards, log=telemetry, open=settings.guards_on_failure == "open")

    async def disconnect() -> None:
        if channel is not None:
            await channel.close()

    ingest = IngestChanges(
        documents=documents,
        bodies=ReadBodies(
            reader=reader or IsolatedReader(pool, limits=read_limits, window=window),
            sources=AllowedSources(settings.uri_roots, limit=settings.body_bytes),
            clock=_now,
            limits=Limits(
                body_bytes=settings.body_bytes,
                slow=settings.slow_after,
                slow_at_once=settings.workers + settings.spare_workers,
                overdue=settings.overdue_after,
            ),
            check=check,
        ),
        clock=_now,
        log=telemetry,
        tenants=None if "*" in settings.tenants else frozenset(settings.tenants),
    )
    upkeep = LookAfter(
        documents=documents,
        clock=_now,
        log=telemetry,
        overdue_after=settings.overdue_after,
        keep=settings.keep,
    )
    kafka.register(
        bus,
        ingest=ingest,
        record_indexed=RecordIndexed(documents=documents, clock=_now, log=telemetry),
        record_dead=RecordDead(documents=documents, clock=_now, log=telemetry),
        max_records=settings.max_records,
    )
    own_reader = reader is None
    return Service(
        name="ingestion",
        bus=bus,
        rpc=[Servicer(rpc.IngestionServicer(documents, watching), add_IngestionServiceServicer_to_server, rpc.SERVICE)],
        starting=[_together(database.migrate, _load_tokenizer, *([pool.start] if own_reader else []))],
        background=[
            relay.run,
            _every(_RESUME, ingest.resume),
            _every(_OVERDUE, upkeep.find_overdue),
            _every(_FORGET, upkeep.forget),
        ],
        ready=[pool.ready] if own_reader else [],
        closing=[database.close, watching.close, pool.close, disconnect, ingest.close],
    )


def _now() -> datetime:
    return datetime.now(UTC)


async def _load_tokenizer() -> None:
    await asyncio.to_thread(MiniLmTokens.load)


def _together(*steps: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
    """Steps that wait for different things."""

    async def run() -> None:
        await asyncio.gather(*(step() for step in steps))

    return run


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
