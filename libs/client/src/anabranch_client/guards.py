"""Checks of texts for apps that bring their own model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any, cast

from google.protobuf.struct_pb2 import Struct

from anabranch.gateway.v1 import gateway_service_pb2 as pb
from anabranch.guardrails.v1 import events_pb2 as guardrails
from anabranch_client.results import GuardStage, GuardVerdict, Span

__all__ = ["CheckResult", "CheckSpan", "CheckStatus", "CheckedText"]


class CheckStatus(StrEnum):
    """How a check itself went. A value this client does not know reads as ERROR."""

    OK = "ok"
    ERROR = "error"
    TIMEOUT = "timeout"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckSpan:
    """A place in the text as it was sent, and what stands there: `EMAIL`, `SECRET`, `INJECTION`, ..."""

    span: Span
    kind: str
    score: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """What one check made of a text. `passage` counts from 0, where passages were checked.

    A check in `shadow` is reported, and has no effect on the verdict.
    """

    check: str
    version: str
    score: float
    threshold: float
    spans: tuple[CheckSpan, ...]
    reason: str
    verdict: GuardVerdict
    status: CheckStatus
    shadow: bool
    took: timedelta
    passage: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedText:
    """What the policy says. `text` is what to go on with: empty when blocked; `passages` has a verdict on each."""

    verdict: GuardVerdict
    results: tuple[CheckResult, ...]
    text: str
    policy_version: str
    passages: tuple[GuardVerdict, ...]

    @property
    def allowed(self) -> bool:
        """Whether the text may go on, as `text`."""
        return self.verdict in (GuardVerdict.ALLOW, GuardVerdict.REDACT, GuardVerdict.FLAG)


def struct_of(values: Mapping[str, Any] | None) -> Struct | None:
    """A JSON object as a message. Raises ValueError for what JSON has not."""
    if values is None:
        return None
    struct = Struct()
    struct.update(cast("dict[str, Any]", dict(values)))
    return struct


def check_request(
    text: str,
    *,
    stage: GuardStage,
    corpus: str,
    question: str,
    turns: Sequence[str],
    passages: Sequence[str],
    response_schema: Mapping[str, Any] | None,
) -> pb.CheckTextRequest:
    """The request as the contract has it; the gateway validates it."""
    return pb.CheckTextRequest(
        text=text,
        stage=guardrails.Stage.Value(f"STAGE_{stage.name}"),
        corpus=corpus,
        question=question,
        turns=turns,
        passages=passages,
        response_schema=struct_of(response_schema),
    )


def checked_from(message: pb.CheckTextResponse) -> CheckedText:
    """What the policy says."""
    return CheckedText(
        verdict=verdict_of(message.verdict),
        results=tuple(_result(each) for each in message.results),
        text=message.text,
        policy_version=message.policy_version,
        passages=tuple(verdict_of(each) for each in message.passages),
    )


def verdict_of(value: int) -> GuardVerdict:
    """By number, which both of the contract's enumerations share; one that is not known blocks."""
    name = guardrails.Verdict.Name(guardrails.Verdict.ValueType(value)) if value in guardrails.Verdict.values() else ""
    return GuardVerdict.__members__.get(name.removeprefix("VERDICT_"), GuardVerdict.BLOCK)


def stage_of(value: int) -> GuardStage:
    """By number; UNSPECIFIED for one that is not known."""
    name = guardrails.Stage.Name(guardrails.Stage.ValueType(value)) if value in guardrails.Stage.values() else ""
    return GuardStage.__members__.get(name.removeprefix("STAGE_"), GuardStage.UNSPECIFIED)


def _result(message: guardrails.CheckResult) -> CheckResult:
    known = message.status in guardrails.CheckStatus.values()
    status = guardrails.CheckStatus.Name(message.status).removeprefix("CHECK_STATUS_") if known else ""
    return CheckResult(
        check=message.check,
        version=message.version,
        score=message.score,
        threshold=message.threshold,
        spans=tuple(
            CheckSpan(span=Span(start=each.start, end=each.end), kind=each.kind, score=each.score)
            for each in message.spans
        ),
        reason=message.reason,
        verdict=GuardVerdict.ALLOW if not message.verdict else verdict_of(message.verdict),
        status=CheckStatus.__members__.get(status, CheckStatus.ERROR),
        shadow=message.shadow,
        took=message.took.ToTimedelta(),
        passage=message.passage if message.HasField("passage") else None,
    )
