"""The turns before a question, and a question that stands without them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from anabranch_gateway.application.ask.course import Course
from anabranch_gateway.application.ports import Generator, Sessions
from anabranch_gateway.domain.keys import Caller
from anabranch_gateway.domain.names import QUESTION_CHARACTERS
from anabranch_gateway.domain.questions import TURN_CHARACTERS, Question, Role, Turn


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """Recalls a session, condenses a follow-up, and remembers what was said."""

    sessions: Sessions
    generator: Generator

    async def recall(self, course: Course) -> None:
        """The turns that the caller sent, or those of the session."""
        question = course.question
        if question.session_id:
            course.session = session_of(course.caller, question, course.labels)
            course.history = await self.sessions.load(course.caller.tenant, course.session)
        else:
            course.history = question.history
        course.model_history = course.history
        course.asked = course.model_asked = question.question

    async def condense(self, course: Course) -> None:
        """What the index is asked: the question, made to stand alone where turns came before it."""
        course.query, course.model_query = course.asked, course.model_asked
        if not course.history:
            return
        start = course.clock()
        condensed = await self.generator.condense(
            course.model_asked, history=course.model_history, settings=course.choice.variant.generation
        )
        course.condense = course.since(start)
        course.condensing = condensed.call
        if query := condensed.question.strip()[:QUESTION_CHARACTERS]:
            course.model_query = query
            course.query = course.vault.restore(query).text[:QUESTION_CHARACTERS]

    async def remember(self, course: Course) -> None:
        """Adds question and answer to the session, where there is one; nothing of what was blocked."""
        if not course.session or course.blocked is not None:
            return
        turns = [Turn(role=Role.USER, text=course.asked)]
        if text := course.text[:TURN_CHARACTERS]:
            turns.append(Turn(role=Role.ASSISTANT, text=text))
        await self.sessions.append(course.caller.tenant, course.session, turns)


def session_of(caller: Caller, question: Question, labels: Sequence[str]) -> bytes:
    """The name a session is kept under.

    Tenant, corpus, person and labels are part of it: a session id that is guessed, or used again for someone else,
    opens nothing that was said to another reader.
    """
    parts = (caller.tenant, question.corpus, question.user_id, question.session_id, *labels)
    return hashlib.sha256("\n".join(parts).encode()).digest()
