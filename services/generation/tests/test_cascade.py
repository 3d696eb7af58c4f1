"""A cheap model first: what is given out, what is charged, and when it is not asked."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import timedelta

import pytest

from anabranch_faults import Invalid, Unreachable
from anabranch_generation.application import Backends, Generate
from anabranch_generation.application.cascading import Step
from anabranch_generation.domain import (
    Cascade,
    Delta,
    Event,
    Finished,
    FinishReason,
    ModelCall,
    Request,
    Settings,
    Usage,
)
from anabranch_generation.testing import FakeBackend, passage

RIVER = passage("The river flows back to the sea. Fish sing.", 0.9, 0.1)
SUPPORTED = ("The river flows ", "back to the sea.")
MADE_UP = ("Dragons live ", "in 1999 castles of Gondor.")


@dataclass(slots=True)
class Two:
    """A cheap and a strong backend, and what happened."""

    cheap: FakeBackend
    strong: FakeBackend = field(
        default_factory=lambda: FakeBackend(says=("The strong ", "answer."), name="strong", support=0.9)
    )
    steps: list[Step] = field(default_factory=list)

    async def ask(
        self, *, escalate_below: float = 0.5, skip_above: float = 0.0, question: str = "Where does the river flow?"
    ) -> list[Event]:
        cascade = Cascade(backend="cheap", escalate_below=escalate_below, skip_above=skip_above)
        request = Request(question=question, passages=(RIVER,), settings=Settings(backend="strong", cascade=cascade))
        generate = Generate(backends=Backends({"cheap": self.cheap, "strong": self.strong}), watch=self.steps.append)
        async with aclosing(generate(request)) as events:
            return [event async for event in events]


def cheap(says: Sequence[str] = SUPPORTED, support: float = 0.8, raises: Exception | None = None) -> FakeBackend:
    return FakeBackend(says=says, name="cheap", support=support, raises=raises)


def said(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, Delta))


def calls(events: list[Event]) -> list[tuple[str, bool]]:
    assert isinstance(events[-1], Finished)
    return [(call.backend, call.draft) for call in events[-1].calls]


async def test_a_draft_that_the_passages_bear_out_is_the_answer_and_the_strong_model_is_not_asked() -> None:
    two = Two(cheap())
    events = await two.ask()
    assert said(events) == "".join(SUPPORTED)
    assert calls(events) == [("cheap", False)]
    assert isinstance(events[-1], Finished)
    assert events[-1].trace is not None
    assert not events[-1].trace.strong
    assert events[-1].backend == "cheap"
    assert not two.strong.requests
    assert two.steps == [Step.KEPT]


@pytest.mark.parametrize(
    "draft",
    [
        cheap(says=MADE_UP),
        cheap(support=0.2),
        cheap(says=("The documents ", "do not say."), support=0.0),
        cheap(says=("Fish sing.",)),
    ],
    ids=["made up", "not supported by its own account", "says nothing", "not what was asked"],
)
async def test_a_draft_below_the_bar_is_thrown_away_whole_and_both_calls_are_told(draft: FakeBackend) -> None:
    two = Two(draft)
    events = await two.ask()
    assert said(events) == "The strong answer."
    assert calls(events) == [("cheap", True), ("strong", False)]
    assert two.steps == [Step.ESCALATED]


async def test_a_cheap_model_that_fails_falls_through_to_the_strong_one() -> None:
    two = Two(cheap(raises=Unreachable("away")))
    events = await two.ask()
    assert said(events) == "The strong answer."
    assert calls(events) == [("strong", False)]
    assert two.steps == [Step.FAILED]


async def test_a_question_that_looks_hard_goes_to_the_strong_model_at_once() -> None:
    two = Two(cheap())
    question = "Why do both rivers whose names differ flow back, and which of the two is the longer one than the other?"
    events = await two.ask(skip_above=0.05, question=question)
    assert calls(events) == [("strong", False)]
    assert not two.cheap.requests
    assert two.steps == [Step.SKIPPED]


@pytest.mark.parametrize(("second", "strong"), [(0.4, True), (0.6, False)])
async def test_a_question_that_explores_is_answered_by_either_at_random_and_says_what_was_known(
    *, second: float, strong: bool
) -> None:
    rolls = iter((0.05, second))
    two = Two(cheap(says=MADE_UP))
    generate = Generate(
        backends=Backends({"cheap": two.cheap, "strong": two.strong}), watch=two.steps.append, dice=lambda: next(rolls)
    )
    cascade = Cascade(backend="cheap", escalate_below=0.5, skip_above=0.01, explore=0.1)
    request = Request(question="Why?", passages=(RIVER,), settings=Settings(backend="strong", cascade=cascade))
    async with aclosing(generate(request)) as stream:
        events = [event async for event in stream]
    finished = events[-1]
    assert isinstance(finished, Finished)
    assert finished.trace is not None
    assert (finished.trace.explored, finished.trace.strong) == (True, strong)
    assert finished.trace.draft_support is not None
    assert finished.trace.draft_support < 0.5
    assert said(events) == ("The strong answer." if strong else "".join(MADE_UP))
    assert calls(events) == ([("cheap", True), ("strong", False)] if strong else [("cheap", False)])
    assert two.steps == [Step.DRAWN]


async def test_without_a_cascade_there_is_no_trace_and_a_skipped_question_has_no_draft() -> None:
    two = Two(cheap())
    events = await two.ask(skip_above=0.01, question="Why?")
    assert isinstance(events[-1], Finished)
    assert events[-1].trace is not None
    assert (events[-1].trace.draft_support, events[-1].trace.strong) == (None, True)
    generate = Generate(backends=Backends({"strong": two.strong}))
    async with aclosing(generate(Request(question="Why?"))) as stream:
        (*_, last) = [event async for event in stream]
    assert isinstance(last, Finished)
    assert last.trace is None


async def test_a_strong_model_that_fails_is_an_error_and_no_bad_draft_is_given_out() -> None:
    two = Two(cheap(says=MADE_UP), strong=FakeBackend(name="strong", raises=Unreachable("away")))
    with pytest.raises(Unreachable):
        await two.ask()


async def test_a_cheap_backend_that_is_not_loaded_is_invalid_and_named() -> None:
    two = Two(FakeBackend(name="other"))
    generate = Generate(backends=Backends({"strong": two.strong}))
    cascade = Cascade(backend="cheap")
    with pytest.raises(Invalid) as caught:
        await anext(generate(Request(question="Where?", settings=Settings(cascade=cascade))))
    assert caught.value.field == "settings.cascade.backend"


async def test_a_slow_draft_leaves_time_for_the_strong_model() -> None:
    two = Two(FakeBackend(name="cheap", forever=True))
    cascade = Cascade(backend="cheap", escalate_below=0.1)
    request = Request(question="Where?", passages=(RIVER,), settings=Settings(backend="strong", cascade=cascade))
    generate = Generate(backends=Backends({"cheap": two.cheap, "strong": two.strong}))
    async with aclosing(generate(request, within=timedelta(milliseconds=200))) as stream:
        events = [event async for event in stream]
    assert said(events) == "The strong answer."
    assert isinstance(events[-1], Finished)
    assert events[-1].reason is FinishReason.STOP
    draft, answer = events[-1].calls
    assert draft.draft
    assert draft.usage.prompt_tokens > 0
    assert answer == ModelCall(backend="strong", model="strong-model", usage=Usage(7, 2))


@pytest.mark.parametrize("field", ["skip_above", "escalate_below", "explore"])
def test_a_bar_out_of_range_names_its_field(field: str) -> None:
    with pytest.raises(Invalid) as caught:
        Cascade(**{field: 1.5})  # type: ignore[arg-type]  # wrong on purpose
    assert caught.value.field == f"settings.cascade.{field}"
