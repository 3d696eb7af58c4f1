"""A chat model behind an OpenAI-compatible HTTP server."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from datetime import timedelta
from typing import Any, Final

import httpx

from anabranch_faults import Invalid, Transient, Unreachable
from anabranch_generation.adapters.chat import End, Piece
from anabranch_generation.adapters.openai.wire import RETRIED, body_of, events, fault_of
from anabranch_generation.adapters.prompting import Message
from anabranch_generation.domain import FinishReason, Settings, Usage
from anabranch_observability import counter, get_logger
from anabranch_observability.names import generation as names

log = get_logger()

NAME: Final = "openai"
_REASONS: Final = {"length": FinishReason.LENGTH, "content_filter": FinishReason.BLOCKED}
_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 2.0


class OpenAIModel:
    """Streams chat completions from `url` (the base, as in http://host:8000/v1).

    Connects on first use. A request is tried again, with back-off, only while nothing of its answer has been given
    out. Closing the stream closes the HTTP response, by which servers notice that nobody listens. An adapter is asked
    for by its name in the place of the model's, as vLLM, NIM and llama.cpp's router do.
    """

    def __init__(
        self,
        *,
        url: str,
        models: Sequence[str],
        key: str = "",
        connect_time: timedelta = timedelta(seconds=5),
        read_time: timedelta = timedelta(seconds=30),
        retries: int = 2,
    ) -> None:
        """Opens nothing. Needs at least one model."""
        self._url = f"{url.rstrip('/')}/chat/completions"
        self._models = tuple(models)
        self._retries = retries
        self._client = httpx.AsyncClient(
            headers={"authorization": f"Bearer {key}"} if key else {},
            timeout=httpx.Timeout(read_time.total_seconds(), connect=connect_time.total_seconds()),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=32),
            trust_env=False,
        )

    @property
    def name(self) -> str:
        """`openai`."""
        return NAME

    @property
    def models(self) -> tuple[str, ...]:
        """As configured."""
        return self._models

    async def chat(
        self, messages: Sequence[Message], settings: Settings, *, max_tokens: int
    ) -> AsyncGenerator[Piece, None]:
        """See the port."""
        if settings.model and settings.model not in self._models:
            raise Invalid(
                f"is {settings.model!r}; {NAME} has {', '.join(self._models)}",
                field="settings.model",
                reason="UNKNOWN_MODEL",
            )
        model = settings.adapter or settings.model or self._models[0]
        body = body_of(messages, settings, model=model, max_tokens=max_tokens)
        for attempt in range(self._retries + 1):
            begun = False
            try:
                async with aclosing(self._once(body)) as pieces:
                    async for piece in pieces:
                        begun = True
                        yield piece
            except _Again as again:
                if begun or attempt == self._retries:
                    raise again.fault from again
                await self._pause(attempt, again)
            else:
                return

    async def _once(self, body: dict[str, Any]) -> AsyncGenerator[Piece, None]:
        try:
            async with self._client.stream("POST", self._url, json=body) as response:
                if response.is_error:
                    refusal = await fault_of(response)
                    if response.status_code in RETRIED and isinstance(refusal, Transient):
                        raise _Again(refusal, str(response.status_code))
                    raise refusal
                try:
                    async for piece in _pieces(response):
                        yield piece
                except Transient as fault:
                    raise _Again(fault, "broken off") from fault
        except httpx.TimeoutException as error:
            silence = Unreachable(f"the model server does not answer ({type(error).__name__})")
            raise _Again(silence, "timeout") from error
        except httpx.TransportError as error:
            raise _Again(Unreachable(f"the model server cannot be reached: {error}"), "transport") from error

    async def _pause(self, attempt: int, again: _Again) -> None:
        wished = again.fault.retry_after.total_seconds() if again.fault.retry_after else 0.0
        drawn = random.uniform(0.5, 1.0) * _FIRST_PAUSE * 2**attempt  # noqa: S311  jitter is no secret
        seconds = min(max(wished, drawn), _LONGEST_PAUSE)
        counter(names.UPSTREAM_RETRIES).labels(cause=again.cause).inc()
        log.info(names.Log.UPSTREAM_RETRIED, attempt=attempt + 1, cause=again.cause, seconds=round(seconds, 2))
        await asyncio.sleep(seconds)

    async def close(self) -> None:
        """Close idle connections."""
        await self._client.aclose()


class _Again(Exception):  # noqa: N818  not an error to others: the request may be tried again
    def __init__(self, fault: Transient, cause: str) -> None:
        super().__init__(str(fault))
        self.fault = fault
        self.cause = cause


async def _pieces(response: httpx.Response) -> AsyncGenerator[Piece, None]:
    reason, usage, model = FinishReason.STOP, None, ""
    finished = False
    try:
        async for event in events(response):
            model = str(event.get("model") or model)
            usage = _usage(event.get("usage")) or usage
            for choice in event.get("choices") or ():
                text = (choice.get("delta") or {}).get("content")
                if text:
                    yield str(text)
                if choice.get("finish_reason"):
                    finished = True
                    reason = _REASONS.get(choice["finish_reason"], FinishReason.STOP)
    except Transient:
        # Some servers close after the last choice without saying [DONE].
        if not finished:
            raise
    yield End(reason, usage, model)


def _usage(said: Any) -> Usage | None:
    if not isinstance(said, dict):
        return None
    return Usage(int(said.get("prompt_tokens") or 0), int(said.get("completion_tokens") or 0))
