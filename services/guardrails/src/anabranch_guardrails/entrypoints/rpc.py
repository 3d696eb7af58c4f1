"""GuardrailsService: parse, call, answer."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any, TypeAlias

import grpc
from google.protobuf.json_format import MessageToDict
from google.protobuf.struct_pb2 import Struct

from anabranch.guardrails.v1 import events_pb2 as events
from anabranch.guardrails.v1 import guardrails_service_pb2 as pb
from anabranch.guardrails.v1 import guardrails_service_pb2_grpc as stubs
from anabranch.registry.v1 import guards_pb2 as guards
from anabranch_faults import Invalid
from anabranch_guardrails.application.catalogue import Catalogue
from anabranch_guardrails.application.checking import Asked, Checked, CheckTexts
from anabranch_guardrails.application.policies import Policies, Whose
from anabranch_guardrails.application.streaming import CheckAnswers, Closed, Ended, Noted, Opened, Part, Released
from anabranch_guardrails.domain import Context, Stage, Subject
from anabranch_guardrails.entrypoints.policies import yaml_of
from anabranch_guardrails.messages import result_message
from anabranch_rpc import Servicer

__all__ = ["servicer"]

Call: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class GuardrailsServicer(stubs.GuardrailsServiceServicer):
    """Checks for who asks."""

    def __init__(
        self,
        *,
        check: CheckTexts,
        answers: CheckAnswers,
        policies: Policies,
        catalogue: Catalogue,
        told: Mapping[str, guards.GuardPolicy],
    ) -> None:
        """Takes the use cases, and the policies as they were told."""
        self._check = check
        self._answers = answers
        self._policies = policies
        self._catalogue = catalogue
        self._told = told

    async def Check(self, request: pb.CheckRequest, context: Call) -> pb.CheckResponse:  # noqa: ARG002, N802  the contract's signature
        """One text, or the passages of one question."""
        return _response(await self._check(_asked(request)))

    async def CheckStream(  # noqa: N802  the contract's name
        self,
        request_iterator: AsyncIterator[pb.CheckStreamRequest],
        context: Call,  # noqa: ARG002  the contract's signature
    ) -> AsyncIterator[pb.CheckStreamResponse]:
        """An answer while it is written."""
        first = await anext(aiter(request_iterator), None)
        if first is None or first.WhichOneof("part") != "open":
            raise Invalid("the first message opens the stream", field="open")
        async for out in self._answers(_opened(first.open), _parts(request_iterator)):
            match out:
                case Released(text):
                    yield pb.CheckStreamResponse(text=text)
                case Noted(result):
                    message = result_message(result)
                    yield pb.CheckStreamResponse(noted=pb.Noted(verdict=message.verdict, result=message))
                case Closed():
                    yield pb.CheckStreamResponse(
                        checked=pb.Checked(
                            verdict=events.Verdict.ValueType(out.verdict),
                            results=map(result_message, out.results),
                            policy_version=out.policy_version,
                            message=out.message,
                        )
                    )

    async def Resolve(self, request: pb.ResolveRequest, context: Call) -> pb.ResolveResponse:  # noqa: ARG002, N802  the contract's signature
        """The policy that holds."""
        resolved = self._policies.resolve(_whose(request.subject))
        version = resolved.plan.policy.version
        return pb.ResolveResponse(
            policy_version=version,
            source=resolved.source,
            yaml=yaml_of(self._told[version]) if version in self._told else "",
        )

    async def ListChecks(self, request: pb.ListChecksRequest, context: Call) -> pb.ListChecksResponse:  # noqa: ARG002, N802  the contract's signature
        """All checks, in the order they run."""
        return pb.ListChecksResponse(
            checks=[
                pb.CheckInfo(
                    check=kind.name,
                    version=kind.version,
                    stages=[events.Stage.ValueType(stage) for stage in sorted(kind.stages)],
                    default_threshold=kind.threshold,
                    description=kind.description,
                )
                for kind in self._catalogue.kinds
            ]
        )


def servicer(
    *,
    check: CheckTexts,
    answers: CheckAnswers,
    policies: Policies,
    catalogue: Catalogue,
    told: Mapping[str, guards.GuardPolicy],
) -> Servicer:
    """Return the service for a server."""
    return Servicer(
        GuardrailsServicer(check=check, answers=answers, policies=policies, catalogue=catalogue, told=told),
        add=stubs.add_GuardrailsServiceServicer_to_server,
        name="anabranch.guardrails.v1.GuardrailsService",
    )


def _whose(subject: pb.Subject) -> Whose:
    return Whose(
        tenant=subject.tenant,
        corpus=subject.corpus,
        policy_version=subject.policy_version,
        request_id=subject.request_id,
    )


def _asked(request: pb.CheckRequest) -> Asked:
    try:
        stage = Stage(request.stage)
    except ValueError as error:
        raise Invalid(f"there is no stage {request.stage}", field="stage") from error
    return Asked(
        whose=_whose(request.subject),
        subject=Subject(
            stage=stage,
            text=request.text,
            question=request.question,
            turns=tuple(request.turns),
            contexts=_contexts(request.passages),
            canary=request.canary,
            schema=_schema(request.response_schema) if request.HasField("response_schema") else "",
            citations=request.citations,
        ),
        only=tuple(request.only),
    )


def _opened(message: pb.Open) -> Opened:
    return Opened(
        whose=_whose(message.subject),
        subject=Subject(
            stage=Stage.OUTPUT,
            text="",
            question=message.question,
            contexts=_contexts(message.passages),
            canary=message.canary,
            schema=_schema(message.response_schema) if message.HasField("response_schema") else "",
            citations=message.citations,
        ),
        vault=dict(message.vault),
    )


async def _parts(messages: AsyncIterator[pb.CheckStreamRequest]) -> AsyncIterator[Part]:
    async for message in messages:
        match message.WhichOneof("part"):
            case "text":
                yield message.text
            case "end":
                yield Ended(abstained=message.end.abstained)
                return
            case _:
                raise Invalid("after the first message comes text, and then the end", field="part")


def _contexts(passages: Iterable[pb.Passage]) -> tuple[Context, ...]:
    return tuple(Context(text=each.text, key=each.key, source_uri=each.source_uri) for each in passages)


def _schema(schema: Struct) -> str:
    return json.dumps(_whole(MessageToDict(schema)), ensure_ascii=False)


def _whole(value: Any) -> Any:
    """A Struct holds numbers as floats, and `maxLength: 3.0` is not what was meant."""
    if isinstance(value, dict):
        return {key: _whole(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_whole(one) for one in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def _response(checked: Checked) -> pb.CheckResponse:
    return pb.CheckResponse(
        verdict=events.Verdict.ValueType(checked.verdict),
        results=map(result_message, checked.results),
        text=checked.text,
        policy_version=checked.policy_version,
        passages=[events.Verdict.ValueType(verdict) for verdict in checked.passages],
        vault=dict(checked.vault),
        anonymised=checked.rewritten,
        mark_passages=checked.mark_passages,
        message=checked.message,
    )
