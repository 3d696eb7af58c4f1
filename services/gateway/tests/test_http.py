"""The OpenAI-compatible surface, through the `openai` package as it is and through bare HTTP."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import pytest_asyncio

from anabranch_faults import Overloaded, Unreachable
from anabranch_gateway.testing import Gateway, passage, running
from anabranch_testkit import poll_until

pytestmark = pytest.mark.asyncio(loop_scope="module")

WHERE: Any = [{"role": "user", "content": "Where is the meeting?"}]


def ask(gateway: Gateway, **options: Any) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(
        **{"base_url": f"{gateway.http}/v1", "api_key": gateway.key, "max_retries": 0, "timeout": 10, **options}
    )


@pytest_asyncio.fixture(loop_scope="module")
async def http(gateway: Gateway) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"authorization": f"Bearer {gateway.key}"}
    async with httpx.AsyncClient(base_url=gateway.http, headers=headers, timeout=10) as client:
        yield client


class TestWithTheOpenAIPackage:
    async def test_a_completion_is_an_answer_with_citations(self, gateway: Gateway) -> None:
        async with ask(gateway) as client:
            completion = await client.chat.completions.create(model="handbook", messages=WHERE)
        message = completion.choices[0].message
        assert message.content == "In the blue room."
        assert message.role == "assistant"
        assert completion.choices[0].finish_reason == "stop"
        assert completion.model == "handbook"
        assert completion.id.startswith("chatcmpl-")
        assert completion.system_fingerprint == "v-one"
        assert completion.usage is not None
        assert (completion.usage.prompt_tokens, completion.usage.total_tokens) == (12, 15)
        assert message.annotations is not None
        assert message.annotations[0].type == "url_citation"
        assert message.annotations[0].url_citation.url == "https://docs.example/a"
        assert message.annotations[0].url_citation.title == "About a"
        extra = completion.model_extra or {}
        assert extra["citations"][0]["text"] == "The meeting is in the blue room."
        assert extra["citations"][0]["document_id"] == "a"
        assert extra["anabranch"]["search_query"] == "Where is the meeting?"
        assert extra["anabranch"]["timings_ms"]["total"] > 0
        assert extra["anabranch"]["abstained"] is False

    async def test_a_stream_gives_words_as_they_come_and_citations_at_the_end(self, gateway: Gateway) -> None:
        gateway.downstream.generation.hold = asyncio.Event()
        async with ask(gateway) as client:
            stream = await client.chat.completions.create(
                model="handbook", messages=WHERE, stream=True, stream_options={"include_usage": True}
            )
            chunks = [await anext(stream), await anext(stream)]
            assert chunks[0].choices[0].delta.role == "assistant"
            assert chunks[1].choices[0].delta.content == "In the "
            gateway.downstream.generation.hold.set()
            chunks += [chunk async for chunk in stream]
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        assert text == "In the blue room."
        assert len({chunk.id for chunk in chunks}) == 1
        last = chunks[-2]
        assert last.choices[0].finish_reason == "stop"
        assert (last.model_extra or {})["citations"][0]["chunk_id"] == "chunk-of-a"
        delta = last.choices[0].delta.model_extra or {}
        assert delta["annotations"][0]["url_citation"]["url"] == "https://docs.example/a"
        assert chunks[-1].choices == []
        assert chunks[-1].usage is not None
        assert chunks[-1].usage.completion_tokens == 3

    async def test_the_synchronous_client_works_too(self, gateway: Gateway) -> None:
        def talk() -> tuple[str | None, str, list[str]]:
            with openai.OpenAI(base_url=f"{gateway.http}/v1", api_key=gateway.key, timeout=10) as client:
                whole = client.chat.completions.create(model="handbook", messages=WHERE)
                stream = client.chat.completions.create(model="handbook", messages=WHERE, stream=True)
                streamed = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
                return whole.choices[0].message.content, streamed, [model.id for model in client.models.list()]

        assert await asyncio.to_thread(talk) == ("In the blue room.", "In the blue room.", ["handbook"])

    async def test_models_are_the_tenants_corpora(self, gateway: Gateway) -> None:
        gateway.downstream.retrieval.corpora["default", "recipes"] = []
        gateway.downstream.retrieval.corpora["acme", "secrets"] = []
        async with ask(gateway) as client:
            assert [model.id async for model in client.models.list()] == ["handbook", "recipes"]
            assert (await client.models.retrieve("recipes")).owned_by == "default"
            with pytest.raises(openai.NotFoundError):
                await client.models.retrieve("secrets")

    async def test_what_was_said_before_is_history_and_system_messages_are_left_out(self, gateway: Gateway) -> None:
        messages: Any = [
            {"role": "system", "content": "Talk like a pirate."},
            {"role": "user", "content": "the offsite"},
            {"role": "assistant", "content": "In May."},
            {"role": "user", "content": [{"type": "text", "text": "Where"}, {"type": "text", "text": "is it?"}]},
        ]
        async with ask(gateway) as client:
            completion = await client.chat.completions.create(
                model="handbook", messages=messages, temperature=0.3, user="u", max_completion_tokens=20
            )
        about = (completion.model_extra or {})["anabranch"]
        assert about["search_query"] == "Where\nis it? (the offsite)"
        assert about["ignored"] == ["temperature", "messages[0]"]
        (request,) = gateway.downstream.generation.generate.requests
        assert [turn.text for turn in request.history] == ["the offsite", "In May."]
        assert request.settings.max_tokens == 20

    async def test_a_chat_that_grew_long_keeps_its_last_turns(self, gateway: Gateway) -> None:
        messages: Any = [{"role": "user", "content": f"turn {n}"} for n in range(80)]
        async with ask(gateway) as client:
            await client.chat.completions.create(model="handbook", messages=messages)
        (request,) = gateway.downstream.generation.generate.requests
        assert [turn.text for turn in request.history] == [f"turn {n}" for n in range(29, 79)]

    async def test_filters_labels_and_sessions_go_as_extra_fields(self, gateway: Gateway) -> None:
        extra = {"filters": {"team": "ops"}, "acl": ["hr"], "session_id": "from-http"}
        async with ask(gateway) as client:
            for text in ("the offsite", "Where is it?"):
                messages: Any = [{"role": "user", "content": text}]
                completion = await client.chat.completions.create(model="handbook", messages=messages, extra_body=extra)
        assert (completion.model_extra or {})["anabranch"]["search_query"] == "Where is it? (the offsite)"
        request = gateway.downstream.retrieval.retrieve.requests[-1]
        assert (dict(request.filters), list(request.acl)) == ({"team": "ops"}, ["hr"])

    async def test_errors_are_those_that_the_package_knows(self, gateway: Gateway) -> None:
        async with ask(gateway) as client, ask(gateway, api_key="ab-wrong") as stranger:
            with pytest.raises(openai.NotFoundError) as missing:
                await client.chat.completions.create(model="nowhere", messages=WHERE)
            with pytest.raises(openai.NotFoundError):
                await client.chat.completions.create(model="nowhere", messages=WHERE, stream=True)
            with pytest.raises(openai.AuthenticationError) as unknown:
                await stranger.chat.completions.create(model="handbook", messages=WHERE)
            with pytest.raises(openai.AuthenticationError):
                await stranger.models.list()
            blank: Any = [{"role": "user", "content": " "}]
            with pytest.raises(openai.BadRequestError) as empty:
                await client.chat.completions.create(model="handbook", messages=blank)
            gateway.downstream.retrieval.fault = Overloaded("too much", retry_after=timedelta(seconds=2))
            with pytest.raises(openai.RateLimitError) as full:
                await client.chat.completions.create(model="handbook", messages=WHERE)
            gateway.downstream.retrieval.fault = Unreachable("away")
            with pytest.raises(openai.InternalServerError) as away:
                await client.chat.completions.create(model="handbook", messages=WHERE)
        assert (missing.value.code, missing.value.param) == ("model_not_found", "model")
        assert unknown.value.code == "invalid_api_key"
        assert empty.value.param == "messages"
        assert full.value.response.headers["retry-after"] == "2"
        assert away.value.status_code == 503

    async def test_a_failure_after_the_first_words_ends_the_stream_as_an_error(self, gateway: Gateway) -> None:
        gateway.downstream.generation.fault = Unreachable("the backend went away")
        async with ask(gateway) as client:
            stream = await client.chat.completions.create(model="handbook", messages=WHERE, stream=True)
            words = [(await anext(stream)).choices[0].delta.content for _ in range(4)]
            with pytest.raises(openai.APIError, match="went away"):
                await anext(stream)
        assert words == ["", "In the ", "blue ", "room."]


class TestBareHttp:
    @pytest.mark.parametrize(
        ("body", "param"),
        [
            ({"messages": WHERE}, "model"),
            ({"model": 3, "messages": WHERE}, "model"),
            ({"model": "a/b", "messages": WHERE}, "model"),
            ({"model": "handbook"}, "messages"),
            ({"model": "handbook", "messages": []}, "messages"),
            ({"model": "handbook", "messages": "hi"}, "messages"),
            ({"model": "handbook", "messages": ["hi"]}, "messages[0]"),
            ({"model": "handbook", "messages": [{"role": "system", "content": "x"}]}, "messages"),
            ({"model": "handbook", "messages": [*WHERE, {"role": "assistant", "content": "x"}]}, "messages"),
            ({"model": "handbook", "messages": [{"role": "tool", "content": "x"}]}, "messages[0].role"),
            ({"model": "handbook", "messages": [{"role": "user", "content": 3}]}, "messages[0].content"),
            (
                {"model": "handbook", "messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
                "messages[0].content[0].type",
            ),
            ({"model": "handbook", "messages": [{"role": "user", "content": "\ud800"}]}, "messages[0].content"),
            ({"model": "handbook", "messages": WHERE, "stream": "yes"}, "stream"),
            ({"model": "handbook", "messages": WHERE, "n": 2}, "n"),
            ({"model": "handbook", "messages": WHERE, "max_tokens": -1}, "max_tokens"),
            ({"model": "handbook", "messages": WHERE, "max_tokens": "many"}, "max_tokens"),
            ({"model": "handbook", "messages": WHERE, "tools": [{"type": "function"}]}, "tools"),
            ({"model": "handbook", "messages": WHERE, "response_format": {"type": "json_object"}}, "response_format"),
            ({"model": "handbook", "messages": WHERE, "filters": {"team": 3}}, "filters.team"),
            ({"model": "handbook", "messages": WHERE, "acl": "hr"}, "acl"),
            ({"model": "handbook", "messages": WHERE, "user": "u" * 129}, "user"),
        ],
    )
    async def test_a_body_that_is_wrong_names_the_parameter(
        self, http: httpx.AsyncClient, gateway: Gateway, body: dict[str, Any], param: str
    ) -> None:
        reply = await http.post(
            "/v1/chat/completions", content=json.dumps(body), headers={"content-type": "application/json"}
        )
        assert reply.status_code in (400, 413)
        assert reply.json()["error"]["param"] == param
        assert gateway.downstream.retrieval.retrieve.begun == 0

    @pytest.mark.parametrize(
        "body", [b"", b"{", b"\xff\xfe", b"[]", b'"x"', b"[" * 100_000, b'{"model": ' + b"9" * 9_000]
    )
    async def test_a_body_that_is_no_json_object_is_refused(self, http: httpx.AsyncClient, body: bytes) -> None:
        reply = await http.post("/v1/chat/completions", content=body, headers={"content-type": "application/json"})
        assert reply.status_code == 400
        assert reply.json()["error"]["type"] == "invalid_request_error"

    async def test_another_content_type_is_refused(self, http: httpx.AsyncClient) -> None:
        reply = await http.post("/v1/chat/completions", content=b"{}", headers={"content-type": "text/plain"})
        assert reply.status_code == 415

    async def test_a_body_that_is_too_large_is_refused_with_and_without_its_length(
        self, http: httpx.AsyncClient
    ) -> None:
        async def pieces() -> AsyncIterator[bytes]:
            for _ in range(10):
                yield b"x" * 1024 * 1024

        headers = {"content-type": "application/json"}
        for content in (b"x" * 10 * 1024 * 1024, pieces()):
            reply = await http.post("/v1/chat/completions", content=content, headers=headers)
            assert reply.status_code == 413
            assert "4194304" in reply.json()["error"]["message"]

    @pytest.mark.parametrize("header", [{}, {"authorization": "Basic abc"}, {"authorization": "Bearer ab-wrong"}])
    async def test_without_a_key_nothing_is_told(self, gateway: Gateway, header: dict[str, str]) -> None:
        async with httpx.AsyncClient(base_url=gateway.http, headers=header) as client:
            for reply in (
                await client.get("/v1/models"),
                await client.get("/v1/models/handbook"),
                await client.post("/v1/chat/completions", json={}),
            ):
                assert reply.status_code == 401
                assert reply.headers["www-authenticate"] == "Bearer"
                assert reply.json()["error"]["code"] == "invalid_api_key"

    @pytest.mark.parametrize(
        ("method", "path", "status"),
        [("GET", "/", 404), ("GET", "/v1/embeddings", 404), ("GET", "/v1/chat/completions", 405)],
    )
    async def test_an_unknown_path_or_method_has_openais_error_form(
        self, http: httpx.AsyncClient, method: str, path: str, status: int
    ) -> None:
        reply = await http.request(method, path)
        assert reply.status_code == status
        assert reply.json()["error"]["code"] == "unknown_url"

    async def test_server_sent_events_are_as_documented(self, http: httpx.AsyncClient) -> None:
        body = {"model": "handbook", "messages": WHERE, "stream": True}
        reply = await http.post("/v1/chat/completions", json=body)
        assert reply.headers["content-type"].startswith("text/event-stream")
        events = [line.removeprefix("data: ") for line in reply.text.split("\n\n") if line]
        assert events[-1] == "[DONE]"
        assert all(json.loads(event)["object"] == "chat.completion.chunk" for event in events[:-1])

    async def test_words_beyond_ascii_arrive_as_they_are(self, http: httpx.AsyncClient, gateway: Gateway) -> None:
        gateway.downstream.generation.deltas = ("Größe: ", "水 🌊")
        body = {"model": "handbook", "messages": WHERE}
        assert (await http.post("/v1/chat/completions", json=body)).json()["choices"][0]["message"]["content"] == (
            "Größe: 水 🌊"
        )

    async def test_a_document_without_a_source_is_cited_by_its_name(
        self, http: httpx.AsyncClient, gateway: Gateway
    ) -> None:
        nameless = passage("guide/a", "Text.")
        nameless.source_uri = nameless.title = ""
        gateway.downstream.retrieval.corpora["default", "handbook"] = [nameless]
        reply = await http.post("/v1/chat/completions", json={"model": "handbook", "messages": WHERE})
        (annotation,) = reply.json()["choices"][0]["message"]["annotations"]
        assert annotation["url_citation"]["url"] == "anabranch:handbook/guide/a"
        assert annotation["url_citation"]["title"] == "guide/a"


class TestHangingUp:
    async def test_hanging_up_on_a_stream_stops_generation(self, gateway: Gateway) -> None:
        gateway.downstream.generation.hold = asyncio.Event()
        async with ask(gateway) as client:
            stream = await client.chat.completions.create(model="handbook", messages=WHERE, stream=True)
            await anext(stream)
            await stream.close()
            await poll_until(lambda: gateway.downstream.generation.generate.cancelled == 1)

    async def test_hanging_up_on_an_answer_stops_retrieval(self, gateway: Gateway) -> None:
        gateway.downstream.retrieval.hold = asyncio.Event()
        async with ask(gateway) as client:
            asking = asyncio.create_task(client.chat.completions.create(model="handbook", messages=WHERE))
            await poll_until(lambda: gateway.downstream.retrieval.retrieve.begun == 1)
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
        await poll_until(lambda: gateway.downstream.retrieval.retrieve.cancelled == 1)

    async def test_hanging_up_in_the_middle_of_a_body_harms_nobody(self, gateway: Gateway) -> None:
        host, port = gateway.process.addresses["http"].split(":")
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
            b"content-length: 100\r\n\r\n{"
        )
        await writer.drain()
        writer.close()
        async with ask(gateway) as client:
            assert (await client.chat.completions.create(model="handbook", messages=WHERE)).choices

    async def test_an_answer_that_takes_too_long_is_a_504(self, tmp_path: Path) -> None:
        async with running(tmp_path, deadline=timedelta(milliseconds=300)) as gateway, ask(gateway) as client:
            gateway.downstream.retrieval.hold = asyncio.Event()
            with pytest.raises(openai.InternalServerError) as late:
                await client.chat.completions.create(model="handbook", messages=WHERE)
            assert late.value.status_code == 504
            await poll_until(lambda: gateway.downstream.retrieval.retrieve.cancelled == 1)
