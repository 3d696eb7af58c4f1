"""What answers cost: tokens as their backends count them, money where a price is known."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

MICRODOLLARS: Final = "microdollars"
TOKENS: Final = "tokens"
_MILLION: Final = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """Micro-dollars for a million tokens."""

    prompt: float
    completion: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens that an answer took, who counted them, and what the gateway charged (micro-dollars), where it did."""

    prompt_tokens: int
    completion_tokens: int
    model: str = ""
    backend: str = ""
    charged: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What an answer cost. `microdollars` is None where no price is known."""

    tokens: float
    microdollars: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """Prices by model, or by backend for all of its models that have none of their own.

    They are for runs, and for answers that the gateway did not charge: what it charged holds.
    """

    known: Mapping[str, Price]

    def cost(self, usage: Usage | None) -> Cost | None:
        """What the usage costs; None for none."""
        if usage is None:
            return None
        price = self.known.get(usage.model) or self.known.get(usage.backend)
        tokens = float(usage.prompt_tokens + usage.completion_tokens)
        if usage.charged is not None:
            return Cost(tokens=tokens, microdollars=float(usage.charged))
        if price is None:
            return Cost(tokens=tokens)
        paid = usage.prompt_tokens * price.prompt + usage.completion_tokens * price.completion
        return Cost(tokens=tokens, microdollars=paid / _MILLION)


def usage_of(
    *, prompt_tokens: int, completion_tokens: int, model: str, backend: str, charged: int | None = None
) -> Usage | None:
    """Return the usage; None where nothing was counted and nothing charged."""
    if not prompt_tokens and not completion_tokens and charged is None:
        return None
    return Usage(
        prompt_tokens=prompt_tokens, completion_tokens=completion_tokens, model=model, backend=backend, charged=charged
    )


def in_one_unit(*sides: Collection[Cost | None]) -> tuple[str, Sequence[Sequence[float]]]:
    """Return the unit in which all sides can be held against each other, and each side's values of what was measured.

    Micro-dollars if all that was measured has a price, else tokens: never one here and the other there.
    """
    measured = [[cost for cost in side if cost is not None] for side in sides]
    if all(cost.microdollars is not None for side in measured for cost in side):
        return MICRODOLLARS, [[cost.microdollars or 0.0 for cost in side] for side in measured]
    return TOKENS, [[cost.tokens for cost in side] for side in measured]
