"""Between the messages of quotas, prices and usage, and the domain."""

from __future__ import annotations

from datetime import UTC, timedelta
from typing import Any

from anabranch.gateway.v1 import usage_pb2 as usage
from anabranch.registry.v1 import cost_service_pb2 as pb
from anabranch.registry.v1 import quotas_pb2 as quotas
from anabranch_faults import Invalid
from anabranch_registry.domain import Change
from anabranch_registry.domain.spending import Bounds, Budget, By, Price, Quota, Spent, Usage

__all__ = ["by_from", "price_from", "price_message", "quota_from", "quota_message", "spent_message", "usage_from"]

_PURPOSE = "USAGE_PURPOSE_"
_BY = "COST_DIMENSION_"


def quota_from(message: quotas.QuotaChanged, *, now: Any) -> Quota:
    """Return the quota as it came, unchecked."""
    limits = message.limits
    return Quota(
        subject=message.subject,
        budgets=tuple(
            Budget(
                window=timedelta(seconds=one.window.seconds, microseconds=one.window.nanos // 1000),
                soft_micros=one.soft_micros,
                hard_micros=one.hard_micros if one.HasField("hard_micros") else None,
            )
            for one in message.budgets
        ),
        bounds=Bounds(
            requests_per_minute=limits.requests_per_minute if limits.HasField("requests_per_minute") else None,
            tokens_per_minute=limits.tokens_per_minute if limits.HasField("tokens_per_minute") else None,
            in_flight=limits.in_flight if limits.HasField("in_flight") else None,
        ),
        revision=message.revision,
        change=Change(author=message.author, reason=message.reason, at=now),
    )


def quota_message(quota: Quota) -> quotas.QuotaChanged:
    """Return the quota."""
    message = quotas.QuotaChanged(
        subject=quota.subject,
        revision=quota.revision,
        limits=quotas.Limits(
            requests_per_minute=quota.bounds.requests_per_minute,
            tokens_per_minute=quota.bounds.tokens_per_minute,
            in_flight=quota.bounds.in_flight,
        ),
        author=quota.change.author,
        reason=quota.change.reason,
    )
    for one in quota.budgets:
        budget = message.budgets.add(soft_micros=one.soft_micros, hard_micros=one.hard_micros)
        budget.window.FromTimedelta(one.window)
    message.changed_at.FromDatetime(quota.change.at)
    return message


def price_from(message: quotas.PriceChanged, *, now: Any) -> Price:
    """Return the price as it came, unchecked."""
    return Price(
        backend=message.backend,
        model=message.model,
        prompt_micros=message.prompt_micros,
        completion_micros=message.completion_micros,
        request_micros=message.request_micros,
        withdrawn=message.withdrawn,
        revision=message.revision,
        change=Change(author=message.author, reason=message.reason, at=now),
    )


def price_message(price: Price) -> quotas.PriceChanged:
    """Return the price."""
    message = quotas.PriceChanged(
        backend=price.backend,
        model=price.model,
        prompt_micros=price.prompt_micros,
        completion_micros=price.completion_micros,
        request_micros=price.request_micros,
        withdrawn=price.withdrawn,
        revision=price.revision,
        author=price.change.author,
        reason=price.change.reason,
    )
    message.changed_at.FromDatetime(price.change.at)
    return message


def usage_from(message: usage.UsageMetered) -> Usage:
    """Return the call as it came, unchecked. Raises Invalid where it does not say when it was."""
    if not message.HasField("metered_at"):
        raise Invalid("is missing", field="metered_at", reason="MISSING")
    known = message.purpose in usage.UsagePurpose.values()
    purpose = usage.UsagePurpose.Name(message.purpose) if known else f"{_PURPOSE}{int(message.purpose)}"
    return Usage(
        usage_id=message.usage_id,
        tenant=message.tenant,
        key_id=message.key_id,
        user_id=message.user_id,
        variant_id=message.variant_id,
        purpose=purpose.removeprefix(_PURPOSE).lower(),
        backend=message.backend,
        model=message.model,
        prompt_tokens=message.prompt_tokens,
        completion_tokens=message.completion_tokens,
        cost_micros=message.cost_micros if message.HasField("cost_micros") else None,
        metered_at=message.metered_at.ToDatetime(tzinfo=UTC),
    )


def by_from(dimension: pb.CostDimension.ValueType) -> By:
    """Return what is told apart by. Raises Invalid."""
    known = {pb.CostDimension.Value(f"{_BY}{one}"): one for one in By}
    if dimension not in known:
        raise Invalid(f"there is no dimension {dimension}", field="by", reason="NOT_A_DIMENSION")
    return known[dimension]


def spent_message(spent: Spent) -> pb.CostRow:
    """Return the sum."""
    return pb.CostRow(
        group=spent.group,
        calls=spent.calls,
        unpriced_calls=spent.unpriced_calls,
        prompt_tokens=spent.prompt_tokens,
        completion_tokens=spent.completion_tokens,
        cost_micros=spent.cost_micros,
    )
