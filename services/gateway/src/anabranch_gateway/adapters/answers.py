"""The record of served answers, over the bus, behind the caller's back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, cast

from google.protobuf.duration_pb2 import Duration

from anabranch import topics
from anabranch.gateway.v1 import events_pb2 as pb
from anabranch.generation.v1 import generation_service_pb2 as generation
from anabranch.guardrails.v1 import events_pb2 as guardrails
from anabranch.retrieval.v1 import retrieval_service_pb2 as retrieval
from anabranch_bus import Bus, Encoded, Event, Outgoing
from anabranch_gateway.adapters.structs import struct_of
from anabranch_gateway.domain.answers import Served, Timings
from anabranch_observability import counter, gauge, get_logger, histogram, traceparent
from anabranch_observability.names import gateway as names

log = get_logger()

BATCH: Final = 64
# What the broker adds around a value must still fit the topic's limit.
ENVELOPE_BYTES: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class _Waiting:
    served: Served
    trace: str | None


class BusAnswerRecord:
    """gateway.answer.served, as the AnswerRecord port.

    Records wait in memory, at most `capacity` of them, and are published in batches by `run`, each record at the latest
    after `linger` (one by one they cost the broker more than the answers cost us); a broker that is away is tried again
    until it is back. When the queue is full a new record waits up to `patience` for room, which slows answers down a
    little; then it is given up and counted, because an answer matters more than its record.
    """

    def __init__(
        self,
        bus: Bus,
        *,
        capacity: int = 1_000,
        patience: timedelta = timedelta(milliseconds=100),
        linger: timedelta = timedelta(milliseconds=100),
    ) -> None:
        """Takes the bus and the bounds."""
        self._patience = patience
        self._waiting = Outgoing(
            bus.publish_encoded, encode=_encoded, watcher=_Watcher(), capacity=capacity, batch=BATCH, linger=linger
        )

    @property
    def waiting(self) -> int:
        """How many records are not yet acknowledged."""
        return self._waiting.waiting

    async def add(self, served: Served) -> None:
        """See the port."""
        _measure(served)
        record = [_Waiting(served, traceparent())]
        if self._waiting.add(record):
            return
        await self._waiting.moved(self._patience)
        if not self._waiting.add(record):
            _lost("full", 1)

    async def run(self) -> None:
        """Publishes what comes in, until it is cancelled."""
        await self._waiting.run()

    async def flush(self, limit: timedelta) -> None:
        """Waits until `run` has published everything; what cannot go within `limit` is given up and counted."""
        await self._waiting.flush(limit)


class _Watcher:
    def lost(self, reason: str, items: Sequence[_Waiting], *, problem: str = "") -> None:
        _lost(reason, len(items), problem=problem)

    def delayed(self, waiting: int, *, problem: str) -> None:
        log.warning(names.Log.RECORDS_DELAYED, records=waiting, problem=problem)

    def held(self, waiting: int) -> None:
        gauge(names.ANSWERS_WAITING).set(waiting)


def _measure(served: Served) -> None:
    counter(names.ANSWERS).labels(reason=served.finished.reason.name.lower(), backend=served.backend).inc()
    timings, seconds = served.finished.timings, histogram(names.ANSWER_SECONDS)
    for stage in ("condense", "embed", "search", "generate", "first_token", "total", "guard_input", "guard_output"):
        if took := getattr(timings, stage):
            seconds.labels(stage=stage).observe(took.total_seconds())


def _lost(reason: str, number: int, *, problem: str = "") -> None:
    if number:
        counter(names.ANSWERS_UNRECORDED).labels(reason=reason).inc(number)
        log.error(names.Log.RECORDS_LOST, reason=reason, records=number, problem=problem)


def _encoded(waiting: _Waiting) -> Encoded | None:
    served = waiting.served
    topic = topics.GATEWAY_ANSWER_SERVED
    event = Event(
        topic=topic,
        message=event_from(served),
        key=f"{served.tenant}/{served.answer_id}",
        event_id=served.answer_id,
        time=served.served_at,
        headers={"traceparent": waiting.trace} if waiting.trace else {},
    )
    encoded = event.encode()
    if len(encoded.value) > topic.max_message_bytes - ENVELOPE_BYTES:
        _lost("too_large", 1)
        return None
    return encoded


def event_from(served: Served) -> pb.AnswerServed:
    """The event, with or without content. A passage keeps its ids, spans and scores in either case."""
    passages = cast("Sequence[retrieval.Passage]", served.found.passages)
    citations = cast("Sequence[generation.Citation]", served.finished.citations)
    choice = served.choice
    event = pb.AnswerServed(
        answer_id=served.answer_id,
        tenant=served.tenant,
        corpus=served.corpus,
        key_id=served.key_id,
        user_id=served.user_id,
        session_id=served.session_id,
        variant_id=choice.variant.variant_id,
        routing_scope=choice.scope,
        routing_revision=choice.revision,
        experiment_id=choice.experiment_id,
        arm=choice.arm,
        assignment_unit=pb.AssignmentUnit.ValueType(choice.unit),
        prompt_version=served.prompt_version or choice.variant.prompt_version,
        policy_version=served.policy_version or choice.variant.policy_version,
        adapter=choice.variant.adapter,
        reranker_version=served.found.reranker_version,
        feature_set=served.found.feature_set,
        ranks_randomised=served.ranks_randomised,
        index_generation=served.found.index_generation,
        embedding_version=served.found.embedding_version,
        has_content=served.has_content,
        question=served.question,
        search_query=served.search_query,
        passages=passages,
        answer=served.answer,
        citations=citations,
        abstained=served.finished.abstained,
        finish_reason=generation.FinishReason.ValueType(served.finished.reason),
        usage=generation.Usage(
            prompt_tokens=served.finished.usage.prompt_tokens,
            completion_tokens=served.finished.usage.completion_tokens,
        ),
        timings=_timings(served.finished.timings),
        backend=served.backend,
        model=served.model,
        history=[generation.Turn(role=generation.Role.ValueType(turn.role), text=turn.text) for turn in served.history],
        guards=cast("Sequence[guardrails.CheckResult]", [each.detail for each in served.guards]),
        escalated=served.escalated,
        cached_from=served.cached_from,
        cost_micros=served.finished.cost_micros,
        cascade=cast("generation.CascadeTrace | None", served.cascade),
    )
    if served.variables:
        event.variables.CopyFrom(struct_of(served.variables))
    event.served_at.FromDatetime(served.served_at)
    if not served.has_content:
        for passage in event.passages:
            for field in ("text", "title", "title_path", "metadata"):
                passage.ClearField(field)
        for citation in event.citations:
            citation.ClearField("text")
            citation.ClearField("title")
        for guard in event.guards:
            guard.ClearField("reason")
    return event


def _timings(timings: Timings) -> pb.Timings:
    return pb.Timings(
        condense=_duration(timings.condense),
        embed=_duration(timings.embed),
        search=_duration(timings.search),
        generate=_duration(timings.generate),
        first_token=_duration(timings.first_token),
        total=_duration(timings.total),
        guard_input=_duration(timings.guard_input),
        guard_output=_duration(timings.guard_output),
    )


def _duration(value: timedelta) -> Duration:
    return Duration(seconds=value.days * 86_400 + value.seconds, nanos=value.microseconds * 1_000)
