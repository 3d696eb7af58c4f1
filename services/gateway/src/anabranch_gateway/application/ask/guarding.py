"""Guardrails on the answer's path: of the question, of what was found for it, and of the answer."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final, cast

from anabranch_faults import Fault, Transient, Unreachable
from anabranch_gateway.application.ask.course import Course
from anabranch_gateway.application.guarding import Failed, Guards
from anabranch_gateway.domain.answers import Delta
from anabranch_gateway.domain.guards import (
    Checked,
    Ended,
    Guard,
    GuardPassage,
    Noted,
    Opening,
    OutputEvent,
    Released,
    Stage,
    Verdict,
    masked,
)
from anabranch_gateway.domain.placeholders import PassageText, veil
from anabranch_gateway.domain.questions import Role

# For where a policy that blocks does not say it in words of its own.
BLOCKED: Final = "I cannot help with that."


class Draft:
    """An answer as the model writes it. May be read from its beginning again, by one reader at a time."""

    def __init__(self, course: Course, texts: AsyncGenerator[str, None]) -> None:
        """Begins to write; `close` ends it."""
        self._course = course
        self._grown = asyncio.Event()
        self.writing = asyncio.create_task(self._write(texts))
        self.writing.add_done_callback(lambda _: self._grown.set())

    async def read(self) -> AsyncIterator[str | Ended]:
        """Pieces, and one Ended. Raises what writing raised."""
        at = 0
        while True:
            self._grown.clear()
            while at < len(self._course.draft):
                at += 1
                yield self._course.draft[at - 1]
            if self.writing.done():
                self.writing.result()
                generated = self._course.generated
                yield Ended(abstained=generated is not None and generated.abstained)
                return
            await self._grown.wait()

    @property
    def failed(self) -> bool:
        """Whether the model broke off."""
        return self.writing.done() and not self.writing.cancelled() and self.writing.exception() is not None

    async def close(self) -> None:
        """Stops writing."""
        self.writing.cancel()
        await asyncio.gather(self.writing, return_exceptions=True)

    async def _write(self, texts: AsyncGenerator[str, None]) -> None:
        async with aclosing(texts):
            async for _ in texts:
                self._grown.set()


@dataclass(frozen=True, slots=True, kw_only=True)
class Guarding:
    """Has everything checked that goes in and out.

    While guardrails are away, or slower than `patience` at the end of an answer, nothing is answered; with `open`
    everything is, unchecked. `failed` hears of it in either case.
    """

    guards: Guards
    failed: Failed
    open: bool = False
    patience: timedelta = timedelta(seconds=3)
    new_canary: Callable[[], str] = lambda: secrets.token_hex(8)

    async def question(self, course: Course) -> list[Guard]:
        """Checks what is asked, with the turns before it; what the person asking is told."""
        turns = [turn.text for turn in course.history if turn.role is Role.USER]
        checked = await self._check(
            Stage.INPUT,
            self.guards.check(
                course.subject,
                Stage.INPUT,
                text=course.question.question,
                turns=turns,
                passages=[GuardPassage(text=turn.text) for turn in course.history],
            ),
        )
        if checked is None:
            return []
        guards = course.take(checked, Stage.INPUT)
        if checked.verdict.stops or (checked.verdict is Verdict.REDACT and not checked.text.strip()):
            course.asked = course.model_asked = masked(course.question.question, checked.results)
            return self._blocked(course, checked, guards, Stage.INPUT)
        text = checked.text or course.question.question
        course.model_asked, *history = course.vault.adopt(checked.vault, text, *checked.anonymised)
        course.asked = course.vault.restore(course.model_asked).text
        if len(history) == len(course.history):
            pairs = zip(course.history, history, strict=True)
            course.model_history = [replace(turn, text=hidden) for turn, hidden in pairs]
        elif course.vault.values:
            course.model_history = [replace(turn, text=course.vault.hide(turn.text).text) for turn in course.history]
        self._marked(course, checked)
        return guards

    async def passages(self, course: Course) -> list[Guard]:
        """Checks what was found, and takes out what must not be used; what the person asking is told."""
        assert course.found is not None  # noqa: S101  the pipeline has passed retrieval
        found = course.found.passages
        if not found:
            return []
        start = course.clock()
        checked = await self._check(
            Stage.CONTEXT,
            self.guards.check(course.subject, Stage.CONTEXT, question=course.query, passages=_texts(found)),
        )
        course.guard_input += course.since(start)
        if checked is None:
            return []
        verdicts: Sequence[Verdict] = checked.passages
        if len(verdicts) != len(found):  # of no use passage by passage: what holds for all holds for each
            verdicts = [checked.verdict] * len(found)
        kept = [place for place, verdict in enumerate(verdicts) if not verdict.stops]
        course.shown = course.model_passages = [found[place] for place in kept]
        if len(checked.anonymised) == len(found):
            hidden = course.vault.adopt(checked.vault, *checked.anonymised)
            veils = [veil(found[place], hidden[place], course.vault) for place in kept]
            course.model_passages = [passage for passage, _, _ in veils]
            course.shown = [passage for _, passage, _ in veils]
            course.veiled = {each.original.chunk_id: each for _, _, each in veils if each is not None}
        self._marked(course, checked)
        return course.take(checked, Stage.CONTEXT)

    async def answer(self, course: Course, texts: AsyncGenerator[str, None]) -> AsyncGenerator[Delta | Guard, None]:
        """The answer as it may be shown, while it is written: `texts` is what the model says, piece by piece."""
        draft = Draft(course, texts)
        try:
            try:
                async with aclosing(self._released(course, draft)) as events:
                    async for event in events:
                        yield event
            except Fault as fault:
                if draft.failed:
                    raise  # the model has, and not guardrails
                self._away(Stage.OUTPUT, fault)
                async for piece in draft.read():
                    del piece  # the rest is shown at once: where a placeholder ends is certain only then
                if rest := self._rest(course, fault):
                    course.show(rest)
                    yield Delta(text=rest)
        finally:
            await draft.close()

    async def _released(self, course: Course, draft: Draft) -> AsyncGenerator[Delta | Guard, None]:
        opening = Opening(
            question=course.model_query,
            passages=_texts(course.model_passages),
            canary=course.canary,
            response_schema=course.question.response_schema,
            vault=course.vault.values,
            citations=len(course.model_passages),
        )
        stopped: list[Guard] = []
        told_of: set[tuple[str, Verdict]] = set()
        async with aclosing(self.guards.answer(course.subject, opening, draft.read())) as events:
            while (event := await self._next(events, draft)) is not None:
                match event:
                    case Released(text=text) if text and not stopped:
                        course.show(text)
                        yield Delta(text=text)
                    case Noted(verdict=verdict, result=result) if not result.shadow:
                        guard = Guard(verdict=verdict, check=result.check, reason=result.reason, stage=Stage.OUTPUT)
                        told_of.add((guard.check, guard.verdict))
                        if verdict.stops:
                            stopped.append(guard)
                        yield guard
                    case Checked():
                        found = course.take(event, Stage.OUTPUT)
                        rest = [each for each in found if (each.check, each.verdict) not in told_of]
                        if event.verdict.stops or stopped:
                            for guard in self._blocked(course, event, [*stopped, *rest], Stage.OUTPUT):
                                if guard not in stopped:
                                    yield guard
                        else:
                            for guard in rest:
                                yield guard
                        return

    async def _next(self, events: AsyncGenerator[OutputEvent, None], draft: Draft) -> OutputEvent | None:
        """The next event. Once the model has ended, guardrails have `patience` for each."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(None) as limit:
                waiting = True

                def hurry(_: object = None) -> None:
                    if waiting:
                        limit.reschedule(loop.time() + self.patience.total_seconds())

                if draft.writing.done():
                    hurry()
                else:
                    draft.writing.add_done_callback(hurry)
                try:
                    return await anext(events, None)
                finally:
                    waiting = False
                    draft.writing.remove_done_callback(hurry)
        except TimeoutError as error:
            if not limit.expired():
                raise  # the caller's own time is over
            raise Unreachable("guardrails took too long") from error

    def _rest(self, course: Course, fault: Fault) -> str:
        """What is left of the draft to show. Raises where what was shown is not how it begins: parts were redacted."""
        whole, shown = course.vault.restore("".join(course.draft)).text, course.text
        if not whole.startswith(shown):
            raise Unreachable("guardrails went away after a redaction") from fault
        return whole[len(shown) :]

    async def _check(self, stage: Stage, checking: Awaitable[Checked]) -> Checked | None:
        try:
            return await checking
        except Fault as fault:
            self._away(stage, fault)
            return None

    def _away(self, stage: Stage, fault: Fault) -> None:
        """Says so, and raises unless answers go on without guardrails."""
        self.failed(stage, fault, self.open)
        if not self.open:
            raise fault if isinstance(fault, Transient) else Unreachable("guardrails are away") from fault

    def _blocked(self, course: Course, checked: Checked, guards: list[Guard], stage: Stage) -> list[Guard]:
        course.blocked = checked.message or BLOCKED
        if not any(guard.verdict.stops for guard in guards):
            verdict = checked.verdict if checked.verdict.stops else Verdict.BLOCK
            guards.append(Guard(verdict=verdict, check="", reason=course.blocked, stage=stage))
        return sorted(guards, key=lambda guard: guard.verdict.stops)  # a block is the last thing told

    def _marked(self, course: Course, checked: Checked) -> None:
        if checked.mark_passages and not course.mark_passages:
            course.mark_passages, course.canary = True, self.new_canary()


def _texts(passages: Sequence[object]) -> list[GuardPassage]:
    read = cast("Sequence[PassageText]", passages)
    return [GuardPassage(text=each.text, source_uri=each.source_uri) for each in read]
