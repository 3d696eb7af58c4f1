"""The quotas, as the registry tells them."""

from __future__ import annotations

from anabranch import topics
from anabranch.registry.v1 import quotas_pb2 as registry
from anabranch_bus import Bus
from anabranch_faults import Invalid
from anabranch_gateway.domain.spending import Budget, Limits, Quota, Quotas
from anabranch_observability import gauge, get_logger
from anabranch_observability.names import gateway as names

log = get_logger()


def register(bus: Bus, quotas: Quotas) -> None:
    """Keeps `quotas` as the registry last told them.

    A quota that cannot be kept is logged and passed over: the subject's last good one goes on holding.
    """

    @bus.table(topics.REGISTRY_QUOTA_CHANGED)
    async def on_quota_changed(subject: str, message: registry.QuotaChanged | None) -> None:
        if message is None:
            quotas.drop(subject)
            log.info(names.Log.QUOTA_DROPPED, subject=subject)
        else:
            try:
                quota = quota_from(subject, message)
            except Invalid as fault:
                problem = str(fault)
                log.error(names.Log.QUOTA_REFUSED, subject=subject, revision=message.revision, problem=problem)  # noqa: TRY400  the sentence says it; a traceback would not help
                return
            quotas.put(quota)
            log.info(names.Log.QUOTA_CHANGED, subject=subject, revision=quota.revision)
        gauge(names.QUOTAS).set(len(quotas))


def quota_from(subject: str, message: registry.QuotaChanged) -> Quota:
    """The quota a record tells. Raises Invalid."""
    if message.subject != subject:
        raise Invalid(f"is {message.subject!r}, but the record's key is {subject!r}", field="subject")
    limits = message.limits
    return Quota(
        subject=subject,
        revision=message.revision,
        budgets=tuple(
            Budget(
                window=each.window.ToTimedelta(),
                soft=each.soft_micros,
                hard=each.hard_micros if each.HasField("hard_micros") else None,
            )
            for each in message.budgets
        ),
        limits=Limits(
            requests_per_minute=limits.requests_per_minute if limits.HasField("requests_per_minute") else None,
            tokens_per_minute=limits.tokens_per_minute if limits.HasField("tokens_per_minute") else None,
            in_flight=limits.in_flight if limits.HasField("in_flight") else None,
        ),
    )
