"""Between the public contract's messages and the domain's values."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, cast

from google.protobuf.duration_pb2 import Duration
from google.protobuf.struct_pb2 import Struct, Value
from google.protobuf.timestamp_pb2 import Timestamp

from anabranch.gateway.v1 import events_pb2
from anabranch.gateway.v1 import gateway_service_pb2 as pb
from anabranch.generation.v1 import generation_service_pb2 as generation
from anabranch.guardrails.v1 import events_pb2 as guardrails
from anabranch.retrieval.v1 import retrieval_service_pb2 as retrieval
from anabranch_faults import Invalid, TooLarge
from anabranch_gateway.domain import names
from anabranch_gateway.domain.answers import Answer, AskEvent, Delta, Finished, Passage, Retrieved, Started, Timings
from anabranch_gateway.domain.answers import Usage as Tokens
from anabranch_gateway.domain.documents import Body, Content, DeleteDocument, PutDocument, Text, Uri
from anabranch_gateway.domain.feedback import Feedback, Given, Opinion
from anabranch_gateway.domain.guards import Checked, Guard, Stage, TextToCheck
from anabranch_gateway.domain.questions import DEFAULT_HITS, Query, Question, Role, Turn

# Up to here every whole number is itself as a double.
_EXACT: Final = 2**53


def question_from(message: pb.AskRequest) -> Question:
    """What is asked. Raises Invalid with the field at fault."""
    return Question(
        corpus=message.corpus,
        question=message.question,
        history=[Turn(role=_role(turn.role), text=turn.text) for turn in message.history],
        session_id=message.session_id,
        user_id=message.user_id,
        filters=dict(message.filters),
        acl=tuple(message.acl),
        max_tokens=message.max_tokens,
        variables=_document(message.variables, field="variables"),
        response_schema=_document(message.response_schema, field="response_schema")
        if message.HasField("response_schema")
        else None,
        fresh=message.fresh,
    )


def query_from(message: pb.SearchRequest) -> Query:
    """What is searched for. Raises Invalid with the field at fault."""
    return Query(
        corpus=message.corpus,
        query=message.query,
        limit=message.limit or DEFAULT_HITS,
        filters=dict(message.filters),
        acl=tuple(message.acl),
        user_id=message.user_id,
    )


def text_from(message: pb.CheckTextRequest) -> TextToCheck:
    """The text to check. Raises Invalid with the field at fault."""
    schema = message.response_schema if message.HasField("response_schema") else None
    return TextToCheck(
        stage=_stage(message.stage),
        text=message.text,
        corpus=message.corpus,
        question=message.question,
        turns=tuple(message.turns),
        passages=tuple(message.passages),
        response_schema=None if schema is None else _document(schema, field="response_schema"),
    )


def checked_to(checked: Checked) -> pb.CheckTextResponse:
    """What the policy says."""
    return pb.CheckTextResponse(
        verdict=guardrails.Verdict.ValueType(checked.verdict),
        results=[cast("guardrails.CheckResult", each.detail) for each in checked.results],
        text="" if checked.verdict.stops else checked.text,
        policy_version=checked.policy_version,
        passages=[guardrails.Verdict.ValueType(each) for each in checked.passages],
    )


def guard_to(guard: Guard) -> pb.Guard:
    """A verdict."""
    return pb.Guard(
        verdict=pb.GuardVerdict.ValueType(guard.verdict),
        check=guard.check,
        reason=guard.reason,
        stage=guardrails.Stage.ValueType(guard.stage),
    )


def put_from(message: pb.PutDocumentRequest) -> PutDocument:
    """The document. Raises Invalid with the field at fault."""
    return PutDocument(
        corpus=message.corpus,
        document_id=message.document_id,
        body=_body(message),
        version=message.version,
        title=message.title,
        content_type=message.content_type,
        filename=message.filename,
        source_uri=message.source_uri,
        metadata=dict(message.metadata),
        acl=tuple(message.acl),
        changed_at=_time(message.changed_at, field="changed_at") if message.HasField("changed_at") else None,
        idempotency_key=message.idempotency_key,
    )


def delete_from(message: pb.DeleteDocumentRequest) -> DeleteDocument:
    """The document that is no more. Raises Invalid with the field at fault."""
    return DeleteDocument(
        corpus=message.corpus,
        document_id=message.document_id,
        version=message.version,
        idempotency_key=message.idempotency_key,
    )


def feedback_from(message: pb.GiveFeedbackRequest) -> Feedback:
    """What a person made of an answer. Raises Invalid with the field at fault."""
    kind = message.WhichOneof("kind")
    return Feedback(
        answer_id=message.answer_id,
        user_id=message.user_id,
        kind=kind or "",
        opinion=Opinion(getattr(message, kind)) if kind else None,
        comment=message.comment,
        given_at=_time(message.given_at, field="given_at") if message.HasField("given_at") else None,
        consent=message.consent,
        idempotency_key=message.idempotency_key,
    )


def given_to(given: Given) -> pb.GiveFeedbackResponse:
    """What became of it."""
    return pb.GiveFeedbackResponse(feedback_id=given.feedback_id, revision=given.revision, joined=given.joined)


def answer_to(answer: Answer) -> pb.AskResponse:
    """The whole answer."""
    finished = answer.finished
    return pb.AskResponse(
        answer_id=answer.answer_id,
        text=answer.text,
        abstained=finished.abstained,
        citations=citations_of(finished),
        variant_id=answer.variant_id,
        search_query=answer.search_query,
        usage=usage_to(finished.usage),
        timings=timings_to(finished.timings),
        finish_reason=generation.FinishReason.ValueType(finished.reason),
        guards=[guard_to(each) for each in answer.guards],
        cached=finished.cached,
        cost_micros=finished.cost_micros,
    )


def event_to(event: AskEvent) -> pb.AskStreamResponse:
    """One event of a streamed answer."""
    match event:
        case Delta(text=text):
            return pb.AskStreamResponse(delta=pb.Delta(text=text))
        case Guard():
            return pb.AskStreamResponse(guard=guard_to(event))
        case Started():
            return pb.AskStreamResponse(started=pb.Started(answer_id=event.answer_id, variant_id=event.variant_id))
        case Retrieved():
            return pb.AskStreamResponse(
                retrieved=pb.Retrieved(search_query=event.search_query, hits=hits_to(event.passages))
            )
        case Finished():
            return pb.AskStreamResponse(
                finished=pb.Finished(
                    usage=usage_to(event.usage),
                    timings=timings_to(event.timings),
                    abstained=event.abstained,
                    citations=citations_of(event),
                    finish_reason=generation.FinishReason.ValueType(event.reason),
                    cached=event.cached,
                    cost_micros=event.cost_micros,
                    message=event.message,
                )
            )


def hits_to(passages: Sequence[Passage]) -> list[pb.Hit]:
    """Passages for people."""
    return [_hit(passage) for passage in cast("Sequence[retrieval.Passage]", passages)]


def citations_of(finished: Finished) -> Sequence[generation.Citation]:
    """Citations, as generation made them."""
    return cast("Sequence[generation.Citation]", finished.citations)


def usage_to(usage: Tokens) -> generation.Usage:
    """Tokens."""
    return generation.Usage(prompt_tokens=usage.prompt_tokens, completion_tokens=usage.completion_tokens)


def timings_to(timings: Timings) -> events_pb2.Timings:
    """Durations."""
    return events_pb2.Timings(
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


def _hit(passage: retrieval.Passage) -> pb.Hit:
    return pb.Hit(
        document_id=passage.document.document_id,
        version=passage.document.version,
        chunk_id=passage.chunk_id,
        score=passage.score,
        text=passage.text,
        title=passage.title,
        title_path=passage.title_path,
        page=passage.page,
        line=passage.line,
        source_uri=passage.source_uri,
        span=passage.span,
        metadata=passage.metadata,
    )


def _time(stamp: Timestamp, *, field: str) -> datetime:
    try:
        return stamp.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError) as error:
        raise Invalid("is no time of this calendar", field=field, reason="OUT_OF_RANGE") from error


def _body(message: pb.PutDocumentRequest) -> Body | None:
    match message.WhichOneof("body"):
        case "text":
            return Text(message.text)
        case "content":
            return Content(message.content)
        case "uri":
            return Uri(message.uri)
        case _:
            return None


def _document(struct: Struct, *, field: str) -> dict[str, object]:
    if (size := struct.ByteSize()) > 2 * names.DOCUMENT_BYTES:  # what is certain to be too large is not even read
        raise TooLarge(f"has {size} bytes; at most {names.DOCUMENT_BYTES} are taken", field=field)
    return {key: _plain(value) for key, value in struct.fields.items()}


def _plain(value: Value) -> object:
    match value.WhichOneof("kind"):
        case "struct_value":
            return {key: _plain(inner) for key, inner in value.struct_value.fields.items()}
        case "list_value":
            return [_plain(inner) for inner in value.list_value.values]
        case "number_value":
            number = value.number_value
            return int(number) if number.is_integer() and abs(number) < _EXACT else number
        case "string_value":
            return value.string_value
        case "bool_value":
            return value.bool_value
        case _:
            return None


def _stage(value: int) -> Stage:
    try:
        return Stage(value)
    except ValueError:
        return Stage.UNSPECIFIED


def _role(value: int) -> Role:
    try:
        return Role(value)
    except ValueError:
        return Role.UNSPECIFIED
