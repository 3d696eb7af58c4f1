"""Routes: read, ask, answer; a caller who hangs up stops the work."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar, cast

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from anabranch.retrieval.v1 import retrieval_service_pb2 as retrieval
from anabranch_faults import NotFound, TooLarge, Transient
from anabranch_gateway.application.ask import AskQuestion
from anabranch_gateway.application.authenticate import Authenticate
from anabranch_gateway.application.documents import SearchCorpus
from anabranch_gateway.domain.answers import AskEvent, Delta, Finished, Retrieved, Started
from anabranch_gateway.domain.guards import Guard
from anabranch_gateway.domain.keys import Caller
from anabranch_gateway.entrypoints.http.chat import ChatRequest, chat_request
from anabranch_gateway.entrypoints.http.completions import Completion, encoded, line
from anabranch_gateway.entrypoints.http.errors import Refusal, Unsupported, refusal_of
from anabranch_observability import adopt, counter, histogram
from anabranch_observability.names import gateway as names
from anabranch_rpc import scope as rpc_scope

T = TypeVar("T")
JSON = "application/json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one request may take."""

    body_bytes: int = 4 * 1024 * 1024
    deadline: timedelta = timedelta(seconds=30)


class Gone(Exception):  # noqa: N818  reads as what went wrong
    """The caller hung up; nobody is there to be told anything."""


def application(*, ask: AskQuestion, search: SearchCorpus, authenticate: Authenticate, limits: Limits) -> Starlette:
    """The ASGI application. Everything it answers that is not a success has OpenAI's error form."""
    surface = _Surface(ask=ask, search=search, authenticate=authenticate, limits=limits)
    return Starlette(
        routes=[
            Route("/v1/chat/completions", surface.endpoint("chat", surface.chat), methods=["POST"]),
            Route("/v1/models", surface.endpoint("models", surface.models), methods=["GET"]),
            Route("/v1/models/{model}", surface.endpoint("model", surface.model), methods=["GET"]),
        ],
        exception_handlers={HTTPException: _no_route},
    )


Handler = Callable[["_Exchange"], Coroutine[Any, Any, None]]


@dataclass(slots=True, kw_only=True)
class _Exchange:
    """One request and the answer to it."""

    request: Request
    send: Send
    body: bytes = b""
    status: int = 0

    async def respond(self, body: dict[str, Any], *, status: int = 200, headers: dict[str, str] | None = None) -> None:
        await self.begin(status=status, content_type=JSON, headers=headers)
        await self.send({"type": "http.response.body", "body": encoded(body), "more_body": False})

    async def begin(self, *, status: int, content_type: str, headers: dict[str, str] | None = None) -> None:
        self.status = status
        lines = {"content-type": content_type, "cache-control": "no-store", **(headers or {})}
        raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in lines.items()]
        await self.send({"type": "http.response.start", "status": status, "headers": raw})

    async def write(self, data: bytes, *, more: bool = True) -> None:
        await self.send({"type": "http.response.body", "body": data, "more_body": more})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Surface:
    ask: AskQuestion
    search: SearchCorpus
    authenticate: Authenticate
    limits: Limits

    def endpoint(self, route: str, handler: Handler) -> ASGIApp:
        """An ASGI application around a handler: deadline, trace, errors, hanging up, counting."""
        return _Endpoint(route, handler, self.limits)

    async def chat(self, exchange: _Exchange) -> None:
        caller = await self._caller(exchange)
        asked = chat_request(exchange.body)
        completion = Completion(model=asked.question.corpus, ignored=asked.ignored)
        if asked.stream:
            async with aclosing(self.ask.stream(caller, asked.question)) as events:
                await _stream(exchange, events, completion, asked)
            return
        answer = await self.ask.whole(caller, asked.question)
        completion.answer_id, completion.variant_id = answer.answer_id, answer.variant_id
        completion.search_query = answer.search_query
        completion.guards = list(answer.guards)
        await exchange.respond(completion.whole(answer.text, answer.finished))

    async def models(self, exchange: _Exchange) -> None:
        caller = await self._caller(exchange)
        found = cast("Sequence[retrieval.Corpus]", await self.search.corpora(caller))
        await exchange.respond({"object": "list", "data": [_model(each, caller) for each in found]})

    async def model(self, exchange: _Exchange) -> None:
        caller = await self._caller(exchange)
        name = exchange.request.path_params["model"]
        for each in cast("Sequence[retrieval.Corpus]", await self.search.corpora(caller)):
            if each.corpus == name:
                await exchange.respond(_model(each, caller))
                return
        raise NotFound(f"there is no corpus {name!r}", field="corpus")

    async def _caller(self, exchange: _Exchange) -> Caller:
        return await self.authenticate(exchange.request.headers.get("authorization"))


class _Endpoint:
    """Starlette calls an object like this with the bare ASGI arguments."""

    def __init__(self, route: str, handler: Handler, limits: Limits) -> None:
        self._route = route
        self._handler = handler
        self._limits = limits
        self._seconds = histogram(names.HTTP_REQUEST_SECONDS).labels(route=route)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = _Exchange(request=Request(scope, receive), send=send)
        adopt(exchange.request.headers.get("traceparent"))
        call = rpc_scope.Scope(expires=time.monotonic() + self._limits.deadline.total_seconds())
        rpc_scope.enter(call)
        began = time.perf_counter()
        try:
            async with asyncio.timeout(self._limits.deadline.total_seconds()):
                exchange.body = await _body(exchange.request, self._limits.body_bytes)
                await _unless_gone(receive, self._handler(exchange))
        except (Gone, ClientDisconnect):
            exchange.status = exchange.status or 499
        except Exception as error:  # noqa: BLE001  every way out becomes an answer in OpenAI's form, or a log line
            await _refuse(exchange, refusal_of(error, route=self._route))
        finally:
            call.close()
            self._seconds.observe(time.perf_counter() - began)
            counter(names.HTTP_REQUESTS).labels(route=self._route, status=exchange.status).inc()


async def _stream(
    exchange: _Exchange, events: AsyncGenerator[AskEvent, None], completion: Completion, asked: ChatRequest
) -> None:
    # Nothing is sent before retrieval has answered: an unknown corpus must still become a 404.
    finished: Finished | None = None
    async for event in events:
        match event:
            case Started():
                completion.answer_id, completion.variant_id = event.answer_id, event.variant_id
            case Retrieved():
                completion.search_query = event.search_query
                await _begin_stream(exchange, completion)
            case Guard():
                completion.guards.append(event)
            case Delta(text=text):
                await exchange.write(line(completion.chunk(text)))
            case Finished():
                finished = event
    if finished is None:
        raise Transient("the answer broke off")
    if not exchange.status:  # it was blocked before anything was looked for
        await _begin_stream(exchange, completion)
    await exchange.write(line(completion.last(finished)))
    if asked.include_usage:
        await exchange.write(line(completion.usage(finished)))
    await exchange.write(b"data: [DONE]\n\n", more=False)


async def _begin_stream(exchange: _Exchange, completion: Completion) -> None:
    await exchange.begin(status=200, content_type="text/event-stream; charset=utf-8")
    await exchange.write(line(completion.chunk("", first=True)))


async def _refuse(exchange: _Exchange, refusal: Refusal) -> None:
    try:
        if not exchange.status:
            await exchange.respond(refusal.body, status=refusal.status, headers=refusal.headers)
        else:
            # The answer has begun: the error is its last event, and no [DONE] follows.
            await exchange.write(line(refusal.body), more=False)
    except OSError:
        pass  # the caller hung up while being told


async def _body(request: Request, limit: int) -> bytes:
    if request.method != "POST":
        return b""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != JSON:
        raise Unsupported(f"send content-type: {JSON}")
    length = request.headers.get("content-length", "")
    if length.isdigit() and int(length) > limit:
        raise TooLarge(f"the body has {length} bytes; at most {limit} are taken")
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > limit:
            raise TooLarge(f"the body has more than {limit} bytes")
        parts.append(part)
    return b"".join(parts)


async def _unless_gone(receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`, which is cancelled when the caller hangs up. Raises Gone then."""
    task = asyncio.create_task(work)
    gone = asyncio.create_task(_hung_up(receive))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise Gone
        return task.result()
    finally:
        gone.cancel()
        task.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)


async def _hung_up(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _model(corpus: retrieval.Corpus, caller: Caller) -> dict[str, Any]:
    created = corpus.changed_at.seconds if corpus.HasField("changed_at") else 0
    return {"id": corpus.corpus, "object": "model", "created": created, "owned_by": caller.tenant}


async def _no_route(_request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    problem = error.detail if isinstance(error, HTTPException) else "internal error"
    refusal = Refusal(status=status, kind="invalid_request_error", problem=problem, code="unknown_url")
    headers = dict(error.headers or {}) if isinstance(error, HTTPException) else {}
    return Response(encoded(refusal.body), status_code=status, media_type=JSON, headers=headers)
