"""Between the contract's messages and this package's values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Any, TypeVar

from google.protobuf.timestamp_pb2 import Timestamp

from anabranch.gateway.v1 import events_pb2, gateway_service_pb2
from anabranch.generation.v1 import generation_service_pb2 as generation
from anabranch.ingestion.v1 import events_pb2 as ingestion
from anabranch.retrieval.v1 import retrieval_service_pb2 as retrieval
from anabranch_client import results
from anabranch_client.guards import stage_of, struct_of, verdict_of

E = TypeVar("E", bound=StrEnum)

ROLES = {results.Role.USER: generation.ROLE_USER, results.Role.ASSISTANT: generation.ROLE_ASSISTANT}


def ask_request(
    question: str,
    *,
    corpus: str,
    history: Sequence[results.Turn],
    session_id: str,
    user_id: str,
    filters: Mapping[str, str] | None,
    acl: Sequence[str],
    max_tokens: int,
    variables: Mapping[str, Any] | None,
    response_schema: Mapping[str, Any] | None,
    fresh: bool,
) -> gateway_service_pb2.AskRequest:
    """The request as the contract has it; the gateway validates it."""
    return gateway_service_pb2.AskRequest(
        corpus=corpus,
        question=question,
        history=[generation.Turn(role=ROLES[turn.role], text=turn.text) for turn in history],
        session_id=session_id,
        user_id=user_id,
        filters=filters or {},
        acl=acl,
        max_tokens=max_tokens,
        variables=struct_of(variables),
        response_schema=struct_of(response_schema),
        fresh=fresh,
    )


def put_request(
    document_id: str,
    *,
    corpus: str,
    text: str | None,
    content: bytes | None,
    uri: str | None,
    version: int,
    title: str,
    content_type: str,
    filename: str,
    source_uri: str,
    metadata: Mapping[str, str] | None,
    acl: Sequence[str],
    changed_at: datetime | None,
    idempotency_key: str,
) -> gateway_service_pb2.PutDocumentRequest:
    """The request as the contract has it. Raises TypeError unless exactly one body is given."""
    if sum(body is not None for body in (text, content, uri)) != 1:
        raise TypeError("give exactly one of text, content and uri")
    request = gateway_service_pb2.PutDocumentRequest(
        corpus=corpus,
        document_id=document_id,
        version=version,
        title=title,
        content_type=content_type,
        filename=filename,
        source_uri=source_uri,
        metadata=metadata or {},
        acl=acl,
        changed_at=None if changed_at is None else timestamp(changed_at),
        idempotency_key=idempotency_key,
    )
    if text is not None:
        request.text = text
    elif content is not None:
        request.content = content
    elif uri is not None:
        request.uri = uri
    return request


def timestamp(time: datetime, *, name: str = "changed_at") -> Timestamp:
    """Raises ValueError for a time without a zone: it could mean several instants."""
    if time.tzinfo is None:
        raise ValueError(f"{name} needs a time zone")
    stamp = Timestamp()
    stamp.FromDatetime(time)
    return stamp


def answer(message: gateway_service_pb2.AskResponse) -> results.Answer:
    """A whole answer."""
    return results.Answer(
        answer_id=message.answer_id,
        text=message.text,
        abstained=message.abstained,
        citations=tuple(citation(each) for each in message.citations),
        variant_id=message.variant_id,
        search_query=message.search_query,
        usage=usage(message.usage),
        timings=timings(message.timings),
        finish_reason=finish_reason(message.finish_reason),
        guards=tuple(guard(each) for each in message.guards),
        cached=message.cached,
        cost_micros=message.cost_micros if message.HasField("cost_micros") else None,
    )


def guard(message: gateway_service_pb2.Guard) -> results.Guard:
    """A verdict."""
    return results.Guard(
        verdict=verdict_of(message.verdict),
        check=message.check,
        reason=message.reason,
        stage=stage_of(message.stage),
    )


def ask_event(message: gateway_service_pb2.AskStreamResponse) -> results.AskEvent | None:
    """One event of a streamed answer; None for a kind that a newer gateway has and this client does not."""
    kind = message.WhichOneof("event")
    if kind == "delta":
        return results.Delta(text=message.delta.text)
    if kind == "started":
        return results.Started(answer_id=message.started.answer_id, variant_id=message.started.variant_id)
    if kind == "retrieved":
        return results.Retrieved(
            search_query=message.retrieved.search_query, hits=tuple(hit(each) for each in message.retrieved.hits)
        )
    if kind == "guard":
        return guard(message.guard)
    if kind == "finished":
        finished = message.finished
        return results.Finished(
            usage=usage(finished.usage),
            timings=timings(finished.timings),
            abstained=finished.abstained,
            citations=tuple(citation(each) for each in finished.citations),
            finish_reason=finish_reason(finished.finish_reason),
            cached=finished.cached,
            cost_micros=finished.cost_micros if finished.HasField("cost_micros") else None,
            message=finished.message,
        )
    return None


def citation(message: generation.Citation) -> results.Citation:
    """A span of the answer tied to a span of a document."""
    return results.Citation(
        number=message.number,
        document=document_ref(message.document),
        chunk_id=message.chunk_id,
        text=message.text,
        span=span(message.span),
        answer_span=span(message.answer_span),
        title=message.title,
        source_uri=message.source_uri,
        page=message.page,
        support=message.support,
    )


def hit(message: gateway_service_pb2.Hit) -> results.Hit:
    """A passage that was found."""
    return results.Hit(
        document_id=message.document_id,
        version=message.version,
        chunk_id=message.chunk_id,
        score=message.score,
        text=message.text,
        title=message.title,
        title_path=tuple(message.title_path),
        page=message.page,
        line=message.line,
        source_uri=message.source_uri,
        span=span(message.span),
        metadata=MappingProxyType(dict(message.metadata)),
    )


def search_result(message: gateway_service_pb2.SearchResponse) -> results.SearchResult:
    """Hits, best first."""
    return results.SearchResult(
        hits=tuple(hit(each) for each in message.hits),
        variant_id=message.variant_id,
        index_generation=message.index_generation,
    )


def corpus(message: retrieval.Corpus) -> results.Corpus:
    """What the tenant put under one name."""
    return results.Corpus(
        corpus=message.corpus,
        document_count=message.document_count,
        chunk_count=message.chunk_count,
        index_generation=message.index_generation,
        embedding_version=message.embedding_version,
        changed_at=_time(message.changed_at) if message.HasField("changed_at") else None,
    )


def document(message: gateway_service_pb2.GetDocumentResponse) -> results.Document:
    """Status and lineage."""
    source = message.provenance
    return results.Document(
        status=document_status(message.status),
        title=message.title,
        provenance=results.Provenance(
            source_uri=source.source_uri,
            content_sha256=source.content_sha256,
            fingerprint=source.fingerprint,
            content_type=source.content_type,
            parser=source.parser,
            chunker=source.chunker,
            changed_at=_time(source.changed_at) if source.HasField("changed_at") else None,
        ),
        metadata=MappingProxyType(dict(message.metadata)),
    )


def document_status(message: ingestion.DocumentStatusChanged) -> results.DocumentStatus:
    """Where a document stands."""
    state = _name(ingestion.DocumentState, message.state, "DOCUMENT_STATE_")
    return results.DocumentStatus(
        document=document_ref(message.document),
        state=_member(results.DocumentState, state, results.DocumentState.UNSPECIFIED),
        caused_by=message.caused_by,
        rejection=results.Rejection(
            reason=_name(ingestion.RejectionReason, message.rejection.reason, "REJECTION_REASON_"),
            detail=message.rejection.detail,
            field=message.rejection.field,
        )
        if message.HasField("rejection")
        else None,
        index_generation=message.index_generation,
        chunk_count=message.chunk_count,
        at=_time(message.at) if message.HasField("at") else None,
    )


def document_ref(message: ingestion.DocumentRef) -> results.DocumentRef:
    """Without the tenant: it is the key's."""
    return results.DocumentRef(corpus=message.corpus, document_id=message.document_id, version=message.version)


def span(message: ingestion.Span) -> results.Span:
    """A range of code points."""
    return results.Span(start=message.start, end=message.end)


def usage(message: generation.Usage) -> results.Usage:
    """Tokens."""
    return results.Usage(prompt_tokens=message.prompt_tokens, completion_tokens=message.completion_tokens)


def timings(message: events_pb2.Timings) -> results.Timings:
    """Durations; what did not happen took no time."""
    return results.Timings(
        condense=message.condense.ToTimedelta(),
        embed=message.embed.ToTimedelta(),
        search=message.search.ToTimedelta(),
        generate=message.generate.ToTimedelta(),
        first_token=message.first_token.ToTimedelta(),
        total=message.total.ToTimedelta(),
        guard_input=message.guard_input.ToTimedelta(),
        guard_output=message.guard_output.ToTimedelta(),
    )


def finish_reason(value: generation.FinishReason.ValueType) -> results.FinishReason:
    """By name."""
    name = _name(generation.FinishReason, value, "FINISH_REASON_")
    return _member(results.FinishReason, name, results.FinishReason.UNSPECIFIED)


def _time(stamp: Timestamp) -> datetime:
    return stamp.ToDatetime(tzinfo=UTC)


def _name(enum: type, value: int, prefix: str) -> str:
    descriptor = enum.DESCRIPTOR.values_by_number.get(value)  # type: ignore[attr-defined]  # generated wrappers have it
    return descriptor.name.removeprefix(prefix) if descriptor else "UNSPECIFIED"


def _member(enum: type[E], name: str, unknown: E) -> E:
    return enum.__members__.get(name, unknown)
