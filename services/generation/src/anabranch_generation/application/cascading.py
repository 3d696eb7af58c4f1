"""A cheaper model first: when its draft will do, and when not to ask it at all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import Enum

from anabranch_generation.domain import Cascade, Delta, Event, Finished, FinishReason, ModelCall, Passage, Request
from anabranch_generation.domain.difficulty import difficulty
from anabranch_grounding import groundedness


class Step(Enum):
    """How a cascade went."""

    SKIPPED = "skipped"
    FAILED = "failed"
    KEPT = "kept"
    ESCALATED = "escalated"


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A whole answer that nobody has seen yet. `support` is 0 to 1."""

    events: tuple[Event, ...]
    finished: Finished
    support: float
    good: bool

    @property
    def calls(self) -> tuple[ModelCall, ...]:
        """Its calls, as those of a draft that was not used."""
        return tuple(replace(call, draft=True) for call in self.finished.calls)

    def released(self, after: timedelta) -> Iterator[Event]:
        """Its events, given out `after` that long."""
        yield from self.events
        yield replace(self.finished, time_to_first_token=after if self.events else None)


def is_hard(request: Request, cascade: Cascade) -> bool:
    """Whether the question goes to the strong model at once."""
    return 0 < cascade.skip_above < difficulty(request.question, request.passages, request.history)


def judged(events: Sequence[Event], passages: Sequence[Passage], *, escalate_below: float) -> Draft:
    """The draft with its support: the lesser of what its backend says and of how far the passages bear it out.

    An abstention, or an answer that did not come to its end, supports nothing.
    """
    *said, finished = events
    if not isinstance(finished, Finished):
        raise TypeError("a draft ends with Finished")
    support = 0.0
    if finished.reason is FinishReason.STOP and not finished.abstained:
        text = "".join(event.text for event in said if isinstance(event, Delta))
        grounded = groundedness(text, [passage.text for passage in passages]).score
        support = min(finished.support, grounded)
    good = finished.reason is FinishReason.STOP and not finished.abstained and support >= escalate_below
    return Draft(events=tuple(said), finished=finished, support=support, good=good)
