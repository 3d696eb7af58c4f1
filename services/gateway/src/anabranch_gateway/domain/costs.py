"""What calls of models cost, in whole millionths of a US dollar."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum, StrEnum
from typing import Final

from anabranch_faults import Invalid
from anabranch_gateway.domain.answers import Usage

ANY: Final = "*"
PER: Final = 1_000_000  # prices are for a million tokens
# Whoever has an answer's id can name its calls, whatever machine they ran on.
_NAMESPACE: Final = uuid.UUID("0d9b1e0a-62b5-5b0e-9c0e-7f3f2a4f6e55")


class PriceSource(StrEnum):
    """Where a price is from; the words are the contract's."""

    OPERATOR = "operator"
    TABLE = "genai-prices"
    FREE = "free"
    UNKNOWN = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """What a call cost; None where nobody knows, which is never the same as nothing."""

    micros: int | None
    source: PriceSource


UNPRICED: Final = Price(micros=None, source=PriceSource.UNKNOWN)


class Purpose(IntEnum):
    """What a model was called for; the numbers are the contract's."""

    UNSPECIFIED = 0
    ANSWER = 1
    CONDENSE = 2
    DRAFT = 3
    PROBE = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCall:
    """One call of a model. `complete` is False where the backend broke off: tokens are what was counted until then."""

    backend: str
    model: str
    usage: Usage
    purpose: Purpose
    complete: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Which models (backend, model) an answer of some settings may call, each once and the one that has to answer last.

    `max_tokens` bounds an answer, 0: nothing does; `texts` go into the prompt beside question, turns and passages.
    """

    models: Sequence[tuple[str, str]]
    max_tokens: int = 0
    texts: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Payer:
    """Whose answer the calls were for."""

    answer_id: str
    tenant: str
    corpus: str
    key_id: str
    user_id: str = ""
    session_id: str = ""
    variant_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Metered:
    """One call of a model, priced."""

    usage_id: str
    payer: Payer
    call: ModelCall
    price: Price
    metered_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """An operator's price: of one model, or with `*` at the end of `model` of all that begin so; backend `*`: any."""

    backend: str
    model: str
    prompt_micros: int
    completion_micros: int
    request_micros: int = 0

    def __post_init__(self) -> None:
        """Refuses what no call could match, or what would pay the caller."""
        if not self.backend:
            raise Invalid("is empty", field="backend")
        if not self.model or ANY in self.model[:-1]:
            raise Invalid("is empty, or has a `*` elsewhere than at its end", field="model")
        if min(self.prompt_micros, self.completion_micros, self.request_micros) < 0:
            raise Invalid("is below nothing", field="prompt_micros")

    @property
    def rank(self) -> tuple[bool, int, bool]:
        """How closely it is meant: a whole name before a beginning, a longer beginning, a named backend before any."""
        whole = not self.model.endswith(ANY)
        return whole, len(self.model), self.backend != ANY

    def fits(self, backend: str, model: str) -> bool:
        """Whether it is of that model."""
        if self.backend not in (ANY, backend):
            return False
        return model.startswith(self.model[:-1]) if self.model.endswith(ANY) else model == self.model

    def of(self, usage: Usage) -> int:
        """What the tokens cost, rounded up."""
        parts = usage.prompt_tokens * self.prompt_micros + usage.completion_tokens * self.completion_micros
        return self.request_micros - (-parts // PER)


@dataclass(slots=True)
class Rates:
    """The operator's own prices as last told, by the records' keys."""

    _rates: dict[str, Rate] = field(default_factory=dict)

    def __len__(self) -> int:
        """How many there are."""
        return len(self._rates)

    def put(self, key: str, rate: Rate) -> None:
        """Takes a price."""
        self._rates[key] = rate

    def drop(self, key: str) -> None:
        """Forgets one: the price table's own holds again."""
        self._rates.pop(key, None)

    def of(self, backend: str, model: str) -> Rate | None:
        """The one that is meant most closely."""
        fitting = [rate for rate in self._rates.values() if rate.fits(backend, model)]
        return max(fitting, key=lambda rate: rate.rank, default=None)


def usage_id(answer_id: str, purpose: Purpose, ordinal: int) -> str:
    """The name of the nth call (from 0) that an answer made for a purpose: the same however often it is told."""
    return str(uuid.uuid5(_NAMESPACE, f"{answer_id}\n{purpose.value}\n{ordinal}"))


def total(prices: Sequence[Price]) -> int | None:
    """What they come to; None as soon as one is not known, for a sum without it would be a wrong number."""
    micros = [price.micros for price in prices]
    known = [each for each in micros if each is not None]
    return sum(known) if len(known) == len(micros) else None
