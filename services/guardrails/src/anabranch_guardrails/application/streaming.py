"""Checking an answer while it is written: text is released only once it is checked.

What arrives is looked at as soon as it is there, up to its open end (`domain.tails`), and then released: the wait is
for the end of a word, not for that of a sentence. Checks take at most a quarter of a stream's time: the next look
comes no sooner than three times what the last one took, within half of the hold-back. Three things more make it longer:

- Where a rule that may stop the answer judges sentences (toxicity), text waits for the end of its
  sentence, or until the policy's hold-back is over. Then it is judged as it stands, and again with what follows.
- A plain word goes when the hold-back is over even if the model has not finished it, unless parts of personal data or
  patterns are to be taken out: half a name that was shown cannot be taken back.
- What could still become a number, an address, a tag, a link or a key goes once it is closed, which the model's next
  words decide; where the rules that take out or stop are all open on failure, when the hold-back is over.

What only flags, or runs in shadow, holds nothing back and is looked at when the answer ends. So is what needs the whole
answer (`Kind.whole`), and what is asked of models elsewhere; what such a rule would have taken out is shown by then, so
it blocks.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from time import perf_counter
from typing import Final, TypeAlias

from anabranch_faults import Overloaded, TooLarge
from anabranch_guardrails.application.catalogue import Plan, Step
from anabranch_guardrails.application.checking import LONGEST, blocked_of
from anabranch_guardrails.application.policies import Policies, Whose
from anabranch_guardrails.application.ports import BlockedRecord, Prepares, Restorer, Telemetry
from anabranch_guardrails.application.running import Runner
from anabranch_guardrails.domain import Stage, Subject, Verdict
from anabranch_guardrails.domain.policies import Edit, FailureMode, Result, decide, edits_of, merged
from anabranch_guardrails.domain.tails import sentence_end, tail_of

__all__ = ["CheckAnswers", "Ended", "Noted", "Opened", "Out", "Part", "Released"]

LOOK_BACK: Final = 512
"""Code points before what is new that checks see again, so that they know what it is part of."""
SENTENCES: Final = frozenset({"toxicity"})
"""Checks whose finding is about a sentence; the others find what they look for wherever it stands."""
_REST: Final = 3
_SOON: Final = timedelta(milliseconds=500)
_OF_ANSWERS: Final = frozenset({"groundedness", "relevance", "citations"})
"""Checks that an answer which abstains is not held to."""
_HALF_WORDS_TELL: Final = frozenset({"pii", "patterns"})
_STOPS: Final = (Verdict.BLOCK, Verdict.REVIEW)


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """An answer that is about to be written; `subject.text` is empty."""

    whose: Whose
    subject: Subject
    vault: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """No more text comes."""

    abstained: bool = False


Part: TypeAlias = "str | Ended"


@dataclass(frozen=True, slots=True)
class Released:
    """Text to be shown."""

    text: str


@dataclass(frozen=True, slots=True)
class Noted:
    """A rule asks for more than to let it pass; told once for each."""

    result: Result


@dataclass(frozen=True, slots=True, kw_only=True)
class Closed:
    """The end."""

    verdict: Verdict
    results: tuple[Result, ...]
    policy_version: str
    message: str


Out: TypeAlias = "Released | Noted | Closed"


class CheckAnswers:
    """Checks streams under the policy that holds when they open. Raises Overloaded, Unreachable, Invalid, TooLarge."""

    def __init__(
        self,
        *,
        policies: Policies,
        runner: Runner,
        record: BlockedRecord,
        telemetry: Telemetry,
        restorer: Callable[[Mapping[str, str]], Restorer],
        at_once: int = 256,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Takes its parts; at most `at_once` streams are open."""
        self._restorer = restorer
        self._room = at_once
        self._policies = policies
        self._runner = runner
        self._record = record
        self._telemetry = telemetry
        self._now = now

    async def __call__(self, opened: Opened, parts: AsyncIterator[Part]) -> AsyncGenerator[Out, None]:
        """What is to be shown, as it becomes sure, and at last the end. An end of `parts` is an end of the answer."""
        if self._room <= 0:
            raise Overloaded("too many answers are being checked", retry_after=_SOON)
        self._room -= 1
        try:
            async for out in self._check(opened, parts):
                yield out
        finally:
            self._room += 1

    async def _check(self, opened: Opened, parts: AsyncIterator[Part]) -> AsyncGenerator[Out, None]:
        began = perf_counter()
        plan = self._policies.resolve(opened.whose).plan
        answer = _Answer(
            plan=plan,
            subject=opened.subject,
            restorer=self._restorer(opened.vault) if opened.vault else None,
            runner=self._runner,
            telemetry=self._telemetry,
        )
        arriving = _Arriving(parts)
        preparing = asyncio.create_task(asyncio.to_thread(_prepare, plan, opened.subject))
        try:
            while not answer.over:
                came = await arriving.take(answer.due())
                for part in came:
                    answer.add(part)
                for out in await answer.advance():
                    yield out
        finally:
            preparing.cancel()
            await arriving.close()
        final = answer.final()
        self._telemetry.decided(Stage.OUTPUT, final.verdict, timedelta(seconds=perf_counter() - began))
        if final.verdict in _STOPS:
            self._record.add(
                blocked_of(
                    opened.whose,
                    Stage.OUTPUT,
                    final.verdict,
                    policy_version=final.policy_version,
                    results=final.results,
                    now=self._now(),
                )
            )
        yield final


def _prepare(plan: Plan, subject: Subject) -> None:
    """Has passages read while the answer is still being written. What goes wrong here goes wrong in the look, too."""
    for step in plan.steps.get(Stage.OUTPUT, ()):
        if isinstance(step.check, Prepares):
            with suppress(Exception):
                step.check.prepare(subject)


class _Arriving:
    """Reads ahead, so that what came while checks ran is looked at in one go."""

    def __init__(self, parts: AsyncIterator[Part]) -> None:
        self._queue: deque[Part] = deque()
        self._fault: BaseException | None = None
        self._came = asyncio.Event()
        self._task = asyncio.create_task(self._read(parts))

    async def take(self, within: float | None) -> list[Part]:
        """What came, at once if there is something; nothing after `within` seconds."""
        if not self._queue and self._fault is None:
            with suppress(TimeoutError):
                async with asyncio.timeout(within):
                    await self._came.wait()
        self._came.clear()
        if not self._queue and self._fault is not None:
            raise self._fault
        came = list(self._queue)
        self._queue.clear()
        return came

    async def close(self) -> None:
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task

    async def _read(self, parts: AsyncIterator[Part]) -> None:
        try:
            async for part in parts:
                self._queue.append(part)
                self._came.set()
                if isinstance(part, Ended):
                    return
            self._queue.append(Ended())
        except Exception as fault:  # noqa: BLE001  it is raised where the parts are taken
            self._fault = fault
        finally:
            self._came.set()


class _Answer:
    """The text so far, and how far it has been released."""

    def __init__(
        self, *, plan: Plan, subject: Subject, restorer: Restorer | None, runner: Runner, telemetry: Telemetry
    ) -> None:
        self._plan = plan
        self._subject = subject
        self._restorer = restorer
        self._runner = runner
        self._telemetry = telemetry
        steps = plan.steps.get(Stage.OUTPUT, ())
        self._running = tuple(step for step in steps if not _late(step))
        self._at_end = tuple(step for step in steps if _late(step))
        self._waits_for_sentences = any(step.rule.check in SENTENCES for step in self._running)
        self._keeps_words = any(step.rule.check in _HALF_WORDS_TELL for step in self._running)
        self._keeps_open = any(step.rule.on_failure is not FailureMode.OPEN for step in self._running)
        self._hold = plan.policy.hold_back.total_seconds()
        self._text = ""
        self._arrived: deque[tuple[int, float]] = deque()
        self._released = 0
        self._rests_until = 0.0
        self._cut: int = 0  # where the last redaction of released text ends
        self._ended: Ended | None = None
        self._worst: dict[int, Result] = {}
        self._noted: set[int] = set()
        self.over = False

    def add(self, part: Part) -> None:
        """Takes one part."""
        if isinstance(part, Ended):
            self._ended = part
        elif part:
            self._text += part
            if len(self._text) > LONGEST:
                raise TooLarge(f"an answer of {len(self._text)} characters; at most {LONGEST}", field="text")
            self._arrived.append((len(self._text), perf_counter()))

    def due(self) -> float | None:
        """Seconds until something has to be done though nothing comes; None: nothing has."""
        if not self._arrived:
            return None
        now = perf_counter()
        waits = [wait - now for wait in (self._rests_until,) if wait > now]
        age = now - self._arrived[0][1]
        waits += [self._hold - age] if age < self._hold else []
        return min(waits, default=None)

    async def advance(self) -> list[Out]:
        """Looks at what is new and releases what may go."""
        if self._ended is not None:
            return await self._end(self._ended)
        if perf_counter() < self._rests_until:
            return []
        upto = self._may_go()
        if upto <= self._released:
            return []
        out, edits = await self._look()
        if self.over:
            return out
        return [*out, *self._release(self._before_open_edit(upto, edits), edits)]

    def final(self) -> Closed:
        """How it ended."""
        results = tuple(self._worst[place] for place in sorted(self._worst))
        verdict = decide(results)
        policy = self._plan.policy
        return Closed(
            verdict=verdict,
            results=results,
            policy_version=policy.version,
            message=policy.message if verdict in _STOPS else "",
        )

    async def _end(self, ended: Ended) -> list[Out]:
        out: list[Out] = []
        if self._released < len(self._text):
            seen, edits = await self._look()
            out += seen
            if not self.over:
                out += self._release(len(self._text), edits)
        if not self.over and self._restorer is not None and (rest := self._restorer.end()):
            out.append(Released(rest))
        if not self.over:
            subject = replace(self._subject, text=self._text, abstained=ended.abstained)
            steps = [step for step in self._at_end if not (ended.abstained and step.rule.check in _OF_ANSWERS)]
            results = [_too_late(result) for result in await self._run(steps, subject)]
            out += self._take(steps, results)
            self.over = True
        return out

    def _may_go(self) -> int:
        """How far text may go, as far as its open end, its sentence and the clock are concerned."""
        if not self._arrived:
            return self._released
        if not self._running:
            return len(self._text)
        tail = tail_of(self._text, self._released, groups=self._keeps_words)
        age = perf_counter() - self._arrived[0][1]
        late = age >= self._hold
        upto = tail.start
        if late and tail.start <= self._released:
            keeps = self._keeps_words if tail.plain else self._keeps_open
            upto = tail.start if keeps else len(self._text)
        if self._waits_for_sentences and not late:
            return sentence_end(self._text, self._released, upto)
        return upto

    async def _look(self) -> tuple[list[Out], list[Edit]]:
        """Runs the checks over what is new, its open end and what stands before it."""
        began = perf_counter()
        begin = max(0, self._released - LOOK_BACK)
        subject = replace(self._subject, text=self._text[begin:])
        found = await self._run(self._running, subject)
        results = [_moved(result, begin) for result in found]
        out = self._take(self._running, results)
        now = perf_counter()
        self._rests_until = now + min(_REST * (now - began), self._hold / 2)
        return out, merged(edits_of(results, length=len(self._text)))

    async def _run(self, steps: Sequence[Step], subject: Subject) -> list[Result]:
        return (await self._runner.run(steps, [subject], allow=self._plan.policy.allow, patient=True))[0]

    def _take(self, steps: Sequence[Step], results: Sequence[Result]) -> list[Out]:
        """Keeps the worst result of each rule; tells of it when it is first more than to let pass."""
        out: list[Out] = []
        every = self._plan.steps.get(Stage.OUTPUT, ())
        for step, result in zip(steps, results, strict=True):
            place = every.index(step)
            worst = self._worst.get(place)
            if worst is None or result.verdict.outweighs(worst.verdict):
                self._worst[place] = result
            if result.verdict is not Verdict.ALLOW and place not in self._noted:
                self._noted.add(place)
                out.append(Noted(result))
        if decide(results) in _STOPS:
            self.over = True
        return out

    @staticmethod
    def _before_open_edit(upto: int, edits: Sequence[Edit]) -> int:
        """Text is not cut inside of what is taken out of it."""
        for edit in edits:
            if edit.start < upto < edit.end:
                return edit.start
        return upto

    def _release(self, upto: int, edits: Sequence[Edit]) -> list[Out]:
        if upto <= self._released:
            return []
        parts, done = [], self._released
        for edit in edits:
            if edit.start >= upto or edit.end <= done:
                continue
            if edit.start >= done:
                # The rest of something that was taken out before needs no second mark.
                parts += [self._text[done : edit.start], "" if edit.start < self._cut else edit.put]
            done = min(edit.end, upto)
            self._cut = edit.end
        parts.append(self._text[done:upto])
        self._released = upto
        now = perf_counter()
        while self._arrived and self._arrived[0][0] <= upto:
            self._telemetry.held(timedelta(seconds=now - self._arrived.popleft()[1]))
        text = "".join(parts)
        if self._restorer is not None:
            text = self._restorer.feed(text)
        return [Released(text)] if text else []


def _moved(result: Result, by: int) -> Result:
    if not result.spans or not by:
        return result
    return replace(
        result, spans=tuple(replace(span, start=span.start + by, end=span.end + by) for span in result.spans)
    )


def _late(step: Step) -> bool:
    if step.rule.shadow or step.rule.action in (Verdict.ALLOW, Verdict.FLAG):
        return True
    if step.kind.spanned and step.rule.action is Verdict.REDACT:
        return False
    return step.kind.whole or step.remote is not None


def _too_late(result: Result) -> Result:
    return replace(result, verdict=Verdict.BLOCK) if result.verdict is Verdict.REDACT else result
