"""Who may still ask and spend: places and money are taken before a call, and settled after it.

    async with purse.admitted(answer_id, payer):
        reservation = await purse.reserve(answer_id=answer_id, payer=payer, micros=most, tokens=most_tokens)
        ...                                                       # the call, held to what the reservation covers
        await purse.settle(reservation, micros=actual, tokens=actual_tokens)

What is never settled is counted as spent at what was reserved: the call may have been made, and billed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import Any, Final, Protocol, TypeVar

from anabranch_faults import Transient, Unreachable
from anabranch_gateway.domain.spending import (
    MINUTE,
    Bounds,
    CallBound,
    Cost,
    Crossing,
    Payer,
    Quotas,
    Reason,
    Refusal,
    Spent,
)

T = TypeVar("T")

STRIKES: Final = 3
FIRST_REST: Final = 0.5
LONGEST_REST: Final = 5.0
DEBTS: Final = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What a ledger said to a reservation: refused, or made; and which bounds were reached by it."""

    refusal: Refusal | None = None
    crossings: Sequence[Crossing] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What a call holds that is under way."""

    call_id: str
    calls: Sequence[CallBound] = ()
    reserved: bool = False


class Ledger(Protocol):
    """Where accounts are kept. Every operation is one step: no other is seen half done, by any replica.

    `call_id` makes each repeatable: again with the same id changes nothing. All raise Transient while it is away.
    """

    async def admit(self, call_id: str, bounds: Sequence[CallBound]) -> Refusal | None:
        """Counts a request and takes a place in flight, in all accounts or in none. The place ends with its lease."""
        ...

    async def leave(self, call_id: str, bounds: Sequence[CallBound]) -> None:
        """Gives the places back."""
        ...

    async def reserve(self, call_id: str, bounds: Bounds, cost: Cost) -> Decision:
        """Sets the cost aside in all accounts, windows and token limits, or in none."""
        ...

    async def settle(self, call_id: str, bounds: Bounds, cost: Cost | None) -> Sequence[Crossing]:
        """Puts what it came to in the place of what was set aside, also if it is more, also after the lease.

        None: what was set aside is taken as spent. An id that was never reserved is written down as spent.
        """
        ...

    async def release(self, call_id: str) -> None:
        """Nothing was spent. A reservation of this id that comes after is refused."""
        ...

    async def renew(self, held: Sequence[Held]) -> None:
        """Begins the leases anew of what is still held."""
        ...


class Reports(Protocol):
    """Who hears of it. None of these waits or raises."""

    def crossed(self, crossing: Crossing) -> None:
        """A bound was reached; said once by all replicas together."""
        ...

    def refused(self, refusal: Refusal) -> None:
        """A call was."""
        ...

    def unchecked(self, operation: str, *, let: bool, problem: str) -> None:
        """The ledger was away; `let`: the call goes on all the same."""
        ...

    def unsettled(self, number: int) -> None:
        """Calls that wait for a ledger that is away."""
        ...

    def forgotten(self) -> None:
        """A settlement was given up; its reservation will be counted as spent."""
        ...


class OnFailure(StrEnum):
    """What a call may do while the ledger is away. AUTO: closed where a hard budget holds, else open."""

    AUTO = "auto"
    CLOSED = "closed"
    OPEN = "open"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reservation:
    """What is set aside for one call."""

    call_id: str
    bounds: Bounds
    cost: Cost

    @property
    def bounded(self) -> bool:
        """Whether the call has to keep to what is set aside."""
        return self.bounds.hard or bool(self.bounds.tokens)


@dataclass(slots=True)
class _Circuit:
    """Rests after a few failures in a row: a ledger that is away costs a call nothing but the refusal."""

    clock: Callable[[], float]
    strikes: int = 0
    rest: float = FIRST_REST
    until: float = 0.0

    def check(self) -> None:
        if self.strikes < STRIKES:
            return
        if self.clock() < self.until:
            raise Unreachable("the ledger of quotas is away", retry_after=timedelta(seconds=self.rest))
        self.until = self.clock() + self.rest  # this call tries; the others go on resting

    def failed(self) -> None:
        self.strikes += 1
        if self.strikes >= STRIKES:
            if self.strikes > STRIKES:
                self.rest = min(self.rest * 2, LONGEST_REST)
            self.until = self.clock() + self.rest

    def worked(self) -> None:
        self.strikes, self.rest = 0, FIRST_REST


@dataclass(slots=True, kw_only=True)
class _Debt:
    bounds: Bounds
    cost: Cost | None
    released: bool = False


@dataclass(slots=True, kw_only=True)
class Purse:
    """Asks the ledger, never longer than `patience`; `run` renews leases, and settles what could not be settled."""

    quotas: Quotas
    ledger: Ledger
    reports: Reports
    on_failure: OnFailure = OnFailure.AUTO
    patience: timedelta = timedelta(seconds=1)
    lease: timedelta = timedelta(seconds=30)
    clock: Callable[[], float] = time.monotonic
    _held: dict[str, Held] = field(default_factory=dict)
    _debts: dict[str, _Debt] = field(default_factory=dict)
    _tasks: set[asyncio.Task[Any]] = field(default_factory=set)
    _circuit: _Circuit = field(init=False)

    def __post_init__(self) -> None:
        """Nothing has failed so far."""
        self._circuit = _Circuit(self.clock)

    @asynccontextmanager
    async def admitted(self, answer_id: str, payer: Payer) -> AsyncIterator[None]:
        """Counts a request, and holds its places for the time of the block. Raises Spent, or Unreachable if closed."""
        calls = self.quotas.of(payer).calls
        if not calls:
            yield
            return
        await self._admit(answer_id, calls, hard=self.quotas.of(payer).hard)
        self._held[answer_id] = Held(call_id=answer_id, calls=calls)
        try:
            yield
        finally:
            del self._held[answer_id]
            await self._finish(self._leave(answer_id, calls))

    async def reserve(self, *, answer_id: str, payer: Payer, micros: int | None, tokens: int) -> Reservation:
        """Sets aside the most that a call can come to; `micros` None: its price is not known.

        Raises Spent where a bound has no room (or a hard budget meets an unknown price), Unreachable while the ledger
        is away and the purse closed. Give a call of its own id to each model call of an answer.
        """
        bounds = self.quotas.of(payer)
        cost = Cost(micros=micros or 0, tokens=tokens)
        reservation = Reservation(call_id=answer_id, bounds=bounds, cost=cost)
        if not bounds.costs:
            return reservation
        if micros is None and (hard := next((each for each in bounds.budgets if each.hard is not None), None)):
            raise self._spent(Refusal(reason=Reason.UNPRICED, account=hard.account, window=hard.window, wait=MINUTE))
        try:
            decision = await self._ask(lambda: self.ledger.reserve(answer_id, bounds, cost))
        except Transient as fault:
            # It may have been made all the same.
            self._owe(answer_id, _Debt(bounds=bounds, cost=None, released=True))
            self._failed("reserve", fault, hard=bounds.hard)
            self._debts.pop(answer_id, None)  # the call is made: settling writes it down
            return reservation
        except asyncio.CancelledError:
            self._owe(answer_id, _Debt(bounds=bounds, cost=None, released=True))
            raise
        self._tell(decision.crossings)
        if decision.refusal is not None:
            raise self._spent(decision.refusal)
        self._held[f"{answer_id}#"] = Held(call_id=answer_id, reserved=True)
        return reservation

    async def settle(self, reservation: Reservation, *, micros: int | None, tokens: int) -> None:
        """Writes down what the call came to; `micros` None: what was set aside. Never raises, nor stops half-way."""
        cost = Cost(micros=reservation.cost.micros if micros is None else micros, tokens=tokens)
        await self._close(reservation, _Debt(bounds=reservation.bounds, cost=cost))

    async def release(self, reservation: Reservation) -> None:
        """The call was not made, or cost nothing. Never raises; not undone by a cancel."""
        await self._close(reservation, _Debt(bounds=reservation.bounds, cost=None, released=True))

    async def run(self) -> None:
        """Renews leases and settles late, until it is cancelled."""
        pause = min(1.0, self.lease.total_seconds() / 6)
        renewed = self.clock()
        while True:
            await asyncio.sleep(pause)
            if self._held and self.clock() - renewed > self.lease.total_seconds() / 3:
                renewed = self.clock()
                held = list(self._held.values())
                await self._quietly("renew", lambda held=held: self.ledger.renew(held))  # type: ignore[misc]  # mypy cannot infer a lambda's default
            await self.settle_debts()

    async def settle_debts(self) -> None:
        """Settles what a ledger that was away has missed, as far as it is back."""
        for call_id, debt in list(self._debts.items()):
            if not await self._paid(call_id, debt):
                break
            if self._debts.get(call_id) is debt:
                del self._debts[call_id]
        self.reports.unsettled(len(self._debts))

    async def flush(self) -> None:
        """Waits for what is being settled, and tries once more what is not."""
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._debts:
            await self.settle_debts()

    async def _admit(self, answer_id: str, calls: Sequence[CallBound], *, hard: bool) -> None:
        try:
            refusal = await self._ask(lambda: self.ledger.admit(answer_id, calls))
        except Transient as fault:
            self._failed("admit", fault, hard=hard)
            return
        except asyncio.CancelledError:
            self._start(self._leave(answer_id, calls))
            raise
        if refusal is not None:
            raise self._spent(refusal)

    async def _leave(self, answer_id: str, calls: Sequence[CallBound]) -> None:
        await self._quietly("leave", lambda: self.ledger.leave(answer_id, calls))  # else the lease ends it

    async def _close(self, reservation: Reservation, debt: _Debt) -> None:
        self._held.pop(f"{reservation.call_id}#", None)
        if reservation.bounds.costs:
            await self._finish(self._settled(reservation.call_id, debt))

    async def _settled(self, call_id: str, debt: _Debt) -> None:
        if not await self._paid(call_id, debt):
            self._owe(call_id, debt)

    async def _paid(self, call_id: str, debt: _Debt) -> bool:
        if debt.released:
            return await self._quietly("release", lambda: self.ledger.release(call_id))

        async def settle() -> None:
            self._tell(await self.ledger.settle(call_id, debt.bounds, debt.cost))

        return await self._quietly("settle", settle)

    def _owe(self, call_id: str, debt: _Debt) -> None:
        if len(self._debts) >= DEBTS:
            self.reports.forgotten()
            return
        self._debts[call_id] = debt

    async def _quietly(self, operation: str, work: Callable[[], Awaitable[None]]) -> bool:
        try:
            await self._ask(work)
        except Transient as fault:
            self.reports.unchecked(operation, let=True, problem=str(fault))
            return False
        return True

    async def _ask(self, work: Callable[[], Awaitable[T]]) -> T:
        self._circuit.check()
        try:
            async with asyncio.timeout(self.patience.total_seconds()):
                result = await work()
        except TimeoutError as error:
            self._circuit.failed()
            raise Unreachable("the ledger of quotas does not answer", retry_after=timedelta(seconds=1)) from error
        except Transient:
            self._circuit.failed()
            raise
        self._circuit.worked()
        return result

    def _failed(self, operation: str, fault: Transient, *, hard: bool) -> None:
        closed = self.on_failure is OnFailure.CLOSED or (self.on_failure is OnFailure.AUTO and hard)
        self.reports.unchecked(operation, let=not closed, problem=str(fault))
        if closed:
            problem = "quotas cannot be checked now, and no call is made without"
            raise Unreachable(problem, retry_after=fault.retry_after or timedelta(seconds=1)) from fault

    def _spent(self, refusal: Refusal) -> Spent:
        self.reports.refused(refusal)
        return Spent(refusal)

    def _tell(self, crossings: Sequence[Crossing]) -> None:
        for crossing in crossings:
            self.reports.crossed(crossing)

    async def _finish(self, work: Coroutine[Any, Any, None]) -> None:
        # A caller who hangs up cancels the answer, never its settlement.
        await asyncio.shield(self._start(work))

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
