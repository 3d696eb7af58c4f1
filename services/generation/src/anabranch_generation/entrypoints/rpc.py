"""GenerationService: parse, call, answer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import timedelta
from time import perf_counter
from typing import Any, Final, TypeAlias

import grpc

from anabranch.generation.v1 import generation_service_pb2 as pb
from anabranch.generation.v1.generation_service_pb2_grpc import (
    GenerationServiceServicer,
    add_GenerationServiceServicer_to_server,
)
from anabranch_generation.application import Backends, Condense, Generate
from anabranch_generation.domain import Citation, Finished
from anabranch_generation.entrypoints.messages import call_of, request_from, response_of, settings_from, turns_from
from anabranch_observability import Attribute, counter, gauge, histogram, span
from anabranch_observability.names import generation as names
from anabranch_rpc import Servicer, deadline

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"

# What is kept back of the caller's deadline, so that an answer cut short still arrives.
_RESERVE: Final = timedelta(milliseconds=50)


class GenerationServer(GenerationServiceServicer):
    """The three rpcs."""

    def __init__(self, *, generate: Generate, condense: Condense, backends: Backends) -> None:
        """Takes the use cases."""
        self._generate = generate
        self._condense = condense
        self._backends = backends

    async def Generate(  # noqa: N802  the contract's name
        self,
        request: pb.GenerateRequest,
        context: Context,  # noqa: ARG002  the contract's signature
    ) -> AsyncIterator[pb.GenerateResponse]:
        """Stream the answer; cancelling it stops the backend."""
        parsed = request_from(request)
        left = deadline()
        within = max(left - _RESERVE, timedelta(0)) if left is not None else None
        begun = perf_counter()
        attributes: dict[Attribute, str | bool | int | float] = {
            names.Attr.BACKEND: parsed.settings.backend,
            names.Attr.PASSAGES: len(parsed.passages),
        }
        gauge(names.ANSWERS_RUNNING).inc()
        citations = 0
        try:
            with span(names.Span.ANSWER, attributes=attributes):
                async with aclosing(self._generate(parsed, within=within)) as events:
                    async for event in events:
                        if isinstance(event, Finished):
                            _measure(event, seconds=perf_counter() - begun, citations=citations)
                        citations += isinstance(event, Citation)
                        yield response_of(event)
        finally:
            gauge(names.ANSWERS_RUNNING).dec()

    async def Condense(  # noqa: N802  the contract's name
        self,
        request: pb.CondenseRequest,
        context: Context,  # noqa: ARG002  the contract's signature
    ) -> pb.CondenseResponse:
        """Rewrite a follow-up."""
        with span(names.Span.CONDENSE):
            condensed = await self._condense(
                request.question, turns_from(request.history), settings_from(request.settings)
            )
        reply = pb.CondenseResponse(question=condensed.question, changed=condensed.changed)
        if condensed.call is not None:
            reply.call.CopyFrom(call_of(condensed.call))
        return reply

    async def ListBackends(  # noqa: N802  the contract's name
        self,
        request: pb.ListBackendsRequest,  # noqa: ARG002  the contract's signature
        context: Context,  # noqa: ARG002  the contract's signature
    ) -> pb.ListBackendsResponse:
        """List what was loaded, the default first."""
        return pb.ListBackendsResponse(
            backends=[pb.Backend(name=info.name, models=info.models) for info in self._backends()]
        )


def servicer(*, generate: Generate, condense: Condense, backends: Backends) -> Servicer:
    """For the runtime."""
    return Servicer(
        GenerationServer(generate=generate, condense=condense, backends=backends),
        add_GenerationServiceServicer_to_server,
        "anabranch.generation.v1.GenerationService",
    )


def _measure(finished: Finished, *, seconds: float, citations: int) -> None:
    backend = finished.backend
    counter(names.ANSWERS).labels(backend=backend, reason=finished.reason.value).inc()
    histogram(names.ANSWER_SECONDS).labels(backend=backend).observe(seconds)
    counter(names.TOKENS).labels(backend=backend, kind="prompt").inc(finished.usage.prompt_tokens)
    counter(names.TOKENS).labels(backend=backend, kind="completion").inc(finished.usage.completion_tokens)
    counter(names.CITATIONS).labels(backend=backend).inc(citations)
    if finished.time_to_first_token is not None:
        histogram(names.FIRST_TOKEN_SECONDS).labels(backend=backend).observe(
            finished.time_to_first_token.total_seconds()
        )
