"""A cheaper model first: when its draft will do, and when not to ask it at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import Enum

from anabranch_generation.domain import (
    Cascade,
    Citation,
    Delta,
    Event,
    Finished,
    FinishReason,
    ModelCall,
    Request,
    Trace,
)
from anabranch_generation.domain.difficulty import difficulty
from anabranch_grounding import groundedness, relevance, stems

EVEN = 0.5
"""The chance of each model where one is drawn."""


class Step(Enum):
    """How a cascade went."""

    SKIPPED = "skipped"
    FAILED = "failed"
    KEPT = "kept"
    ESCALATED = "escalated"
    DRAWN = "drawn"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is to be done with one question, before anything is drafted."""

    difficulty: float
    explore: bool
    skip: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A whole answer that nobody has seen yet. `support` is 0 to 1; `complete`: it came to its end."""

    events: tuple[Event, ...]
    finished: Finished
    support: float
    complete: bool

    @property
    def calls(self) -> tuple[ModelCall, ...]:
        """Its calls, as those of a draft that was not used."""
        return tuple(replace(call, draft=True) for call in self.finished.calls)

    def released(self, after: timedelta, trace: Trace) -> Iterator[Event]:
        """Its events, given out `after` that long."""
        yield from self.events
        yield replace(self.finished, time_to_first_token=after if self.events else None, trace=trace)


def planned(request: Request, cascade: Cascade, dice: Callable[[], float]) -> Plan:
    """Whether the question is drafted; `dice` gives numbers from 0 to 1."""
    hard = difficulty(request.question, request.passages, request.history)
    explore = cascade.explore > 0 and dice() < cascade.explore
    return Plan(difficulty=hard, explore=explore, skip=not explore and 0 < cascade.skip_above < hard)


def chosen(plan: Plan, cascade: Cascade, draft: Draft, dice: Callable[[], float]) -> tuple[Step, Trace]:
    """Whether the draft is the answer: drawn where the question explores, else by its support."""
    drawn = plan.explore and draft.complete
    if drawn:
        strong = dice() < EVEN
        step = Step.DRAWN
    else:
        good = draft.complete and not draft.finished.abstained and draft.support >= cascade.escalate_below
        strong = not good
        step = Step.KEPT if good else Step.ESCALATED
    return step, Trace(difficulty=plan.difficulty, draft_support=draft.support, strong=strong, explored=drawn)


def judged(events: Sequence[Event], request: Request) -> Draft:
    """The draft with its support.

    That is the least of what its backend says, of how far the passages bear it out, and of how far it, or what it
    cites, speaks of what was asked. An abstention, or an answer that did not come to its end, supports nothing.
    """
    *said, finished = events
    if not isinstance(finished, Finished):
        raise TypeError("a draft ends with Finished")
    complete = finished.reason in {FinishReason.STOP, FinishReason.ABSTAINED}
    support = 0.0
    if complete and not finished.abstained:
        text = "".join(event.text for event in said if isinstance(event, Delta))
        cited = [event.text for event in said if isinstance(event, Citation)]
        grounded = groundedness(text, [passage.text for passage in request.passages]).score
        # A question of nothing but "why?" has no words that an answer could share.
        asked = relevance(request.question, " ".join((text, *cited))) if stems(request.question) else 1.0
        support = min(finished.support, grounded, asked)
    return Draft(events=tuple(said), finished=finished, support=support, complete=complete)
