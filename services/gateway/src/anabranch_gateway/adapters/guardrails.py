"""Guardrails, over gRPC."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from hashlib import blake2b
from typing import Any, Final

import grpc

from anabranch.guardrails.v1 import events_pb2 as events
from anabranch.guardrails.v1 import guardrails_service_pb2 as pb
from anabranch.guardrails.v1.guardrails_service_pb2_grpc import GuardrailsServiceStub
from anabranch_faults import Fault, Invalid, Unreachable
from anabranch_gateway.adapters.faults import meaning
from anabranch_gateway.adapters.structs import struct_of
from anabranch_gateway.domain.guards import (
    Checked,
    Ended,
    GuardPassage,
    GuardResult,
    GuardSubject,
    Noted,
    Opening,
    OutputEvent,
    Released,
    ResultDetail,
    Stage,
    Verdict,
)
from anabranch_observability import counter
from anabranch_observability.names import gateway as names
from anabranch_rpc import deadline

_AWAY: Final = frozenset({events.CHECK_STATUS_ERROR, events.CHECK_STATUS_TIMEOUT})
_TOO_SLOW: Final = "guardrails took too long"


class GrpcGuards:
    """GuardrailsService as the Guards port. After `patience` a check counts as one of guardrails that are away."""

    def __init__(self, channel: grpc.aio.Channel, *, patience: timedelta = timedelta(seconds=3)) -> None:
        """Takes a channel of `anabranch_rpc.connect`, which passes deadline and cancellation on."""
        self._stub = GuardrailsServiceStub(channel)
        self._patience = patience.total_seconds()

    async def check(
        self,
        subject: GuardSubject,
        stage: Stage,
        *,
        text: str = "",
        question: str = "",
        turns: Sequence[str] = (),
        passages: Sequence[GuardPassage] = (),
        response_schema: Mapping[str, object] | None = None,
    ) -> Checked:
        """See the port."""
        request = pb.CheckRequest(
            subject=_subject(subject),
            stage=events.Stage.ValueType(stage),
            text=text,
            question=question,
            turns=turns,
            passages=_passages(passages),
            response_schema=None if response_schema is None else struct_of(response_schema),
        )
        try:
            reply = await self._stub.Check(request, timeout=self._patience)
        except grpc.aio.AioRpcError as error:
            raise _meaning(error) from error
        results = _results(reply.results)
        checked = Checked(
            verdict=Verdict(reply.verdict),
            results=results,
            text=reply.text,
            policy_version=reply.policy_version,
            vault=dict(reply.vault),
            passages=[Verdict(each) for each in reply.passages],
            anonymised=list(reply.anonymised),
            mark_passages=reply.mark_passages,
            message=reply.message,
        )
        _count(stage, checked.verdict)
        return checked

    async def answer(
        self, subject: GuardSubject, opening: Opening, pieces: AsyncIterator[str | Ended]
    ) -> AsyncGenerator[OutputEvent, None]:
        """See the port."""
        call = self._stub.CheckStream()
        feeding = asyncio.create_task(_feed(call, _open(subject, opening), pieces))
        try:
            async for response in call:
                match response.WhichOneof("part"):
                    case "text":
                        yield Released(response.text)
                    case "noted":
                        noted = response.noted
                        yield Noted(verdict=Verdict(noted.verdict), result=_result(noted.result))
                    case "checked":
                        checked = _end(response.checked)
                        _count(Stage.OUTPUT, checked.verdict)
                        yield checked
                        return
            raise Unreachable("guardrails ended without a verdict")
        except asyncio.CancelledError:
            # A feeder that fails cancels the call: what it failed of is what happened.
            task = asyncio.current_task()
            if (fault := _fault_of(feeding)) is None or (task is not None and task.cancelling()):
                raise
            raise fault from None
        except grpc.aio.AioRpcError as error:
            raise _fault_of(feeding) or _meaning(error) from error
        finally:
            feeding.cancel()
            call.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await asyncio.gather(feeding, return_exceptions=True)


async def _feed(call: Any, opening: pb.Open, pieces: AsyncIterator[str | Ended]) -> None:
    try:
        await call.write(pb.CheckStreamRequest(open=opening))
        async for piece in pieces:
            if isinstance(piece, Ended):
                await call.write(pb.CheckStreamRequest(end=pb.End(abstained=piece.abstained)))
            else:
                await call.write(pb.CheckStreamRequest(text=piece))
        await call.done_writing()
    except (grpc.aio.AioRpcError, asyncio.InvalidStateError, grpc.aio.UsageError):
        return  # the stream has ended already: whoever reads it is told why
    except Exception:
        call.cancel()
        raise


def _fault_of(feeding: asyncio.Task[None]) -> BaseException | None:
    return feeding.exception() if feeding.done() and not feeding.cancelled() else None


def _meaning(error: grpc.aio.AioRpcError) -> Exception:
    """As `meaning`, but being slow is being away while the caller still has time, and nothing is the caller's fault."""
    if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
        left = deadline()
        return Unreachable(_TOO_SLOW) if left is None or left > timedelta(milliseconds=20) else TimeoutError(_TOO_SLOW)
    fault = meaning(error)
    return Fault(f"guardrails refused a request of the gateway: {fault}") if isinstance(fault, Invalid) else fault


def _open(subject: GuardSubject, opening: Opening) -> pb.Open:
    return pb.Open(
        subject=_subject(subject),
        question=opening.question,
        passages=_passages(opening.passages),
        canary=opening.canary,
        response_schema=None if opening.response_schema is None else struct_of(opening.response_schema),
        vault=opening.vault,
        citations=opening.citations,
    )


def _subject(subject: GuardSubject) -> pb.Subject:
    return pb.Subject(
        tenant=subject.tenant,
        corpus=subject.corpus,
        policy_version=subject.policy_version,
        request_id=subject.request_id,
    )


def _passages(passages: Sequence[GuardPassage]) -> list[pb.Passage]:
    return [
        pb.Passage(
            text=each.text,
            key=blake2b(each.text.encode(errors="replace"), digest_size=16).hexdigest(),
            source_uri=each.source_uri,
        )
        for each in passages
    ]


def _results(results: Sequence[events.CheckResult]) -> list[GuardResult]:
    return [_result(each) for each in results]


def _result(result: events.CheckResult) -> GuardResult:
    return GuardResult(
        check=result.check,
        verdict=Verdict(result.verdict),
        reason=result.reason,
        detail=ResultDetail(result),
        shadow=result.shadow,
        failed=result.status in _AWAY,
        passage=result.passage if result.HasField("passage") else None,
        spans=[(span.start, span.end, span.kind) for span in result.spans],
    )


def _end(checked: pb.Checked) -> Checked:
    return Checked(
        verdict=Verdict(checked.verdict),
        results=_results(checked.results),
        policy_version=checked.policy_version,
        message=checked.message,
    )


def _count(stage: Stage, verdict: Verdict) -> None:
    counter(names.GUARD_VERDICTS).labels(stage=stage.name.lower(), verdict=verdict.name.lower()).inc()
