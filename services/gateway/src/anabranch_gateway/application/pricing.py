"""What a call of a model costs, and at most will."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

from anabranch_gateway.domain.answers import Usage
from anabranch_gateway.domain.costs import UNPRICED, Price, PriceSource, Rates

# Backends that run on own machines without a model whose hours could be counted.
FREE: Final = frozenset({"extractive"})


class PriceTable(Protocol):
    """Prices that others publish."""

    def of(self, backend: str, model: str, usage: Usage) -> int | None:
        """Micro-dollars, rounded up; None for a model that it does not have."""
        ...


@dataclass(slots=True, kw_only=True)
class Prices:
    """The operator's own prices first, then what costs nothing, then the table of others.

    `unknown` is told of a model (backend, model) the first time that its price is asked for in vain.
    """

    rates: Rates
    table: PriceTable
    unknown: Callable[[str, str], None]
    _told: set[tuple[str, str]] = field(default_factory=set)

    def of(self, backend: str, model: str, usage: Usage) -> Price:
        """What a call cost. A price that is not known is None, never a guess."""
        if (rate := self.rates.of(backend, model)) is not None:
            return Price(micros=rate.of(usage), source=PriceSource.OPERATOR)
        if backend in FREE:
            return Price(micros=0, source=PriceSource.FREE)
        if (micros := self.table.of(backend, model, usage)) is not None:
            return Price(micros=micros, source=PriceSource.TABLE)
        if (backend, model) not in self._told and len(self._told) < _MOST_TOLD:
            self._told.add((backend, model))
            self.unknown(backend, model)
        return UNPRICED

    def at_most(self, backend: str, model: str, *, prompt_tokens: int, completion_tokens: int) -> int | None:
        """What a call of at most so many tokens can cost: what to reserve. None where the price is not known."""
        return self.of(backend, model, Usage(prompt_tokens=prompt_tokens, completion_tokens=completion_tokens)).micros


_MOST_TOLD: Final = 1_000
