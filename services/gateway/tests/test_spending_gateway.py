"""Two gateways that share a Redis, and one whose Redis is away: asked as callers ask."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from anabranch import topics
from anabranch.registry.v1 import quotas_pb2 as registry
from anabranch_bus import Event
from anabranch_gateway.testing import Gateway, running
from anabranch_local.process import free_port

BODY = {"model": "handbook", "messages": [{"role": "user", "content": "Where is the meeting?"}]}


async def limit(gateway: Gateway, message: registry.QuotaChanged) -> None:
    await gateway.bus.deliver(
        topics.REGISTRY_QUOTA_CHANGED,
        [Event(topic=topics.REGISTRY_QUOTA_CHANGED, message=message, key=message.subject)],
    )


async def ask(gateway: Gateway) -> httpx.Response:
    async with httpx.AsyncClient(base_url=gateway.http, timeout=20) as client:
        headers = {"authorization": f"Bearer {gateway.key}"}
        return await client.post("/v1/chat/completions", json=BODY, headers=headers)


@pytest.fixture
async def pair(tmp_path: Path, redis: str) -> AsyncIterator[list[Gateway]]:
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(running(tmp_path / str(place), redis=redis)) for place in range(2)]


@pytest.mark.connected
async def test_gateways_that_share_a_redis_share_its_limits(pair: list[Gateway]) -> None:
    for gateway in pair:
        await limit(gateway, registry.QuotaChanged(subject="default", limits=registry.Limits(requests_per_minute=3)))
    answers = [await ask(pair[n % 2]) for n in range(5)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429, 429]
    assert answers[-1].json()["error"]["code"] == "rate"
    assert 50 <= int(answers[-1].headers["retry-after"]) <= 61


@pytest.mark.connected
async def test_a_redis_that_is_down_refuses_under_a_hard_budget_and_lets_the_others_through(tmp_path: Path) -> None:
    url = f"redis://127.0.0.1:{free_port()}"
    async with running(tmp_path, redis=url, quota_patience=timedelta(milliseconds=300)) as gateway:
        message = registry.QuotaChanged(subject="default", limits=registry.Limits(in_flight=5))
        await limit(gateway, message)
        assert (await ask(gateway)).status_code == 200
        message.budgets.add(hard_micros=10**9).window.FromTimedelta(timedelta(days=1))
        await limit(gateway, message)
        refused = await ask(gateway)
        assert refused.status_code == 503
        assert "retry-after" in refused.headers
