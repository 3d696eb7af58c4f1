"""Between the contract's messages and the domain."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from google.protobuf.json_format import MessageToDict
from google.protobuf.struct_pb2 import Struct

from anabranch.generation.v1 import generation_service_pb2 as pb
from anabranch.ingestion.v1 import events_pb2 as ingestion
from anabranch.retrieval.v1 import retrieval_service_pb2 as retrieval
from anabranch_generation.domain import (
    Cascade,
    Citation,
    Delta,
    DocumentRef,
    Event,
    Finished,
    FinishReason,
    ModelCall,
    Passage,
    Prompt,
    Request,
    Role,
    Sentence,
    Settings,
    Trace,
    Turn,
)

_REASONS: Final[Mapping[FinishReason, pb.FinishReason.ValueType]] = {
    FinishReason.STOP: pb.FINISH_REASON_STOP,
    FinishReason.LENGTH: pb.FINISH_REASON_LENGTH,
    FinishReason.ABSTAINED: pb.FINISH_REASON_ABSTAINED,
    FinishReason.TIMEOUT: pb.FINISH_REASON_TIMEOUT,
    FinishReason.BLOCKED: pb.FINISH_REASON_BLOCKED,
}


def request_from(message: pb.GenerateRequest) -> Request:
    """Raises Invalid with the field at fault."""
    return Request(
        question=message.question,
        passages=tuple(passage_from(p) for p in message.passages),
        settings=settings_from(message.settings),
        history=turns_from(message.history),
        variables=struct_from(message.variables),
        canary=message.canary,
        mark_passages=message.mark_passages,
        response_schema=struct_from(message.response_schema) if message.HasField("response_schema") else None,
    )


def struct_from(message: Struct) -> dict[str, Any]:
    """A struct as JSON values."""
    return MessageToDict(message)


def passage_from(message: retrieval.Passage) -> Passage:
    """Raises Invalid when sentences lie outside the text."""
    return Passage(
        text=message.text,
        document=DocumentRef(
            tenant=message.document.tenant,
            corpus=message.document.corpus,
            document_id=message.document.document_id,
            version=message.document.version,
        ),
        chunk_id=message.chunk_id,
        start=message.span.start,
        title=message.title,
        title_path=tuple(message.title_path),
        page=message.page,
        source_uri=message.source_uri,
        score=message.score,
        vector_score=message.vector_score,
        keyword_score=message.keyword_score,
        sentences=tuple(
            Sentence(s.span.start, s.span.end, s.similarity if s.has_similarity else None) for s in message.sentences
        ),
    )


def settings_from(message: pb.GenerationSettings) -> Settings:
    """Raises Invalid with the field at fault."""
    return Settings(
        backend=message.backend,
        model=message.model,
        adapter=message.adapter,
        max_tokens=message.max_tokens,
        temperature=message.temperature,
        stop=tuple(message.stop),
        seed=message.seed,
        context_tokens=message.context_tokens,
        max_sentences=message.max_sentences,
        abstain_below=message.abstain_below,
        prompt=Prompt(version=message.prompt.version, system=message.prompt.system, template=message.prompt.template),
        prompt_ref=message.prompt_ref,
        cascade=_cascade(message.cascade) if message.HasField("cascade") else None,
    )


def _cascade(message: pb.Cascade) -> Cascade:
    return Cascade(
        backend=message.backend,
        model=message.model,
        skip_above=message.skip_above,
        escalate_below=message.escalate_below,
        explore=message.explore,
    )


def turns_from(messages: Iterable[pb.Turn]) -> tuple[Turn, ...]:
    """A turn whose role is not said is the user's."""
    return tuple(Turn(Role.ASSISTANT if turn.role == pb.ROLE_ASSISTANT else Role.USER, turn.text) for turn in messages)


def response_of(event: Event) -> pb.GenerateResponse:
    """One event of the stream."""
    if isinstance(event, Delta):
        return pb.GenerateResponse(delta=event.text)
    if isinstance(event, Finished):
        return pb.GenerateResponse(generated=_generated(event))
    return pb.GenerateResponse(citation=_citation(event))


def _citation(citation: Citation) -> pb.Citation:
    passage = citation.passage
    return pb.Citation(
        number=citation.number,
        document=ingestion.DocumentRef(
            tenant=passage.document.tenant,
            corpus=passage.document.corpus,
            document_id=passage.document.document_id,
            version=passage.document.version,
        ),
        chunk_id=passage.chunk_id,
        text=citation.text,
        span=ingestion.Span(start=citation.span.start, end=citation.span.end),
        answer_span=ingestion.Span(start=citation.answer_span.start, end=citation.answer_span.end),
        title=passage.title,
        source_uri=passage.source_uri,
        page=passage.page,
        support=citation.support,
    )


def _generated(finished: Finished) -> pb.Generated:
    message = pb.Generated(
        reason=_REASONS[finished.reason],
        usage=pb.Usage(prompt_tokens=finished.usage.prompt_tokens, completion_tokens=finished.usage.completion_tokens),
        abstained=finished.abstained,
        support=finished.support,
        backend=finished.backend,
        model=finished.model,
        prompt_version=finished.prompt_version,
        calls=[call_of(call) for call in finished.calls],
    )
    if finished.trace is not None:
        message.cascade.CopyFrom(_trace(finished.trace))
    if finished.time_to_first_token is not None:
        message.time_to_first_token.FromTimedelta(finished.time_to_first_token)
    return message


def call_of(call: ModelCall) -> pb.ModelCall:
    """A call of a model."""
    usage = pb.Usage(prompt_tokens=call.usage.prompt_tokens, completion_tokens=call.usage.completion_tokens)
    return pb.ModelCall(backend=call.backend, model=call.model, usage=usage, draft=call.draft)


def _trace(trace: Trace) -> pb.CascadeTrace:
    return pb.CascadeTrace(
        difficulty=trace.difficulty,
        draft_support=trace.draft_support,
        strong=trace.strong,
        explored=trace.explored,
    )
