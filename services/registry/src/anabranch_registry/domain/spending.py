"""What may be spent and asked, what models cost, and what was spent."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import ClassVar, Final

from anabranch_faults import Invalid
from anabranch_registry.domain.checks import check_length, check_number, check_required
from anabranch_registry.domain.routing import Change

__all__ = ["KEPT", "Bounds", "Budget", "By", "Costs", "Price", "Quota", "Spent", "Usage"]

_SUBJECT: Final = re.compile(r"\*|[A-Za-z0-9._-]{1,64}(/(keys(/[A-Za-z0-9._:-]{1,128})?|sessions|users))?")
_BACKEND: Final = re.compile(r"\*|[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_MODEL: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,127}\*?|\*")
_SHORTEST: Final = timedelta(minutes=1)
_LONGEST: Final = timedelta(days=400)
_MAX_BUDGETS: Final = 10
_MOST: Final = 10**15
"""A thousand million dollars: more is a slip of the hand."""
_MAX_TOKENS: Final = 10**9
_MAX_NAME: Final = 512
_AHEAD: Final = timedelta(days=1)
KEPT: Final = timedelta(days=430)
"""How long the names of calls are kept, so that none is added twice: longer than their topic keeps them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What may be spent within each window, in millionths of a dollar."""

    window: timedelta
    soft_micros: int = 0
    hard_micros: int | None = None

    def check(self, path: str) -> None:
        """Raise Invalid with the field at fault."""
        if not _SHORTEST <= self.window <= _LONGEST:
            raise Invalid(
                f"is {self.window}; allowed is 1 minute to 400 days", field=f"{path}.window", reason="OUT_OF_RANGE"
            )
        check_number(self.soft_micros, f"{path}.soft_micros", 0, _MOST)
        if self.hard_micros is None:
            if not self.soft_micros:
                raise Invalid("bounds nothing: give soft_micros or hard_micros", field=path, reason="MISSING")
            return
        check_number(self.hard_micros, f"{path}.hard_micros", 0, _MOST)
        if self.soft_micros > self.hard_micros:
            raise Invalid(
                f"is {self.soft_micros:,}, past the hard bound of {self.hard_micros:,}",
                field=f"{path}.soft_micros",
                reason="OUT_OF_RANGE",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """How much may be asked; None: as much as one likes."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    in_flight: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """What a subject may spend and ask."""

    noun: ClassVar[str] = "quota"

    subject: str
    budgets: tuple[Budget, ...] = ()
    bounds: Bounds = Bounds()
    revision: int
    change: Change

    @property
    def key(self) -> str:
        """Its subject."""
        return self.subject

    def check(self, path: str = "quota") -> None:
        """Raise Invalid with the field at fault."""
        if not _SUBJECT.fullmatch(self.subject):
            raise Invalid(
                f"{self.subject!r} is not *, <tenant>, <tenant>/keys, <tenant>/keys/<key_id>, <tenant>/sessions or "
                "<tenant>/users",
                field=f"{path}.subject",
                reason="NOT_A_SUBJECT",
            )
        if len(self.budgets) > _MAX_BUDGETS:
            raise Invalid(
                f"has {len(self.budgets)} entries; the limit is {_MAX_BUDGETS}",
                field=f"{path}.budgets",
                reason="TOO_MANY",
            )
        windows = [budget.window for budget in self.budgets]
        for index, budget in enumerate(self.budgets):
            budget.check(f"{path}.budgets[{index}]")
            if budget.window in windows[:index]:
                raise Invalid(
                    f"{budget.window} is there twice", field=f"{path}.budgets[{index}].window", reason="NOT_UNIQUE"
                )
        for name in ("requests_per_minute", "tokens_per_minute", "in_flight"):
            if (bound := getattr(self.bounds, name)) is not None:
                check_number(bound, f"{path}.limits.{name}", 0, _MOST)


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """An operator's own price of a model, in millionths of a dollar for a million tokens, and for each request."""

    noun: ClassVar[str] = "price"

    backend: str
    model: str
    prompt_micros: int = 0
    completion_micros: int = 0
    request_micros: int = 0
    withdrawn: bool = False
    revision: int
    change: Change

    @property
    def key(self) -> str:
        """Backend and model."""
        return f"{self.backend}/{self.model}"

    def check(self, path: str = "price") -> None:
        """Raise Invalid with the field at fault."""
        if not _BACKEND.fullmatch(self.backend):
            raise Invalid(f"{self.backend!r} is no backend's name, nor *", field=f"{path}.backend", reason="NOT_A_NAME")
        if not _MODEL.fullmatch(self.model):
            raise Invalid(
                f"{self.model!r} is no model's name; * may stand at its end only",
                field=f"{path}.model",
                reason="NOT_A_NAME",
            )
        for name in ("prompt_micros", "completion_micros", "request_micros"):
            check_number(getattr(self, name), f"{path}.{name}", 0, _MOST)
            if self.withdrawn and getattr(self, name):
                raise Invalid("is given, but the price is withdrawn", field=f"{path}.{name}", reason="CONTRADICTION")


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """One call of a model. `cost_micros` None: nobody knows its price."""

    usage_id: str
    tenant: str
    key_id: str = ""
    user_id: str = ""
    variant_id: str = ""
    purpose: str = ""
    backend: str = ""
    model: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_micros: int | None = None
    metered_at: datetime

    def check(self, *, now: datetime) -> None:
        """Raise Invalid with the field at fault."""
        for name in ("usage_id", "tenant"):
            check_required(getattr(self, name), name, _MAX_NAME)
        for name in ("key_id", "user_id", "variant_id", "backend", "model"):
            check_length(getattr(self, name), name, _MAX_NAME)
        for name in ("prompt_tokens", "completion_tokens"):
            check_number(getattr(self, name), name, 0, _MAX_TOKENS)
        check_number(self.cost_micros or 0, "cost_micros", 0, _MOST)
        if self.metered_at > now + _AHEAD:
            raise Invalid(f"is {self.metered_at}, which is yet to come", field="metered_at", reason="OUT_OF_RANGE")


class By(StrEnum):
    """What costs are told apart by."""

    TENANT = "TENANT"
    KEY = "KEY"
    USER = "USER"
    VARIANT = "VARIANT"
    MODEL = "MODEL"
    DAY = "DAY"
    PURPOSE = "PURPOSE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """The sum over one group. What has no price is counted in `unpriced_calls`, and in no cost."""

    group: tuple[str, ...] = ()
    calls: int = 0
    unpriced_calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_micros: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """Groups, dearest first; `total` is over all of them, also those left out."""

    rows: Sequence[Spent] = ()
    total: Spent = Spent()
    left_out: int = 0
