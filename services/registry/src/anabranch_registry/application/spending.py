"""Quotas, prices, and the ledger of what was spent."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from anabranch_faults import Invalid, Transient
from anabranch_registry.application.audit import noted, swap
from anabranch_registry.application.ports import Clock, CostBook, Ledger, utc_now
from anabranch_registry.domain import checked_change
from anabranch_registry.domain.spending import KEPT, By, Costs, Price, Quota, Usage

__all__ = ["ForgetCalls", "GetCosts", "Prices", "Quotas", "TakeUsage"]

_ALL = 100_000
_MOST_GROUPS = 1_000
_MOST_DIMENSIONS = 3


@dataclass(frozen=True, slots=True)
class Quotas:
    """Says what subjects may spend and ask."""

    ledger: Ledger
    now: Clock = utc_now

    async def set(self, quota: Quota) -> Quota:
        """Return the quota as it now is; `revision` is the one its author has seen, 0 for none.

        Raises Invalid, Conflict when somebody was faster.
        """
        change = checked_change(author=quota.change.author, reason=quota.change.reason, at=self.now())
        quota.check()
        async with self.ledger.writing() as books:
            before = await books.find(Quota, quota.subject)
            swap(f"the quota of {quota.subject}", before.revision if before else 0, quota.revision)
            quota = replace(quota, revision=quota.revision + 1, change=change)
            await books.put(quota)
            await books.tell(quota)
            tenant = "" if quota.subject == "*" else quota.subject.split("/", 1)[0]
            await books.note([noted("quota", quota.subject, f"revision {quota.revision}", tenant, change)])
        return quota

    async def list(self) -> Sequence[Quota]:
        """Return all, by subject."""
        async with self.ledger.reading() as books:
            page = await books.page(Quota, count=_ALL)
        return sorted(page.found, key=lambda quota: quota.subject)


@dataclass(frozen=True, slots=True)
class Prices:
    """Says what models cost."""

    ledger: Ledger
    now: Clock = utc_now

    async def set(self, price: Price) -> Price:
        """Return the price as it now is; `revision` is the one its author has seen, 0 for none.

        Raises Invalid, Conflict when somebody was faster.
        """
        change = checked_change(author=price.change.author, reason=price.change.reason, at=self.now())
        price.check()
        async with self.ledger.writing() as books:
            before = await books.find(Price, price.key)
            swap(f"the price of {price.key}", before.revision if before else 0, price.revision)
            price = replace(price, revision=price.revision + 1, change=change)
            await books.put(price)
            await books.tell(price)
            what = "withdrawn" if price.withdrawn else f"revision {price.revision}"
            await books.note([noted("price", price.key, what, "", change)])
        return price

    async def list(self) -> Sequence[Price]:
        """Return all, by backend and model, also those that were withdrawn."""
        async with self.ledger.reading() as books:
            page = await books.page(Price, count=_ALL)
        return sorted(page.found, key=lambda price: price.key)


@dataclass(frozen=True, slots=True)
class TakeUsage:
    """Adds calls of models to the ledger."""

    book: CostBook
    now: Clock = utc_now

    def check(self, usage: Usage) -> Usage:
        """Return it. Raises Invalid."""
        usage.check(now=self.now())
        return usage

    async def __call__(self, calls: Sequence[Usage]) -> int:
        """Return how many calls were too old to be added.

        They are older than the names of calls are kept, so that nobody could say whether they were added before.
        """
        oldest = self.now() - KEPT
        fresh = [one for one in calls if one.metered_at >= oldest]
        if fresh:
            await self.book.add(fresh)
        return len(calls) - len(fresh)


@dataclass(frozen=True, slots=True)
class GetCosts:
    """Adds up the ledger."""

    book: CostBook
    now: Clock = utc_now

    async def __call__(
        self, by: Sequence[By], *, since: datetime, until: datetime | None = None, tenant: str = ""
    ) -> Costs:
        """Return sums over whole hours, dearest group first. Raises Invalid."""
        if not 1 <= len(by) <= _MOST_DIMENSIONS or len(set(by)) != len(by):
            raise Invalid(
                f"needs one to {_MOST_DIMENSIONS} different dimensions of {', '.join(word.lower() for word in By)}",
                field="by",
                reason="NOT_DIMENSIONS",
            )
        until = self.now() if until is None else until
        if until < since:
            raise Invalid(f"is {until}, before {since}", field="until", reason="OUT_OF_RANGE")
        return await self.book.sums(by, since=since, until=until, tenant=tenant, most=_MOST_GROUPS)


@dataclass(frozen=True, slots=True)
class ForgetCalls:
    """Removes the names of calls that cannot come again."""

    book: CostBook
    sleep: Callable[[float], Awaitable[object]]
    every: timedelta = timedelta(hours=6)
    now: Clock = utc_now

    async def run(self) -> None:
        """Look round until cancelled; outages are waited out."""
        while True:
            with suppress(Transient):
                # A day more than what is still added.
                await self.book.forget(before=self.now() - KEPT - timedelta(days=1))
            await self.sleep(self.every.total_seconds())
