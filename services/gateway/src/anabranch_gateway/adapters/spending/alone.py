"""Accounts of a gateway that needs no Redis: counted in this process, granted by the gateway's database."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Literal

from anabranch_faults import Transient, Unreachable
from anabranch_gateway.adapters.spending.accounts import Account
from anabranch_gateway.adapters.spending.grants import Grants, Window
from anabranch_gateway.adapters.spending.minutes import Minute
from anabranch_gateway.application.spending import Decision, Held
from anabranch_gateway.domain.spending import (
    MINUTE,
    Bounds,
    BudgetBound,
    CallBound,
    Cost,
    Crossing,
    Reason,
    Refusal,
)
from anabranch_observability import counter
from anabranch_observability.names import gateway as names

LOST_FOR: Final = 3_600.0
DONE_FOR: Final = 120.0
SWEEP_EVERY: Final = 60.0
REFRESH_EVERY: Final = 1.0
SECOND: Final = timedelta(seconds=1)


@dataclass(slots=True)
class _Record:
    cost: Cost
    accounts: Sequence[tuple[Account, BudgetBound]]
    minutes: Sequence[tuple[Minute, int]]
    until: float


class AloneLedger:
    """The Ledger port.

    Money is exact among all processes that use one database, each of which holds grants (a hundredth of a budget at a
    time) and gives back what is left when it is closed. Requests, tokens and places in flight are this process's own.
    """

    def __init__(
        self, grants: Grants, *, lease: timedelta = timedelta(seconds=30), clock: Callable[[], float] = time.time
    ) -> None:
        """Takes the grants, and a clock in seconds since 1970."""
        self._grants = grants
        self._lease = lease.total_seconds()
        self._clock = clock
        self._accounts: dict[Window, Account] = {}
        self._requests: defaultdict[str, Minute] = defaultdict(Minute)
        self._tokens: defaultdict[str, Minute] = defaultdict(Minute)
        self._inside: defaultdict[str, OrderedDict[str, float]] = defaultdict(OrderedDict)
        self._admitted: OrderedDict[str, float] = OrderedDict()
        # Each ordered by when it ends.
        self._open: OrderedDict[str, _Record] = OrderedDict()
        self._lost: OrderedDict[str, _Record] = OrderedDict()
        self._done: OrderedDict[str, tuple[float, Literal["done", "released"]]] = OrderedDict()
        self._swept = clock()
        self._sweeping: asyncio.Task[None] | None = None

    async def admit(self, call_id: str, bounds: Sequence[CallBound]) -> Refusal | None:
        """See the port."""
        now = self._now()
        second = int(now)
        if call_id in self._admitted:
            return None
        for bound in bounds:
            if (refusal := self._full(bound, now)) is not None:
                return refusal
        for bound in bounds:
            if bound.requests is not None:
                self._requests[bound.account].add(second, 1)
            if bound.in_flight is not None:
                self._inside[bound.account][call_id] = now + self._lease
        self._admitted[call_id] = now + DONE_FOR
        return None

    async def leave(self, call_id: str, bounds: Sequence[CallBound]) -> None:
        """See the port."""
        for bound in bounds:
            if bound.in_flight is not None:
                self._inside[bound.account].pop(call_id, None)

    async def reserve(self, call_id: str, bounds: Bounds, cost: Cost) -> Decision:
        """See the port."""
        while True:
            now = self._now()
            if self._known(call_id):
                return Decision()
            accounts = [(self._account(bound, now), bound) for bound in bounds.budgets]
            refusal, crossings = await self._refused(accounts, bounds, cost, now)
            if refusal is not None:
                return Decision(refusal=refusal, crossings=crossings)
            short = [(each, bound) for each, bound in accounts if cost.micros and each.free < cost.micros]
            if not short:
                break
            account, bound = short[0]
            if not await account.grow(cost.micros, bound) and account.free < cost.micros and account.growing is None:
                # Others hold what is left.
                crossings = account.reached(bound, at=now, refused=True)
                return Decision(refusal=_no_room(account, bound, cost, now), crossings=await self._firsts(crossings))
        # Nothing is awaited between the last look and this.
        second = int(now)
        minutes = [(self._tokens[each.account], second) for each in bounds.tokens]
        for minute, at in minutes:
            minute.add(at, cost.tokens)
        for account, bound in accounts:
            account.reserved += cost.micros
            if cost.micros:
                account.grow_ahead(bound)
        self._open[call_id] = _Record(cost, accounts, minutes, now + self._lease)
        return Decision(crossings=await self._reached(accounts, now))

    async def settle(self, call_id: str, bounds: Bounds, cost: Cost | None) -> Sequence[Crossing]:
        """See the port."""
        now = self._now()
        if call_id in self._done:
            return ()
        record = self._open.pop(call_id, None)
        was_open = record is not None
        record = record or self._lost.pop(call_id, None)
        if record is None:
            accounts = [(self._account(bound, now), bound) for bound in bounds.budgets]
            minutes = [(self._tokens[each.account], int(now)) for each in bounds.tokens]
            record = _Record(Cost(), accounts, minutes, now)
        actual = cost or record.cost
        for account, _ in record.accounts:
            if was_open:
                account.reserved -= record.cost.micros
                account.spent += actual.micros
            else:
                account.spent += actual.micros - record.cost.micros
        self._count(record, actual.tokens - record.cost.tokens, now)
        self._done[call_id] = (now + DONE_FOR, "done")
        overrun = [(account, -account.free) for account, _ in record.accounts if account.free < 0]
        crossings = await self._reached(record.accounts, now)
        if overrun:
            await self._correct(overrun)
        return crossings

    async def release(self, call_id: str) -> None:
        """See the port."""
        now = self._now()
        if call_id in self._done:
            return
        if (record := self._open.pop(call_id, None)) is not None:
            for account, _ in record.accounts:
                account.reserved -= record.cost.micros
        elif (record := self._lost.pop(call_id, None)) is not None:
            for account, _ in record.accounts:
                account.spent -= record.cost.micros
        if record is not None:
            self._count(record, -record.cost.tokens, now)
        self._done[call_id] = (now + DONE_FOR, "released")

    async def renew(self, held: Sequence[Held]) -> None:
        """See the port."""
        until = self._now() + self._lease
        for each in held:
            if each.reserved and (record := self._open.get(each.call_id)) is not None:
                record.until = until
                self._open.move_to_end(each.call_id)
            for bound in each.calls:
                inside = self._inside[bound.account]
                if each.call_id in inside:
                    inside[each.call_id] = until
                    inside.move_to_end(each.call_id)

    async def close(self) -> None:
        """Gives back what was granted and not used; what is still reserved stays taken. Raises nothing."""
        for task in [self._sweeping, *(account.growing for account in self._accounts.values())]:
            if task is not None:
                await asyncio.wait([task])
        now = self._clock()
        unused = [(each, -each.free) for each in self._accounts.values() if each.free and each.window.ends > now]
        if unused:
            try:
                await self._correct(unused)
            except Transient:
                return  # it stays granted, and so counts as spent

    def _full(self, bound: CallBound, now: float) -> Refusal | None:
        if bound.requests is not None:
            minute = self._requests[bound.account]
            if (excess := minute.sum(int(now)) + 1 - bound.requests) > 0:
                wait = timedelta(seconds=minute.wait(excess, now=now))
                return Refusal(reason=Reason.RATE, account=bound.account, window=MINUTE, wait=wait)
        if bound.in_flight is not None:
            inside = self._inside[bound.account]
            while inside and next(iter(inside.values())) <= now:
                inside.popitem(last=False)
            if len(inside) >= bound.in_flight:
                return Refusal(reason=Reason.IN_FLIGHT, account=bound.account, window=timedelta(), wait=SECOND)
        return None

    def _known(self, call_id: str) -> bool:
        if self._done.get(call_id, (0.0, "done"))[1] == "released":
            raise Unreachable("the call was given up before it was reserved")
        return call_id in self._open or call_id in self._lost or call_id in self._done

    async def _refused(
        self, accounts: Sequence[tuple[Account, BudgetBound]], bounds: Bounds, cost: Cost, now: float
    ) -> tuple[Refusal | None, Sequence[Crossing]]:
        refusal: Refusal | None = None
        crossings: list[Crossing] = []
        for account, bound in accounts:
            if bound.hard is None or not cost.micros or account.total + cost.micros <= bound.hard:
                continue
            if account.others and now - account.seen > REFRESH_EVERY:
                account.seen = now
                await account.refresh()  # another process may have given something back
                return await self._refused(accounts, bounds, cost, now)
            found = _no_room(account, bound, cost, now)
            crossings += account.reached(bound, at=now, refused=True)
            if refusal is None or found.wait > refusal.wait:
                refusal = found
        for each in bounds.tokens if refusal is None and cost.tokens else ():
            minute = self._tokens[each.account]
            if (excess := minute.sum(int(now)) + cost.tokens - each.limit) > 0:
                wait = timedelta(seconds=minute.wait(excess, now=now))
                found = Refusal(reason=Reason.TOKENS, account=each.account, window=MINUTE, wait=wait)
                if refusal is None or found.wait > refusal.wait:
                    refusal = found
        return refusal, await self._firsts(crossings) if crossings else ()

    async def _reached(self, accounts: Sequence[tuple[Account, BudgetBound]], now: float) -> Sequence[Crossing]:
        found = [crossing for account, bound in accounts for crossing in account.reached(bound, at=now)]
        return await self._firsts(found) if found else ()

    async def _firsts(self, crossings: Sequence[Crossing]) -> Sequence[Crossing]:
        return [crossing for crossing in crossings if await self._first(crossing)]

    async def _first(self, crossing: Crossing) -> bool:
        seconds, start = int(crossing.window.total_seconds()), int(crossing.start.timestamp())
        try:
            window = Window(crossing.account, seconds, start)
            return await self._grants.tell(window, hard=crossing.hard, bound=crossing.bound)
        except Transient:
            return True  # told once too often rather than never

    async def _correct(self, changes: Sequence[tuple[Account, int]]) -> None:
        await self._grants.correct([(account.window, by) for account, by in changes])
        for account, by in changes:
            account.mine += by
            account.out += by

    def _count(self, record: _Record, tokens: int, now: float) -> None:
        for minute, second in record.minutes:
            if tokens and second > int(now) - 61:
                minute.add(second, tokens)

    def _account(self, bound: BudgetBound, now: float) -> Account:
        window = Window(bound.account, bound.seconds, int(now) // bound.seconds * bound.seconds)
        if (account := self._accounts.get(window)) is None:
            account = self._accounts[window] = Account(window=window, grants=self._grants)
        return account

    def _now(self) -> float:
        now = self._clock()
        while self._open and (first := next(iter(self._open))) and self._open[first].until <= now:
            # The sum stays, so nothing is let through or kept out by it.
            record = self._open.pop(first)
            for account, _ in record.accounts:
                account.reserved -= record.cost.micros
                account.spent += record.cost.micros
            record.until = now + LOST_FOR
            self._lost[first] = record
            counter(names.RESERVATIONS_LOST).inc()
        if now - self._swept > SWEEP_EVERY and (self._sweeping is None or self._sweeping.done()):
            self._swept = now
            self._sweeping = asyncio.create_task(self._sweep(now))
        return now

    async def _sweep(self, now: float) -> None:
        while self._admitted and next(iter(self._admitted.values())) <= now:
            self._admitted.popitem(last=False)
        while self._done and next(iter(self._done.values()))[0] <= now:
            self._done.popitem(last=False)
        while self._lost and next(iter(self._lost.values())).until <= now:
            self._lost.popitem(last=False)
        for window in [each for each in self._accounts if each.ends + LOST_FOR < now]:
            del self._accounts[window]
        held = {id(minute) for record in (*self._open.values(), *self._lost.values()) for minute, _ in record.minutes}
        for minutes in (self._requests, self._tokens):
            for name in [name for name, each in minutes.items() if not each.sum(int(now)) and id(each) not in held]:
                del minutes[name]
        for name in [name for name, inside in self._inside.items() if not inside]:
            del self._inside[name]
        try:
            await self._grants.sweep(int(now))
        except Transient:
            return  # another time


def _no_room(account: Account, bound: BudgetBound, cost: Cost, now: float) -> Refusal:
    # What is reserved may come back any moment; what is spent stays until the window ends.
    soon = account.others + account.spent + cost.micros <= (bound.hard or 0)
    wait = 1.0 if soon else max(0.001, account.window.ends - now)
    return Refusal(reason=Reason.BUDGET, account=bound.account, window=bound.window, wait=timedelta(seconds=wait))
