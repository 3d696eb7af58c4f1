"""What is published: events, and their form on the wire.

The value is bare protobuf; everything about it travels in headers, named as in CloudEvents' Kafka binding
(binary mode): `ce_id ce_type ce_source ce_specversion ce_time ce_causedby`, `content-type` and `traceparent`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Generic

import uuid_utils
from google.protobuf.message import Message
from typing_extensions import TypeVar

from anabranch.topics import Topic
from anabranch_observability import traceparent

__all__ = ["Encoded", "Event", "derived_id", "new_id", "record_id"]

CONTENT_TYPE: Final = "content-type"
PROTOBUF: Final = "application/protobuf"
JSON: Final = "application/json"
TRACE: Final = "traceparent"

# A bare `Event` in an annotation is one of any message.
M = TypeVar("M", bound=Message, default=Any)

_NAMESPACE: Final = uuid_utils.UUID("6f0d6f5c-8f0e-5d38-9d0c-4a5a0d5d1b11")
_SAME: Final = ((CONTENT_TYPE, PROTOBUF.encode()), ("ce_specversion", b"1.0"))


def derived_id(cause: str, topic: str, discriminator: str = "") -> str:
    """Return the id of the event that `cause` makes on `topic`: the same for every redelivery of the cause."""
    return str(uuid_utils.uuid5(_NAMESPACE, f"{cause}\n{topic}\n{discriminator}"))


def record_id(topic: str, partition: int, offset: int) -> str:
    """Return the id of a record whose producer gave none: the place it has in the log, so redelivery keeps it."""
    return str(uuid_utils.uuid5(_NAMESPACE, f"{topic}\n{partition}\n{offset}"))


def new_id() -> str:
    """Return a new id (a UUID of version 7), which tells when it was made and sorts by it."""
    return str(uuid_utils.uuid7())


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """An event as bytes: what goes to the broker, or waits in an outbox."""

    topic: str
    key: bytes
    value: bytes
    headers: tuple[tuple[str, bytes], ...]

    @property
    def event_id(self) -> str:
        """The `ce_id` header, empty when there is none."""
        return next((value.decode() for name, value in self.headers if name == "ce_id"), "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Event(Generic[M]):
    """One message on its way to a topic. `event_id` is fixed at birth; `caused_by` is the id of the event it answers.

    `headers` are added to, and win over, those that the bus writes.
    """

    topic: Topic[M]
    message: M
    key: str
    event_id: str = field(default_factory=new_id)
    caused_by: str = ""
    time: datetime = field(default_factory=_now)
    headers: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuses a message that is not of the topic: it would be unreadable to every consumer."""
        if not isinstance(self.message, self.topic.message):
            raise TypeError(
                f"{self.topic.name} carries {self.topic.message.DESCRIPTOR.full_name}, "
                f"not {type(self.message).__name__}"
            )

    def encode(self) -> Encoded:
        """Return the bytes, with the trace context of the caller unless `headers` carry one."""
        given = self.headers
        headers = [
            *_SAME,
            ("ce_id", self.event_id.encode()),
            ("ce_type", self.message.DESCRIPTOR.full_name.encode()),
            ("ce_source", f"/anabranch/{self.topic.owner.strip('()')}".encode()),
            ("ce_time", self.time.isoformat().replace("+00:00", "Z").encode()),
        ]
        if self.caused_by:
            headers.append(("ce_causedby", self.caused_by.encode()))
        if TRACE not in given and (context := traceparent()) is not None:
            headers.append((TRACE, context.encode()))
        if given:
            headers = [header for header in headers if header[0] not in given]
            headers += [(name, value.encode()) for name, value in given.items()]
        return Encoded(
            topic=self.topic.name,
            key=self.key.encode(),
            value=self.message.SerializeToString(),
            headers=tuple(headers),
        )
