"""Whatever comes in whatever order: what is spent and reserved stays within every bound, and is added up truthfully."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from anabranch_faults import Unreachable
from anabranch_gateway.adapters.spending import AloneLedger, RedisLedger, SqlGrants
from anabranch_gateway.application.spending import Held
from anabranch_gateway.domain.spending import Bounds, BudgetBound, Cost
from anabranch_store import Database

T = TypeVar("T")
NUMBERS = itertools.count()
WINDOW = 600
LEASE = 30


@dataclass
class Model:
    """What a call was said to be, and what it came to."""

    accounts: tuple[int, ...]
    start: int
    reserved: int
    actual: int | None = None
    settled_at: float = float("inf")


@dataclass
class Books:
    """All calls; the truth, by addition."""

    calls: dict[str, Model] = field(default_factory=dict)

    def known(self, now: float) -> list[str]:
        """Those that a caller may still name: a settled one is known for two minutes."""
        return sorted(name for name, call in self.calls.items() if now < call.settled_at + 100)

    def close(self, name: str, actual: int, now: float) -> None:
        if self.calls[name].actual is None:
            self.calls[name].actual, self.calls[name].settled_at = actual, now

    def total(self, account: int, start: int) -> int:
        return sum(
            call.reserved if call.actual is None else call.actual
            for call in self.calls.values()
            if account in call.accounts and call.start == start
        )


class Spending(RuleBasedStateMachine):
    """Three accounts with bounds of their own, one within the other."""

    loop: ClassVar[asyncio.AbstractEventLoop]
    database: ClassVar[Database]
    redis: ClassVar[str] = ""
    hards: ClassVar[tuple[int, ...]] = (1_000, 400, 150)

    def __init__(self) -> None:
        super().__init__()
        self.books = Books()
        self.now = float((int(time.time()) // WINDOW + 1) * WINDOW)
        self.name = f"{next(NUMBERS)}-{time.time_ns()}"
        self.ids = itertools.count()
        self.ledger: AloneLedger | RedisLedger

    @initialize()
    def open(self) -> None:
        if self.redis:
            self.ledger = RedisLedger(
                self.redis,
                prefix=f"{{{self.name}}}",
                lease=timedelta(seconds=LEASE),
                timeout=timedelta(seconds=10),
                clock=lambda: int(self.now * 1000),
            )
        else:
            self.ledger = AloneLedger(SqlGrants(self.database), lease=timedelta(seconds=LEASE), clock=lambda: self.now)

    def teardown(self) -> None:
        self.run(self.ledger.close())

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(asyncio.wait_for(work, 30))

    def bounds(self, accounts: tuple[int, ...]) -> Bounds:
        return Bounds(
            budgets=tuple(
                BudgetBound(account=f"{self.name}/{each}", seconds=WINDOW, soft=50, hard=self.hards[each])
                for each in accounts
            )
        )

    @property
    def start(self) -> int:
        return int(self.now) // WINDOW * WINDOW

    @rule(micros=st.integers(0, 200), depth=st.integers(1, 3))
    def reserve(self, micros: int, depth: int) -> None:
        accounts, call_id = tuple(range(depth)), f"{self.name}-{next(self.ids)}"
        decision = self.run(self.ledger.reserve(call_id, self.bounds(accounts), Cost(micros=micros)))
        room = all(self.books.total(each, self.start) + micros <= self.hards[each] for each in accounts)
        assert (decision.refusal is None) == (room or micros == 0)
        if decision.refusal is None:
            self.books.calls[call_id] = Model(accounts=accounts, start=self.start, reserved=micros)

    @precondition(lambda self: self.books.known(self.now))
    @rule(data=st.data(), share=st.floats(0, 1))
    def settle(self, data: st.DataObject, share: float) -> None:
        call_id = data.draw(st.sampled_from(self.books.known(self.now)))
        call = self.books.calls[call_id]
        actual = int(call.reserved * share)
        self.run(self.ledger.settle(call_id, self.bounds(call.accounts), Cost(micros=actual)))
        self.books.close(call_id, actual, self.now)

    @precondition(lambda self: self.books.known(self.now))
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        call_id = data.draw(st.sampled_from(self.books.known(self.now)))
        self.run(self.ledger.release(call_id))
        self.books.close(call_id, 0, self.now)

    @precondition(lambda self: self.books.known(self.now))
    @rule(data=st.data())
    def repeat(self, data: st.DataObject) -> None:
        call_id = data.draw(st.sampled_from(self.books.known(self.now)))
        try:
            again = self.run(
                self.ledger.reserve(call_id, self.bounds((0, 1, 2)), Cost(micros=data.draw(st.integers(0, 500))))
            )
        except Unreachable:
            assert self.books.calls[call_id].actual == 0
        else:
            assert again.refusal is None

    @rule(data=st.data())
    def renew(self, data: st.DataObject) -> None:
        known = self.books.known(self.now)
        some = data.draw(st.lists(st.sampled_from(known), unique=True)) if known else []
        self.run(self.ledger.renew([Held(call_id=each, reserved=True) for each in some]))

    @rule(seconds=st.sampled_from([0.3, 5.0, LEASE + 1.0, WINDOW / 3]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @invariant()
    def no_bound_is_passed(self) -> None:
        for account, hard in enumerate(self.hards):
            assert self.books.total(account, self.start) <= hard


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[type[Spending]]:
    loop = asyncio.new_event_loop()
    database = Database(
        f"sqlite:///{tmp_path / 'g.db'}", schema="gateway", migrations="anabranch_gateway.adapters.migrations"
    )
    loop.run_until_complete(database.migrate())
    yield type("Machine", (Spending,), {"loop": loop, "database": database})
    loop.run_until_complete(database.close())
    loop.close()


@pytest.mark.slow
def test_no_order_of_calls_passes_a_bound_alone(machine: type[Spending]) -> None:
    run_state_machine_as_test(machine, settings=settings(max_examples=40, stateful_step_count=40, deadline=None))


@pytest.mark.connected
@pytest.mark.slow
def test_no_order_of_calls_passes_a_bound_in_redis(machine: type[Spending], redis: str) -> None:
    machine.redis = redis
    run_state_machine_as_test(machine, settings=settings(max_examples=40, stateful_step_count=40, deadline=None))
