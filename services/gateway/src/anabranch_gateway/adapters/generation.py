"""The writer of answers, over gRPC."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from datetime import timedelta
from typing import Final, cast

import grpc
from cachetools import TTLCache

from anabranch.generation.v1 import generation_service_pb2 as pb
from anabranch.generation.v1.generation_service_pb2_grpc import GenerationServiceStub
from anabranch.retrieval.v1 import retrieval_service_pb2 as retrieval
from anabranch_gateway.adapters.faults import meaning
from anabranch_gateway.adapters.structs import struct_of
from anabranch_gateway.domain.answers import (
    CascadeTrace,
    Citation,
    Cited,
    Condensed,
    Delta,
    FinishReason,
    Generated,
    GenerateEvent,
    Passage,
    Usage,
)
from anabranch_gateway.domain.costs import ModelCall, Plan, Purpose
from anabranch_gateway.domain.questions import Turn
from anabranch_gateway.domain.routing import GenerationSettings

FRAME: Final = 4_096
"""Characters that instructions of generation's own, or of a prompt of the registry, are taken to have."""
NAMES_LAST: Final = timedelta(minutes=1)


class GrpcGenerator:
    """GenerationService as the Generator port. Settings, passages and citations are the contract's own messages."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        """Takes a channel of `anabranch_rpc.connect`, which passes deadline and cancellation on."""
        self._stub = GenerationServiceStub(channel)
        self._backends: TTLCache[str, str] = TTLCache(maxsize=64, ttl=NAMES_LAST.total_seconds())

    async def condense(self, question: str, *, history: Sequence[Turn], settings: GenerationSettings) -> Condensed:
        """See the port."""
        request = pb.CondenseRequest(
            question=question, history=_turns(history), settings=cast("pb.GenerationSettings", settings)
        )
        try:
            reply = await self._stub.Condense(request)
        except grpc.aio.AioRpcError as error:
            raise meaning(error) from error
        call = _call(reply.call, Purpose.CONDENSE) if reply.HasField("call") else None
        return Condensed(question=reply.question, call=call)

    async def generate(
        self,
        *,
        question: str,
        passages: Sequence[Passage],
        history: Sequence[Turn],
        settings: GenerationSettings,
        max_tokens: int,
        variables: Mapping[str, object],
        canary: str = "",
        mark_passages: bool = False,
        response_schema: Mapping[str, object] | None = None,
    ) -> AsyncGenerator[GenerateEvent, None]:
        """See the port."""
        request = pb.GenerateRequest(
            question=question,
            passages=cast("Sequence[retrieval.Passage]", passages),
            settings=cast("pb.GenerationSettings", settings),
            history=_turns(history),
            canary=canary,
            mark_passages=mark_passages,
            response_schema=None if response_schema is None else struct_of(response_schema),
        )
        if variables:
            request.variables.CopyFrom(struct_of(variables))
        own = request.settings.max_tokens
        if max_tokens and (own == 0 or max_tokens < own):
            request.settings.max_tokens = max_tokens
        call = self._stub.Generate(request)
        try:
            async for response in call:
                match response.WhichOneof("event"):
                    case "delta":
                        yield Delta(text=response.delta)
                    case "citation":
                        yield Cited(citation=Citation(response.citation))
                    case "generated":
                        yield _generated(response.generated)
        except grpc.aio.AioRpcError as error:
            raise meaning(error) from error
        finally:
            call.cancel()  # an abandoned stream is never collected, and the backend would go on writing

    async def plan(self, settings: GenerationSettings) -> Plan:
        """See the Plans port."""
        own = cast("pb.GenerationSettings", settings)
        models = [await self._named(own.backend, own.model)]
        if own.HasField("cascade"):
            models.insert(0, await self._named(own.cascade.backend, own.cascade.model))
        return Plan(
            models=models, max_tokens=own.max_tokens, texts=(own.prompt.system, own.prompt.template, " " * FRAME)
        )

    async def _named(self, backend: str, model: str) -> tuple[str, str]:
        """Backend and model by their names: a variant may leave either to the service."""
        if backend and model:
            return backend, model
        if backend not in self._backends:
            try:
                reply = await self._stub.ListBackends(pb.ListBackendsRequest())
            except grpc.aio.AioRpcError as error:
                raise meaning(error) from error
            for place, each in enumerate(reply.backends):
                self._backends[each.name] = each.models[0] if each.models else ""
                if place == 0:
                    self._backends[""] = each.name
        name = backend or self._backends.get("", "")
        return name, model or self._backends.get(name, "")


def _generated(message: pb.Generated) -> Generated:
    return Generated(
        reason=FinishReason(message.reason),
        usage=Usage(prompt_tokens=message.usage.prompt_tokens, completion_tokens=message.usage.completion_tokens),
        abstained=message.abstained,
        backend=message.backend,
        model=message.model,
        prompt_version=message.prompt_version,
        calls=[_call(each, Purpose.DRAFT if each.draft else Purpose.ANSWER) for each in message.calls],
        escalated=any(each.draft for each in message.calls),
        cascade=CascadeTrace(message.cascade) if message.HasField("cascade") else None,
    )


def _call(message: pb.ModelCall, purpose: Purpose) -> ModelCall:
    return ModelCall(
        backend=message.backend,
        model=message.model,
        usage=Usage(prompt_tokens=message.usage.prompt_tokens, completion_tokens=message.usage.completion_tokens),
        purpose=purpose,
    )


def _turns(history: Sequence[Turn]) -> list[pb.Turn]:
    return [pb.Turn(role=pb.Role.ValueType(turn.role), text=turn.text) for turn in history]
