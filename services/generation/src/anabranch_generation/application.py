"""The use cases, and the ports they need."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from datetime import timedelta
from time import monotonic
from typing import Protocol

from anabranch_faults import Invalid, Overloaded, Transient
from anabranch_generation.domain import (
    MAX_QUESTION,
    BackendInfo,
    Condensed,
    Delta,
    Event,
    Finished,
    FinishReason,
    Request,
    Settings,
    Turn,
    check_question,
    stand_alone,
)


class Backend(Protocol):
    """Writes an answer from passages.

    answer: streams Delta and Citation events in the order of the text, then exactly one Finished. Every citation's
    `text` is the document's over its `span`. Closing the generator stops all work on the answer, upstream too. Raises
    Invalid (with the field) for settings it cannot serve, Overloaded or Unreachable when it cannot serve now.
    """

    @property
    def info(self) -> BackendInfo:
        """Its name and its models, the default first."""

    def answer(self, request: Request) -> AsyncGenerator[Event, None]:
        """Streams the answer."""

    async def close(self) -> None:
        """Lets go of connections and devices."""


class Rewriter(Protocol):
    """A backend that can also rewrite a follow-up into a question that stands alone.

    rewrite: at most 4,096 characters; empty when it had nothing to say. May take seconds. Raises as `Backend` does.
    """

    async def rewrite(self, question: str, history: Sequence[Turn], settings: Settings) -> str:
        """Rewrites."""


@dataclass(frozen=True, slots=True)
class Backends:
    """The backends of this process, by name; the first is the default. Never empty."""

    loaded: Mapping[str, Backend]

    def choose(self, name: str) -> Backend:
        """The backend of that name. Raises Invalid, naming the choices, when it is not loaded."""
        if not name:
            return next(iter(self.loaded.values()))
        backend = self.loaded.get(name)
        if backend is None:
            raise Invalid(
                f"the backend {name!r} is not loaded here; loaded: {', '.join(self.loaded)}",
                field="settings.backend",
                reason="UNKNOWN_BACKEND",
            )
        return backend

    def __call__(self) -> list[BackendInfo]:
        """All, the default first."""
        return [backend.info for backend in self.loaded.values()]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one answer may cost. `max_tokens` caps what a request asks for."""

    concurrent: int = 64
    time: timedelta = timedelta(seconds=60)
    max_tokens: int = 2048


@dataclass(slots=True, kw_only=True)
class Generate:
    """Streams an answer from the backend that the request names, within the limits."""

    backends: Backends
    limits: Limits = field(default_factory=Limits)
    running: int = 0

    async def __call__(self, request: Request, *, within: timedelta | None = None) -> AsyncGenerator[Event, None]:
        """Delta and Citation events, then one Finished, which says TIMEOUT when `within` or the limit ran out.

        Raises Overloaded when too many answers are being written, and what the backend raises.
        """
        backend = self.backends.choose(request.settings.backend)
        if self.running >= self.limits.concurrent:
            raise Overloaded(
                f"{self.running} answers are being written; the limit is {self.limits.concurrent}",
                retry_after=timedelta(seconds=1),
            )
        self.running += 1
        try:
            async with aclosing(self._events(backend, self._capped(request), within)) as events:
                async for event in events:
                    yield event
        finally:
            self.running -= 1

    async def _events(
        self, backend: Backend, request: Request, within: timedelta | None
    ) -> AsyncGenerator[Event, None]:
        begun = monotonic()
        budget = min(self.limits.time, within) if within is not None else self.limits.time
        first: timedelta | None = None
        async with aclosing(backend.answer(request)) as events:
            while True:
                try:
                    # Around each step alone: a timeout that spans a yield would strike the consumer's code.
                    async with asyncio.timeout(max(0.0, begun + budget.total_seconds() - monotonic())):
                        event = await anext(events)
                except TimeoutError:
                    event = Finished(reason=FinishReason.TIMEOUT)
                except StopAsyncIteration:
                    raise RuntimeError(f"the backend {backend.info.name} ended without Finished") from None
                if isinstance(event, Delta) and first is None:
                    first = timedelta(seconds=monotonic() - begun)
                if isinstance(event, Finished):
                    info = backend.info
                    yield replace(
                        event,
                        backend=info.name,
                        model=event.model or request.settings.model or next(iter(info.models), ""),
                        time_to_first_token=first,
                    )
                    return
                yield event

    def _capped(self, request: Request) -> Request:
        asked = request.settings.max_tokens
        if asked <= self.limits.max_tokens:
            return request
        return replace(request, settings=replace(request.settings, max_tokens=self.limits.max_tokens))


@dataclass(frozen=True, slots=True, kw_only=True)
class Condense:
    """Rewrites a follow-up into a question that stands alone: by the generator where it is one, else by rules."""

    backends: Backends
    rewriters: Mapping[str, Rewriter] = field(default_factory=dict)
    time: timedelta = timedelta(seconds=10)

    async def __call__(self, question: str, history: Sequence[Turn], settings: Settings) -> Condensed:
        """A question that needs no history. A generator that fails, or says nothing, leaves it to the rules."""
        check_question(question)
        rewriter = self.rewriters.get(self.backends.choose(settings.backend).info.name)
        if not history:
            return Condensed(question, changed=False)
        if rewriter is not None:
            try:
                async with asyncio.timeout(self.time.total_seconds()):
                    written = " ".join((await rewriter.rewrite(question, history, settings)).split())
            except (Transient, TimeoutError):
                written = ""
            if written and len(written) <= MAX_QUESTION:
                return Condensed(written, changed=written != question)
        return stand_alone(question, history)
