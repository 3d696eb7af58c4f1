"""Cascades' messages."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC

from anabranch.evaluation.v1 import evaluation_service_pb2 as pb
from anabranch.gateway.v1.events_pb2 import AnswerServed
from anabranch_evaluation.application.cascading import CascadeReport, Exploration
from anabranch_evaluation.domain.offpolicy import Estimate


def explorations_from(messages: Sequence[AnswerServed]) -> list[Exploration]:
    """Those whose model was chosen at random, and whose draft was judged before."""
    return [
        Exploration(
            tenant=one.tenant,
            answer_id=one.answer_id,
            corpus=one.corpus,
            variant_id=one.variant_id,
            served_at=one.served_at.ToDatetime(tzinfo=UTC),
            difficulty=one.cascade.difficulty,
            draft_support=one.cascade.draft_support,
            strong=one.cascade.strong,
            tokens=float(one.usage.prompt_tokens + one.usage.completion_tokens),
            microdollars=float(one.cost_micros) if one.HasField("cost_micros") else None,
        )
        for one in messages
        if one.cascade.explored and one.cascade.HasField("draft_support") and not one.cached_from
    ]


def report_message(report: CascadeReport) -> pb.EstimateCascadeResponse:
    """What could be had."""
    return pb.EstimateCascadeResponse(
        strong=_estimate(report.strong),
        cheap=_estimate(report.cheap),
        best=None if report.best is None else _estimate(report.best),
        estimates=[_estimate(one) for one in report.estimates],
        answers=report.answers,
        cost_unit=report.cost_unit,
    )


def _estimate(one: Estimate) -> pb.CascadeEstimate:
    return pb.CascadeEstimate(
        skip_above=max(0.0, one.thresholds.skip_above),
        escalate_below=one.thresholds.escalate_below,
        value=one.value,
        low=one.low,
        high=one.high,
        cost=one.cost,
        strong_share=one.strong_share,
    )
