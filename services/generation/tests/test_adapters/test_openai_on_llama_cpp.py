"""The `openai` backend against a server that others wrote: llama.cpp's, on a model made by the fixture."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from anabranch.generation.v1 import generation_service_pb2 as pb
from anabranch.generation.v1 import generation_service_pb2_grpc as stubs
from anabranch_faults import TooLarge, Unreachable
from anabranch_generation.adapters.chat import ChatBackend
from anabranch_generation.adapters.openai.model import OpenAIModel
from anabranch_generation.bootstrap import build
from anabranch_generation.domain import Citation, Delta, Event, Finished, FinishReason, Request, Settings
from anabranch_generation.entrypoints.messages import response_of
from anabranch_generation.settings import Settings as ServiceSettings
from anabranch_generation.testing import passage
from anabranch_rpc import Server, connect
from anabranch_testkit import poll_until

pytestmark = [pytest.mark.connected, pytest.mark.slow]

SAID = "The river flows back [1]. It rests!"
PASSAGES = (passage("It rains. Then the river flows back to the sea. Fish sing.", start=50, document_id="river"),)


@asynccontextmanager
async def backend(url: str, **options: Any) -> AsyncIterator[ChatBackend]:
    model = OpenAIModel(url=f"{url}/v1", models=("successor",), **{"key": "sesame", **options})
    try:
        yield ChatBackend(model, default_tokens=12)
    finally:
        await model.close()


async def ask(backend_: ChatBackend, **settings: Any) -> list[Event]:
    request = Request(question="Where does the river flow?", passages=PASSAGES, settings=Settings(**settings))
    return [event async for event in backend_.answer(request)]


def text_of(events: list[Event]) -> str:
    return "".join(e.text for e in events if isinstance(e, Delta))


async def slots(url: str) -> list[dict[str, Any]]:
    async with httpx.AsyncClient(headers={"authorization": "Bearer sesame"}, trust_env=False) as client:
        found: list[dict[str, Any]] = (await client.get(f"{url}/slots")).json()
        return found


async def test_an_answer_streams_with_its_citation_usage_and_length(llama_server: str) -> None:
    async with backend(llama_server) as real:
        events = await ask(real)
    assert text_of(events).strip() == SAID
    assert len([e for e in events if isinstance(e, Delta)]) > 5
    (citation,) = [e for e in events if isinstance(e, Citation)]
    assert (citation.number, citation.text) == (1, "Then the river flows back to the sea.")
    assert citation.span.start == 50 + 10
    assert text_of(events)[citation.answer_span.start : citation.answer_span.end] == "The river flows back"
    finished = events[-1]
    assert isinstance(finished, Finished)
    assert finished.reason is FinishReason.LENGTH
    assert finished.usage.completion_tokens == 12
    assert finished.usage.prompt_tokens > 100
    assert finished.support > 0.9


async def test_a_stop_text_ends_the_answer(llama_server: str) -> None:
    async with backend(llama_server) as real:
        events = await ask(real, stop=("!",), max_tokens=100, temperature=0.7, seed=4)
    assert text_of(events).strip() == "The river flows back [1]. It rests"
    assert isinstance(events[-1], Finished)
    assert events[-1].reason is FinishReason.STOP


async def test_a_prompt_over_the_models_window_is_too_large(llama_server: str) -> None:
    long = passage(("Words and more words. " * 4000).strip())
    request = Request(question="What?", passages=(long,), settings=Settings(context_tokens=100_000))
    async with backend(llama_server) as real:
        with pytest.raises(TooLarge) as caught:
            _ = [event async for event in real.answer(request)]
    assert caught.value.field == "settings.context_tokens"


async def test_a_wrong_key_is_the_services_trouble_and_not_the_callers(llama_server: str) -> None:
    async with backend(llama_server, key="guess") as real:
        with pytest.raises(Unreachable, match="refuses this service's key"):
            await ask(real)


async def test_cancelling_the_rpc_frees_the_servers_slot(llama_server: str) -> None:
    settings = ServiceSettings(
        backends="openai",
        openai_url=f"{llama_server}/v1",
        openai_key=SecretStr("sesame"),
        openai_models="successor",
        max_tokens=16_000,
    )
    service = await build(settings)
    server = Server(service.rpc)
    await server.start()
    channel = connect(server.address)
    try:
        request = pb.GenerateRequest(question="Where?", settings=pb.GenerationSettings(max_tokens=15_000))
        request.passages.add(text="The river flows back.")
        stub: stubs.GenerationServiceAsyncStub = stubs.GenerationServiceStub(channel)
        call = stub.Generate(request, timeout=60)
        first = await call.read()
        assert isinstance(first, pb.GenerateResponse)
        assert "The" in first.delta

        async def busy() -> bool | None:
            return any(slot["is_processing"] for slot in await slots(llama_server)) or None

        async def idle() -> bool | None:
            return not any(slot["is_processing"] for slot in await slots(llama_server)) or None

        await poll_until(busy)
        call.cancel()
        await poll_until(idle, deadline=timedelta(seconds=3))
    finally:
        await channel.close()
        await server.stop(timedelta(0))
        for close in service.closing:
            await close()
    # 15,000 tokens would have taken this server many seconds: nobody waited for them.
    written = max(slot.get("next_token", [{}])[0].get("n_decoded", 0) for slot in await slots(llama_server))
    assert written < 15_000


async def test_several_answers_are_written_at_once(llama_server: str) -> None:
    async with backend(llama_server) as real:
        streams = [real.answer(Request(question="Where?", passages=PASSAGES)) for _ in range(2)]
        firsts = [await anext(stream) for stream in streams]
        assert all(isinstance(first, Delta) for first in firsts)
        rest = [[event async for event in stream] for stream in streams]
    assert all(isinstance(events[-1], Finished) for events in rest)
    assert all(response_of(event) for events in rest for event in events)


async def test_a_follow_up_is_rewritten_by_the_model(llama_server: str) -> None:
    async with backend(llama_server) as real:
        written = await real.rewrite("And then?", (), Settings())
    assert written.text.startswith("The river flows back")
    assert written.usage.completion_tokens > 0
