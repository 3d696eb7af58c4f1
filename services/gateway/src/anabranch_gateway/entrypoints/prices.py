"""The operator's own prices, as the registry tells them."""

from __future__ import annotations

from anabranch import topics
from anabranch.registry.v1 import quotas_pb2 as registry
from anabranch_bus import Bus
from anabranch_faults import Invalid
from anabranch_gateway.domain.costs import Rate, Rates
from anabranch_observability import get_logger
from anabranch_observability.names import gateway as names

log = get_logger()


def register(bus: Bus, rates: Rates) -> None:
    """Keeps `rates` as the registry last told them. One that cannot be used is logged, and the last good one holds."""

    @bus.table(topics.REGISTRY_PRICE_CHANGED)
    async def on_price_changed(key: str, message: registry.PriceChanged | None) -> None:
        if message is None or message.withdrawn:
            rates.drop(key)
            log.info(names.Log.PRICE_DROPPED, price=key)
            return
        try:
            rate = rate_from(key, message)
        except Invalid as fault:
            problem = str(fault)
            log.error(names.Log.PRICE_REFUSED, price=key, revision=message.revision, problem=problem)  # noqa: TRY400  the sentence says it; a traceback would not help
            return
        rates.put(key, rate)
        log.info(names.Log.PRICE_CHANGED, price=key, revision=message.revision)


def rate_from(key: str, message: registry.PriceChanged) -> Rate:
    """The price a record tells. Raises Invalid."""
    if key != f"{message.backend}/{message.model}":
        raise Invalid(f"is {message.backend}/{message.model}, but the record's key is {key!r}", field="model")
    return Rate(
        backend=message.backend,
        model=message.model,
        prompt_micros=message.prompt_micros,
        completion_micros=message.completion_micros,
        request_micros=message.request_micros,
    )
