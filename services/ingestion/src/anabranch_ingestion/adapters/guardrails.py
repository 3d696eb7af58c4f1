"""Guardrails, over gRPC."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from hashlib import blake2b
from typing import Final

import grpc

from anabranch.guardrails.v1 import events_pb2 as events
from anabranch.guardrails.v1 import guardrails_service_pb2 as pb
from anabranch.guardrails.v1.guardrails_service_pb2_grpc import GuardrailsServiceStub
from anabranch_faults import Overloaded, Unreachable
from anabranch_ingestion.application.ports import Finding
from anabranch_ingestion.domain.documents import DocumentKey
from anabranch_rpc import fault_from

_PASSING: Final = frozenset({events.VERDICT_ALLOW, events.VERDICT_REDACT, events.VERDICT_FLAG})


class GrpcGuards:
    """GuardrailsService as the Guards port. After `patience` a check counts as one of guardrails that are away."""

    def __init__(self, channel: grpc.aio.Channel, *, patience: timedelta) -> None:
        """Takes a channel of `anabranch_rpc.connect`."""
        self._stub = GuardrailsServiceStub(channel)
        self._patience = patience.total_seconds()

    async def look(self, key: DocumentKey, texts: Sequence[str], *, event_id: str) -> Finding | None:
        """See the port."""
        request = pb.CheckRequest(
            subject=pb.Subject(tenant=key.tenant, corpus=key.corpus, request_id=event_id),
            stage=events.STAGE_INGESTION,
            passages=[
                pb.Passage(text=text, key=blake2b(text.encode(errors="replace"), digest_size=16).hexdigest())
                for text in texts
            ],
        )
        try:
            reply = await self._stub.Check(request, timeout=self._patience)
        except grpc.aio.AioRpcError as error:
            fault = fault_from(error)
            # Whatever it is, no document is the cause of it: all of them wait.
            raise fault if isinstance(fault, Overloaded) else Unreachable(f"guardrails: {fault}") from error
        if len(reply.passages) != len(texts):
            raise Unreachable("guardrails answered for other texts than they were asked about")
        results = [each for each in reply.results if not each.shadow and each.verdict != events.VERDICT_ALLOW]
        for place, verdict in enumerate(reply.passages):
            if verdict not in _PASSING:
                # REVIEW, and what this version does not know, waits for a person just the same: outside of the index.
                led = [each for each in results if each.passage == place and each.verdict not in _PASSING]
                return _finding(led, place, blocked=True)
        flagged = [each for each in results if each.verdict != events.VERDICT_UNSPECIFIED]
        return _finding(flagged, flagged[0].passage, blocked=False) if flagged else None


def _finding(results: Sequence[events.CheckResult], place: int, *, blocked: bool) -> Finding:
    if not results:
        return Finding(place=place, check="policy", reason="a rule of the policy", blocked=blocked)
    worst = max(results, key=lambda each: each.score)
    return Finding(place=place, check=worst.check, reason=worst.reason, blocked=blocked)
