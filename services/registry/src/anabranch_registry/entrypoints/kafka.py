"""The routing topic: the registry only publishes."""

from __future__ import annotations

from anabranch import topics
from anabranch_bus import Encoded, Event, derived_id
from anabranch_registry.domain import Routing
from anabranch_registry.entrypoints.messages import routing_message

__all__ = ["encoded"]


def encoded(routing: Routing) -> Encoded:
    """Return the event that tells a routing. Its id follows from scope and revision: told again, it is the same."""
    topic = topics.REGISTRY_ROUTING_CHANGED
    return Event(
        topic=topic,
        message=routing_message(routing),
        key=routing.scope,
        event_id=derived_id(f"{routing.scope}@{routing.revision}", topic.name),
        time=routing.change.at,
    ).encode()
