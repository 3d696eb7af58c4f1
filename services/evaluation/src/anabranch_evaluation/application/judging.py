"""Asking the judge: now, or for answers that wait for it. Nothing else waits for the judge."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Protocol

from anabranch_evaluation.application.datasets import Clock, utc_now
from anabranch_evaluation.domain.judging import (
    Ballot,
    Judgment,
    Preference,
    Reply,
    comparing_ballots,
    grading_ballots,
    judgment_of,
    preference_of,
)
from anabranch_faults import Transient

LEASE: Final = timedelta(minutes=5)
"""How long a replica that took an answer has for it, before another may."""
PATIENCE: Final = timedelta(minutes=15)
"""How long an answer waits for a judge that gives no reply. Then its scores are told without."""
PAUSE: Final = timedelta(seconds=20)
"""Between two tries at a judge that gives no reply."""


class Judge(Protocol):
    """A language model that was told to judge."""

    @property
    def name(self) -> str:
        """Of the model, for people and for the cache."""

    async def reply(self, ballot: Ballot) -> str | None:
        """Its reply as it came; None when there was none, which is counted."""


class Verdicts(Protocol):
    """Verdicts by the digest of what was asked."""

    async def known(self, digests: Sequence[str]) -> Mapping[str, str]:
        """Those that are there."""

    async def keep(self, verdicts: Mapping[str, str], *, at: datetime) -> None:
        """Keeps them; what is there already stays as it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AskJudge:
    """Grades and compares by `votes` votes. A verdict that was given is taken from the cache, never asked for again."""

    judge: Judge
    verdicts: Verdicts
    votes: int
    now: Clock = utc_now

    async def grade(self, question: str, answer: str, contexts: Sequence[str]) -> Judgment | None:
        """What the judge makes of an answer; None when it gave no reply to any vote."""
        ballots = grading_ballots(question, answer, contexts, votes=self.votes)
        return judgment_of(self.judge.name, await self._replies(ballots))

    async def compare(self, question: str, contexts: Sequence[str], answers: tuple[str, str]) -> Preference | None:
        """Which of two answers is better; None when it gave no reply to any vote."""
        ballots = comparing_ballots(question, contexts, answers, votes=self.votes)
        return preference_of(self.judge.name, await self._replies(ballots))

    async def _replies(self, ballots: Sequence[Ballot]) -> list[Reply | None]:
        digests = [ballot.digest(self.judge.name) for ballot in ballots]
        known = await self.verdicts.known(digests)
        missing = [place for place, digest in enumerate(digests) if digest not in known]
        texts = await asyncio.gather(*(self.judge.reply(ballots[place]) for place in missing))
        fresh = {
            place: Reply(verdict=ballots[place].rubric.verdict(text))
            for place, text in zip(missing, texts, strict=True)
            if text is not None
        }
        readable = {digests[place]: one.verdict for place, one in fresh.items() if one.verdict is not None}
        if readable:
            await self.verdicts.keep(readable, at=self.now())
        return [
            Reply(verdict=known[digest], from_cache=True) if digest in known else fresh.get(place)
            for place, digest in enumerate(digests)
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """An answer whose scores are told once the judge has seen it, or the time is over."""

    tenant: str
    answer_id: str
    question: str
    answer: str
    contexts: Sequence[str]
    since: datetime


class WaitingAnswers(Protocol):
    """Answers that wait for the judge."""

    async def take(self, count: int, *, now: datetime, lease: timedelta) -> Sequence[Waiting]:
        """The oldest that nobody holds; held by the caller until the lease is over."""

    async def put_back(self, waiting: Waiting, *, until: datetime) -> None:
        """Nobody takes it before."""

    async def tell(self, waiting: Waiting, judgment: Judgment | None) -> bool:
        """Tells the answer's scores, with the judgment if there is one; True if nobody had."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeAnswers:
    """Judges the answers that wait, a few at a time; without a judge it tells them as they are.

    `judged` hears what came of each, `delayed` of outages.
    """

    ask: AskJudge | None
    answers: WaitingAnswers
    judged: Callable[[Judgment | None], None]
    delayed: Callable[[str], None]
    at_once: int = 4
    every: timedelta = timedelta(seconds=1)
    now: Clock = utc_now

    async def run(self) -> None:
        """Judges what waits, again and again. An outage of the database is waited out."""
        while True:
            done = 0
            try:
                done = await self.some()
            except Transient as fault:
                self.delayed(str(fault))
            if not done:
                await asyncio.sleep(self.every.total_seconds())

    async def some(self) -> int:
        """Judges some; gives how many were taken."""
        taken = await self.answers.take(self.at_once, now=self.now(), lease=LEASE)
        await asyncio.gather(*(self._judge(one) for one in taken))
        return len(taken)

    async def _judge(self, one: Waiting) -> None:
        judgment = None if self.ask is None else await self.ask.grade(one.question, one.answer, one.contexts)
        now = self.now()
        if judgment is None and self.ask is not None and now - one.since < PATIENCE:
            await self.answers.put_back(one, until=now + PAUSE)
        elif await self.answers.tell(one, judgment):
            self.judged(judgment)
