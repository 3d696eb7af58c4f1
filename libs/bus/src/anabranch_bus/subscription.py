"""What a bus knows about a declared handler."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from anabranch.topics import Topic
from anabranch_bus.codec import read
from anabranch_bus.dead_letters import DeadLetter, exhume, marked
from anabranch_bus.events import Event
from anabranch_bus.records import Batch, Outcome, Raw, Record, Unreadable

__all__ = ["Letters", "Subscription", "Table", "letters_subscription"]

Handler = Callable[[Batch[Any]], Awaitable[Outcome[Any]]]
Letters = Callable[[Sequence[DeadLetter]], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription:
    """A handler of a topic in a group. `read` is the topic its records are read as; None reads dead letters."""

    topic: str
    group: str
    read: Topic[Any] | None
    handler: Handler
    max_records: int
    max_wait: timedelta
    unreadable: Callable[[Unreadable], Awaitable[Sequence[Event]]] | None
    stuck_after: timedelta
    dead_letters: str | None

    def __post_init__(self) -> None:
        """Refuses numbers that would stall."""
        if self.max_records < 1:
            raise ValueError(f"max_records must be at least 1, not {self.max_records}")

    def decode(self, raw: Raw) -> Record[Any] | Unreadable:
        """Return the record in the form that the handler takes."""
        if self.read is not None:
            return read(self.read, raw)
        letter = None if marked(raw) else exhume(raw)
        return Record(
            topic=raw.topic,
            partition=raw.partition,
            offset=raw.offset,
            key=letter.key if letter else "",
            message=letter,
            event_id=letter.event_id if letter else "",
            time=letter.died_at if letter else raw.timestamp,
            headers=letter.headers if letter else {},
        )

    @property
    def counts_unreadable(self) -> bool:
        """Whether unreadable records count against the limits on dead letters.

        What outsiders write is not: bytes that are no message are their doing, whatever is deployed here, and must
        not let one of them stop everyone's documents.
        """
        return self.read is None or not self.read.owner.startswith("(")


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A reader of a topic for this replica alone: of a compacted one from its beginning, or of any one from now on.

    `gap` is of the latter: called when records may have been missed.
    """

    topic: Topic[Any]
    handler: Callable[[str, Any], Awaitable[None]]
    gap: Callable[[], Awaitable[None]] | None = None


def letters_subscription(topic: Topic[Any], *, of: str, group: str, handler: Letters) -> Subscription:
    """Return the subscription of a reader of dead letters."""

    async def handle(batch: Batch[Any]) -> Outcome[Any]:
        letters = [record.message for record in batch if record.message is not None]
        if letters:
            await handler(letters)
        return batch.outcome()

    return Subscription(
        topic=topic.dead_letters(of),
        group=group,
        read=None,
        handler=handle,
        max_records=64,
        max_wait=timedelta(0),
        unreadable=None,
        stuck_after=timedelta(seconds=60),
        dead_letters=None,
    )
