"""What any ledger of quotas does, and what only one kind of them can be asked."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from anabranch_faults import Unreachable
from anabranch_gateway.adapters.spending import AloneLedger, RedisLedger, SqlGrants
from anabranch_gateway.application.spending import Decision, Held, Ledger
from anabranch_gateway.domain.spending import Bounds, BudgetBound, CallBound, Cost, Crossing, Reason, TokenBound
from anabranch_store import Database

DAY = 86_400
LEASE = timedelta(seconds=30)


class Clock:
    """Stands still until it is told; on a day's first second, near the present."""

    def __init__(self) -> None:
        self.now = float((int(time.time()) // DAY + 1) * DAY)

    def __call__(self) -> float:
        return self.now

    def milliseconds(self) -> int:
        return int(self.now * 1000)

    def forward(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    one = Database(
        f"sqlite:///{tmp_path / 'g.db'}", schema="gateway", migrations="anabranch_gateway.adapters.migrations"
    )
    await one.migrate()
    yield one
    await one.close()


@pytest.fixture(params=["alone", pytest.param("redis", marks=pytest.mark.connected)])
async def ledger(
    request: pytest.FixtureRequest, clock: Clock, database: Database, unique: Callable[[str], str]
) -> AsyncIterator[Ledger]:
    one: AloneLedger | RedisLedger
    if request.param == "alone":
        one = AloneLedger(SqlGrants(database), lease=LEASE, clock=clock)
    else:
        url = request.getfixturevalue("redis")
        one = RedisLedger(
            url, prefix=f"{{{unique('spending')}}}", clock=clock.milliseconds, timeout=timedelta(seconds=5)
        )
    yield one
    await one.close()


def budget(account: str = "acme", *, hard: int | None = 100, soft: int = 0, seconds: int = DAY) -> BudgetBound:
    return BudgetBound(account=account, seconds=seconds, soft=soft, hard=hard)


def bounds(*budgets: BudgetBound, tokens: Sequence[TokenBound] = ()) -> Bounds:
    return Bounds(budgets=budgets, tokens=tuple(tokens))


def why(decision: Decision) -> tuple[Reason, str] | None:
    return (decision.refusal.reason, decision.refusal.account) if decision.refusal else None


class TestBudgets:
    async def test_what_is_reserved_has_no_room_twice(self, ledger: Ledger) -> None:
        some = bounds(budget())
        assert why(await ledger.reserve("a", some, Cost(micros=60))) is None
        assert why(await ledger.reserve("b", some, Cost(micros=41))) == (Reason.BUDGET, "acme")
        assert why(await ledger.reserve("c", some, Cost(micros=40))) is None

    async def test_what_was_set_aside_and_not_spent_has_room_again(self, ledger: Ledger) -> None:
        some = bounds(budget())
        await ledger.reserve("a", some, Cost(micros=100))
        await ledger.settle("a", some, Cost(micros=30))
        assert why(await ledger.reserve("b", some, Cost(micros=71))) == (Reason.BUDGET, "acme")
        assert why(await ledger.reserve("c", some, Cost(micros=70))) is None
        await ledger.release("c")
        assert why(await ledger.reserve("d", some, Cost(micros=70))) is None

    async def test_a_call_that_came_to_more_is_written_down_as_it_was(self, ledger: Ledger) -> None:
        some = bounds(budget())
        await ledger.reserve("a", some, Cost(micros=50))
        told = await ledger.settle("a", some, Cost(micros=130))
        assert [(each.hard, each.spent, each.reserved) for each in told] == [(True, 130, 0)]
        assert why(await ledger.reserve("b", some, Cost(micros=1))) == (Reason.BUDGET, "acme")

    async def test_a_budget_of_zero_refuses_all_that_costs_and_nothing_else(self, ledger: Ledger) -> None:
        some = bounds(budget(hard=0))
        assert why(await ledger.reserve("a", some, Cost(micros=1))) == (Reason.BUDGET, "acme")
        assert why(await ledger.reserve("b", some, Cost(micros=0, tokens=9))) is None

    async def test_every_ancestor_must_have_room_and_none_is_charged_otherwise(self, ledger: Ledger) -> None:
        wide, narrow = budget("*", hard=1_000), budget("acme/keys/k-1", hard=10)
        assert why(await ledger.reserve("a", bounds(wide, narrow), Cost(micros=11))) == (Reason.BUDGET, "acme/keys/k-1")
        assert why(await ledger.reserve("b", bounds(wide), Cost(micros=1_000))) is None
        assert why(await ledger.reserve("c", bounds(wide, narrow), Cost(micros=1))) == (Reason.BUDGET, "*")
        assert why(await ledger.reserve("d", bounds(narrow), Cost(micros=10))) is None

    async def test_every_window_must_have_room_and_a_new_one_begins_empty(self, ledger: Ledger, clock: Clock) -> None:
        some = bounds(budget(hard=10, seconds=60), budget(hard=15, seconds=3_600))
        await ledger.reserve("a", some, Cost(micros=10))
        await ledger.settle("a", some, Cost(micros=10))
        refused = (await ledger.reserve("b", some, Cost(micros=1))).refusal
        assert refused is not None
        assert (refused.window, refused.wait) == (timedelta(minutes=1), timedelta(minutes=1))
        clock.forward(60)
        assert why(await ledger.reserve("c", some, Cost(micros=5))) is None
        refused = (await ledger.reserve("d", some, Cost(micros=1))).refusal
        assert refused is not None
        assert refused.window == timedelta(hours=1)

    async def test_the_wait_is_short_while_reservations_may_come_back(self, ledger: Ledger, clock: Clock) -> None:
        some = bounds(budget())
        await ledger.reserve("a", some, Cost(micros=100))
        refused = (await ledger.reserve("b", some, Cost(micros=1))).refusal
        assert refused is not None
        assert refused.wait == timedelta(seconds=1)
        await ledger.settle("a", some, None)
        clock.forward(1)
        refused = (await ledger.reserve("c", some, Cost(micros=1))).refusal
        assert refused is not None
        assert refused.wait == timedelta(seconds=DAY - 1)

    async def test_a_repeated_call_changes_nothing(self, ledger: Ledger) -> None:
        some = bounds(budget())
        for _ in range(3):
            assert why(await ledger.reserve("a", some, Cost(micros=60))) is None
        for _ in range(3):
            await ledger.settle("a", some, Cost(micros=50))
            await ledger.release("a")
        assert why(await ledger.reserve("a", some, Cost(micros=60))) is None
        assert why(await ledger.reserve("b", some, Cost(micros=51))) == (Reason.BUDGET, "acme")
        assert why(await ledger.reserve("c", some, Cost(micros=50))) is None

    async def test_a_lost_reservation_counts_as_spent_and_may_still_be_settled(
        self, ledger: Ledger, clock: Clock
    ) -> None:
        some = bounds(budget(soft=1))
        await ledger.reserve("lost", some, Cost(micros=60))
        clock.forward(31)
        assert why(await ledger.reserve("b", some, Cost(micros=41))) == (Reason.BUDGET, "acme")
        await ledger.settle("lost", some, Cost(micros=10))
        assert why(await ledger.reserve("c", some, Cost(micros=90))) is None

    async def test_a_lost_reservation_may_still_be_released(self, ledger: Ledger, clock: Clock) -> None:
        some = bounds(budget())
        await ledger.reserve("lost", some, Cost(micros=60))
        clock.forward(31)
        await ledger.reserve("free", some, Cost(micros=0))
        await ledger.release("lost")
        assert why(await ledger.reserve("c", some, Cost(micros=100))) is None

    async def test_a_call_that_nobody_reserved_is_written_down_all_the_same(self, ledger: Ledger) -> None:
        some = bounds(budget())
        await ledger.settle("unheard", some, Cost(micros=70))
        await ledger.settle("unheard", some, Cost(micros=70))
        assert why(await ledger.reserve("b", some, Cost(micros=31))) == (Reason.BUDGET, "acme")
        assert why(await ledger.reserve("c", some, Cost(micros=30))) is None

    async def test_a_reservation_that_was_given_up_is_not_made_afterwards(self, ledger: Ledger) -> None:
        await ledger.release("late")
        with pytest.raises(Unreachable, match="given up"):
            await ledger.reserve("late", bounds(budget()), Cost(micros=1))

    async def test_amounts_keep_every_digit(self, ledger: Ledger) -> None:
        most = 2**53 - 1
        some = bounds(budget(hard=most))
        assert why(await ledger.reserve("a", some, Cost(micros=most - 1))) is None
        await ledger.settle("a", some, Cost(micros=most - 1))
        assert why(await ledger.reserve("b", some, Cost(micros=2))) == (Reason.BUDGET, "acme")
        assert why(await ledger.reserve("c", some, Cost(micros=1))) is None

    async def test_names_that_look_like_syntax_are_only_names(self, ledger: Ledger) -> None:
        for name in ("acme/users/{a}:b", "acme/users/'; --", "acme/users/ü\U0001f600"):
            assert why(await ledger.reserve(f"1{name}", bounds(budget(name)), Cost(micros=100))) is None
            assert why(await ledger.reserve(f"2{name}", bounds(budget(name)), Cost(micros=1))) == (Reason.BUDGET, name)

    async def test_a_thousand_at_once_pass_no_bound_and_use_it_all(self, ledger: Ledger) -> None:
        some = bounds(budget("*", hard=10_000), budget("acme", hard=5_003), budget("acme/keys/k", hard=6_000))
        chance = random.Random(7)  # noqa: S311  no secret
        spent = 0

        async def call(n: int) -> None:
            nonlocal spent
            most = chance.randint(5, 20)
            for attempt in range(50):
                refusal = (await ledger.reserve(f"c{n}", some, Cost(micros=most))).refusal
                if refusal is None:
                    await asyncio.sleep(0)
                    actual = chance.randint(1, most)
                    spent += actual
                    assert spent <= 5_003
                    await ledger.settle(f"c{n}", some, Cost(micros=actual))
                    return
                if refusal.wait > timedelta(seconds=1):
                    return
                await asyncio.sleep(0.001 * attempt)

        await asyncio.gather(*(call(n) for n in range(1_000)))
        assert 0.98 * 5_003 < spent <= 5_003


class TestCrossings:
    async def test_each_bound_is_told_once_a_window(self, ledger: Ledger, clock: Clock) -> None:
        some = bounds(budget(hard=100, soft=50, seconds=60))
        told: list[Crossing] = []
        for n in range(12):
            told += (await ledger.reserve(f"a{n}", some, Cost(micros=10))).crossings
            told += await ledger.settle(f"a{n}", some, Cost(micros=10))
        assert [(each.hard, each.bound, each.spent, each.reserved) for each in told] == [
            (False, 50, 40, 10),
            (True, 100, 90, 10),
        ]
        start = datetime.fromtimestamp(clock.now, tz=UTC)
        assert {(each.account, each.window, each.start) for each in told} == {("acme", timedelta(minutes=1), start)}
        clock.forward(60)
        assert [each.bound for each in (await ledger.reserve("b", some, Cost(micros=60))).crossings] == [50]

    async def test_a_hard_bound_is_told_when_it_keeps_a_call_out(self, ledger: Ledger) -> None:
        some = bounds(budget(hard=100))
        await ledger.reserve("a", some, Cost(micros=90))
        decisions = [await ledger.reserve(f"b{n}", some, Cost(micros=11)) for n in range(3)]
        assert [[each.hard for each in decision.crossings] for decision in decisions] == [[True], [], []]

    async def test_a_bound_that_was_changed_is_told_again(self, ledger: Ledger) -> None:
        assert len((await ledger.reserve("a", bounds(budget(soft=5)), Cost(micros=10))).crossings) == 1
        assert len((await ledger.reserve("b", bounds(budget(soft=15)), Cost(micros=10))).crossings) == 1

    async def test_a_soft_bound_alone_refuses_nothing(self, ledger: Ledger) -> None:
        some = bounds(budget(hard=None, soft=10))
        for n in range(5):
            assert why(await ledger.reserve(f"a{n}", some, Cost(micros=10))) is None


class TestTokens:
    async def test_no_sixty_seconds_hold_more_than_the_limit(self, ledger: Ledger, clock: Clock) -> None:
        some = bounds(tokens=[TokenBound(account="acme", limit=100)])
        allowed: list[tuple[float, int]] = []
        chance = random.Random(3)  # noqa: S311  no secret
        for n in range(150):
            number = chance.randint(1, 40)
            if (await ledger.reserve(f"a{n}", some, Cost(tokens=number))).refusal is None:
                allowed.append((clock.now, number))
            clock.forward(chance.random() * 8)
        for at, _ in allowed:
            assert sum(number for other, number in allowed if at <= other < at + 60) <= 100
        assert len(allowed) > 40

    async def test_tokens_not_used_have_room_again_and_the_wait_is_until_there_is_some(
        self, ledger: Ledger, clock: Clock
    ) -> None:
        some = bounds(tokens=[TokenBound(account="acme", limit=100)])
        await ledger.reserve("a", some, Cost(tokens=100))
        refused = (await ledger.reserve("b", some, Cost(tokens=1))).refusal
        assert refused is not None
        assert (refused.reason, refused.wait) == (Reason.TOKENS, timedelta(seconds=61))
        await ledger.settle("a", some, Cost(tokens=20))
        assert why(await ledger.reserve("c", some, Cost(tokens=80))) is None
        clock.forward(61)
        assert why(await ledger.reserve("d", some, Cost(tokens=100))) is None

    async def test_money_is_not_taken_for_a_call_that_tokens_keep_out(self, ledger: Ledger) -> None:
        both = bounds(budget(), tokens=[TokenBound(account="acme", limit=0)])
        assert why(await ledger.reserve("a", both, Cost(micros=100, tokens=1))) == (Reason.TOKENS, "acme")
        assert why(await ledger.reserve("b", bounds(budget()), Cost(micros=100))) is None


class TestCalls:
    async def test_requests_of_a_minute_are_counted_and_repeated_ones_once(self, ledger: Ledger, clock: Clock) -> None:
        some = [CallBound(account="acme", requests=2)]
        assert await ledger.admit("a", some) is None
        assert await ledger.admit("a", some) is None
        clock.forward(1)
        assert await ledger.admit("b", some) is None
        refused = await ledger.admit("c", some)
        assert refused is not None
        assert (refused.reason, refused.wait) == (Reason.RATE, timedelta(seconds=60))
        clock.forward(60)
        assert await ledger.admit("d", some) is None
        assert await ledger.admit("e", some) is not None

    async def test_a_limit_of_zero_lets_nothing_pass(self, ledger: Ledger) -> None:
        for bound in (CallBound(account="acme", requests=0), CallBound(account="acme", in_flight=0)):
            assert await ledger.admit("a", [bound]) is not None

    async def test_a_place_is_given_back_or_ends_with_its_lease_unless_renewed(
        self, ledger: Ledger, clock: Clock
    ) -> None:
        some = [CallBound(account="acme", in_flight=2)]
        assert await ledger.admit("a", some) is None
        assert await ledger.admit("b", some) is None
        refused = await ledger.admit("c", some)
        assert refused is not None
        assert refused.reason is Reason.IN_FLIGHT
        await ledger.leave("a", some)
        assert await ledger.admit("c", some) is None
        clock.forward(20)
        await ledger.renew([Held(call_id="b", calls=some), Held(call_id="gone", calls=some)])
        clock.forward(20)
        assert await ledger.admit("d", some) is None
        assert await ledger.admit("e", some) is not None

    async def test_a_call_that_one_account_keeps_out_counts_in_none(self, ledger: Ledger) -> None:
        wide, narrow = CallBound(account="*", requests=1), CallBound(account="acme", in_flight=0)
        assert await ledger.admit("a", [wide, narrow]) is not None
        assert await ledger.admit("b", [wide]) is None
