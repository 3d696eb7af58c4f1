"""The tables of ingestion, and their rows as the domain's values."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any, Final

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, LargeBinary, MetaData, Row, String, Table, Text

from anabranch_ingestion.domain.documents import (
    Document,
    DocumentKey,
    Provenance,
    Rejection,
    Sent,
    State,
    Status,
)
from anabranch_ingestion.domain.refusals import Reason
from anabranch_store import UtcDateTime, inbox_table, outbox_table

METADATA: Final = MetaData()
_KEY = String(1_024)
_EVENT = String(200)
# SQLite counts up by itself only for a primary key that is exactly INTEGER.
_SERIAL = BigInteger().with_variant(Integer(), "sqlite")

INBOX: Final = inbox_table(METADATA)
OUTBOX: Final = outbox_table(METADATA)

DOCUMENTS: Final = Table(
    "documents",
    METADATA,
    Column("record_key", _KEY, primary_key=True),
    Column("seen", BigInteger(), nullable=False),
    Column("version", BigInteger(), nullable=False),
    Column("live", BigInteger(), nullable=False),
    Column("state", String(16), nullable=True),
    Column("deleted", Boolean(), nullable=False),
    Column("event_id", _EVENT, nullable=False),
    Column("request_hash", String(64), nullable=False),
    Column("chunk_count", Integer(), nullable=False),
    Column("sent_at", UtcDateTime(), nullable=True),
    # Title, metadata, labels and provenance: read and written whole.
    Column("facts", Text(), nullable=False),
    Column("last", Text(), nullable=True),
)
VERSIONS: Final = Table(
    "versions",
    METADATA,
    Column("record_key", _KEY, primary_key=True),
    Column("version", BigInteger(), primary_key=True),
    Column("event_id", _EVENT, nullable=False),
    Column("state", String(16), nullable=False),
    Column("deleted", Boolean(), nullable=False),
    Column("chunk_count", Integer(), nullable=False),
    Column("sent_at", UtcDateTime(), nullable=False),
    Index("versions_by_state", "state", "sent_at"),
)
STATUSES: Final = Table(
    "statuses",
    METADATA,
    Column("seq", _SERIAL, primary_key=True, autoincrement=True),
    Column("record_key", _KEY, nullable=False),
    Column("status", Text(), nullable=False),
    Column("at", UtcDateTime(), nullable=False),
    Index("statuses_by_document", "record_key", "seq"),
    Index("statuses_by_age", "at"),
)
PARKED: Final = Table(
    "parked",
    METADATA,
    Column("event_id", _EVENT, primary_key=True),
    Column("record_key", _KEY, nullable=False),
    Column("version", BigInteger(), nullable=False),
    Column("change", LargeBinary(), nullable=False),
    Column("trace", Text(), nullable=False),
    Column("attempts", Integer(), nullable=False),
    Column("owner", String(64), nullable=False),
    Column("lease_until", UtcDateTime(), nullable=False),
)


def document_row(document: Document) -> dict[str, Any]:
    """A document's columns."""
    provenance = document.provenance
    facts = {
        "title": document.title,
        "metadata": dict(document.metadata),
        "acl": list(document.acl),
        "source_uri": provenance.source_uri,
        "content_sha256": provenance.content_sha256,
        "fingerprint": provenance.fingerprint,
        "content_type": provenance.content_type,
        "parser": provenance.parser,
        "chunker": provenance.chunker,
        "changed_at": _text(provenance.changed_at),
    }
    return {
        "record_key": str(document.key),
        "seen": document.seen,
        "version": document.version,
        "live": document.live,
        "state": document.state.value if document.state else None,
        "deleted": document.deleted,
        "event_id": document.event_id,
        "request_hash": document.request_hash,
        "chunk_count": document.chunk_count,
        "sent_at": document.sent_at,
        "facts": json.dumps(facts),
        "last": status_text(document.last) if document.last else None,
    }


def document_from(row: Row[Any]) -> Document:
    """The document a row holds."""
    facts = json.loads(row.facts)
    key = _key(row.record_key)
    return Document(
        key=key,
        seen=row.seen,
        version=row.version,
        live=row.live,
        state=State(row.state) if row.state else None,
        deleted=row.deleted,
        event_id=row.event_id,
        request_hash=row.request_hash,
        title=facts.get("title", ""),
        metadata=facts.get("metadata", {}),
        acl=tuple(facts.get("acl", ())),
        provenance=Provenance(
            source_uri=facts.get("source_uri", ""),
            content_sha256=facts.get("content_sha256", ""),
            fingerprint=facts.get("fingerprint", ""),
            content_type=facts.get("content_type", ""),
            parser=facts.get("parser", ""),
            chunker=facts.get("chunker", ""),
            changed_at=_moment(facts.get("changed_at")),
        ),
        chunk_count=row.chunk_count,
        sent_at=row.sent_at,
        last=status_from(key, row.last) if row.last else None,
    )


def sent_row(sent: Sent) -> dict[str, Any]:
    """A version's columns."""
    return {
        "record_key": str(sent.key),
        "version": sent.version,
        "event_id": sent.event_id,
        "state": sent.state.value,
        "deleted": sent.deleted,
        "chunk_count": sent.chunk_count,
        "sent_at": sent.sent_at,
    }


def sent_from(row: Row[Any]) -> Sent:
    """The version a row holds."""
    return Sent(
        key=_key(row.record_key),
        version=row.version,
        event_id=row.event_id,
        state=State(row.state),
        deleted=row.deleted,
        chunk_count=row.chunk_count,
        sent_at=row.sent_at,
    )


def status_text(status: Status) -> str:
    """A status without its document's name."""
    said: dict[str, Any] = {
        "version": status.version,
        "state": status.state.value,
        "caused_by": status.caused_by,
        "at": _text(status.at),
        "index_generation": status.index_generation,
        "chunk_count": status.chunk_count,
    }
    if status.rejection is not None:
        said["rejection"] = [status.rejection.reason.value, status.rejection.detail, status.rejection.field]
    return json.dumps(said)


def status_from(key: DocumentKey, text: str) -> Status:
    """The status that `status_text` wrote."""
    said = json.loads(text)
    rejection = None
    if "rejection" in said:
        reason, detail, field = said["rejection"]
        rejection = Rejection(reason=Reason(reason), detail=detail, field=field)
    return Status(
        key=key,
        version=said["version"],
        state=State(said["state"]),
        caused_by=said["caused_by"],
        at=datetime.fromisoformat(said["at"]),
        rejection=rejection,
        index_generation=said["index_generation"],
        chunk_count=said["chunk_count"],
    )


def _key(record_key: str) -> DocumentKey:
    return DocumentKey(*record_key.split("/", 2))


def _text(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment is not None else None


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
