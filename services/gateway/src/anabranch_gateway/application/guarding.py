"""Guardrails: what the use cases need of them, and the checks of texts that come without a question."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from anabranch_gateway.application.gate import Gate
from anabranch_gateway.domain.guards import (
    Checked,
    Ended,
    GuardPassage,
    GuardSubject,
    Opening,
    OutputEvent,
    Stage,
    TextToCheck,
)
from anabranch_gateway.domain.keys import Caller

# Told of a check that could not be made: where, why, and whether the text passed all the same.
Failed: TypeAlias = Callable[[Stage, Exception, bool], None]


class Guards(Protocol):
    """Guardrails. Calls raise Transient while they are away or too slow, TimeoutError past the caller's deadline."""

    async def check(
        self,
        subject: GuardSubject,
        stage: Stage,
        *,
        text: str = "",
        question: str = "",
        turns: Sequence[str] = (),
        passages: Sequence[GuardPassage] = (),
        response_schema: Mapping[str, object] | None = None,
    ) -> Checked:
        """What is to be done with a text, or with passages.

        With an INPUT the `passages` are turns of the conversation: nothing is found in them, but where the policy
        anonymises they come back with placeholders, under the same names as those of the text.
        """
        ...

    def answer(
        self, subject: GuardSubject, opening: Opening, pieces: AsyncIterator[str | Ended]
    ) -> AsyncGenerator[OutputEvent, None]:
        """Text of an answer as it may be shown, what is found, and one Checked at the end.

        `pieces` end with one Ended. What they raise is raised here. Closing it ends the check.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckText:
    """Checks a text of an app that brings its own model, under the policy of the caller's tenant."""

    guards: Guards
    gate: Gate
    new_id: Callable[[], str]

    async def __call__(self, caller: Caller, asked: TextToCheck) -> Checked:
        """What the policy says. Raises Overloaded, and Transient while guardrails are away."""
        with self.gate.admit(caller.tenant):
            return await self.guards.check(
                GuardSubject(tenant=caller.tenant, corpus=asked.corpus, request_id=self.new_id()),
                asked.stage,
                text=asked.text,
                question=asked.question,
                turns=asked.turns,
                passages=[GuardPassage(text=each) for each in asked.passages],
                response_schema=asked.response_schema,
            )
