"""Hears what became of documents further on, and answers the changes that caused it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta

from anabranch_ingestion.application.ports import Clock, Documents, Ledger, Log
from anabranch_ingestion.domain import lifecycle
from anabranch_ingestion.domain.documents import DocumentKey, Rejection, State, Status
from anabranch_ingestion.domain.lifecycle import Indexed, Outcome
from anabranch_ingestion.domain.refusals import Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexedEvent:
    """An index event with its id and trace."""

    event: Indexed
    event_id: str
    trace: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordIndexed:
    """Takes a batch of index events; everything is done when it returns."""

    documents: Documents
    clock: Clock
    log: Log

    async def __call__(self, events: Sequence[IndexedEvent]) -> None:
        """Answers QUERYABLE and DELETED, and SUPERSEDED for versions that were overtaken."""
        async with self.documents.change({one.event.key for one in events}, {one.event_id for one in events}) as ledger:
            fresh = set(ledger.fresh)
            for one in events:
                if one.event_id not in fresh:
                    continue
                fresh.discard(one.event_id)
                versions = await ledger.versions(one.event.key)
                document = ledger.documents[one.event.key]
                outcome = lifecycle.indexed(document, versions, one.event, now=self.clock())
                _apply(ledger, outcome, one.trace, self.log)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dead:
    """A version that a later stage gave up on."""

    key: DocumentKey
    version: int
    problem: str
    trace: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadChange:
    """A change that ingestion itself could not handle."""

    key: DocumentKey
    version: int
    event_id: str
    problem: str
    trace: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordDead:
    """Answers for what lies in dead letters, once for each version; a replay that works is answered again."""

    documents: Documents
    clock: Clock
    log: Log

    async def later(self, letters: Sequence[Dead]) -> None:
        """Dead letters of the stages behind: REJECTED, DEAD_LETTERED."""
        async with self.documents.change({letter.key for letter in letters}) as ledger:
            for letter in letters:
                versions = await ledger.versions(letter.key)
                outcome = lifecycle.dead(
                    ledger.documents[letter.key],
                    versions,
                    version=letter.version,
                    problem=letter.problem,
                    now=self.clock(),
                )
                _apply(ledger, outcome, letter.trace, self.log)

    async def own(self, letters: Sequence[DeadChange]) -> None:
        """Dead letters of ingestion. The events stay unclaimed, so that a replay is handled."""
        known = await self.documents.look((), {letter.event_id for letter in letters})
        unanswered = [letter for letter in letters if letter.event_id not in known.events]
        if not unanswered:
            return
        async with self.documents.change({letter.key for letter in unanswered}) as ledger:
            for letter in unanswered:
                status = Status(
                    key=letter.key,
                    version=letter.version,
                    state=State.REJECTED,
                    caused_by=letter.event_id,
                    at=self.clock(),
                    rejection=Rejection(reason=Reason.DEAD_LETTERED, detail=letter.problem[:1_000]),
                )
                ledger.put(replace(ledger.documents[letter.key], last=status))
                ledger.announce(status, trace=letter.trace)
                self.log.answered(status)


@dataclass(frozen=True, slots=True, kw_only=True)
class LookAfter:
    """What is done now and then: finding documents nobody answered, and forgetting."""

    documents: Documents
    clock: Clock
    log: Log
    overdue_after: timedelta
    keep: timedelta

    async def find_overdue(self) -> int:
        """Reports accepted versions that are unanswered for too long; how many."""
        count, oldest = await self.documents.overdue(before=self.clock() - self.overdue_after, limit=10)
        self.log.overdue(count, oldest)
        return count

    async def forget(self) -> None:
        """Removes what nobody can ask for any more."""
        await self.documents.forget(older_than=self.keep)


def _apply(ledger: Ledger, outcome: Outcome, trace: Mapping[str, str], log: Log) -> None:
    if outcome.document.seen:
        ledger.put(outcome.document)
    ledger.sent(outcome.sent)
    for status in outcome.statuses:
        ledger.announce(status, trace=trace)
        log.answered(status)
