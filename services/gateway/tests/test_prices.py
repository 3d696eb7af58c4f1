from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anabranch import topics
from anabranch.registry.v1.quotas_pb2 import PriceChanged
from anabranch_bus import MemoryBus
from anabranch_faults import Invalid
from anabranch_gateway.adapters.prices import PackagedPrices, micros
from anabranch_gateway.adapters.usage import BusUsageRecord
from anabranch_gateway.application.metering import Meter
from anabranch_gateway.application.pricing import Prices
from anabranch_gateway.domain.answers import Usage
from anabranch_gateway.domain.costs import (
    UNPRICED,
    Metered,
    ModelCall,
    Payer,
    Price,
    PriceSource,
    Purpose,
    Rate,
    Rates,
    total,
    usage_id,
)
from anabranch_gateway.entrypoints import prices as entry
from anabranch_testkit import poll_until

NOW = datetime(2026, 11, 21, tzinfo=UTC)
PAYER = Payer(answer_id="a-1", tenant="acme", corpus="handbook", key_id="k-1", user_id="ann", variant_id="v-1")
TOKENS = st.integers(0, 2_000_000)


def used(prompt: int, completion: int) -> Usage:
    return Usage(prompt_tokens=prompt, completion_tokens=completion)


def rate(backend: str, model: str, prompt: int = 0, completion: int = 0, request: int = 0) -> Rate:
    return Rate(
        backend=backend, model=model, prompt_micros=prompt, completion_micros=completion, request_micros=request
    )


class Told:
    def __init__(self) -> None:
        self.models: list[tuple[str, str]] = []

    def __call__(self, backend: str, model: str) -> None:
        self.models.append((backend, model))


def priced(*rates: Rate) -> tuple[Prices, Told]:
    own, told = Rates(), Told()
    for each in rates:
        own.put(f"{each.backend}/{each.model}", each)
    return Prices(rates=own, table=PackagedPrices(), unknown=told), told


class TestPrices:
    def test_a_known_model_has_the_tables_price_rounded_up_for_each_call(self) -> None:
        prices, told = priced()
        assert prices.of("openai", "gpt-4o-mini", used(1_000, 100)) == Price(micros=210, source=PriceSource.TABLE)
        assert prices.of("openai", "gpt-4o-mini", used(1, 0)).micros == 1
        assert prices.of("openai", "gpt-4o-mini", used(0, 0)).micros == 0
        assert told.models == []

    def test_an_unknown_model_has_no_price_and_is_told_of_once(self) -> None:
        prices, told = priced()
        for _ in range(3):
            assert prices.of("openai", "my-model", used(1_000, 100)) == UNPRICED
        assert prices.of("tensorrt_llm", "gpt-4o", used(1, 1)) == UNPRICED
        assert prices.of("openai", "", used(1, 1)) == UNPRICED
        assert told.models == [("openai", "my-model"), ("tensorrt_llm", "gpt-4o"), ("openai", "")]

    def test_weights_that_anyone_serves_are_not_taken_to_be_their_makers_service(self) -> None:
        prices, _ = priced()
        assert prices.of("openai", "gpt-oss-20b", used(1_000, 100)) == UNPRICED

    def test_what_runs_without_a_model_is_free_unless_the_operator_says_otherwise(self) -> None:
        prices, _ = priced()
        assert prices.of("extractive", "minilm", used(900, 90)) == Price(micros=0, source=PriceSource.FREE)
        prices, _ = priced(rate("extractive", "*", request=5))
        assert prices.of("extractive", "minilm", used(900, 90)) == Price(micros=5, source=PriceSource.OPERATOR)

    def test_the_operators_price_wins_over_the_table_and_the_closest_one_over_wider_ones(self) -> None:
        prices, _ = priced(
            rate("*", "*", 1_000_000),
            rate("openai", "gpt-*", 2_000_000),
            rate("*", "gpt-4o*", 3_000_000),
            rate("openai", "gpt-4o*", 4_000_000),
            rate("*", "gpt-4o", 5_000_000),
        )

        def cost(backend: str, model: str) -> int | None:
            return prices.of(backend, model, used(10, 0)).micros

        assert cost("openai", "gpt-4o") == 50
        assert cost("openai", "gpt-4o-mini") == 40
        assert cost("tensorrt_llm", "gpt-4o-mini") == 30
        assert cost("openai", "gpt-3") == 20
        assert cost("tensorrt_llm", "llama") == 10

    @given(prompt=TOKENS, completion=TOKENS, more=TOKENS)
    def test_what_a_call_costs_is_never_more_than_what_was_reserved_for_it(
        self, prompt: int, completion: int, more: int
    ) -> None:
        prices, _ = priced(rate("tensorrt_llm", "*", 333, 777, 1))
        for backend, model in (("openai", "gpt-4o"), ("tensorrt_llm", "llama")):
            price = prices.of(backend, model, used(prompt, completion)).micros
            most = prices.at_most(backend, model, prompt_tokens=prompt, completion_tokens=completion + more)
            assert price is not None
            assert most is not None
            assert 0 <= price <= most
        assert prices.at_most("openai", "my-model", prompt_tokens=1, completion_tokens=1) is None

    @given(tokens=st.lists(st.tuples(TOKENS, TOKENS), max_size=20))
    def test_an_operators_price_is_exact_to_less_than_a_millionth_a_call(self, tokens: list[tuple[int, int]]) -> None:
        own = rate("b", "m", 123_457, 7, 3)
        for prompt, completion in tokens:
            exact = Decimal(prompt * 123_457 + completion * 7) / 1_000_000 + 3
            assert 0 <= own.of(used(prompt, completion)) - exact < 1

    def test_dollars_become_whole_millionths_upwards(self) -> None:
        assert [micros(Decimal(text)) for text in ("0", "0.0000001", "0.000001", "1.0000011")] == [0, 1, 1, 1_000_002]

    def test_a_sum_with_an_unknown_part_is_unknown(self) -> None:
        one = Price(micros=3, source=PriceSource.TABLE)
        assert total([]) == 0
        assert total([one, one]) == 6
        assert total([one, UNPRICED]) is None


class TestOwnPrices:
    async def test_they_follow_what_the_registry_tells(self) -> None:
        bus, rates = MemoryBus(), Rates()
        entry.register(bus, rates)
        await bus.start()
        topic = topics.REGISTRY_PRICE_CHANGED
        told = PriceChanged(backend="openai", model="mine*", prompt_micros=1_000_000, completion_micros=2_000_000)
        await bus.deliver(topic, [told], key="openai/mine*")
        prices = Prices(rates=rates, table=PackagedPrices(), unknown=Told())
        assert prices.of("openai", "mine-8b", used(10, 5)) == Price(micros=20, source=PriceSource.OPERATOR)
        told.withdrawn = True
        await bus.deliver(topic, [told], key="openai/mine*")
        assert prices.of("openai", "mine-8b", used(10, 5)) == UNPRICED

    async def test_one_that_cannot_be_used_leaves_the_last_good_one(self) -> None:
        bus, rates = MemoryBus(), Rates()
        entry.register(bus, rates)
        topic = topics.REGISTRY_PRICE_CHANGED
        await bus.deliver(topic, [PriceChanged(backend="openai", model="m", prompt_micros=7)], key="openai/m")
        await bus.deliver(topic, [PriceChanged(backend="openai", model="n", prompt_micros=9)], key="openai/m")
        await bus.deliver(topic, [PriceChanged(backend="openai", model="a*b")], key="openai/a*b")
        await bus.deliver(topic, [PriceChanged(backend="", model="m")], key="/m")
        assert len(rates) == 1
        assert rates.of("openai", "m") == rate("openai", "m", 7)

    def test_a_price_below_nothing_is_refused(self) -> None:
        with pytest.raises(Invalid):
            rate("openai", "m", -1)


class MemoryUsages:
    def __init__(self) -> None:
        self.kept: list[Metered] = []

    async def add(self, metered: Sequence[Metered]) -> None:
        self.kept += metered


def call(backend: str, model: str, purpose: Purpose, *, complete: bool = True) -> ModelCall:
    return ModelCall(backend=backend, model=model, usage=used(1_000, 100), purpose=purpose, complete=complete)


def metering(usages: MemoryUsages | BusUsageRecord) -> Meter:
    prices, _ = priced()
    return Meter(prices=prices, usages=usages, now=lambda: NOW)


class TestMeter:
    async def test_every_call_is_priced_and_named_by_its_purpose_and_place(self) -> None:
        usages = MemoryUsages()
        calls = [
            call("openai", "gpt-4o", Purpose.CONDENSE),
            call("openai", "gpt-4o-mini", Purpose.DRAFT),
            call("openai", "gpt-4o-mini", Purpose.DRAFT),
            call("openai", "gpt-4o", Purpose.ANSWER, complete=False),
        ]
        assert await metering(usages).record(PAYER, calls) == 3_500 + 210 + 210 + 3_500
        assert [each.price.micros for each in usages.kept] == [3_500, 210, 210, 3_500]
        assert [each.usage_id for each in usages.kept] == [
            usage_id("a-1", Purpose.CONDENSE, 0),
            usage_id("a-1", Purpose.DRAFT, 0),
            usage_id("a-1", Purpose.DRAFT, 1),
            usage_id("a-1", Purpose.ANSWER, 0),
        ]
        assert len({each.usage_id for each in usages.kept}) == 4

    async def test_a_call_without_a_price_makes_the_answers_cost_unknown_but_is_counted(self) -> None:
        usages = MemoryUsages()
        calls = [call("openai", "gpt-4o", Purpose.CONDENSE), call("openai", "mine", Purpose.ANSWER)]
        assert await metering(usages).record(PAYER, calls) is None
        assert [each.price.micros for each in usages.kept] == [3_500, None]

    async def test_an_answer_without_calls_costs_nothing(self) -> None:
        usages = MemoryUsages()
        assert await metering(usages).record(PAYER, []) == 0
        assert usages.kept == []


class TestUsageRecord:
    async def test_calls_are_published_once_with_all_that_is_known_of_them(self) -> None:
        bus = MemoryBus()
        usages = BusUsageRecord(bus, linger=timedelta())
        running = asyncio.create_task(usages.run())
        calls = [call("openai", "gpt-4o", Purpose.ANSWER), call("openai", "mine", Purpose.DRAFT, complete=False)]
        await metering(usages).record(PAYER, calls)
        await usages.flush(timedelta(seconds=2))
        running.cancel()
        known, unknown = bus.published(topics.GATEWAY_USAGE_METERED)
        assert (known.key, known.event_id) == ("acme/a-1", known.message.usage_id)
        assert (known.message.cost_micros, known.message.price_source) == (3_500, "genai-prices")
        assert (known.message.prompt_tokens, known.message.completion_tokens) == (1_000, 100)
        assert (known.message.user_id, known.message.variant_id, known.message.complete) == ("ann", "v-1", True)
        assert known.message.metered_at.ToDatetime(tzinfo=UTC) == NOW
        assert not unknown.message.HasField("cost_micros")
        assert (unknown.message.price_source, unknown.message.complete) == ("", False)

    async def test_they_wait_for_a_broker_that_is_away(self) -> None:
        bus = MemoryBus()
        bus.unreachable = True
        usages = BusUsageRecord(bus, linger=timedelta())
        running = asyncio.create_task(usages.run())
        await metering(usages).record(PAYER, [call("openai", "gpt-4o", Purpose.ANSWER)])
        await asyncio.sleep(0)
        bus.unreachable = False
        await poll_until(lambda: bool(bus.published(topics.GATEWAY_USAGE_METERED)), deadline=timedelta(seconds=5))
        assert usages.waiting == 0
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running

    async def test_what_waits_is_bounded(self) -> None:
        usages = BusUsageRecord(MemoryBus(), capacity=3)
        for _ in range(5):
            await metering(usages).record(PAYER, [call("openai", "gpt-4o", Purpose.ANSWER)])
        assert usages.waiting == 3
