"""The composition root: the one place that names concrete classes."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Final

from grpc import StatusCode

from anabranch_bus import Bus, new_id
from anabranch_faults import Transient
from anabranch_gateway.adapters.answers import BusAnswerRecord
from anabranch_gateway.adapters.caching import answer_cache, cited_by, sources_of
from anabranch_gateway.adapters.documents import BusDocumentChanges
from anabranch_gateway.adapters.feedback import GrpcFeedbacks
from anabranch_gateway.adapters.generation import GrpcGenerator
from anabranch_gateway.adapters.guardrails import GrpcGuards
from anabranch_gateway.adapters.ingestion import GrpcDocuments
from anabranch_gateway.adapters.key_file import KeyFile
from anabranch_gateway.adapters.keys import SqlKeys
from anabranch_gateway.adapters.prices import prices_with
from anabranch_gateway.adapters.retrieval import GrpcRetriever
from anabranch_gateway.adapters.sessions import SqlSessions
from anabranch_gateway.adapters.spending import build as spending_of
from anabranch_gateway.adapters.usage import BusUsageRecord
from anabranch_gateway.application.admin import AdministerKeys
from anabranch_gateway.application.ask import (
    AskQuestion,
    Conversation,
    Finding,
    Guarding,
    Keeping,
    Paying,
    Reusing,
    Writing,
)
from anabranch_gateway.application.authenticate import Authenticate
from anabranch_gateway.application.documents import ChangeDocuments, FollowDocuments, SearchCorpus
from anabranch_gateway.application.feedback import GiveFeedback
from anabranch_gateway.application.gate import Gate
from anabranch_gateway.application.guarding import CheckText
from anabranch_gateway.application.metering import Meter
from anabranch_gateway.application.spending import OnFailure
from anabranch_gateway.domain.costs import Rates
from anabranch_gateway.domain.feedback import TooOften
from anabranch_gateway.domain.guards import Stage
from anabranch_gateway.domain.routing import Routing
from anabranch_gateway.domain.spending import Spent
from anabranch_gateway.entrypoints import changes, http, kafka, prices, quotas, rpc
from anabranch_gateway.settings import Settings, StoredSettings
from anabranch_observability import counter, get_logger
from anabranch_observability.names import gateway as names
from anabranch_rpc import connect
from anabranch_runtime import Http, Service
from anabranch_store import Database

log = get_logger()

PUT_BYTES: Final = 24 * 1024 * 1024
SWEEP_EVERY: Final = timedelta(minutes=1)
FLUSH: Final = timedelta(milliseconds=1_800)  # the runtime gives a draining step two seconds


def database_of(settings: StoredSettings) -> Database:
    """Keys and sessions."""
    return Database(settings.database_url, schema="gateway", migrations="anabranch_gateway.adapters.migrations")


def build(settings: Settings, *, bus: Bus) -> Service:
    """The gateway, wired and not started."""
    database = database_of(settings)
    keys = SqlKeys(database)
    sessions = SqlSessions(
        database,
        turns=settings.session_turns,
        per_tenant=settings.sessions_per_tenant,
        lasts=settings.session_lasts,
    )
    targets = {settings.retrieval, settings.generation, settings.ingestion, settings.feedback}
    channels = {target: connect(target) for target in targets | ({settings.guardrails} - {""})}
    cache = answer_cache(
        entries=settings.cache_entries,
        entries_per_tenant=settings.cache_entries_per_tenant,
        mebibytes=settings.cache_mebibytes,
        lasts=settings.cache_lasts,
        error_bound=settings.cache_error_bound,
        probe_share=settings.cache_probe_share,
    )
    reusing: Reusing | None = None
    if cache is not None:
        changes.register(bus, cache)
        reusing = Reusing(cache=cache, sources=sources_of, cited=cited_by)
    rates = Rates()
    prices.register(bus, rates)
    usages = BusUsageRecord(bus, capacity=settings.usages_waiting)
    spending = spending_of(
        database=database,
        bus=bus,
        redis=settings.redis,
        redis_password_file=settings.redis_password_file,
        on_failure=OnFailure(settings.quota_on_failure),
        patience=settings.quota_patience,
        lease=settings.quota_lease,
    )
    quotas.register(bus, spending.quotas)
    retriever = GrpcRetriever(
        channels[settings.retrieval], query_vectors=cache is not None and cache.verifier is not None
    )
    record = BusAnswerRecord(bus, capacity=settings.answers_waiting)
    gate = Gate(limit=settings.questions_at_once, per_tenant=settings.questions_at_once_per_tenant)
    watches = Gate(limit=settings.watches_at_once, per_tenant=settings.watches_at_once_per_tenant, what="watches")
    routing = Routing(salt=settings.assignment_salt)
    kafka.register(bus, routing)
    generator = GrpcGenerator(channels[settings.generation])
    guards: GrpcGuards | None = None
    guarding: Guarding | None = None
    if settings.guardrails:
        guards = GrpcGuards(channels[settings.guardrails], patience=settings.guards_patience)
        goes_on = settings.guards_on_failure == "open"
        guarding = Guarding(guards=guards, failed=_unguarded, open=goes_on, patience=settings.guards_patience)
    texts = Gate(limit=settings.texts_at_once, per_tenant=settings.texts_at_once_per_tenant, what="texts")
    ask = AskQuestion(
        routing=routing,
        gate=gate,
        new_id=new_id,
        conversation=Conversation(sessions=sessions, generator=generator),
        finding=Finding(retriever=retriever, unrecorded=settings.unrecorded, exploration=settings.exploration),
        guarding=guarding,
        reusing=reusing,
        paying=Paying(purse=spending.purse, meters=Meter(prices=prices_with(rates), usages=usages), plans=generator),
        writing=Writing(generator=generator, guarding=guarding),
        keeping=Keeping(record=record, unrecorded=settings.unrecorded),
    )
    search = SearchCorpus(routing=routing, retriever=retriever, gate=gate)
    authenticate = Authenticate(keys, remember=settings.key_memory)

    async def first_key() -> None:
        async with database.exclusive("first_key"):
            file = KeyFile(settings.first_key_file)
            if (key := await AdministerKeys(keys).first(settings.tenant, file)) is not None:
                log.info(names.Log.KEY_CREATED, key_id=key.key_id, tenant=key.tenant, file=str(file.path))
            elif not await file.read():
                advice = "the tenant has keys, but none is in this file: python -m anabranch_gateway key create"
                log.warning(names.Log.KEY_FILE_MISSING, tenant=settings.tenant, file=str(file.path), advice=advice)

    async def disconnect() -> None:
        await asyncio.gather(*(channel.close() for channel in channels.values()))

    async def flush() -> None:
        await asyncio.gather(record.flush(FLUSH), usages.flush(FLUSH), spending.flush(FLUSH))

    async def sweep() -> None:
        await sweep_sessions(sessions)

    return Service(
        name="gateway",
        bus=bus,
        rpc=rpc.servicers(
            ask=ask,
            search=search,
            change=ChangeDocuments(changes=BusDocumentChanges(bus)),
            follow=FollowDocuments(documents=GrpcDocuments(channels[settings.ingestion]), gate=watches),
            feedback=GiveFeedback(feedbacks=GrpcFeedbacks(channels[settings.feedback])),
            check=CheckText(guards=guards, gate=texts, new_id=new_id) if guards is not None else None,
        ),
        errors={TooOften: StatusCode.RESOURCE_EXHAUSTED, Spent: StatusCode.RESOURCE_EXHAUSTED},
        http=Http(
            app=http.application(
                ask=ask,
                search=search,
                authenticate=authenticate,
                limits=http.Limits(body_bytes=settings.http_body_bytes, deadline=settings.deadline),
            ),
            listen=settings.http_listen,
        ),
        authenticate=rpc.Credentials(authenticate),
        default_deadline=settings.deadline,
        larger_messages={"PutDocument": PUT_BYTES},
        starting=[database.migrate, first_key],
        background=[record.run, usages.run, spending.run, sweep],
        ready=[lambda: None if len(routing) else "no route is known: has the registry published one?"],
        draining=[flush],
        closing=[database.close, spending.close, disconnect],
    )


def _unguarded(stage: Stage, fault: Exception, passed: bool) -> None:  # noqa: FBT001  the port's signature
    then = "open" if passed else "closed"
    counter(names.GUARDS_FAILED).labels(stage=stage.name.lower(), then=then).inc()
    log.warning(names.Log.GUARDS_FAILED, stage=stage.name.lower(), then=then, problem=str(fault))


async def sweep_sessions(sessions: SqlSessions, *, every: timedelta = SWEEP_EVERY) -> None:
    """Drops expired sessions for ever; what a database that is away keeps is dropped later."""
    while True:
        await asyncio.sleep(every.total_seconds())
        try:
            dropped = await sessions.sweep()
        except Transient as fault:
            log.warning(names.Log.SWEEP_FAILED, problem=str(fault))
            continue
        if dropped:
            counter(names.SESSIONS_SWEPT).inc(dropped)
            log.info(names.Log.SESSIONS_SWEPT, sessions=dropped)
