from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from datetime import timedelta

import pytest

from anabranch_faults import Invalid, Overloaded, Unreachable
from anabranch_generation.application import Backends, Condense, Generate, Limits
from anabranch_generation.domain import (
    Delta,
    Event,
    Finished,
    FinishReason,
    ModelCall,
    Request,
    Rewritten,
    Role,
    Settings,
    Turn,
    Usage,
)
from anabranch_generation.testing import FakeBackend


def use_case(backend: FakeBackend, **limits: object) -> Generate:
    return Generate(backends=Backends({backend.name: backend}), limits=Limits(**limits))  # type: ignore[arg-type]  # keywords of Limits


async def collect(generate: Generate, request: Request, within: timedelta | None = None) -> list[Event]:
    async with aclosing(generate(request, within=within)) as events:
        return [event async for event in events]


QUESTION = Request(question="What?")


async def test_an_answer_ends_with_one_finished_that_names_backend_model_and_first_token() -> None:
    events = await collect(use_case(FakeBackend(says=("a", "b"))), QUESTION)
    assert events[:2] == [Delta("a"), Delta("b")]
    (finished,) = events[2:]
    assert isinstance(finished, Finished)
    assert (finished.backend, finished.model, finished.reason) == ("fake", "fake-model", FinishReason.STOP)
    assert finished.time_to_first_token is not None
    assert finished.usage.completion_tokens == 2
    assert finished.calls == (ModelCall(backend="fake", model="fake-model", usage=Usage(7, 2)),)


async def test_an_unknown_backend_is_invalid_and_the_sentence_names_the_choices() -> None:
    request = Request(question="What?", settings=Settings(backend="oracle"))
    with pytest.raises(Invalid, match=r"'oracle' is not loaded here; loaded: fake") as caught:
        await collect(use_case(FakeBackend()), request)
    assert caught.value.field == "settings.backend"


async def test_time_running_out_ends_the_answer_with_what_was_said_and_stops_the_backend() -> None:
    backend = FakeBackend(says=("begun",), forever=True)
    events = await collect(use_case(backend, time=timedelta(milliseconds=30)), QUESTION)
    assert events[0] == Delta("begun")
    assert isinstance(events[1], Finished)
    assert events[1].reason is FinishReason.TIMEOUT
    assert backend.closed == 1


async def test_the_callers_time_counts_when_it_is_shorter() -> None:
    events = await collect(use_case(FakeBackend(forever=True)), QUESTION, within=timedelta(milliseconds=20))
    assert isinstance(events[-1], Finished)
    assert events[-1].reason is FinishReason.TIMEOUT


async def test_an_answer_too_many_is_refused_and_room_is_given_back() -> None:
    backend = FakeBackend(forever=True)
    generate = use_case(backend, concurrent=1)
    first = generate(QUESTION)
    await anext(first)
    with pytest.raises(Overloaded, match="the limit is 1"):
        await collect(generate, QUESTION)
    await first.aclose()
    assert backend.closed == 1
    second = generate(QUESTION)
    assert await anext(second) == Delta("An answer.")
    await second.aclose()


async def test_a_failing_backend_gives_its_room_back() -> None:
    generate = use_case(FakeBackend(raises=Unreachable("away")), concurrent=1)
    for _ in range(3):
        with pytest.raises(Unreachable):
            await collect(generate, QUESTION)


async def test_cancelling_the_reader_stops_the_backend() -> None:
    backend = FakeBackend(forever=True)
    generate = use_case(backend)
    begun = asyncio.Event()

    async def read() -> None:
        async with aclosing(generate(QUESTION)) as events:
            async for _ in events:
                begun.set()

    task = asyncio.create_task(read())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (backend.closed, generate.running) == (1, 0)


async def test_a_request_for_too_many_tokens_gets_the_most_there_are() -> None:
    backend = FakeBackend()
    await collect(use_case(backend, max_tokens=100), Request(question="What?", settings=Settings(max_tokens=5000)))
    assert backend.requests[0].settings.max_tokens == 100


class Rewriting:
    def __init__(self, says: str | Exception) -> None:
        self.says = says

    async def rewrite(self, question: str, history: Sequence[Turn], settings: Settings) -> Rewritten:
        if isinstance(self.says, Exception):
            raise self.says
        return Rewritten(self.says, "rewriter", Usage(5, 2))


HISTORY = [Turn(Role.USER, "Who wrote Hamlet?"), Turn(Role.ASSISTANT, "William Shakespeare.")]
BY_RULE = "When was William Shakespeare born?"


def condenser(says: str | Exception | None) -> Condense:
    backend = FakeBackend()
    rewriters = {} if says is None else {backend.name: Rewriting(says)}
    return Condense(backends=Backends({backend.name: backend}), rewriters=rewriters)


@pytest.mark.parametrize(
    ("says", "expected"),
    [
        (None, BY_RULE),
        ("When was\nShakespeare born?", "When was Shakespeare born?"),
        ("", BY_RULE),
        ("x" * 5000, BY_RULE),
        (Unreachable("away"), BY_RULE),
        (TimeoutError(), BY_RULE),
    ],
    ids=["no model", "model", "silent", "endless", "away", "slow"],
)
async def test_a_model_rewrites_follow_ups_and_the_rules_stand_in_for_it(
    says: str | Exception | None, expected: str
) -> None:
    condensed = await condenser(says)("When was he born?", HISTORY, Settings())
    assert (condensed.question, condensed.changed) == (expected, True)
    called = ModelCall(backend="fake", model="rewriter", usage=Usage(5, 2)) if isinstance(says, str) else None
    assert condensed.call == called


async def test_without_history_nobody_is_asked() -> None:
    condensed = await condenser("something else")("When was he born?", [], Settings())
    assert (condensed.question, condensed.changed) == ("When was he born?", False)


async def test_condensing_for_an_unknown_backend_is_invalid() -> None:
    with pytest.raises(Invalid, match="not loaded"):
        await condenser(None)("When was he born?", HISTORY, Settings(backend="oracle"))
