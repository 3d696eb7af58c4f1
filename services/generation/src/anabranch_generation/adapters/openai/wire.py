"""What goes over the wire: the request's body, server-sent events, and what error answers mean."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from typing import Any, Final

import httpx

from anabranch_faults import Fault, Invalid, Overloaded, TooLarge, Transient, Unreachable
from anabranch_generation.adapters.prompting import Message
from anabranch_generation.domain import Settings

_DONE: Final = "[DONE]"
_MAX_PROBLEM: Final = 300
_MAX_ERROR_BODY: Final = 65_536
_MAX_RETRY_AFTER: Final = 60.0
# Servers tell a prompt over the window from other bad requests in their sentences only.
_WINDOW_WORDS: Final = (
    "context length",
    "context size",
    "context_length",
    "exceed_context",
    "maximum context",
    "too long",
)
RETRIED: Final = frozenset({408, 409, 425, 429, 500, 502, 503, 504})


def body_of(messages: Sequence[Message], settings: Settings, *, model: str, max_tokens: int) -> dict[str, Any]:
    """The body of a streamed chat completion. What the settings leave open is left to the server."""
    body: dict[str, Any] = {
        "model": model,
        "messages": [{"role": m.role, "content": m.text} for m in messages],
        "max_tokens": max_tokens,
        "temperature": settings.temperature,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if settings.stop:
        body["stop"] = list(settings.stop)
    if settings.seed:
        body["seed"] = settings.seed
    return body


async def events(response: httpx.Response) -> AsyncIterator[dict[str, Any]]:
    """The JSON objects of a server-sent event stream, up to [DONE]. Raises Transient when it ends without."""
    async for line in response.aiter_lines():
        if not line.startswith("data:"):
            continue
        data = line.removeprefix("data:").strip()
        if data == _DONE:
            return
        try:
            event = json.loads(data)
        except ValueError as error:
            raise Transient("the model server sent an event that is not JSON") from error
        if isinstance(event, dict):
            if "error" in event:
                raise Transient(f"the model server broke off: {_sentence(event)}")
            yield event
    raise Transient("the model server broke off in the middle of an answer")


async def fault_of(response: httpx.Response) -> Fault:
    """What an error answer means for the caller. Reads at most 64 KiB of it."""
    text = b""
    async for part in response.aiter_bytes():
        text += part
        if len(text) > _MAX_ERROR_BODY:
            break
    try:
        said = _sentence(json.loads(text))
    except ValueError:
        said = response.reason_phrase
    status = response.status_code
    if status == httpx.codes.TOO_MANY_REQUESTS:
        return Overloaded(f"the model server is full: {said}", retry_after=retry_after(response))
    if status in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
        # The caller can do nothing about the key that this service was given.
        return Unreachable(f"the model server refuses this service's key ({status})")
    if status == httpx.codes.NOT_FOUND:
        return Invalid(f"is not known to the model server: {said}", field="settings.model", reason="UNKNOWN_MODEL")
    if status == httpx.codes.REQUEST_ENTITY_TOO_LARGE or any(words in said.lower() for words in _WINDOW_WORDS):
        return TooLarge(f"the prompt is over the model's window: {said}", field="settings.context_tokens")
    if httpx.codes.is_server_error(status) or status in RETRIED:
        return Unreachable(f"the model server answered {status}: {said}", retry_after=retry_after(response))
    return Invalid(f"the model server refused the request ({status}): {said}", field="settings")


def retry_after(response: httpx.Response) -> timedelta | None:
    """The server's wish in seconds, a minute at most."""
    try:
        seconds = float(response.headers.get("retry-after", ""))
    except ValueError:
        return None
    return timedelta(seconds=min(max(seconds, 0.0), _MAX_RETRY_AFTER))


def _sentence(answer: Any) -> str:
    error = answer.get("error", answer) if isinstance(answer, dict) else answer
    if isinstance(error, dict):
        error = error.get("message") or error.get("detail") or error
    text = " ".join(str(error).split())
    return text if len(text) <= _MAX_PROBLEM else f"{text[:_MAX_PROBLEM]}..."
