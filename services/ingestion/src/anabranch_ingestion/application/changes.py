"""Takes changes from upstream: reads each body, decides, and sends on what is new, a batch a transaction."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from anabranch_faults import Overloaded, Transient, Unreachable
from anabranch_ingestion.application.bodies import Prepared, ReadBodies
from anabranch_ingestion.application.ports import (
    Clock,
    Dispatch,
    Documents,
    Ledger,
    Log,
    Parked,
)
from anabranch_ingestion.domain import lifecycle
from anabranch_ingestion.domain.documents import (
    Change,
    Document,
    DocumentKey,
    Rejection,
    Sent,
    State,
    fingerprint,
    parts_of,
)
from anabranch_ingestion.domain.lifecycle import Facts, Verdict
from anabranch_ingestion.domain.refusals import Reason, Refused

_ATTEMPTS = 3


@dataclass(slots=True, kw_only=True)
class IngestChanges:
    """Call it with a batch in order; it answers with the changes to try again later, and why.

    Everything else is done when it returns: its effects and what it announces are one transaction. Raises Transient
    when nothing can be done now. `tenants` None: every tenant is known.
    """

    documents: Documents
    bodies: ReadBodies
    clock: Clock
    log: Log
    tenants: frozenset[str] | None = None
    _slow: dict[str, asyncio.Task[None]] = field(default_factory=dict)

    async def __call__(self, changes: Sequence[Change]) -> Mapping[str, Transient]:
        """Takes a batch; event ids and faults of what must be tried again."""
        checked = [self._checked(change) for change in changes]
        known = await self.documents.look({one.change.key for one in checked if one.named}, _ids(checked))
        wanted = [one for one in checked if one.change.event_id not in known.events]
        if not wanted:
            return {}
        prepared = await self.bodies.all(wanted, known.documents)
        postponed = _postponed(prepared)
        ready = [one for one in prepared if one.change.event_id not in postponed]
        try:
            await self._settle_all(ready)
        except BaseException:
            for one in ready:
                if one.slow is not None:
                    one.slow.cancel()
            raise
        for one in ready:
            if one.slow is not None and one.change.event_id not in self._slow:
                # It is kept now, so reading it may go on in the background.
                self.log.parked(one.change)
                self._go_on(one.slow, one.change)
        return postponed

    async def refuse(self, key: DocumentKey, event_id: str, refused: Refused, *, trace: Mapping[str, str]) -> None:
        """Answers a record that cannot be read at all; `key` is what its record key says."""
        change = Change(key=key, event_id=event_id, record_key=str(key), trace=trace)
        one = self._checked(change)
        one.refused = one.refused if not one.named else refused
        await self._settle_all([one])

    def _checked(self, change: Change) -> Prepared:
        one = Prepared(change=change, named=False)
        try:
            change.check_name()
            if self.tenants is not None and change.key.tenant not in self.tenants:
                problem = f"{change.key.tenant!r} is not known here; create it, or correct the name"
                raise Refused(Reason.UNKNOWN_TENANT, problem, field="tenant")  # noqa: TRY301  one place catches refusals
            one.named = True
            change.check()
        except Refused as refused:
            one.refused = refused
        return one

    async def _settle_all(self, ready: Sequence[Prepared]) -> None:
        if not ready:
            return
        keys = {one.change.key for one in ready if one.named}
        async with self.documents.change(keys, _ids(ready)) as ledger:
            fresh = set(ledger.fresh)
            for one in ready:
                if one.change.event_id in fresh:
                    fresh.discard(one.change.event_id)
                    self._settle(ledger, one)

    # -- deciding

    def _settle(self, ledger: Ledger, one: Prepared) -> None:
        """Decides on one change with the document as the transaction sees it."""
        change, now = one.change, self.clock()
        if not one.named and one.refused is not None:
            status = lifecycle.rejected(Document(key=change.key), change, Rejection.of(one.refused), now=now).last
            if status is not None:
                ledger.announce(status, trace=change.trace, record_key=change.record_key, kept=False)
                self.log.answered(status)
            return
        document = ledger.documents[change.key]
        if one.slow is not None:
            self._park(ledger, document, change)
            return
        try:
            if one.refused is not None and not (change.version and change.version < document.seen):
                raise one.refused
            verdict = self.bodies.judge(document, one)
        except Refused as refused:
            self._say(ledger, lifecycle.rejected(document, change, Rejection.of(refused), now=now), change)
            return
        if verdict is Verdict.TAKE and not change.deleted and one.parsed is None:
            # It looked unchanged a moment ago, and its document has moved on since: nobody has parsed it.
            raise Transient("the document changed while this change of it was being looked at")
        if verdict is Verdict.SUPERSEDED:
            status = lifecycle.superseded(change, document, now=now)
            ledger.announce(status, trace=change.trace)
            self.log.answered(status)
        elif verdict is Verdict.GONE:
            self._say(ledger, lifecycle.gone(document, change, now=now), change)
        elif verdict is Verdict.UNCHANGED:
            self._say(ledger, lifecycle.unchanged(document, change, request_hash=one.request_hash, now=now), change)
        else:
            self._take(ledger, document, one)

    def _take(self, ledger: Ledger, document: Document, one: Prepared) -> None:
        change, parsed, now = one.change, one.parsed, self.clock()
        print_ = fingerprint(change, parsed) if parsed is not None else ""
        if parsed is not None and lifecycle.same_text(document, print_, now=now, overdue=self.bodies.limits.overdue):
            self._say(ledger, lifecycle.unchanged(document, change, request_hash=one.request_hash, now=now), change)
            return
        facts = Facts(request_hash=one.request_hash, content_sha256=one.content_sha256, fingerprint=print_)
        taken = lifecycle.accepted(document, change, parsed, facts, now=now)
        self._say(ledger, taken, change)
        ledger.sent(
            [
                Sent(
                    key=change.key,
                    version=taken.version,
                    event_id=change.event_id,
                    state=State.ACCEPTED,
                    deleted=change.deleted,
                    chunk_count=taken.chunk_count,
                    sent_at=now,
                )
            ]
        )
        chunks = parsed.chunks if parsed is not None else ()
        ledger.dispatch(
            Dispatch(
                key=change.key,
                version=taken.version,
                caused_by=change.event_id,
                deleted=change.deleted,
                title=taken.title,
                metadata=change.metadata,
                acl=change.acl,
                provenance=taken.provenance,
                parts=parts_of(
                    chunks, max_chunks=self.bodies.limits.part_chunks, max_bytes=self.bodies.limits.part_bytes
                ),
                trace=change.trace,
            )
        )

    def _say(self, ledger: Ledger, document: Document, change: Change) -> None:
        ledger.put(document)
        if document.last is not None:
            ledger.announce(document.last, trace=change.trace)
            self.log.answered(document.last)

    # -- what takes long

    def _park(self, ledger: Ledger, document: Document, change: Change) -> None:
        version = change.version
        if not version:
            # Its place in the order is now: what comes after it gets a higher number.
            version = document.seen + 1
            ledger.put(replace(document, seen=version))
        ledger.park(Parked(change=change, version=version))

    def _go_on(self, task: asyncio.Task[Prepared], change: Change) -> None:
        self._slow[change.event_id] = asyncio.create_task(self._finish(task, change))

    async def _finish(self, task: asyncio.Task[Prepared], change: Change) -> None:
        try:
            one = await task
            while isinstance(one.fault, Overloaded | Unreachable):
                # An outage is no fault of the document: it waits here, and no attempt is counted.
                self.log.failed(change, one.fault)
                await asyncio.sleep(self.bodies.limits.outage.total_seconds())
                known = await self.documents.look({change.key}, ())
                document = known.documents.get(change.key, Document(key=change.key))
                one = await self.bodies.one(replace(change, version=0), document)
            await self._conclude(one)
        except asyncio.CancelledError:
            task.cancel()
            raise
        except Exception as error:  # noqa: BLE001  it stays parked, and whoever adopts it tries again
            self.log.failed(change, error)
        finally:
            self._slow.pop(change.event_id, None)

    async def _conclude(self, one: Prepared) -> None:
        if one.fault is not None:
            raise one.fault
        async with self.documents.change({one.change.key}) as ledger:
            parked = await ledger.take_parked(one.change.event_id)
            if parked is not None:
                self._settle(ledger, replace(one, change=replace(one.change, version=parked.version)))

    async def resume(self) -> None:
        """Goes on with parked changes: keeps this process's own, adopts those of processes that are gone."""
        if self._slow:
            await self.documents.renew(list(self._slow))
        for parked in await self.documents.adopt(limit=4):
            change = parked.change
            if change.event_id in self._slow:
                continue
            if parked.attempts > _ATTEMPTS:
                problem = f"reading it stopped the ingestion process {_ATTEMPTS} times"
                await self._conclude(Prepared(change=change, refused=Refused(Reason.UNPARSEABLE, problem)))
                continue
            known = await self.documents.look({change.key}, ())
            document = known.documents.get(change.key, Document(key=change.key))
            # Its place in the order was settled when it was parked: it is read whatever came since.
            self._go_on(asyncio.create_task(self.bodies.one(replace(change, version=0), document)), change)

    async def close(self) -> None:
        """Lets go of what takes long: it is kept, and adopted by the next process."""
        tasks = list(self._slow.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _ids(prepared: Sequence[Prepared]) -> set[str]:
    return {one.change.event_id for one in prepared}


def _postponed(prepared: Sequence[Prepared]) -> dict[str, Transient]:
    """Faults by event. Later changes of the same document wait as well, or they would overtake it."""
    waiting: dict[DocumentKey, Transient] = {}
    postponed: dict[str, Transient] = {}
    for one in prepared:
        fault = one.fault or (waiting.get(one.change.key) if one.named else None)
        if fault is not None:
            if one.slow is not None:
                one.slow.cancel()
            waiting[one.change.key] = fault
            postponed[one.change.event_id] = fault
    return postponed
