from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import numpy as np
import pytest

from anabranch_embedding.adapters.openai import OpenAiEncoder
from anabranch_embedding.domain import Text
from anabranch_embedding.testing import Answer, FakeEndpoint, fake_vector
from anabranch_faults import Invalid, Overloaded, Transient, Unreachable


@pytest.fixture
async def endpoint() -> AsyncIterator[FakeEndpoint]:
    async with FakeEndpoint().running() as endpoint:
        yield endpoint


async def asked(endpoint: FakeEndpoint, *bodies: str, **more: Any) -> list[Any]:
    encoder = OpenAiEncoder(url=endpoint.url, model="m/e", dimension=more.pop("dimension", 4), **more)
    try:
        return await encoder.encode([Text(body=body) for body in bodies], urgent=False)
    finally:
        await encoder.close()


async def test_vectors_are_normalised_and_in_the_order_of_the_texts(endpoint: FakeEndpoint) -> None:
    found = await asked(endpoint, *"abcde", batch=2)
    for body, one in zip("abcde", found, strict=True):
        assert one.vector == pytest.approx(fake_vector(body, 4), abs=1e-6)
        assert one.sentences.shape == (0, 4)
    assert sum(one.tokens for one in found) == 5


async def test_texts_travel_in_batches_with_model_and_key(endpoint: FakeEndpoint) -> None:
    await asked(endpoint, *"abcde", batch=2, key="secret")
    assert sorted(str(body["input"]) for _, body in endpoint.requests) == ["['a', 'b']", "['c', 'd']", "['e']"]
    headers, body = endpoint.requests[0]
    assert headers["request"] == "POST /v1/embeddings HTTP/1.1"
    assert headers["authorization"] == "bearer secret"
    assert (body["model"], body["encoding_format"]) == ("m/e", "float")


async def test_a_prefix_travels_with_its_text(endpoint: FakeEndpoint) -> None:
    encoder = OpenAiEncoder(url=endpoint.url, model="m", dimension=4)
    await encoder.encode([Text(body="b", prefix="p")], urgent=True)
    await encoder.close()
    assert endpoint.requests[0][1]["input"] == ["p\nb"]


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        (Answer(status=429, headers=(("retry-after", "7"),)), Overloaded),
        (Answer(status=503), Unreachable),
        (Answer(status=502), Unreachable),
        (Answer(status=500), Transient),
        (Answer(status=401), Unreachable),
        (Answer(status=404), Unreachable),
        (Answer(status=400, body=b'{"error": "too long"}'), Invalid),
        (Answer(body=b"<html>"), Unreachable),
        (Answer(body=b"{}"), Unreachable),
        (Answer(body=b"[]"), Unreachable),
        (Answer(body=b'{"data": []}'), Unreachable),
        (Answer(body=b'{"data": [{"index": 0, "embedding": [1, 2]}]}'), Unreachable),
        (Answer(body=b'{"data": [{"index": 0, "embedding": [0, 0, 0, 0]}]}'), Unreachable),
        (Answer(body=b'{"data": [{"index": 0, "embedding": [NaN, 0, 0, 0]}]}'), Unreachable),
        (Answer(body=b'{"data": [{"index": 0, "embedding": "abcd"}]}'), Unreachable),
    ],
)
async def test_every_failure_says_what_its_caller_must_do(
    endpoint: FakeEndpoint, answer: Answer, fault: type[Exception]
) -> None:
    endpoint.answer = lambda _: answer
    with pytest.raises(fault) as raised:
        await asked(endpoint, "a")
    assert type(raised.value).__mro__.index(fault) <= 1
    assert "embeddings endpoint" in str(raised.value)


async def test_the_endpoint_says_when_to_come_again(endpoint: FakeEndpoint) -> None:
    endpoint.answer = lambda _: Answer(status=429, headers=(("retry-after", "7"),))
    with pytest.raises(Overloaded) as raised:
        await asked(endpoint, "a")
    assert raised.value.retry_after == timedelta(seconds=7)


async def test_an_endpoint_that_hangs_costs_no_more_than_the_timeout(endpoint: FakeEndpoint) -> None:
    endpoint.answer = lambda _: Answer(hang=True)
    with pytest.raises(Transient, match=r"did not answer within 0\.1 s"):
        await asked(endpoint, "a", timeout=timedelta(seconds=0.1))


async def test_an_endpoint_that_is_away_is_unreachable() -> None:
    async with FakeEndpoint().running() as endpoint:
        gone = endpoint
    with pytest.raises(Unreachable, match="cannot be reached"):
        await asked(gone, "a")


async def test_one_bad_batch_fails_the_call_with_its_own_fault(endpoint: FakeEndpoint) -> None:
    endpoint.answer = lambda texts: Answer(status=400) if "b" in texts else None
    with pytest.raises(Invalid):
        await asked(endpoint, *"abc", batch=1)


async def test_the_start_refuses_an_endpoint_with_another_dimension(endpoint: FakeEndpoint) -> None:
    encoder = OpenAiEncoder(url=endpoint.url, model="m", dimension=5)
    with pytest.raises(Invalid, match=r"OPENAI_DIMENSION: .* have 4 numbers, not 5"):
        await encoder.check()
    await encoder.close()


async def test_the_start_does_not_wait_for_an_endpoint_that_is_away(endpoint: FakeEndpoint) -> None:
    endpoint.answer = lambda _: Answer(status=503)
    encoder = OpenAiEncoder(url=endpoint.url, model="m", dimension=4)
    await encoder.check()
    endpoint.answer = None
    (one,) = await encoder.encode([Text(body="a")], urgent=True)
    assert float(np.linalg.norm(one.vector)) == pytest.approx(1)
    await encoder.close()


async def test_the_answer_may_leave_out_usage(endpoint: FakeEndpoint) -> None:
    body = json.dumps({"data": [{"index": 0, "embedding": [1, 0, 0, 0]}], "usage": None}).encode()
    endpoint.answer = lambda _: Answer(body=body)
    (one,) = await asked(endpoint, "a")
    assert one.tokens == 0
