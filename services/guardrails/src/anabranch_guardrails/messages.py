"""Results as the contract's messages; events are made of them, and answers."""

from __future__ import annotations

from datetime import timedelta

from google.protobuf.duration_pb2 import Duration

from anabranch.guardrails.v1 import events_pb2 as pb
from anabranch_guardrails.application.ports import Blocked
from anabranch_guardrails.domain.policies import Result

__all__ = ["blocked_message", "result_message"]


def result_message(result: Result) -> pb.CheckResult:
    """The result."""
    message = pb.CheckResult(
        check=result.check,
        version=result.version,
        score=result.score,
        threshold=result.threshold,
        spans=[pb.CheckSpan(start=span.start, end=span.end, kind=span.kind, score=span.score) for span in result.spans],
        reason=result.reason,
        verdict=pb.Verdict.ValueType(result.verdict),
        status=pb.CheckStatus.ValueType(result.status),
        shadow=result.shadow,
        took=_duration(result.took),
    )
    if result.passage is not None:
        message.passage = result.passage
    return message


def blocked_message(blocked: Blocked) -> pb.RequestBlocked:
    """The event."""
    message = pb.RequestBlocked(
        request_id=blocked.request_id,
        tenant=blocked.tenant,
        corpus=blocked.corpus,
        stage=pb.Stage.ValueType(blocked.stage),
        verdict=pb.Verdict.ValueType(blocked.verdict),
        policy_version=blocked.policy_version,
        results=map(result_message, blocked.results),
    )
    message.blocked_at.FromDatetime(blocked.at)
    return message


def _duration(value: timedelta) -> Duration:
    return Duration(seconds=value.days * 86_400 + value.seconds, nanos=value.microseconds * 1_000)
