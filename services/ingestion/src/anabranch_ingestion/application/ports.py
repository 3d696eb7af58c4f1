"""What the use cases need of the world."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

from anabranch_ingestion.domain.chunking import Chunk
from anabranch_ingestion.domain.documents import Change, Document, DocumentKey, Parsed, Provenance, Sent, Status


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """A document as it came: bytes, or characters when `text` is set; and what its sender says about it."""

    data: bytes = b""
    text: str | None = None
    content_type: str = ""
    filename: str = ""


class Reader(Protocol):
    """Turns bodies into text and chunks.

    `version` changes when the same body would come out differently. `read` takes milliseconds for an ordinary document
    and at most its time limit for a hostile one, and may be called many times at once. Raises Refused when this body
    can never be read, Unreachable or Overloaded when nothing can be read now.
    """

    @property
    def version(self) -> str:
        """Part of a document's identity."""
        ...

    async def read(self, body: Body, *, title: str) -> Parsed:
        """The body's text, title and chunks; `title` wins over what the body says."""
        ...


class Sources(Protocol):
    """Fetches bodies that are sent by reference. Raises Refused (URI_REFUSED, TOO_LARGE), Transient."""

    async def fetch(self, uri: str) -> Body:
        """The bytes at `uri`, if it is allowed."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What guardrails found first: in which text, by which check. `blocked`: it must not be indexed."""

    place: int
    check: str
    reason: str
    blocked: bool


class Guards(Protocol):
    """Guardrails, under the policy of the document's tenant and corpus. Raises Overloaded, Unreachable."""

    async def look(self, key: DocumentKey, texts: Sequence[str], *, event_id: str) -> Finding | None:
        """What is found in texts of a document; None: nothing. At most 200 of them."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Parked:
    """A change that takes long, kept so that it survives the process that reads it."""

    change: Change
    version: int
    attempts: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Dispatch:
    """Chunks on their way to embedding, in parts of bounded size; no parts' chunks for a deletion."""

    key: DocumentKey
    version: int
    caused_by: str
    deleted: bool
    title: str
    metadata: Mapping[str, str]
    acl: tuple[str, ...]
    provenance: Provenance
    parts: Sequence[Sequence[Chunk]]
    trace: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What is stored about some documents and events."""

    documents: Mapping[DocumentKey, Document]
    events: frozenset[str]


class Ledger(Protocol):
    """One transaction. What is put here takes effect, and what is announced is published, all together or not at all.

    `fresh` are the events that took no effect before; `documents` holds those asked for, locked, unknown ones blank.
    """

    fresh: frozenset[str]
    documents: dict[DocumentKey, Document]

    def put(self, document: Document) -> None:
        """Stores the document as it now is; visible in `documents` at once."""

    def sent(self, versions: Iterable[Sent]) -> None:
        """Stores versions that were sent on, as they now are."""

    def announce(self, status: Status, *, trace: Mapping[str, str], record_key: str = "", kept: bool = True) -> None:
        """Publishes an answer; `kept` answers are also stored for those who watch the document."""

    def dispatch(self, dispatch: Dispatch) -> None:
        """Publishes chunks."""

    def park(self, parked: Parked) -> None:
        """Keeps a change for later."""

    async def take_parked(self, event_id: str) -> Parked | None:
        """Ends the keeping of a change; None when somebody else did."""
        ...

    async def versions(self, key: DocumentKey) -> Sequence[Sent]:
        """Versions of one of `documents` that were sent on and may still change."""
        ...


class Documents(Protocol):
    """Where documents are remembered."""

    async def look(self, keys: Collection[DocumentKey], event_ids: Collection[str]) -> Known:
        """What is known now; may be out of date by the time of a transaction."""
        ...

    def change(
        self, keys: Collection[DocumentKey], event_ids: Collection[str] = ()
    ) -> AbstractAsyncContextManager[Ledger]:
        """A transaction over these documents, claiming these events."""
        ...

    async def adopt(self, *, limit: int) -> Sequence[Parked]:
        """Takes over parked changes whose process is gone; each counts an attempt."""
        ...

    async def renew(self, event_ids: Collection[str]) -> None:
        """Says that this process still works on these parked changes."""

    async def overdue(self, *, before: datetime, limit: int) -> tuple[int, Sequence[Sent]]:
        """How many accepted versions were sent before then and are unanswered, and the oldest of them."""
        ...

    async def forget(self, *, older_than: timedelta) -> None:
        """Removes what no redelivery and no watcher can ask for any more."""


class Watching(Protocol):
    """Tells what becomes of documents, whichever replica said it."""

    def watch(self, key: DocumentKey) -> AsyncGenerator[Status, None]:
        """The present status if there is one, then each that follows."""
        ...


class Clock(Protocol):
    """The time, aware, in UTC."""

    def __call__(self) -> datetime:
        """Now."""
        ...


class Log(Protocol):
    """What operators hear of. Facts are values, never sentences."""

    def answered(self, status: Status) -> None:
        """A change was answered."""

    def parked(self, change: Change) -> None:
        """A change takes long and was put aside."""

    def overdue(self, count: int, oldest: Sequence[Sent]) -> None:
        """Accepted documents that nobody answered in time; called with 0 as well."""

    def flagged(self, change: Change, finding: Finding) -> None:
        """Something was found in a document that may be indexed all the same."""

    def unchecked(self, change: Change, error: BaseException, *, taken: bool) -> None:
        """Guardrails were away; the document waits, or was taken all the same."""

    def failed(self, change: Change, error: BaseException) -> None:
        """A parked change could not be finished now."""
