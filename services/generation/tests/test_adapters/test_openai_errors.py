"""What the `openai` backend makes of servers that fail, each failure scripted byte for byte."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest

from anabranch_faults import Fault, Invalid, Overloaded, TooLarge, Transient, Unreachable
from anabranch_generation.adapters.chat import End, Piece
from anabranch_generation.adapters.openai.model import OpenAIModel
from anabranch_generation.adapters.prompting import Message
from anabranch_generation.domain import FinishReason, Settings, Usage
from anabranch_testkit import poll_until

HANG = "hang"


@dataclass
class Script:
    """Answers in turn; HANG keeps a connection open. `closed` counts connections that the client gave up."""

    answers: list[bytes | str]
    requests: list[dict[str, Any]] = field(default_factory=list)
    heads: list[str] = field(default_factory=list)
    closed: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = next(
            int(line.split(":")[1]) for line in head.splitlines() if line.lower().startswith("content-length")
        )
        self.heads.append(head)
        self.requests.append(json.loads(await reader.readexactly(length)))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        text = answer if isinstance(answer, bytes) else answer.encode()
        hang = text.endswith(HANG.encode())
        writer.write(text.removesuffix(HANG.encode()))
        await writer.drain()
        if hang:
            await reader.read()  # returns when the client closes
            self.closed += 1
        writer.close()


def error(status: str, message: object, *headers: str) -> str:
    body = json.dumps({"error": {"message": message}})
    lines = [f"HTTP/1.1 {status}", "connection: close", f"content-length: {len(body)}", *headers, "", body]
    return "\r\n".join(lines)


def stream(*texts: str, end: str = "stop", done: bool = True, usage: bool = False) -> str:
    events: list[dict[str, Any]] = [
        {"model": "real", "choices": [{"delta": {"content": text}, "finish_reason": None}]} for text in texts
    ]
    if end:
        events.append({"choices": [{"delta": {}, "finish_reason": end}]})
    if usage:
        events.append({"choices": [], "usage": {"prompt_tokens": 11, "completion_tokens": 3}})
    lines = ["HTTP/1.1 200 OK", "content-type: text/event-stream", "connection: close", "", ": a comment", ""]
    body = "".join(f"data: {json.dumps(event)}\n\n" for event in events)
    return "\r\n".join(lines) + body + ("data: [DONE]\n\n" if done else "")


@asynccontextmanager
async def scripted(*answers: str, **options: Any) -> AsyncIterator[tuple[Script, OpenAIModel]]:
    script = Script(list(answers))
    server = await asyncio.start_server(script.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    model = OpenAIModel(url=f"http://127.0.0.1:{port}/v1/", models=("first", "second"), key="k", **options)
    try:
        yield script, model
    finally:
        await model.close()
        server.close()


async def chat(model: OpenAIModel, /, **settings: Any) -> list[Piece]:
    messages = [Message("user", "Where?")]
    return [piece async for piece in model.chat(messages, Settings(**settings), max_tokens=9)]


async def test_an_answer_comes_in_pieces_and_ends_with_usage_and_the_servers_model() -> None:
    async with scripted(stream("Th", "ere", usage=True)) as (script, model):
        assert await chat(model) == ["Th", "ere", End(FinishReason.STOP, Usage(11, 3), "real")]
    assert script.requests[0] == {
        "model": "first",
        "messages": [{"role": "user", "content": "Where?"}],
        "max_tokens": 9,
        "temperature": 0.0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    assert "POST /v1/chat/completions" in script.heads[0]
    assert "authorization: bearer k" in script.heads[0].lower()


async def test_settings_reach_the_server_and_an_adapter_stands_in_the_models_place() -> None:
    async with scripted(stream("x")) as (script, model):
        await chat(model, model="second", temperature=0.5, stop=("a", "b"), seed=7)
        await chat(model, adapter="my-lora")
    first, second = script.requests
    assert (first["model"], first["temperature"], first["stop"], first["seed"]) == ("second", 0.5, ["a", "b"], 7)
    assert second["model"] == "my-lora"


async def test_a_model_that_is_not_configured_never_reaches_the_server() -> None:
    async with scripted(stream("x")) as (script, model):
        with pytest.raises(Invalid, match="openai has first, second"):
            await chat(model, model="third")
        assert not script.requests


async def test_the_length_is_told_and_a_missing_done_after_the_end_is_forgiven() -> None:
    async with scripted(stream("x", end="length", done=False)) as (_, model):
        assert (await chat(model))[-1] == End(FinishReason.LENGTH, None, "real")


async def test_an_answer_that_the_servers_filter_withheld_is_told_as_blocked() -> None:
    async with scripted(stream("x", end="content_filter")) as (_, model):
        end = (await chat(model))[-1]
        assert isinstance(end, End)
        assert end.reason is FinishReason.BLOCKED


@pytest.mark.parametrize(
    ("answers", "expected", "sentence", "tries"),
    [
        ([error("429 Too Many Requests", "slow down", "retry-after: 0")], Overloaded, "slow down", 3),
        ([error("503 Service Unavailable", "loading")], Unreachable, "503: loading", 3),
        ([error("500 Internal Server Error", "oops")], Unreachable, "oops", 3),
        ([error("401 Unauthorized", "bad key sk-123")], Unreachable, "refuses this service's key", 1),
        ([error("404 Not Found", "no such model")], Invalid, "settings.model: is not known", 1),
        ([error("400 Bad Request", "maximum context length is 10")], TooLarge, "settings.context_tokens", 1),
        ([error("400 Bad Request", "temperature is odd")], Invalid, "temperature is odd", 1),
        (
            ["HTTP/1.1 502 Bad Gateway\r\ncontent-length: 3\r\nconnection: close\r\n\r\n<p>"],
            Unreachable,
            "Bad Gateway",
            3,
        ),
        ([stream(end="", done=False)], Transient, "broke off", 3),
        ([stream().replace('{"choices"', '{"error": {"message": "cuda"}, "choices"')], Transient, "cuda", 3),
        ([stream().replace('{"choices"', "{{")], Transient, "not JSON", 3),
        ([""], Unreachable, "cannot be reached", 3),
    ],
    ids=["429", "503", "500", "401", "404", "window", "400", "502", "cut", "error event", "not json", "reset"],
)
async def test_every_failure_is_a_fault_that_says_what_to_do(
    answers: list[str], expected: type[Fault], sentence: str, tries: int
) -> None:
    async with scripted(*answers) as (script, model):
        with pytest.raises(expected) as caught:
            await chat(model)
    assert type(caught.value) is expected
    assert sentence in str(caught.value)
    assert "sk-123" not in str(caught.value)
    assert len(script.requests) == tries


async def test_a_failure_before_the_first_token_is_tried_again() -> None:
    async with scripted(error("503 Service Unavailable", "loading"), stream("yes")) as (script, model):
        assert (await chat(model))[0] == "yes"
        assert len(script.requests) == 2


async def test_a_failure_after_the_first_token_is_not_tried_again() -> None:
    async with scripted(stream("half", end="", done=False)) as (script, model):
        with pytest.raises(Transient, match="broke off"):
            await chat(model)
        assert len(script.requests) == 1


async def test_a_silent_server_is_unreachable_after_the_read_time() -> None:
    async with scripted(HANG, read_time=timedelta(milliseconds=50), retries=0) as (_, model):
        with pytest.raises(Unreachable, match="does not answer"):
            await chat(model)


async def test_nobody_there_is_unreachable() -> None:
    model = OpenAIModel(url="http://127.0.0.1:9/v1", models=("m",), retries=0)
    with pytest.raises(Unreachable, match="cannot be reached"):
        await chat(model)
    await model.close()


@pytest.mark.parametrize("texts", [("some", "text"), ()], ids=["while it speaks", "before it speaks"])
async def test_giving_up_closes_the_request(texts: Sequence[str]) -> None:
    async with scripted(stream(*texts, end="", done=False) + HANG) as (script, model):
        begun = asyncio.Event()

        async def read() -> None:
            async with aclosing(model.chat([Message("user", "x")], Settings(), max_tokens=5)) as pieces:
                async for _ in pieces:
                    begun.set()

        task = asyncio.create_task(read())
        if texts:
            await begun.wait()
        else:
            await poll_until(lambda: script.requests or None)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await poll_until(lambda: script.closed or None)
