"""What becomes of a change, given what is known of its document; and of a document, given what stages behind say.

    upstream change ── older than seen ──────────────> SUPERSEDED
                    ── same content as current ──────> UNCHANGED
                    ── bad ──────────────────────────> REJECTED   (the version before stays live)
                    ── new content, or a deletion ───> ACCEPTED ── index read back ──> QUERYABLE / DELETED
                                                          ├── a later version visible first ──> SUPERSEDED
                                                          └── dead letters ──> REJECTED ── replayed ──> QUERYABLE

Every function is pure: documents in, documents and answers out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import Enum

from anabranch_ingestion.domain.documents import (
    Change,
    Document,
    DocumentKey,
    Parsed,
    Provenance,
    Rejection,
    Sent,
    State,
    Status,
    invalid,
)
from anabranch_ingestion.domain.refusals import Reason


class Verdict(Enum):
    """What to do with a change."""

    SUPERSEDED = "superseded"
    UNCHANGED = "unchanged"
    GONE = "gone"
    TAKE = "take"


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What taking a change learned about its body."""

    request_hash: str
    content_sha256: str
    fingerprint: str


def judge(document: Document, change: Change, *, request_hash: str, now: datetime, overdue: timedelta) -> Verdict:
    """What to do with a change whose body hashes so. Raises Refused for a version that other content has already."""
    if change.version and change.version < document.seen:
        return Verdict.SUPERSEDED
    if change.deleted:
        # A deletion under way is sent again: each is then answered when readers are known not to see the document.
        return Verdict.GONE if document.deleted and document.state is State.DELETED else Verdict.TAKE
    settled = _settled(document, now, overdue)
    if settled and document.request_hash == request_hash:
        return Verdict.UNCHANGED
    if change.version and change.version == document.version and settled:
        raise invalid("version", f"{change.version} was used for other content already; each change needs a higher one")
    return Verdict.TAKE


def same_text(document: Document, fingerprint: str, *, now: datetime, overdue: timedelta) -> bool:
    """True when a body that differs comes to what the current version is already."""
    return _settled(document, now, overdue) and document.provenance.fingerprint == fingerprint


def unchanged(document: Document, change: Change, *, request_hash: str, now: datetime) -> Document:
    """The document after a change that changed nothing; `last` answers it."""
    return replace(
        document,
        seen=max(document.seen, change.version),
        request_hash=request_hash or document.request_hash,
        last=Status(
            key=change.key,
            version=change.version or document.version,
            state=State.UNCHANGED,
            caused_by=change.event_id,
            at=now,
            chunk_count=document.chunk_count,
        ),
    )


def gone(document: Document, change: Change, *, now: datetime) -> Document:
    """The document after a deletion of what is deleted already."""
    status = Status(
        key=change.key,
        version=change.version or document.version,
        state=State.DELETED,
        caused_by=change.event_id,
        at=now,
    )
    return replace(document, seen=max(document.seen, change.version), last=status)


def superseded(change: Change, document: Document, *, now: datetime) -> Status:
    """The answer to a change that came too late. The document itself stays as it is."""
    return Status(
        key=change.key,
        version=change.version or document.seen,
        state=State.SUPERSEDED,
        caused_by=change.event_id,
        at=now,
    )


def rejected(document: Document, change: Change, rejection: Rejection, *, now: datetime) -> Document:
    """The document after a change that was refused: as it was, but for its latest status."""
    status = Status(
        key=change.key,
        version=change.version,
        state=State.REJECTED,
        caused_by=change.event_id,
        at=now,
        rejection=rejection,
    )
    return replace(document, last=status)


def accepted(document: Document, change: Change, parsed: Parsed | None, facts: Facts, *, now: datetime) -> Document:
    """The document once a change is sent on; `parsed` is None for a deletion."""
    version = change.version or document.seen + 1
    chunk_count = len(parsed.chunks) if parsed else 0
    return Document(
        key=change.key,
        seen=max(document.seen, version),
        version=version,
        live=document.live,
        state=State.ACCEPTED,
        deleted=change.deleted,
        event_id=change.event_id,
        request_hash=facts.request_hash,
        title=parsed.title if parsed else document.title,
        metadata=change.metadata,
        acl=change.acl,
        provenance=Provenance(
            source_uri=change.source_uri,
            content_sha256=facts.content_sha256,
            fingerprint=facts.fingerprint,
            content_type=parsed.content_type if parsed else "",
            parser=parsed.parser if parsed else "",
            changed_at=change.changed_at,
        ),
        chunk_count=chunk_count,
        sent_at=now,
        last=Status(
            key=change.key,
            version=version,
            state=State.ACCEPTED,
            caused_by=change.event_id,
            at=now,
            chunk_count=chunk_count,
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Indexed:
    """Readers see this version now, or no longer see the document."""

    key: DocumentKey
    version: int
    deleted: bool
    index_generation: int
    chunk_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What an event from behind changes: the document, versions, and the answers to publish."""

    document: Document
    sent: tuple[Sent, ...] = ()
    statuses: tuple[Status, ...] = ()


def indexed(document: Document, versions: Iterable[Sent], event: Indexed, *, now: datetime) -> Outcome:
    """A version became visible: it is answered, and so are older ones that will never be."""
    changed: list[Sent] = []
    statuses: list[Status] = []
    state = State.DELETED if event.deleted else State.QUERYABLE
    for version in sorted(versions, key=lambda v: v.version):
        if version.version < event.version and version.state is State.ACCEPTED:
            changed.append(replace(version, state=State.SUPERSEDED))
            statuses.append(_status(version, State.SUPERSEDED, now))
        elif version.version == event.version and version.state is not state and version.deleted == event.deleted:
            changed.append(replace(version, state=state))
            status = _status(version, state, now)
            statuses.append(replace(status, index_generation=event.index_generation, chunk_count=event.chunk_count))
    current = document.version == event.version and document.deleted == event.deleted
    if current and statuses:
        document = replace(document, state=state, live=0 if event.deleted else event.version, last=statuses[-1])
    elif event.version > document.live and not event.deleted:
        document = replace(document, live=event.version)
    return Outcome(document=document, sent=tuple(changed), statuses=tuple(statuses))


def dead(document: Document, versions: Sequence[Sent], *, version: int, problem: str, now: datetime) -> Outcome:
    """A later stage gave up on a version: it is answered once; the version before stays live."""
    open_ = [one for one in versions if one.version == version and one.state is State.ACCEPTED]
    if not open_:
        return Outcome(document=document)
    status = replace(
        _status(open_[0], State.REJECTED, now),
        rejection=Rejection(reason=Reason.DEAD_LETTERED, detail=problem[:1_000]),
    )
    if document.version == version:
        document = replace(document, state=State.REJECTED, last=status)
    return Outcome(document=document, sent=(replace(open_[0], state=State.REJECTED),), statuses=(status,))


def _status(version: Sent, state: State, now: datetime) -> Status:
    return Status(
        key=version.key,
        version=version.version,
        state=state,
        caused_by=version.event_id,
        at=now,
        chunk_count=version.chunk_count,
    )


def _settled(document: Document, now: datetime, overdue: timedelta) -> bool:
    """There is a current version, visible or on its way. One that stays unanswered may be sent again."""
    if document.deleted or document.state not in (State.QUERYABLE, State.ACCEPTED):
        return False
    waits = document.state is State.ACCEPTED and document.sent_at is not None
    return not (waits and document.sent_at is not None and now - document.sent_at > overdue)
