"""An answer, streamed within its limits; by a cheaper model first where the variant asks for that."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from datetime import timedelta
from random import random
from time import monotonic

from anabranch_faults import Fault, Overloaded
from anabranch_generation.application.cascading import Draft, Step, chosen, judged, planned
from anabranch_generation.application.ports import Backend, Backends
from anabranch_generation.application.prompts import PromptTable
from anabranch_generation.domain import (
    Cascade,
    Delta,
    Event,
    Finished,
    FinishReason,
    ModelCall,
    Request,
    Trace,
    Usage,
    estimate_tokens,
)

DRAFT_SHARE = 0.5
"""Of the time of an answer, that its draft may take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one answer may cost. `max_tokens` caps what a request asks for."""

    concurrent: int = 64
    time: timedelta = timedelta(seconds=60)
    max_tokens: int = 2048


def _unwatched(step: Step) -> None:
    """Watches nothing."""


@dataclass(slots=True, kw_only=True)
class Generate:
    """Streams an answer from the backend that the request names, within the limits.

    `watch` is told how each cascade went; `dice` draws what is left to chance, from 0 to 1.
    """

    backends: Backends
    limits: Limits = field(default_factory=Limits)
    prompts: PromptTable = field(default_factory=PromptTable)
    watch: Callable[[Step], None] = _unwatched
    dice: Callable[[], float] = random
    running: int = 0

    async def __call__(self, request: Request, *, within: timedelta | None = None) -> AsyncGenerator[Event, None]:
        """Delta and Citation events, then one Finished, which says TIMEOUT when `within` or the limit ran out.

        Raises Overloaded when too many answers are being written, Invalid for a prompt that is not known, and what the
        backend raises.
        """
        backend = self.backends.choose(request.settings.backend)
        cheap = self._cheap(request)
        settled = self._settled(request, backend)
        if self.running >= self.limits.concurrent:
            raise Overloaded(
                f"{self.running} answers are being written; the limit is {self.limits.concurrent}",
                retry_after=timedelta(seconds=1),
            )
        self.running += 1
        try:
            begun = monotonic()
            budget = min(self.limits.time, within) if within is not None else self.limits.time
            until = begun + budget.total_seconds()
            spent: tuple[ModelCall, ...] = ()
            trace: Trace | None = None
            if cheap is not None and request.settings.cascade is not None:
                draft, trace = await self._draft(request, request.settings.cascade, cheap, begun=begun, until=until)
                if draft is not None and not trace.strong:
                    for event in draft.released(timedelta(seconds=monotonic() - begun), trace):
                        yield event
                    return
                spent = draft.calls if draft is not None else ()
            async with aclosing(self._events(backend, settled, begun=begun, until=until)) as events:
                async for event in events:
                    if isinstance(event, Finished):
                        yield replace(event, calls=(*spent, *event.calls), trace=trace)
                    else:
                        yield event
        finally:
            self.running -= 1

    def _cheap(self, request: Request) -> Backend | None:
        cascade = request.settings.cascade
        return self.backends.choose(cascade.backend, field="settings.cascade.backend") if cascade is not None else None

    def _settled(self, request: Request, backend: Backend) -> Request:
        """The request as the backend gets it: with the registry's prompt, and capped."""
        settled = self.prompts.settle(request, prompted=backend.info.prompted)
        asked = settled.settings.max_tokens
        if asked <= self.limits.max_tokens:
            return settled
        return replace(settled, settings=replace(settled.settings, max_tokens=self.limits.max_tokens))

    async def _draft(
        self, request: Request, cascade: Cascade, cheap: Backend, *, begun: float, until: float
    ) -> tuple[Draft | None, Trace]:
        """The cheap model's answer, whole and judged, and what is made of it: none of it is given out before."""
        plan = planned(request, cascade, self.dice)
        undrafted = Trace(difficulty=plan.difficulty)
        if plan.skip:
            self.watch(Step.SKIPPED)
            return None, undrafted
        settings = replace(request.settings, backend=cascade.backend, model=cascade.model, adapter="", cascade=None)
        most = begun + (until - begun) * DRAFT_SHARE
        try:
            asked = self._settled(replace(request, settings=settings), cheap)
            async with aclosing(self._events(cheap, asked, begun=begun, until=most)) as events:
                written = [event async for event in events]
        except Fault:
            self.watch(Step.FAILED)
            return None, undrafted
        draft = judged(written, request)
        step, trace = chosen(plan, cascade, draft, self.dice)
        self.watch(step)
        return draft, trace

    @staticmethod
    async def _events(backend: Backend, request: Request, *, begun: float, until: float) -> AsyncGenerator[Event, None]:
        first: timedelta | None = None
        said = 0
        async with aclosing(backend.answer(request)) as events:
            while True:
                try:
                    # Around each step alone: a timeout that spans a yield would strike the consumer's code.
                    async with asyncio.timeout(max(0.0, until - monotonic())):
                        event = await anext(events)
                except TimeoutError:
                    event = Finished(reason=FinishReason.TIMEOUT, usage=_guessed(request, said))
                except StopAsyncIteration:
                    raise RuntimeError(f"the backend {backend.info.name} ended without Finished") from None
                if isinstance(event, Delta):
                    said += estimate_tokens(event.text)
                    if first is None:
                        first = timedelta(seconds=monotonic() - begun)
                if isinstance(event, Finished):
                    yield _signed(event, backend, request, first)
                    return
                yield event


def _guessed(request: Request, said: int) -> Usage:
    """What a model that was cut off has read and written, about: it does not say any more."""
    read = sum(estimate_tokens(passage.text) for passage in request.passages)
    return Usage(read + estimate_tokens(request.question), said)


def _signed(event: Finished, backend: Backend, request: Request, first: timedelta | None) -> Finished:
    info = backend.info
    model = event.model or request.settings.model or next(iter(info.models), "")
    calls = (ModelCall(backend=info.name, model=model, usage=event.usage),) if event.asked else ()
    return replace(event, backend=info.name, model=model, time_to_first_token=first, calls=calls)
