"""Changes of documents, as a caller hands them in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, TypeAlias
from uuid import UUID, uuid5

from anabranch_faults import Invalid, TooLarge
from anabranch_gateway.domain import names

BODY_BYTES: Final = 20 * 1024 * 1024
TEXT_CHARACTERS: Final = 2_048
IDEMPOTENCY: Final = UUID("5c0a9f43-8d0c-5e5b-9d0e-6f6f4a0b7c11")


@dataclass(frozen=True, slots=True)
class Text:
    """Text or markup."""

    text: str


@dataclass(frozen=True, slots=True)
class Content:
    """A file's bytes."""

    content: bytes


@dataclass(frozen=True, slots=True)
class Uri:
    """Where ingestion reads the body, if its allow-list lets it."""

    uri: str


Body: TypeAlias = Text | Content | Uri


@dataclass(frozen=True, slots=True, kw_only=True)
class PutDocument:
    """A document in a new form. Whatever breaks the contract raises Invalid with the field's name."""

    corpus: str
    document_id: str
    body: Body | None
    version: int = 0
    title: str = ""
    content_type: str = ""
    filename: str = ""
    source_uri: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    acl: Sequence[str] = ()
    changed_at: datetime | None = None
    idempotency_key: str = ""

    def __post_init__(self) -> None:
        """Checks every field; what is inside the body is ingestion's to judge."""
        names.corpus(self.corpus)
        names.document_id(self.document_id)
        _check_body(self.body)
        for name in ("title", "content_type", "filename", "source_uri"):
            if (length := len(getattr(self, name))) > TEXT_CHARACTERS:
                raise TooLarge(f"has {length} characters; at most {TEXT_CHARACTERS} are taken", field=name)
        names.metadata(self.metadata, field="metadata")
        if "*" in names.labels(self.acl, field="acl"):
            raise Invalid("`*` is no label; leave acl empty for every reader of the tenant", field="acl")
        names.handle(self.idempotency_key, field="idempotency_key")


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteDocument:
    """A document that is no more."""

    corpus: str
    document_id: str
    version: int = 0
    idempotency_key: str = ""

    def __post_init__(self) -> None:
        """Checks every field."""
        names.corpus(self.corpus)
        names.document_id(self.document_id)
        names.handle(self.idempotency_key, field="idempotency_key")


def event_id_of(change: PutDocument | DeleteDocument, *, tenant: str) -> str:
    """The event a repeated call names again; empty when the caller gave no idempotency key.

    The document and the kind of change are part of it: one key used for two documents by mistake must not make the
    second one vanish as a duplicate of the first.
    """
    if not change.idempotency_key:
        return ""
    parts = (tenant, change.corpus, change.document_id, type(change).__name__, change.idempotency_key)
    return str(uuid5(IDEMPOTENCY, "\n".join(parts)))


def _check_body(body: Body | None) -> None:
    match body:
        case None:
            raise Invalid("exactly one of text, content and uri must be set", field="body", reason="MISSING")
        case Text(text):
            # Characters first: a text within the limit in characters may still pass it as UTF-8, never the reverse.
            if len(text) > BODY_BYTES or len(text.encode()) > BODY_BYTES:
                raise TooLarge(
                    f"is over {BODY_BYTES} bytes as UTF-8; put it where ingestion can read it and give its uri",
                    field="text",
                )
        case Content(content):
            if len(content) > BODY_BYTES:
                raise TooLarge(
                    f"has {len(content)} bytes; at most {BODY_BYTES} are taken inline: put it where "
                    "ingestion can read it and give its uri",
                    field="content",
                )
        case Uri(uri):
            if not uri or len(uri) > TEXT_CHARACTERS:
                raise Invalid(f"must be 1 to {TEXT_CHARACTERS} characters", field="uri", reason="INVALID_NAME")
