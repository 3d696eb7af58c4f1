"""What may be spent and asked, and by whom."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final

from anabranch_faults import Invalid, Overloaded
from anabranch_gateway.domain import names

ALL: Final = "*"
KEYS, SESSIONS, USERS = "keys", "sessions", "users"
MINUTE: Final = timedelta(minutes=1)
LONGEST_WINDOW: Final = timedelta(days=400)
# Whole numbers are exact up to here in every store; 9 thousand million dollars. A higher bound is taken as this one.
MOST: Final = 2**53 - 1
_PARTS_OF_A_KEY: Final = 3


class Reason(StrEnum):
    """Why a call may not be made."""

    BUDGET = "BUDGET"
    RATE = "RATE"
    TOKENS = "TOKENS"
    IN_FLIGHT = "IN_FLIGHT"
    # A hard budget holds, and nobody knows what the call would cost.
    UNPRICED = "UNPRICED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What may be spent in each window, in millionths of a US dollar; `soft` 0: never told, `hard` None: no bound."""

    window: timedelta
    soft: int = 0
    hard: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much may be asked. None: no bound; 0: nothing."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    in_flight: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """The quota of a subject, see `registry.v1.QuotaChanged`. Raises Invalid for one that cannot be kept."""

    subject: str
    revision: int = 0
    budgets: Sequence[Budget] = ()
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        """Checks subject and windows."""
        check_subject(self.subject)
        for position, budget in enumerate(self.budgets):
            if not MINUTE <= budget.window <= LONGEST_WINDOW or budget.window.microseconds:
                raise Invalid(
                    "must be whole seconds, 1 minute to 400 days",
                    field=f"budgets[{position}].window",
                    reason="OUT_OF_RANGE",
                )
        if len({budget.window for budget in self.budgets}) < len(self.budgets):
            raise Invalid("name the same window twice", field="budgets", reason="DUPLICATE")


@dataclass(frozen=True, slots=True, kw_only=True)
class Payer:
    """For whom a call is made."""

    tenant: str
    key_id: str = ""
    user_id: str = ""
    session_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetBound:
    """A budget of one account. The account of a quota for each key, session or user names the one."""

    account: str
    seconds: int
    soft: int = 0
    hard: int | None = None

    @property
    def window(self) -> timedelta:
        """How long."""
        return timedelta(seconds=self.seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenBound:
    """Tokens in any minute of one account."""

    account: str
    limit: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CallBound:
    """Requests in any minute, and calls under way, of one account."""

    account: str
    requests: int | None = None
    in_flight: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """All that holds for a payer, from the installation inwards."""

    budgets: tuple[BudgetBound, ...] = ()
    tokens: tuple[TokenBound, ...] = ()
    calls: tuple[CallBound, ...] = ()

    @property
    def hard(self) -> bool:
        """Whether something may not be passed that is counted in money."""
        return any(each.hard is not None for each in self.budgets)

    @property
    def costs(self) -> bool:
        """Whether anything asks what a call costs."""
        return bool(self.budgets or self.tokens)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Millionths of a US dollar, and prompt and completion tokens together."""

    micros: int = 0
    tokens: int = 0

    def __post_init__(self) -> None:
        """Refuses what no store could add up."""
        if not (0 <= self.micros <= MOST and 0 <= self.tokens <= MOST):
            raise ValueError(f"{self} is not a cost")


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Which bound of which account has no room. `wait`: until there may be some."""

    reason: Reason
    account: str
    window: timedelta
    wait: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Crossing:
    """A bound of a budget was reached; told once a window and bound."""

    account: str
    window: timedelta
    start: datetime
    hard: bool
    bound: int
    spent: int
    reserved: int
    at: datetime


class Spent(Overloaded):
    """A quota has no room for the call; gRPC's RESOURCE_EXHAUSTED, HTTP's 429.

    `reason`, and in `facts` subject and window, are for programs.
    """

    def __init__(self, refusal: Refusal) -> None:
        """Takes what the ledger said."""
        super().__init__(_sentence(refusal), retry_after=refusal.wait)
        self.refusal = refusal
        self.reason = str(refusal.reason)

    @property
    def facts(self) -> Mapping[str, str]:
        """Which bound it is."""
        return {"subject": self.refusal.account, "window": f"{int(self.refusal.window.total_seconds())}s"}


class Quotas:
    """The quotas as the registry last told them."""

    def __init__(self, quotas: Sequence[Quota] = ()) -> None:
        """Starts with these."""
        self._by_subject = {quota.subject: quota for quota in quotas}

    def __len__(self) -> int:
        """Subjects with a quota."""
        return len(self._by_subject)

    def put(self, quota: Quota) -> None:
        """Takes the place of the subject's quota before."""
        self._by_subject[quota.subject] = quota

    def drop(self, subject: str) -> None:
        """Nothing holds for the subject any more."""
        self._by_subject.pop(subject, None)

    def of(self, payer: Payer) -> Bounds:
        """All that must have room for a call of the payer."""
        budgets: list[BudgetBound] = []
        tokens: list[TokenBound] = []
        calls: list[CallBound] = []
        for account, quota in self._accounts(payer):
            budgets += [
                BudgetBound(
                    account=account,
                    seconds=int(each.window.total_seconds()),
                    soft=min(each.soft, MOST),
                    hard=None if each.hard is None else min(each.hard, MOST),
                )
                for each in quota.budgets
                if each.soft or each.hard is not None
            ]
            limits = quota.limits
            if limits.tokens_per_minute is not None:
                tokens.append(TokenBound(account=account, limit=min(limits.tokens_per_minute, MOST)))
            if limits.requests_per_minute is not None or limits.in_flight is not None:
                calls.append(
                    CallBound(account=account, requests=limits.requests_per_minute, in_flight=limits.in_flight)
                )
        return Bounds(budgets=tuple(budgets), tokens=tuple(tokens), calls=tuple(calls))

    def _accounts(self, payer: Payer) -> Iterator[tuple[str, Quota]]:
        if not self._by_subject:
            return
        tenant = payer.tenant
        key = f"{tenant}/{KEYS}/{payer.key_id}"
        candidates = [(ALL, ALL), (tenant, tenant)]
        if payer.key_id:
            candidates.append((key, key if key in self._by_subject else f"{tenant}/{KEYS}"))
        if payer.user_id:
            candidates.append((f"{tenant}/{USERS}/{payer.user_id}", f"{tenant}/{USERS}"))
        if payer.session_id:
            candidates.append((f"{tenant}/{SESSIONS}/{payer.session_id}", f"{tenant}/{SESSIONS}"))
        for account, subject in candidates:
            if (quota := self._by_subject.get(subject)) is not None:
                yield account, quota


def check_subject(subject: str) -> str:
    """The subject, if it is one. Raises Invalid."""
    if subject == ALL:
        return subject
    tenant, *rest = subject.split("/", _PARTS_OF_A_KEY - 1)
    names.tenant(tenant)
    each = len(rest) == 1 and rest[0] in (KEYS, SESSIONS, USERS)
    one_key = len(rest) == _PARTS_OF_A_KEY - 1 and rest[0] == KEYS and bool(rest[1]) and "/" not in rest[1]
    if rest and not each and not one_key:
        raise Invalid(
            "is *, a tenant, or tenant/keys, tenant/keys/<id>, tenant/sessions or tenant/users",
            field="subject",
            reason="INVALID_NAME",
        )
    return subject


def start_of(now: datetime, seconds: int) -> datetime:
    """When the window began that `now` is in: windows follow one another from 1970-01-01T00:00Z."""
    return datetime.fromtimestamp(int(now.timestamp()) // seconds * seconds, tz=UTC)


def _sentence(refusal: Refusal) -> str:
    whose = "the installation" if refusal.account == ALL else refusal.account
    match refusal.reason:
        case Reason.BUDGET:
            return f"the budget of {whose} for {_spoken(refusal.window)} has no room for this call"
        case Reason.UNPRICED:
            return f"{whose} has a budget, and the price of this call is not known"
        case Reason.RATE:
            return f"{whose} has made all requests of a minute"
        case Reason.TOKENS:
            return f"the tokens per minute of {whose} have no room for this call"
        case Reason.IN_FLIGHT:
            return f"{whose} has all its calls under way"


def _spoken(window: timedelta) -> str:
    seconds = int(window.total_seconds())
    for size, name in ((86_400, "day"), (3_600, "hour"), (60, "minute")):
        if seconds % size == 0:
            number = seconds // size
            return f"{number} {name}s" if number > 1 else f"a {name}"
    return f"{seconds} seconds"
