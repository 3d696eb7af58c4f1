"""What an answer costs, on its way through a running gateway."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio

from anabranch import topics
from anabranch.gateway.v1 import gateway_service_pb2 as pb
from anabranch.gateway.v1 import gateway_service_pb2_grpc as stubs
from anabranch.generation.v1 import generation_service_pb2 as generation
from anabranch.ingestion.v1.events_pb2 import DocumentRef
from anabranch.registry.v1 import quotas_pb2 as quotas
from anabranch.retrieval.v1.events_pb2 import DocumentIndexed
from anabranch_bus import Event
from anabranch_gateway.testing import Gateway, running
from anabranch_testkit import poll_until

pytestmark = pytest.mark.asyncio(loop_scope="module")

QUESTION = "Where is the meeting?"
PRICE = quotas.PriceChanged(
    backend="openai", model="house-7b", prompt_micros=1_000_000, completion_micros=4_000_000, revision=1
)


@pytest_asyncio.fixture(loop_scope="module")
async def paid(tmp_path: Path) -> AsyncIterator[Gateway]:
    """A gateway whose variant asks a model that has a price: 1 micro-dollar a prompt token, 4 a completion token."""
    async with running(tmp_path, cache_entries=100) as one:
        one.downstream.generation.calls = [
            generation.ModelCall(
                backend="openai",
                model="house-7b",
                usage=generation.Usage(prompt_tokens=1_200, completion_tokens=80),
            )
        ]
        routing = one.bus.published(topics.REGISTRY_ROUTING_CHANGED)[-1].message
        routing.revision += 1
        settings = routing.shares[0].variant.generation
        settings.backend, settings.model, settings.max_tokens = "openai", "house-7b", 0
        await one.bus.deliver(topics.REGISTRY_ROUTING_CHANGED, [routing])
        await price(one, PRICE)
        yield one


async def price(gateway: Gateway, told: quotas.PriceChanged) -> None:
    event = Event(topic=topics.REGISTRY_PRICE_CHANGED, message=told, key=f"{told.backend}/{told.model}")
    await gateway.bus.deliver(topics.REGISTRY_PRICE_CHANGED, [event])


async def quota(gateway: Gateway, *, hard: int | None = None, **limits: int) -> None:
    told = quotas.QuotaChanged(subject="default", revision=1, limits=quotas.Limits(**limits))
    if hard is not None:
        budget = told.budgets.add(hard_micros=hard)
        budget.window.FromTimedelta(timedelta(days=1))
    event = Event(topic=topics.REGISTRY_QUOTA_CHANGED, message=told, key=told.subject)
    await gateway.bus.deliver(topics.REGISTRY_QUOTA_CHANGED, [event])


async def ask(gateway: Gateway, question: str = QUESTION, **more: Any) -> pb.AskResponse:
    async with grpc.aio.insecure_channel(gateway.grpc) as channel:
        stub = stubs.AnswerServiceStub(channel)
        reply: pb.AskResponse = await stub.Ask(
            pb.AskRequest(corpus="handbook", question=question, **more), metadata=bearer(gateway), timeout=10
        )
        return reply


def bearer(gateway: Gateway) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {gateway.key}"),)


async def refused(gateway: Gateway) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await ask(gateway)
    return caught.value


async def metered(gateway: Gateway, count: int) -> list[Any]:
    def there() -> list[Any] | None:
        found = [event.message for event in gateway.published(topics.GATEWAY_USAGE_METERED)]
        return found if len(found) >= count else None

    return await poll_until(there, deadline=5, what=f"{count} metered calls")


async def served(gateway: Gateway, answer_id: str) -> Any:
    def there() -> Any:
        found = [event.message for event in gateway.published(topics.GATEWAY_ANSWER_SERVED)]
        return next((each for each in found if each.answer_id == answer_id), None)

    return await poll_until(there, deadline=5, what="the record")


async def test_an_answer_says_what_its_calls_cost_and_each_is_metered_once(paid: Gateway) -> None:
    answer = await ask(paid, user_id="ann")
    assert (answer.HasField("cost_micros"), answer.cost_micros) == (True, 1_200 + 4 * 80)
    (usage,) = await metered(paid, 1)
    assert (usage.answer_id, usage.tenant, usage.user_id) == (answer.answer_id, "default", "ann")
    assert (usage.cost_micros, usage.price_source, usage.complete) == (1_520, "operator", True)
    assert (await served(paid, answer.answer_id)).cost_micros == 1_520


async def test_a_price_that_nobody_knows_is_null_and_never_nothing(paid: Gateway) -> None:
    withdrawn = quotas.PriceChanged()
    withdrawn.CopyFrom(PRICE)
    withdrawn.withdrawn = True
    await price(paid, withdrawn)
    answer = await ask(paid)
    assert not answer.HasField("cost_micros")
    (usage,) = await metered(paid, 1)
    assert (usage.HasField("cost_micros"), usage.price_source) == (False, "")
    assert not (await served(paid, answer.answer_id)).HasField("cost_micros")


async def test_a_budget_of_zero_lets_no_model_be_called(paid: Gateway) -> None:
    await quota(paid, hard=0)
    error = await refused(paid)
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "budget of default" in (error.details() or "")
    assert paid.downstream.generation.generate.requests == []


async def test_an_unknown_price_under_a_hard_budget_is_refused_in_words(paid: Gateway) -> None:
    withdrawn = quotas.PriceChanged()
    withdrawn.CopyFrom(PRICE)
    withdrawn.withdrawn = True
    await price(paid, withdrawn)
    await quota(paid, hard=1_000_000)
    assert "the price of this call is not known" in ((await refused(paid)).details() or "")


async def test_what_was_put_aside_bounds_the_answer_and_what_was_not_used_comes_back(paid: Gateway) -> None:
    await quota(paid, hard=20_000)  # one reservation at most at a time: bytes of the prompt, and 1,024 tokens
    for number in range(5):
        assert (await ask(paid, f"{QUESTION} ({number})")).cost_micros == 1_520
    (first, *_) = paid.downstream.generation.generate.requests
    assert first.settings.max_tokens == 1_024


async def test_a_question_asked_again_costs_nothing_until_a_document_that_was_cited_changes(paid: Gateway) -> None:
    first, again = await ask(paid), await ask(paid)
    assert (first.cached, again.cached) == (False, True)
    assert (again.text, again.cost_micros, again.HasField("cost_micros")) == (first.text, 0, True)
    assert [each.chunk_id for each in again.citations] == [each.chunk_id for each in first.citations]
    assert again.answer_id != first.answer_id
    record = await served(paid, again.answer_id)
    assert (record.cached_from, record.usage.prompt_tokens) == (first.answer_id, 0)
    assert (await ask(paid, fresh=True)).cached is False
    changed = DocumentIndexed(document=DocumentRef(tenant="default", corpus="handbook", document_id="a", version=2))
    event = Event(topic=topics.RETRIEVAL_DOCUMENT_INDEXED, message=changed, key="default/handbook/a")
    await paid.bus.deliver(topics.RETRIEVAL_DOCUMENT_INDEXED, [event])
    assert (await ask(paid)).cached is False
    assert len(paid.downstream.generation.generate.requests) == 3


async def test_a_call_that_broke_off_is_metered_as_broken_off_and_counts_as_put_aside(paid: Gateway) -> None:
    paid.downstream.generation.fault = RuntimeError("the backend went away")
    await quota(paid, hard=19_000)
    with pytest.raises(grpc.aio.AioRpcError):
        await ask(paid)
    (usage,) = await metered(paid, 1)
    assert (usage.complete, usage.completion_tokens > 0) == (False, True)
    paid.downstream.generation.fault = None
    await ask(paid, fresh=True)
    await ask(paid, fresh=True)
    # Twice the true cost and once what was put aside leaves no room for another reservation.
    assert (await refused(paid)).code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_a_caller_who_leaves_pays_for_what_was_written(paid: Gateway) -> None:
    paid.downstream.generation.hold = asyncio.Event()
    async with grpc.aio.insecure_channel(paid.grpc) as channel:
        request = pb.AskStreamRequest(ask=pb.AskRequest(corpus="handbook", question=QUESTION))
        call = stubs.AnswerServiceStub(channel).AskStream(request, metadata=bearer(paid), timeout=10)
        async for event in call:
            if event.WhichOneof("event") == "delta":
                break
        call.cancel()
    (usage,) = await metered(paid, 1)
    assert (usage.complete, usage.model) == (False, "house-7b")


async def test_too_many_requests_of_a_minute_are_refused_with_a_time_to_come_back(paid: Gateway) -> None:
    await quota(paid, requests_per_minute=2)
    await ask(paid)
    await ask(paid)
    error = await refused(paid)
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "all requests of a minute" in (error.details() or "")
