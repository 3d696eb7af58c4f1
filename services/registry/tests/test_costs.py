"""Quotas, prices, and the ledger of what was spent."""

from __future__ import annotations

import asyncio
import random
import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from grpc import StatusCode
from grpc.aio import AioRpcError

from anabranch import topics
from anabranch.gateway.v1 import usage_pb2 as usage
from anabranch.registry.v1 import cost_service_pb2 as pb
from anabranch.registry.v1 import quotas_pb2 as quotas
from anabranch.registry.v1.cost_service_pb2_grpc import CostServiceStub
from anabranch_bus import BusSettings, Event, KafkaBus
from anabranch_faults import Conflict, Invalid
from anabranch_registry.adapters.costs import SqlCostBook
from anabranch_registry.adapters.ledger import SqlLedger
from anabranch_registry.application import CostBook, GetCosts, Ledger, Prices, Quotas, TakeUsage
from anabranch_registry.bootstrap import build
from anabranch_registry.domain import Change
from anabranch_registry.domain.spending import KEPT, Bounds, Budget, By, Price, Quota, Spent, Usage
from anabranch_registry.entrypoints.kafka import encoded
from anabranch_registry.settings import Settings
from anabranch_registry.testing import MemoryCostBook, MemoryLedger
from anabranch_rpc import connect
from anabranch_runtime import Process
from anabranch_store import Database
from anabranch_testkit import poll_until

WHO: dict[str, Any] = {"author": "ada", "reason": "because"}
NOW = datetime(2026, 11, 21, 19, 30, tzinfo=UTC)
CHANGE = Change(**WHO, at=NOW)
DAY = timedelta(days=1)


def call(number: int, **given: Any) -> Usage:
    words: dict[str, Any] = {
        "usage_id": str(uuid.uuid5(uuid.NAMESPACE_OID, str(number))),
        "tenant": "acme",
        "key_id": "k-1",
        "user_id": "ann",
        "variant_id": "v-0123456789ab",
        "purpose": "answer",
        "backend": "openai",
        "model": "large",
        "prompt_tokens": 100,
        "completion_tokens": 10,
        "cost_micros": 7,
        "metered_at": NOW,
    } | given
    return Usage(**words)


class CostBookContract:
    async def test_a_call_is_added_once_however_often_it_comes(self, book: CostBook) -> None:
        one, other = call(1), call(2, cost_micros=1)
        assert await book.add([one, other, one]) == 2
        assert await book.add([other]) == 0
        assert await book.add([replace(one, cost_micros=1_000)]) == 0, "the name counts, whatever is said of it later"
        costs = await GetCosts(book, now=lambda: NOW)([By.TENANT], since=NOW - DAY)
        assert costs.rows == [Spent(group=("acme",), calls=2, prompt_tokens=200, completion_tokens=20, cost_micros=8)]
        assert costs.total == replace(costs.rows[0], group=())

    async def test_what_has_no_price_is_counted_apart_and_costs_nothing(self, book: CostBook) -> None:
        await book.add([call(1), call(2, cost_micros=None), call(3, cost_micros=0, backend="extractive", model="")])
        costs = await GetCosts(book, now=lambda: NOW)([By.MODEL], since=NOW - DAY)
        assert [(row.group, row.calls, row.unpriced_calls, row.cost_micros) for row in costs.rows] == [
            (("large",), 2, 1, 7),
            (("extractive",), 1, 0, 0),
        ]

    async def test_costs_are_told_apart_dearest_first_within_a_time_and_a_tenant(self, book: CostBook) -> None:
        await book.add(
            [
                call(1, metered_at=NOW - 2 * DAY, cost_micros=5),
                call(2, metered_at=NOW - DAY, purpose="draft", user_id="bob", cost_micros=50),
                call(3, metered_at=NOW, key_id="k-2", cost_micros=2),
                call(4, metered_at=NOW, tenant="other", variant_id="v-2", cost_micros=100),
            ]
        )
        get = GetCosts(book, now=lambda: NOW)
        everything = await get([By.TENANT, By.DAY, By.PURPOSE], since=NOW - 7 * DAY)
        assert [(row.group, row.cost_micros) for row in everything.rows] == [
            (("other", "2026-11-21", "answer"), 100),
            (("acme", "2026-11-20", "draft"), 50),
            (("acme", "2026-11-19", "answer"), 5),
            (("acme", "2026-11-21", "answer"), 2),
        ]
        ours = await get([By.USER, By.KEY, By.VARIANT], since=NOW - 7 * DAY, tenant="acme")
        assert [row.group[:2] for row in ours.rows] == [("bob", "k-1"), ("ann", "k-1"), ("ann", "k-2")]
        assert ours.total.cost_micros == 57
        recent = await get([By.TENANT], since=NOW - DAY, until=NOW - timedelta(hours=1), tenant="acme")
        assert recent.total.cost_micros == 50
        # Whole hours: the one in which `since` lies counts from its beginning.
        assert (await get([By.TENANT], since=NOW + timedelta(minutes=29), until=NOW + DAY)).total.calls == 2
        nothing = await get([By.TENANT], since=NOW + timedelta(minutes=30), until=NOW + DAY)
        assert (list(nothing.rows), nothing.total) == ([], Spent())

    async def test_groups_past_the_limit_are_counted_and_in_the_total(self, book: CostBook) -> None:
        await book.add([call(number, user_id=f"u{number:04}", cost_micros=number) for number in range(1_005)])
        costs = await GetCosts(book, now=lambda: NOW)([By.USER], since=NOW - DAY)
        assert (len(costs.rows), costs.left_out, costs.total.calls) == (1_000, 5, 1_005)
        assert costs.rows[0].group == ("u1004",)
        assert costs.total.cost_micros == sum(range(1_005))

    @pytest.mark.parametrize("seed", range(3))
    async def test_replaying_the_topic_in_any_order_gives_the_same_totals(self, book: CostBook, seed: int) -> None:
        shuffled = random.Random(seed)  # noqa: S311  the same orders each time
        calls = [
            call(
                number,
                tenant=shuffled.choice(["acme", "other"]),
                user_id=f"u{shuffled.randrange(9)}",
                cost_micros=shuffled.choice([None, 1, 10**9 + 7]),
                metered_at=NOW - timedelta(minutes=shuffled.randrange(40_000)),
            )
            for number in range(300)
        ]
        by = [By.TENANT, By.USER, By.DAY]
        whole = MemoryCostBook()
        await whole.add(calls)
        expected = await GetCosts(whole, now=lambda: NOW)(by, since=NOW - 40 * DAY)
        replayed = calls * 3
        shuffled.shuffle(replayed)
        take = TakeUsage(book, now=lambda: NOW)
        batches = [replayed[start : start + 64] for start in range(0, len(replayed), 64)]
        await asyncio.gather(*(take(batch) for batch in batches[:7]))
        for batch in batches[7:]:
            await take(batch)
        assert await GetCosts(book, now=lambda: NOW)(by, since=NOW - 40 * DAY) == expected

    async def test_the_names_of_old_calls_are_forgotten_and_what_they_cost_is_not(self, book: CostBook) -> None:
        old = call(1, metered_at=NOW - KEPT - 3 * DAY)
        await book.add([old, call(2)])
        assert await book.forget(before=NOW - KEPT - DAY) == 1
        assert await book.forget(before=NOW - KEPT - DAY) == 0
        # Nobody could say any more that it was added: so it is not.
        assert await TakeUsage(book, now=lambda: NOW)([old, call(2)]) == 1
        assert (await GetCosts(book, now=lambda: NOW)([By.TENANT], since=NOW - 2 * KEPT)).total.calls == 2

    async def test_large_sums_are_exact(self, book: CostBook) -> None:
        await book.add([call(number, cost_micros=10**15 - 1) for number in range(20)])
        costs = await GetCosts(book, now=lambda: NOW)([By.TENANT], since=NOW - DAY)
        assert costs.total.cost_micros == 20 * (10**15 - 1)


class TestCostsInMemory(CostBookContract):
    @pytest.fixture
    def book(self) -> CostBook:
        return MemoryCostBook()


class TestCostsInSql(CostBookContract):
    @pytest.fixture
    def book(self, database: Database) -> CostBook:
        return SqlCostBook(database)


class SwapsContract:
    async def test_a_quota_moves_by_compare_and_swap(self, ledger: Ledger) -> None:
        quotas_ = Quotas(ledger, now=lambda: NOW)
        quota = Quota(
            subject="acme/keys",
            budgets=(Budget(window=DAY, soft_micros=5, hard_micros=10), Budget(window=30 * DAY, hard_micros=0)),
            bounds=Bounds(requests_per_minute=0, in_flight=3),
            revision=0,
            change=CHANGE,
        )
        first = await quotas_.set(quota)
        assert first == replace(quota, revision=1)
        with pytest.raises(Conflict, match="the quota of acme/keys is at revision 1, not at 0"):
            await quotas_.set(quota)
        everyone = await quotas_.set(Quota(subject="*", revision=0, change=CHANGE))
        assert await quotas_.list() == [everyone, first]

    async def test_a_price_moves_by_compare_and_swap_and_is_withdrawn(self, ledger: Ledger) -> None:
        prices = Prices(ledger, now=lambda: NOW)
        price = Price(backend="openai", model="our-*", prompt_micros=150_000, revision=0, change=CHANGE)
        assert (await prices.set(price)).revision == 1
        with pytest.raises(Conflict):
            await prices.set(price)
        gone = await prices.set(replace(price, prompt_micros=0, withdrawn=True, revision=1))
        assert (gone.revision, gone.withdrawn) == (2, True)
        assert await prices.list() == [gone]

    async def test_of_two_who_set_a_quota_at_once_one_wins(self, ledger: Ledger) -> None:
        async def attempt() -> int:
            try:
                return (await Quotas(ledger).set(Quota(subject="acme", revision=0, change=CHANGE))).revision
            except Conflict:
                return 0

        assert sorted(await asyncio.gather(*(attempt() for _ in range(5)))) == [0, 0, 0, 0, 1]


class TestSwapsInMemory(SwapsContract):
    @pytest.fixture
    def ledger(self) -> Ledger:
        return MemoryLedger()


class TestSwapsInSql(SwapsContract):
    @pytest.fixture
    def ledger(self, database: Database) -> Ledger:
        return SqlLedger(database, encode=encoded)


@pytest.mark.parametrize("subject", ["*", "acme", "acme/keys", "acme/keys/k-1", "acme/sessions", "acme/users"])
def test_a_quota_is_about_one_of_these(subject: str) -> None:
    Quota(subject=subject, revision=0, change=CHANGE).check()


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"subject": ""}, "quota.subject"),
        ({"subject": "*/keys"}, "quota.subject"),
        ({"subject": "acme/docs"}, "quota.subject"),
        ({"subject": "acme/users/ann"}, "quota.subject"),
        ({"budgets": [Budget(window=timedelta(seconds=59), hard_micros=1)]}, "quota.budgets[0].window"),
        ({"budgets": [Budget(window=401 * DAY, hard_micros=1)]}, "quota.budgets[0].window"),
        ({"budgets": [Budget(window=DAY)]}, "quota.budgets[0]"),
        ({"budgets": [Budget(window=DAY, soft_micros=2, hard_micros=1)]}, "quota.budgets[0].soft_micros"),
        ({"budgets": [Budget(window=DAY, hard_micros=10**16)]}, "quota.budgets[0].hard_micros"),
        (
            {"budgets": [Budget(window=DAY, hard_micros=1), Budget(window=DAY, hard_micros=2)]},
            "quota.budgets[1].window",
        ),
        ({"budgets": [Budget(window=DAY * n, hard_micros=1) for n in range(1, 12)]}, "quota.budgets"),
        ({"bounds": Bounds(tokens_per_minute=10**16)}, "quota.limits.tokens_per_minute"),
    ],
)
def test_a_quota_that_cannot_be_is_refused_with_its_path(given: dict[str, Any], field: str) -> None:
    words: dict[str, Any] = {"subject": "acme", "revision": 0, "change": CHANGE}
    quota = Quota(**words | given)
    with pytest.raises(Invalid) as raised:
        quota.check()
    assert raised.value.field == field


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"backend": ""}, "price.backend"),
        ({"backend": "a b"}, "price.backend"),
        ({"model": ""}, "price.model"),
        ({"model": "a*b"}, "price.model"),
        ({"prompt_micros": 10**16}, "price.prompt_micros"),
        ({"withdrawn": True, "request_micros": 1}, "price.request_micros"),
    ],
)
def test_a_price_that_cannot_be_is_refused_with_its_path(given: dict[str, Any], field: str) -> None:
    Price(backend="*", model="*", revision=0, change=CHANGE).check()
    words: dict[str, Any] = {"backend": "openai", "model": "m", "revision": 0, "change": CHANGE}
    price = Price(**words | given)
    with pytest.raises(Invalid) as raised:
        price.check()
    assert raised.value.field == field


@pytest.mark.parametrize(
    ("by", "until"), [([], NOW), ([By.DAY, By.DAY], NOW), (list(By)[:4], NOW), ([By.DAY], NOW - 2 * DAY)]
)
async def test_sums_over_what_cannot_be_are_refused(by: list[By], until: datetime) -> None:
    with pytest.raises(Invalid):
        await GetCosts(MemoryCostBook())(by, since=NOW - DAY, until=until)


def metered(number: int, **given: Any) -> usage.UsageMetered:
    at = Timestamp()
    at.GetCurrentTime()
    words: dict[str, Any] = {
        "usage_id": str(uuid.uuid5(uuid.NAMESPACE_OID, str(number))),
        "answer_id": f"a-{number}",
        "tenant": "acme",
        "purpose": usage.USAGE_PURPOSE_ANSWER,
        "backend": "openai",
        "model": "large",
        "prompt_tokens": 100,
        "cost_micros": 7,
        "metered_at": at,
    } | given
    return usage.UsageMetered(**words)


async def test_quotas_and_prices_are_told_and_read_back(served: Any) -> None:
    quota = quotas.QuotaChanged(subject="acme", limits=quotas.Limits(requests_per_minute=0), **WHO)
    quota.budgets.add(hard_micros=0).window.FromTimedelta(DAY)
    quota.budgets.add(soft_micros=9).window.FromTimedelta(timedelta(hours=1))
    kept = (await served.costs.SetQuota(pb.SetQuotaRequest(quota=quota), timeout=5)).quota
    assert (kept.revision, kept.budgets, kept.limits) == (1, quota.budgets, quota.limits)
    assert kept.budgets[0].HasField("hard_micros")
    assert not kept.budgets[1].HasField("hard_micros")
    price = quotas.PriceChanged(backend="openai", model="our-own", prompt_micros=1, request_micros=2, **WHO)
    priced = (await served.costs.SetPrice(pb.SetPriceRequest(price=price), timeout=5)).price
    assert (await served.costs.ListQuotas(pb.ListQuotasRequest(), timeout=5)).quotas == [kept]
    assert (await served.costs.ListPrices(pb.ListPricesRequest(), timeout=5)).prices == [priced]
    published = served.bus.published
    await poll_until(
        lambda: bool(published(topics.REGISTRY_QUOTA_CHANGED) and published(topics.REGISTRY_PRICE_CHANGED))
    )
    assert [(event.key, event.message) for event in published(topics.REGISTRY_QUOTA_CHANGED)] == [("acme", kept)]
    (told,) = published(topics.REGISTRY_PRICE_CHANGED)
    assert (told.key, told.message) == ("openai/our-own", priced)
    with pytest.raises(AioRpcError) as raised:
        await served.costs.SetQuota(pb.SetQuotaRequest(quota=quota), timeout=5)
    assert raised.value.code() == StatusCode.ABORTED


async def test_what_was_metered_is_added_up_and_what_cannot_be_goes_to_the_dead_letters(served: Any) -> None:
    good = [metered(number) for number in range(5)]
    unpriced = metered(5)
    unpriced.ClearField("cost_micros")
    nameless, timeless, endless = metered(6, usage_id=""), metered(7), metered(8, prompt_tokens=2**63)
    timeless.ClearField("metered_at")
    await served.bus.deliver(topics.GATEWAY_USAGE_METERED, [*good, nameless, unpriced, timeless, *good, endless])
    since = Timestamp()
    since.FromDatetime(datetime.now(UTC) - DAY)
    request = pb.GetCostsRequest(by=[pb.COST_DIMENSION_PURPOSE, pb.COST_DIMENSION_MODEL], since=since)
    costs = await served.costs.GetCosts(request, timeout=5)
    row = costs.rows[0]
    assert (row.group, row.calls, row.unpriced_calls, row.cost_micros) == (["answer", "large"], 6, 1, 35)
    assert (costs.total.calls, costs.left_out) == (6, 0)
    dead = served.bus.dead(topics.GATEWAY_USAGE_METERED, "registry")
    assert len(dead) == 3


@pytest.mark.parametrize(
    "request_",
    [
        pb.GetCostsRequest(),
        pb.GetCostsRequest(by=[pb.COST_DIMENSION_UNSPECIFIED]),
        pb.GetCostsRequest(by=[pb.COST_DIMENSION_DAY] * 2),
    ],
)
async def test_sums_that_name_no_dimension_are_refused(served: Any, request_: pb.GetCostsRequest) -> None:
    with pytest.raises(AioRpcError, match="by: ") as raised:
        await served.costs.GetCosts(request_, timeout=5)
    assert raised.value.code() == StatusCode.INVALID_ARGUMENT


@pytest.mark.connected
async def test_on_a_real_broker_usage_is_added_once_and_quotas_are_told(
    kafka: str, tmp_path: Path, unique: Any
) -> None:
    settings, tenant = Settings(data=tmp_path, kafka=kafka), unique("t")
    process = Process(settings, name="registry")
    outside = KafkaBus(BusSettings(bootstrap=kafka))
    told: dict[str, Any] = {}

    async def on_quota(subject: str, message: Any) -> None:
        told[subject] = message

    register: Any = outside.table(topics.REGISTRY_QUOTA_CHANGED)
    register(on_quota)
    await process.start(build(settings, bus=KafkaBus(BusSettings(bootstrap=kafka))))
    await outside.start()
    channel = connect(process.addresses["rpc"])
    try:
        costs: Any = CostServiceStub(channel)
        calls = [metered(number, usage_id=f"{tenant}-{number % 50}", tenant=tenant) for number in range(120)]
        await outside.publish(
            *(Event(topic=topics.GATEWAY_USAGE_METERED, message=one, key=f"{tenant}/{one.answer_id}") for one in calls)
        )
        quota = quotas.QuotaChanged(subject=tenant, **WHO)
        await costs.SetQuota(pb.SetQuotaRequest(quota=quota), timeout=5)

        async def counted() -> bool:
            request = pb.GetCostsRequest(by=[pb.COST_DIMENSION_TENANT], tenant=tenant)
            return bool((await costs.GetCosts(request, timeout=5)).total.calls >= 50)

        for _ in range(200):
            if await counted() and tenant in told:
                break
            await asyncio.sleep(0.1)
        request = pb.GetCostsRequest(by=[pb.COST_DIMENSION_TENANT], tenant=tenant)
        total = (await costs.GetCosts(request, timeout=5)).total
        assert (total.calls, total.cost_micros) == (50, 350)
        assert told[tenant].revision == 1
    finally:
        await channel.close()
        await outside.stop()
        await process.stop()
