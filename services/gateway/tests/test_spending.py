"""Quotas as told, the purse, and who hears of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from grpc import StatusCode

from anabranch import topics
from anabranch.registry.v1 import quotas_pb2 as registry
from anabranch_bus import MemoryBus
from anabranch_faults import Invalid, Transient, Unreachable
from anabranch_gateway.adapters.spending import SpendingReports
from anabranch_gateway.application.spending import Decision, Held, OnFailure, Purse
from anabranch_gateway.domain.spending import (
    MOST,
    Bounds,
    Budget,
    BudgetBound,
    CallBound,
    Cost,
    Crossing,
    Limits,
    Payer,
    Quota,
    Quotas,
    Reason,
    Refusal,
    Spent,
)
from anabranch_gateway.entrypoints import quotas as entrypoint
from anabranch_gateway.entrypoints.http.errors import refusal_of
from anabranch_rpc.errors import CODES, status_of
from anabranch_testkit import poll_until

PAYER = Payer(tenant="acme", key_id="k-1", user_id="ann", session_id="s/1")
DAY = timedelta(days=1)


def quota(subject: str, hard: int | None = 100, **limits: int) -> Quota:
    budgets = () if hard is None else (Budget(window=DAY, hard=hard),)
    return Quota(subject=subject, budgets=budgets, limits=Limits(**limits))


class TestQuotas:
    def test_all_subjects_that_fit_hold_and_each_one_has_its_own_account(self) -> None:
        subjects = ("*", "acme", "acme/keys", "acme/users", "acme/sessions", "other", "acme/keys/k-2")
        bounds = Quotas([quota(each) for each in subjects]).of(PAYER)
        assert [each.account for each in bounds.budgets] == [
            "*",
            "acme",
            "acme/keys/k-1",
            "acme/users/ann",
            "acme/sessions/s/1",
        ]

    def test_a_key_with_a_quota_of_its_own_is_not_held_to_that_of_each_key(self) -> None:
        quotas = Quotas([quota("acme/keys", 10), quota("acme/keys/k-1", 500)])
        assert [(each.account, each.hard) for each in quotas.of(PAYER).budgets] == [("acme/keys/k-1", 500)]
        quotas.drop("acme/keys/k-1")
        assert [(each.account, each.hard) for each in quotas.of(PAYER).budgets] == [("acme/keys/k-1", 10)]

    def test_who_is_not_named_is_held_to_what_holds_for_all(self) -> None:
        quotas = Quotas([quota("acme"), quota("acme/users"), quota("acme/sessions")])
        assert [each.account for each in quotas.of(Payer(tenant="acme")).budgets] == ["acme"]

    def test_a_bound_beyond_what_stores_count_exactly_is_taken_as_the_highest_that_they_do(self) -> None:
        assert Quotas([quota("acme", 2**64 - 1)]).of(PAYER).budgets[0].hard == MOST

    @pytest.mark.parametrize("subject", ["", "a b", "*/keys", "acme/", "acme/keys/", "acme/users/ann", "acme/keys/a/b"])
    def test_a_subject_that_is_none_is_refused(self, subject: str) -> None:
        with pytest.raises(Invalid):
            quota(subject)

    @pytest.mark.parametrize("seconds", [0, 59, 60.5, 401 * 86_400])
    def test_a_window_that_cannot_be_is_refused(self, seconds: float) -> None:
        with pytest.raises(Invalid, match=r"budgets\[0\].window"):
            Quota(subject="*", budgets=[Budget(window=timedelta(seconds=seconds), hard=1)])

    def test_the_same_window_twice_is_refused(self) -> None:
        with pytest.raises(Invalid, match="twice"):
            Quota(subject="*", budgets=[Budget(window=DAY, hard=1), Budget(window=DAY, hard=2)])


class TestTold:
    async def test_what_the_registry_tells_holds_and_what_cannot_be_kept_leaves_the_last_good_one(self) -> None:
        bus, quotas = MemoryBus(), Quotas()
        entrypoint.register(bus, quotas)
        await bus.start()
        message = registry.QuotaChanged(subject="acme", revision=1)
        budget = message.budgets.add(soft_micros=5, hard_micros=0)
        budget.window.FromTimedelta(DAY)
        message.budgets.add(soft_micros=7).window.FromTimedelta(timedelta(hours=1))
        message.limits.in_flight = 0
        await bus.deliver(topics.REGISTRY_QUOTA_CHANGED, [message])
        assert quotas.of(PAYER) == Bounds(
            budgets=(
                BudgetBound(account="acme", seconds=86_400, soft=5, hard=0),
                BudgetBound(account="acme", seconds=3_600, soft=7, hard=None),
            ),
            calls=(CallBound(account="acme", requests=None, in_flight=0),),
        )
        budget.window.FromTimedelta(timedelta(seconds=1))
        await bus.deliver(topics.REGISTRY_QUOTA_CHANGED, [message])
        assert quotas.of(PAYER).budgets[0].seconds == 86_400
        await bus.stop()

    def test_a_record_under_another_key_is_refused(self) -> None:
        with pytest.raises(Invalid, match="key"):
            entrypoint.quota_from("acme", registry.QuotaChanged(subject="*"))


@dataclass
class FakeLedger:
    """Says what it is told to, or nothing at all."""

    refusal: Refusal | None = None
    crossings: Sequence[Crossing] = ()
    fault: Transient | None = None
    hangs: bool = False
    calls: list[tuple[str, str]] = field(default_factory=list)
    settled: dict[str, Cost | None] = field(default_factory=dict)

    async def _said(self, operation: str, call_id: str) -> None:
        self.calls.append((operation, call_id))
        if self.hangs:
            await asyncio.Event().wait()
        if self.fault:
            raise self.fault

    async def admit(self, call_id: str, bounds: Sequence[CallBound]) -> Refusal | None:
        await self._said("admit", call_id)
        return self.refusal

    async def leave(self, call_id: str, bounds: Sequence[CallBound]) -> None:
        await self._said("leave", call_id)

    async def reserve(self, call_id: str, bounds: Bounds, cost: Cost) -> Decision:
        await self._said("reserve", call_id)
        return Decision(refusal=self.refusal, crossings=self.crossings)

    async def settle(self, call_id: str, bounds: Bounds, cost: Cost | None) -> Sequence[Crossing]:
        await self._said("settle", call_id)
        self.settled[call_id] = cost
        return ()

    async def release(self, call_id: str) -> None:
        await self._said("release", call_id)

    async def renew(self, held: Sequence[Held]) -> None:
        for each in held:
            await self._said("renew", each.call_id)


@dataclass
class Heard:
    """Reports, remembered."""

    crossings: list[Crossing] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    missed: list[tuple[str, bool]] = field(default_factory=list)
    owed: int = 0
    given_up: int = 0

    def crossed(self, crossing: Crossing) -> None:
        self.crossings.append(crossing)

    def refused(self, refusal: Refusal) -> None:
        self.refusals.append(refusal)

    def unchecked(self, operation: str, *, let: bool, problem: str) -> None:
        self.missed.append((operation, let))

    def unsettled(self, number: int) -> None:
        self.owed = number

    def forgotten(self) -> None:
        self.given_up += 1


CROSSING = Crossing(
    account="acme",
    window=DAY,
    start=datetime(2026, 1, 1, tzinfo=UTC),
    hard=True,
    bound=100,
    spent=90,
    reserved=10,
    at=datetime(2026, 1, 1, 5, tzinfo=UTC),
)
NO_ROOM = Refusal(reason=Reason.BUDGET, account="acme", window=DAY, wait=timedelta(hours=3))
AWAY = Unreachable("the store is away")

Make = Callable[..., Purse]


@pytest.fixture
def make() -> Make:
    def purse(ledger: FakeLedger, *quotas: Quota, reports: Heard | None = None, **options: object) -> Purse:
        return Purse(
            quotas=Quotas(quotas or [quota("acme", in_flight=1)]),
            ledger=ledger,
            reports=reports or Heard(),
            **options,  # type: ignore[arg-type]  # by name
        )

    return purse


async def reserve(purse: Purse, micros: int | None = 10) -> object:
    return await purse.reserve(answer_id="a", payer=PAYER, micros=micros, tokens=5)


class TestPurse:
    async def test_a_call_without_quotas_asks_nobody(self, make: Make) -> None:
        ledger = FakeLedger(fault=AWAY)
        purse = make(ledger, quota("other"))
        async with purse.admitted("a", PAYER):
            reservation = await purse.reserve(answer_id="a", payer=PAYER, micros=None, tokens=1)
            assert not reservation.bounded
            await purse.settle(reservation, micros=5, tokens=5)
        assert ledger.calls == []

    async def test_places_and_money_are_taken_and_given_back(self, make: Make) -> None:
        ledger = FakeLedger(crossings=[CROSSING])
        reports = Heard()
        purse = make(ledger, reports=reports)
        async with purse.admitted("a", PAYER):
            reservation = await purse.reserve(answer_id="a", payer=PAYER, micros=10, tokens=5)
            assert reservation.bounded
            await purse.settle(reservation, micros=4, tokens=3)
        assert [operation for operation, _ in ledger.calls] == ["admit", "reserve", "settle", "leave"]
        assert ledger.settled == {"a": Cost(micros=4, tokens=3)}
        assert reports.crossings == [CROSSING]

    async def test_a_refusal_says_what_has_no_room_and_when_to_come_back(self, make: Make) -> None:
        reports = Heard()
        purse = make(FakeLedger(refusal=NO_ROOM), reports=reports)
        with pytest.raises(Spent, match="the budget of acme for a day") as refused:
            await reserve(purse)
        assert (refused.value.reason, refused.value.retry_after) == ("BUDGET", timedelta(hours=3))
        assert refused.value.facts == {"subject": "acme", "window": "86400s"}
        assert reports.refusals == [NO_ROOM]
        with pytest.raises(Spent):
            async with purse.admitted("a", PAYER):
                pass

    async def test_a_refusal_is_resource_exhausted_with_retry_info(self) -> None:
        status = status_of(Spent(NO_ROOM), {**CODES, Spent: StatusCode.RESOURCE_EXHAUSTED})
        assert status.code is StatusCode.RESOURCE_EXHAUSTED
        assert b"google.rpc.RetryInfo" in status.details
        assert b"BUDGET" in status.details
        assert b"86400s" in status.details

    async def test_a_price_that_nobody_knows_is_refused_by_a_hard_budget_and_by_no_soft_one(self, make: Make) -> None:
        ledger = FakeLedger()
        with pytest.raises(Spent, match="price of this call is not known") as refused:
            await reserve(make(ledger), micros=None)
        assert refused.value.reason == "UNPRICED"
        soft = Quota(subject="acme", budgets=[Budget(window=DAY, soft=5)])
        await reserve(make(ledger, soft), micros=None)
        assert ledger.calls == [("reserve", "a")]

    async def test_a_price_that_is_not_known_afterwards_leaves_what_was_set_aside(self, make: Make) -> None:
        ledger = FakeLedger()
        purse = make(ledger)
        reservation = await purse.reserve(answer_id="a", payer=PAYER, micros=10, tokens=5)
        await purse.settle(reservation, micros=None, tokens=3)
        assert ledger.settled == {"a": Cost(micros=10, tokens=3)}

    @pytest.mark.parametrize(
        ("on_failure", "hard", "passes"),
        [
            (OnFailure.AUTO, 100, False),
            (OnFailure.AUTO, None, True),
            (OnFailure.CLOSED, None, False),
            (OnFailure.OPEN, 100, True),
        ],
    )
    @pytest.mark.parametrize("ledger", [FakeLedger(fault=AWAY), FakeLedger(hangs=True)], ids=["away", "hangs"])
    async def test_a_ledger_that_is_away_lets_through_what_the_setting_says_and_never_hangs(
        self, make: Make, ledger: FakeLedger, on_failure: OnFailure, hard: int | None, *, passes: bool
    ) -> None:
        reports = Heard()
        limited = quota("acme", hard, tokens_per_minute=100, in_flight=3)
        purse = make(ledger, limited, reports=reports, on_failure=on_failure, patience=timedelta(milliseconds=10))

        async def one() -> None:
            async with purse.admitted("a", PAYER):
                await purse.settle(
                    await purse.reserve(answer_id="a", payer=PAYER, micros=1, tokens=1), micros=1, tokens=1
                )

        async with asyncio.timeout(5):
            if passes:
                await one()
            else:
                with pytest.raises(Unreachable, match="quotas cannot be checked"):
                    await one()
        assert ("admit", passes) in reports.missed
        ledger.calls.clear()

    async def test_a_ledger_that_is_away_is_left_in_peace_and_found_again(self, make: Make) -> None:
        now = 0.0
        ledger = FakeLedger(fault=AWAY)
        purse = make(ledger, clock=lambda: now)
        for _ in range(10):
            with pytest.raises(Unreachable):
                await reserve(purse)
        assert len(ledger.calls) == 3
        ledger.fault = None
        now = 0.6
        await reserve(purse)
        await reserve(purse)
        assert len(ledger.calls) == 5

    async def test_what_could_not_be_settled_is_settled_later(self, make: Make) -> None:
        ledger, reports = FakeLedger(), Heard()
        purse = make(ledger, reports=reports, lease=timedelta(milliseconds=60))
        reservation = await purse.reserve(answer_id="a", payer=PAYER, micros=10, tokens=5)
        ledger.fault = AWAY
        await purse.settle(reservation, micros=4, tokens=3)
        running = asyncio.create_task(purse.run())
        await poll_until(lambda: reports.owed == 1)
        ledger.fault = None
        await poll_until(lambda: ledger.settled == {"a": Cost(micros=4, tokens=3)})
        running.cancel()

    async def test_a_reservation_that_may_have_been_made_is_given_back(self, make: Make) -> None:
        ledger = FakeLedger(hangs=True)
        purse = make(ledger, patience=timedelta(milliseconds=10))
        with pytest.raises(Unreachable):
            await reserve(purse)
        ledger.hangs = False
        await purse.flush()
        assert ledger.calls[-1] == ("release", "a")

    async def test_a_caller_who_hangs_up_settles_all_the_same(self, make: Make) -> None:
        ledger = FakeLedger()
        purse = make(ledger)
        begun = asyncio.Event()

        async def answer() -> None:
            async with purse.admitted("a", PAYER):
                reservation = await purse.reserve(answer_id="a", payer=PAYER, micros=10, tokens=5)
                try:
                    begun.set()
                    await asyncio.Event().wait()
                finally:
                    await purse.settle(reservation, micros=4, tokens=3)

        task = asyncio.create_task(answer())
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await purse.flush()
        assert [operation for operation, _ in ledger.calls] == ["admit", "reserve", "settle", "leave"]

    async def test_a_caller_who_hangs_up_while_it_is_reserved_leaves_nothing_behind(self, make: Make) -> None:
        ledger = FakeLedger(hangs=True)
        purse = make(ledger, quota("acme", tokens_per_minute=10))
        task = asyncio.create_task(reserve(purse))
        await poll_until(lambda: bool(ledger.calls))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        ledger.hangs = False
        await purse.flush()
        assert ledger.calls[-1] == ("release", "a")

    async def test_leases_of_what_is_under_way_are_renewed_and_of_nothing_else(self, make: Make) -> None:
        ledger = FakeLedger()
        purse = make(ledger, lease=timedelta(milliseconds=60))
        running = asyncio.create_task(purse.run())
        async with purse.admitted("a", PAYER):
            await poll_until(lambda: ("renew", "a") in ledger.calls)
        ledger.calls.clear()
        await asyncio.sleep(0.1)  # longer than a renewal would take to come
        assert ledger.calls == []
        running.cancel()


class TestReports:
    async def test_a_bound_that_was_reached_is_published_even_after_kafka_was_away(self) -> None:
        bus = MemoryBus()
        reports = SpendingReports(bus)
        running = asyncio.create_task(reports.run())
        bus.unreachable = True
        reports.crossed(CROSSING)
        await asyncio.sleep(0.05)
        bus.unreachable = False
        await reports.flush(timedelta(seconds=5))
        running.cancel()
        (event,) = bus.published(topics.GATEWAY_BUDGET_CROSSED)
        message = event.message
        assert (event.key, message.subject, message.hard, message.bound_micros) == ("acme", "acme", True, 100)
        assert (message.spent_micros, message.reserved_micros, message.window.seconds) == (90, 10, 86_400)
        assert message.window_start.ToDatetime(tzinfo=UTC) == CROSSING.start
        assert message.crossed_at.ToDatetime(tzinfo=UTC) == CROSSING.at

    async def test_what_waits_is_bounded(self) -> None:
        bus = MemoryBus()
        reports = SpendingReports(bus, capacity=2)
        for _ in range(5):
            reports.crossed(CROSSING)
        running = asyncio.create_task(reports.run())
        await reports.flush(timedelta(seconds=5))
        running.cancel()
        assert len({event.event_id for event in bus.published(topics.GATEWAY_BUDGET_CROSSED)}) == 1
        assert len(bus.published(topics.GATEWAY_BUDGET_CROSSED)) == 2


class TestHttp:
    def test_a_budget_without_room_is_429_that_a_client_need_not_repeat(self) -> None:
        refused = refusal_of(Spent(NO_ROOM), route="/v1/chat/completions")
        assert (refused.status, refused.kind, refused.code) == (429, "insufficient_quota", "budget")
        assert refused.headers == {"retry-after": "10800", "x-should-retry": "false"}

    def test_a_rate_without_room_is_429_with_the_time_to_come_back(self) -> None:
        rate = Refusal(
            reason=Reason.RATE, account="acme", window=timedelta(minutes=1), wait=timedelta(milliseconds=2_100)
        )
        refused = refusal_of(Spent(rate), route="/v1/chat/completions")
        assert (refused.status, refused.kind, refused.code) == (429, "rate_limit_error", "rate")
        assert refused.headers == {"retry-after": "3"}
