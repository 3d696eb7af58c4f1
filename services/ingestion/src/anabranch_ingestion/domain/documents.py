"""Documents: their names, the change that came in, what was read, and where each stands."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from uuid import UUID, uuid5

from anabranch_ingestion.domain.chunking import CHUNKER, Chunk
from anabranch_ingestion.domain.refusals import Reason, Refused

_CHUNK_IDS = UUID("0d4f3a6e-52d4-5c43-9a0e-5a1d0e6a7c11")
_TENANT = re.compile(r"[A-Za-z0-9._-]{1,64}")
_CORPUS = re.compile(r"[A-Za-z0-9._-]{1,128}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_METADATA_KEY = re.compile(r"[a-z0-9_]{1,63}")
_DOCUMENT_ID_CHARS = 512
_TITLE_CHARS = 1_024
_URI_CHARS = 4_096
_METADATA_KEYS = 32
_METADATA_CHARS = 1_024
_ACL_LABELS = 64
_ACL_CHARS = 256
_HINT_CHARS = 512
MAX_VERSION = (1 << 63) - 1
"""What a database's integers hold."""


@dataclass(frozen=True, slots=True, order=True)
class DocumentKey:
    """The name of a document; as a record key, `tenant/corpus/document_id`."""

    tenant: str
    corpus: str
    document_id: str

    def __str__(self) -> str:
        """The record key."""
        return f"{self.tenant}/{self.corpus}/{self.document_id}"

    @classmethod
    def parse(cls, text: str) -> DocumentKey | None:
        """The document a record key names (split at the first two slashes), None when it names none."""
        parts = text.split("/", 2)
        if len(parts) != 3:  # noqa: PLR2004  tenant, corpus, document id
            return None
        key = cls(*parts)
        try:
            key.check()
        except Refused:
            return None
        return key

    def check(self) -> None:
        """Raises Refused INVALID_FIELD for a part that cannot be."""
        if not _TENANT.fullmatch(self.tenant):
            raise invalid("tenant", "must be 1 to 64 of the characters A-Z a-z 0-9 . _ -")
        if not _CORPUS.fullmatch(self.corpus):
            raise invalid("corpus", "must be 1 to 128 of the characters A-Z a-z 0-9 . _ -")
        if not 1 <= len(self.document_id) <= _DOCUMENT_ID_CHARS or _CONTROL.search(self.document_id):
            raise invalid(
                "document_id", f"must be 1 to {_DOCUMENT_ID_CHARS} characters, none of them a control character"
            )


def invalid(field_name: str, problem: str) -> Refused:
    """A refusal of one field."""
    return Refused(Reason.INVALID_FIELD, problem, field=field_name)


class BodyKind(Enum):
    """Where the body is."""

    TEXT = "text"
    CONTENT = "content"
    URI = "uri"
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A document exists in a new form, or no longer: an event from upstream, checked. `version` 0: not numbered."""

    key: DocumentKey
    event_id: str
    record_key: str
    version: int = 0
    body: BodyKind = BodyKind.NONE
    text: str = ""
    content: bytes = b""
    uri: str = ""
    deleted: bool = False
    title: str = ""
    content_type: str = ""
    filename: str = ""
    source_uri: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    acl: tuple[str, ...] = ()
    changed_at: datetime | None = None
    trace: Mapping[str, str] = field(default_factory=dict)

    def check_name(self) -> None:
        """Raises Refused INVALID_FIELD when it is not certain which document this is about."""
        self.key.check()
        if self.record_key != str(self.key):
            said = f"not {self.record_key[:600]!r}" if self.record_key else "and is missing"
            raise invalid("key", f"the record's key must be {str(self.key)!r}, {said}")

    def check(self) -> None:
        """Raises Refused INVALID_FIELD, naming the first field that breaks its contract."""
        if self.version > MAX_VERSION:
            raise invalid("version", f"must be at most {MAX_VERSION}")
        if self.deleted and self.body is not BodyKind.NONE:
            raise invalid("body", "must not be set on a deletion")
        if not self.deleted and self.body is BodyKind.NONE:
            raise invalid("body", "one of text, content and uri must be set")
        for name, value, limit in (
            ("title", self.title, _TITLE_CHARS),
            ("source_uri", self.source_uri, _URI_CHARS),
            ("uri", self.uri, _URI_CHARS),
            ("content_type", self.content_type, _HINT_CHARS),
            ("filename", self.filename, _HINT_CHARS),
        ):
            if len(value) > limit:
                raise invalid(name, f"must be at most {limit} characters, not {len(value)}")
        self._check_labels()

    def _check_labels(self) -> None:
        if len(self.metadata) > _METADATA_KEYS:
            raise invalid("metadata", f"must have at most {_METADATA_KEYS} keys, not {len(self.metadata)}")
        for name, value in self.metadata.items():
            if not _METADATA_KEY.fullmatch(name):
                raise invalid("metadata", f"the key {name[:80]!r} must be 1 to 63 of the characters a-z 0-9 _")
            if len(value) > _METADATA_CHARS:
                raise invalid(f"metadata.{name}", f"must be at most {_METADATA_CHARS} characters, not {len(value)}")
        if len(self.acl) > _ACL_LABELS or any(not 1 <= len(label) <= _ACL_CHARS for label in self.acl):
            raise invalid("acl", f"must be at most {_ACL_LABELS} labels of 1 to {_ACL_CHARS} characters")


@dataclass(frozen=True, slots=True, kw_only=True)
class Parsed:
    """A body, read and cut."""

    text: str
    title: str
    parser: str
    content_type: str
    chunks: tuple[Chunk, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """Where a document's text came from and what made it."""

    source_uri: str = ""
    content_sha256: str = ""
    fingerprint: str = ""
    content_type: str = ""
    parser: str = ""
    chunker: str = CHUNKER
    changed_at: datetime | None = None


class State(Enum):
    """Where a document stands; the names are the contract's."""

    ACCEPTED = "ACCEPTED"
    QUERYABLE = "QUERYABLE"
    UNCHANGED = "UNCHANGED"
    DELETED = "DELETED"
    REJECTED = "REJECTED"
    SUPERSEDED = "SUPERSEDED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    """Why a document was refused."""

    reason: Reason
    detail: str
    field: str = ""

    @classmethod
    def of(cls, refused: Refused) -> Rejection:
        """The refusal as it is published."""
        return cls(reason=refused.why, detail=str(refused)[:1_000], field=refused.field)


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """The answer to one change, or to an event that a stage behind us published."""

    key: DocumentKey
    version: int
    state: State
    caused_by: str
    at: datetime
    rejection: Rejection | None = None
    index_generation: int = 0
    chunk_count: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """What is remembered of a document.

    `seen` is the highest version ever taken: what is older is superseded. `version` is the newest one sent on, with the
    facts about it, and `state` is where that one stands; `live` is the newest one known to be visible to readers.
    """

    key: DocumentKey
    seen: int = 0
    version: int = 0
    live: int = 0
    state: State | None = None
    deleted: bool = False
    event_id: str = ""
    request_hash: str = ""
    title: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    acl: tuple[str, ...] = ()
    provenance: Provenance = field(default_factory=Provenance)
    chunk_count: int = 0
    sent_at: datetime | None = None
    last: Status | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """A version that was sent on, and what became of it."""

    key: DocumentKey
    version: int
    event_id: str
    state: State
    deleted: bool
    chunk_count: int
    sent_at: datetime


def chunk_id(key: DocumentKey, version: int, ordinal: int) -> str:
    """The chunk's id: the same chunk of the same version has the same one, for ever."""
    return str(uuid5(_CHUNK_IDS, f"{key}\n{version}\n{ordinal}"))


def request_hash(change: Change, *, content_sha256: str, readers: str) -> str:
    """Identifies everything that decides what becomes of a change, before it is parsed."""
    return _digest(
        content_sha256,
        change.body is BodyKind.TEXT,
        change.title,
        change.content_type,
        change.filename,
        change.source_uri,
        sorted(change.metadata.items()),
        sorted(change.acl),
        readers,
        CHUNKER,
    )


def fingerprint(change: Change, parsed: Parsed) -> str:
    """Identifies everything downstream depends on: two versions with the same one are the same document."""
    return _digest(
        parsed.text,
        parsed.title,
        change.source_uri,
        sorted(change.metadata.items()),
        sorted(change.acl),
        parsed.content_type,
        parsed.parser,
        CHUNKER,
    )


def sha256(data: bytes) -> str:
    """Hex digest of a body."""
    return hashlib.sha256(data).hexdigest()


def _digest(*parts: object) -> str:
    encoded = json.dumps(parts, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(encoded.encode("utf-8", "surrogatepass")).hexdigest()


def parts_of(chunks: Iterable[Chunk], *, max_chunks: int, max_bytes: int) -> list[list[Chunk]]:
    """The chunks in order, in parts of bounded size; one empty part when there are none."""
    parts: list[list[Chunk]] = [[]]
    size = 0
    for one in chunks:
        # Sentences and ids come on top of the text.
        cost = len(one.text.encode("utf-8")) + 12 * len(one.sentences) + 200
        if parts[-1] and (len(parts[-1]) >= max_chunks or size + cost > max_bytes):
            parts.append([])
            size = 0
        parts[-1].append(one)
        size += cost
    return parts
