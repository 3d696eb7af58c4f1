"""Counts and prices every call of a model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from anabranch_gateway.application.pricing import Prices
from anabranch_gateway.domain.costs import Metered, ModelCall, Payer, Purpose, total, usage_id


class UsageRecord(Protocol):
    """Where metered calls are written down."""

    async def add(self, metered: Sequence[Metered]) -> None:
        """Takes them over without waiting for them to be written. Never raises: what is lost is counted."""
        ...


def _now() -> datetime:
    return datetime.now(tz=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Meter:
    """Prices an answer's calls and has them written down."""

    prices: Prices
    usages: UsageRecord
    now: Callable[[], datetime] = _now

    async def record(self, payer: Payer, calls: Sequence[ModelCall]) -> int | None:
        """What the calls cost together; None where the price of one is not known.

        To be called once an answer, with all of its calls in their order: a call's name is made of its purpose and its
        place among those. An answer from the cache made no calls, and costs nothing.
        """
        counts: Counter[Purpose] = Counter()
        metered: list[Metered] = []
        for call in calls:
            metered.append(
                Metered(
                    usage_id=usage_id(payer.answer_id, call.purpose, counts[call.purpose]),
                    payer=payer,
                    call=call,
                    price=self.prices.of(call.backend, call.model, call.usage),
                    metered_at=self.now(),
                )
            )
            counts[call.purpose] += 1
        if metered:
            await self.usages.add(metered)
        return total([each.price for each in metered])
