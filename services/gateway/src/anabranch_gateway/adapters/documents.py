"""Changes of documents, over the bus."""

from __future__ import annotations

from anabranch import topics
from anabranch.upstream.v1 import events_pb2 as upstream
from anabranch_bus import Bus, Event
from anabranch_gateway.domain.documents import Content, DeleteDocument, PutDocument, Text, Uri


class BusDocumentChanges:
    """Publishes to upstream.document.changed, as the DocumentChanges port."""

    def __init__(self, bus: Bus) -> None:
        """Takes the bus, which answers only for what the broker has acknowledged."""
        self._bus = bus

    async def put(self, tenant: str, change: PutDocument, *, event_id: str) -> str:
        """See the port."""
        message = upstream.DocumentChanged(
            tenant=tenant,
            corpus=change.corpus,
            document_id=change.document_id,
            version=change.version,
            title=change.title,
            content_type=change.content_type,
            filename=change.filename,
            source_uri=change.source_uri,
            metadata=change.metadata,
            acl=change.acl,
        )
        match change.body:
            case Text(text):
                message.text = text
            case Content(content):
                message.content = content
            case Uri(uri):
                message.uri = uri
        if change.changed_at is not None:
            message.changed_at.FromDatetime(change.changed_at)
        return await self._publish(message, event_id)

    async def delete(self, tenant: str, change: DeleteDocument, *, event_id: str) -> str:
        """See the port."""
        message = upstream.DocumentChanged(
            tenant=tenant,
            corpus=change.corpus,
            document_id=change.document_id,
            version=change.version,
            deleted=True,
        )
        return await self._publish(message, event_id)

    async def _publish(self, message: upstream.DocumentChanged, event_id: str) -> str:
        key = f"{message.tenant}/{message.corpus}/{message.document_id}"
        topic = topics.UPSTREAM_DOCUMENT_CHANGED
        event = (
            Event(topic=topic, message=message, key=key, event_id=event_id)
            if event_id
            else Event(topic=topic, message=message, key=key)
        )
        await self._bus.publish(event)
        return event.event_id
