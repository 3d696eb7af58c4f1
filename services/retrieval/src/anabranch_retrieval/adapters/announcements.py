"""Announcements as events of retrieval.document.indexed."""

from __future__ import annotations

from google.protobuf.timestamp_pb2 import Timestamp

from anabranch import topics
from anabranch.ingestion.v1.events_pb2 import DocumentRef
from anabranch.retrieval.v1.events_pb2 import DocumentIndexed
from anabranch_bus import Encoded, Event, derived_id
from anabranch_retrieval.domain import Announcement


def encoded(announcement: Announcement) -> Encoded:
    """The event, with an id that every redelivery of its cause gives again."""
    document = announcement.document
    at = Timestamp()
    at.FromDatetime(announcement.at)
    message = DocumentIndexed(
        document=DocumentRef(
            tenant=document.corpus.tenant,
            corpus=document.corpus.corpus,
            document_id=document.document_id,
            version=announcement.version,
        ),
        caused_by=announcement.caused_by,
        deleted=announcement.deleted,
        index_generation=announcement.generation,
        embedding_version=announcement.embedding_version,
        chunk_count=announcement.chunk_count,
        at=at,
    )
    topic = topics.RETRIEVAL_DOCUMENT_INDEXED
    event = Event(
        topic=topic,
        message=message,
        key=str(document),
        event_id=derived_id(announcement.cause, topic.name),
        caused_by=announcement.cause,
    )
    return event.encode()
