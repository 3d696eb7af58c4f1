"""Feedback comes in: each event has its effect once, the one given last holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import Enum
from uuid import UUID

from anabranch_feedback.application.joining import match, unknown
from anabranch_feedback.application.ports import (
    Answers,
    Books,
    Channel,
    Clock,
    Codec,
    Feedback,
    Ledger,
    Log,
    Past,
    Redactor,
)
from anabranch_feedback.application.sampling import Sampler
from anabranch_feedback.domain.answers import Known, made_at
from anabranch_feedback.domain.given import Correction, Given
from anabranch_feedback.domain.limits import RateLimit
from anabranch_feedback.domain.names import id_of
from anabranch_feedback.domain.refusals import Refusal, Refused

_EVENTS = UUID("2d6c0b8e-77c1-5e0b-9f33-6f5d3a1c9e42")


class State(Enum):
    """What became of a feedback."""

    JOINED = "joined"
    WAITING = "waiting"
    STALE = "stale"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """A feedback that came in, readable or not: exactly one of `given` and `fault` is there."""

    tenant: str
    event_id: str
    given: Given | None = None
    fault: Refused | None = None
    # When it happened, as far as its sender says; for the rate.
    at: datetime | None = None

    @property
    def key(self) -> str:
        """Of the event; another tenant's event ids are other events."""
        return id_of(_EVENTS, self.tenant, self.event_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """What became of an arrival. `told`: the revision that the arrival has to be answered with, on every delivery."""

    state: State
    feedback_id: str = ""
    revision: int = 0
    fault: Refused | None = None
    told: Feedback | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What is taken. `tenants` None: everybody's. `grace`: how long an answer's record may be on its way."""

    tenants: frozenset[str] | None = None
    grace: timedelta = timedelta(minutes=10)


class TakeFeedback:
    """Settles feedback. One at a time or hundreds at once, in a single transaction of few statements."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        redactor: Redactor,
        codec: Codec,
        limit: RateLimit,
        clock: Clock,
        log: Log,
        rules: Rules,
        sampler: Sampler,
    ) -> None:
        """Takes what it works on."""
        self._ledger = ledger
        self._redactor = redactor
        self._codec = codec
        self._limit = limit
        self._clock = clock
        self._log = log
        self._rules = rules
        self._sampler = sampler

    async def batch(self, arrivals: Sequence[Arrival]) -> list[Settled]:
        """Settle records of a partition, in order. The caller publishes what is `told`, and refusals.

        The same arrivals again give the same tellings, but for revisions that were overtaken meanwhile: those that
        overtook them are told by their own events.
        """
        return await self._settle(arrivals, Channel.KAFKA)

    async def one(self, arrival: Arrival, channel: Channel) -> Settled:
        """Settle a call; what is joined is published through the outbox. Raises Refused."""
        settled = (await self._settle([arrival], channel))[0]
        if settled.fault is not None:
            raise settled.fault
        return settled

    async def _settle(self, arrivals: Sequence[Arrival], channel: Channel) -> list[Settled]:
        now = self._clock()
        clean = [replace(one, given=self._redacted(one.given)) if one.given else one for one in arrivals]
        tokens: list[Given] = []
        try:
            async with self._ledger.transaction() as books:
                work = _Work(self, books, channel, now, tokens)
                settled = await work.run(clean)
        except BaseException:
            # Nothing happened: the persons may spend it again.
            for given in tokens:
                self._limit.give_back(given.tenant, given.user_id)
            raise
        self._count(clean, settled, channel)
        return settled

    def _count(self, arrivals: Sequence[Arrival], settled: Sequence[Settled], channel: Channel) -> None:
        both = list(zip(arrivals, settled, strict=True))
        taken = Counter((of.given.kind, one.state.value) for of, one in both if of.given and one.fault is None)
        for (kind, state), count in taken.items():
            self._log.taken(kind, channel, state, count)
        for one in settled:
            if one.fault is not None:
                self._log.refused(one.fault.why, channel)

    def _redacted(self, given: Given) -> Given:
        comment = self._redactor.redact(given.comment) if given.comment else ""
        what = given.what
        if isinstance(what, Correction):
            what = replace(what, text=self._redactor.redact(what.text))
        return given if comment == given.comment and what is given.what else replace(given, comment=comment, what=what)


class _Work:
    """One transaction's worth."""

    def __init__(self, use: TakeFeedback, books: Books, channel: Channel, now: datetime, tokens: list[Given]) -> None:
        self._use = use
        self._books = books
        self._channel = channel
        self._now = now
        self._tokens = tokens
        self._past: dict[str, Past] = {}
        self._rows: dict[str, Feedback] = {}
        self._there: set[str] = set()
        self._touched: set[str] = set()
        self._fresh: list[Past] = []
        self._joined: list[tuple[Feedback, Known]] = []

    async def run(self, arrivals: Sequence[Arrival]) -> list[Settled]:
        books = self._books
        # Each id is a hash: made once.
        keys = [one.key for one in arrivals]
        feedback_ids = [one.given.feedback_id if one.given else "" for one in arrivals]
        self._past = await books.past(keys)
        asked = [one.given for one in arrivals if one.given is not None]
        ids = {given.answer_id for given in asked} | {given.other_answer_id for given in asked if given.other_answer_id}
        answers = await books.answers(ids)
        self._rows = await books.feedback(set(feedback_ids) - {""})
        self._there = set(self._rows)
        settled = [self._one(*one, answers) for one in zip(arrivals, keys, feedback_ids, strict=True)]
        touched = [self._rows[feedback_id] for feedback_id in sorted(self._touched)]
        await books.save(
            new=[row for row in touched if row.feedback_id not in self._there],
            changed=[row for row in touched if row.feedback_id in self._there],
        )
        if self._fresh:
            await books.remember(self._fresh, self._now)
        await self._use._sampler.joined(books, self._joined, self._now)  # noqa: SLF001  the two are one thing in two pieces
        final = [self._final(one) for one in settled]
        if self._channel is not Channel.KAFKA:
            await books.tell([one.told for one in final if one.told is not None])
        return final

    def _one(self, arrival: Arrival, key: str, own_id: str, answers: Answers) -> Settled:
        if key in self._past:
            return self._again(key, self._past[key], answers)
        feedback_id = ""
        try:
            if arrival.given is None:
                raise arrival.fault or AssertionError("an arrival without anything")
            settled = self._take(arrival, arrival.given, key, own_id, answers)
            feedback_id = settled.feedback_id
        except Refused as refused:
            settled = Settled(state=State.REFUSED, fault=refused)
        fault = settled.fault
        past = Past(
            event_key=key,
            tenant=arrival.tenant[:64],
            feedback_id=feedback_id,
            refusal=fault.why if fault else None,
            reason=str(fault)[:1000] if fault else "",
        )
        # A refused call may be repeated when the reason is gone; a refused record was answered.
        if fault is None or self._channel is Channel.KAFKA:
            self._past[key] = past
            self._fresh.append(past)
        return settled

    def _again(self, key: str, past: Past, answers: Answers) -> Settled:
        if past.refusal is not None:
            return Settled(state=State.REFUSED, fault=Refused(past.refusal, past.reason))
        row = self._rows.get(past.feedback_id)
        if row is None or row.withdrawn:
            return Settled(state=State.STALE, feedback_id=past.feedback_id)
        if row.event_key != key:
            return Settled(state=State.STALE, feedback_id=row.feedback_id, revision=row.revision)
        known = next((one for one in answers.get(row.answer_id, ()) if one.tenant == row.tenant), None)
        told = replace(row, cause=known.cause) if known and row.told_by_event else None
        state = State.WAITING if row.joined_at is None else State.JOINED
        return Settled(state=state, feedback_id=row.feedback_id, revision=row.revision, told=told)

    def _take(self, arrival: Arrival, given: Given, key: str, feedback_id: str, answers: Answers) -> Settled:
        rules, channel = self._use._rules, self._channel  # noqa: SLF001  the two are one thing in two pieces
        if rules.tenants is not None and given.tenant not in rules.tenants:
            raise Refused(Refusal.UNKNOWN_TENANT, f"tenant {given.tenant} is not served here", field="tenant")
        self._spend(arrival, given)
        found = match(given, answers, self._use._codec)  # noqa: SLF001  as above
        if found.answer is None and channel is not Channel.KAFKA and self._too_old(found.missing):
            raise unknown(found.missing)
        given_at = min(given.given_at or self._now, self._now)
        before = self._rows.get(feedback_id)
        if before is not None and before.given_at > given_at:
            return Settled(state=State.STALE, feedback_id=feedback_id, revision=before.revision)
        known = found.answer
        self._rows[feedback_id] = row = Feedback(
            feedback_id=feedback_id,
            revision=before.revision + 1 if before else 1,
            tenant=given.tenant,
            corpus=known.corpus if known else "",
            answer_id=given.answer_id,
            other_answer_id=given.other_answer_id,
            user_id=given.user_id,
            kind=given.kind,
            verdict=given.verdict,
            content=self._use._codec.content(given),  # noqa: SLF001  as above
            cause=known.cause if known else b"",
            given_at=given_at,
            joined_at=self._now if known else None,
            waiting_since=None if known else (before.waiting_since if before else None) or self._now,
            channel=channel,
            event_key=key,
            event_id=arrival.event_id[:200].replace("\x00", ""),
            told_by_event=channel is Channel.KAFKA and known is not None,
        )
        self._touched.add(feedback_id)
        if known is None:
            return Settled(state=State.WAITING, feedback_id=feedback_id, revision=row.revision)
        self._joined.append((row, known))
        return Settled(state=State.JOINED, feedback_id=feedback_id, revision=row.revision, told=row)

    def _spend(self, arrival: Arrival, given: Given) -> None:
        if self._channel is Channel.REVIEW:
            return
        at = min(arrival.at or self._now, self._now)
        if not self._use._limit.take(given.tenant, given.user_id, at):  # noqa: SLF001  as above
            raise Refused(Refusal.RATE_LIMITED, f"{given.user_id} gave too much in a short time", field="user_id")
        self._tokens.append(given)

    def _too_old(self, answer_id: str) -> bool:
        made = made_at(answer_id)
        return made is not None and self._now - made > self._use._rules.grace  # noqa: SLF001  as above

    def _final(self, settled: Settled) -> Settled:
        """Of several revisions in one batch only the last is told: the others were stored nowhere."""
        told = settled.told
        if told is None or self._rows[told.feedback_id].revision == told.revision:
            return settled
        return replace(settled, told=None)
