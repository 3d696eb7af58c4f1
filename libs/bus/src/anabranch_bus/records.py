"""What is consumed: records, batches of them, and the fate of each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar, overload

from google.protobuf.message import Message
from typing_extensions import TypeVar as TypeVarWithDefault

from anabranch.topics import Topic
from anabranch_bus import tracing
from anabranch_bus.events import Event, derived_id
from anabranch_faults import Invalid, Transient

__all__ = ["Batch", "Outcome", "Raw", "Record", "Unreadable"]

# A bare `Record` or `Outcome` in an annotation is one of any message.
M = TypeVarWithDefault("M", bound=Message, default=Any)
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Raw:
    """A record as the broker has it; `timestamp` is the broker's or producer's clock."""

    topic: str
    partition: int
    offset: int
    timestamp: datetime
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Record(Generic[M]):
    """One readable record. `headers` hold everything that came with it, `ce_*` and `traceparent` included."""

    topic: str
    partition: int
    offset: int
    key: str
    message: M
    event_id: str
    time: datetime
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreadable:
    """A record whose bytes are not the topic's message; `problem` is a sentence for whoever sent it."""

    topic: str
    partition: int
    offset: int
    key: str
    value: bytes
    event_id: str
    time: datetime
    headers: Mapping[str, str]
    problem: str

    def answer(self, topic: Topic[Any], message: Message, *, key: str, discriminator: str = "") -> Event:
        """Return an event that says so: the same event for every redelivery of this record."""
        return Event(
            topic=topic,
            message=message,
            key=key,
            event_id=derived_id(self.event_id, topic.name, discriminator),
            caused_by=self.event_id,
            headers=tracing.onward(self.headers),
        )


class Batch(Sequence[Record[M]]):
    """Records of one partition, in order, never empty."""

    __slots__ = ("_records",)

    def __init__(self, records: Sequence[Record[M]]) -> None:
        """Takes the records in the order of their offsets."""
        self._records = tuple(records)

    @overload
    def __getitem__(self, index: int) -> Record[M]: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Record[M]]: ...
    def __getitem__(self, index: int | slice) -> Record[M] | Sequence[Record[M]]:
        """One record, or several."""
        return self._records[index]

    def __len__(self) -> int:
        """How many records."""
        return len(self._records)

    def __iter__(self) -> Iterator[Record[M]]:
        """The records in order."""
        return iter(self._records)

    def outcome(self) -> Outcome[M]:
        """Return an outcome in which every record is done; the handler then names the exceptions."""
        return Outcome(self)


class Outcome(Generic[M]):
    """The fate of each record of a batch: a record not named is done.

    What is published here is acknowledged by the broker before any record is committed, and only if its cause is
    done: publications of a record that is invalid or retried are thrown away.
    """

    __slots__ = ("_by_offset", "_faults", "_ids", "_published", "batch")

    def __init__(self, batch: Batch[M]) -> None:
        """Takes the batch it is about."""
        self.batch = batch
        self._by_offset = {record.offset: record for record in batch}
        self._faults: dict[int, Invalid | Transient] = {}
        self._published: list[tuple[int, Event]] = []
        self._ids: set[str] = set()

    def parse(self, fn: Callable[[M], T]) -> list[tuple[Record[M], T]]:
        """Apply `fn` to every message not yet named; where it raises Invalid the record is invalid, the rest go on."""
        parsed: list[tuple[Record[M], T]] = []
        for record in self.batch:
            if record.offset in self._faults:
                continue
            try:
                parsed.append((record, fn(record.message)))
            except Invalid as fault:
                self.invalid(record, fault)
        return parsed

    def invalid(self, record: Record[M], fault: Invalid) -> None:
        """The record can never be handled: it goes to the dead letters."""
        self._faults[self._own(record)] = fault

    def retry(self, record: Record[M], fault: Transient) -> None:
        """The record is handled again after a back-off, and later records of its key after it."""
        self._faults[self._own(record)] = fault

    def publish(
        self, topic: Topic[Any], message: Message, *, key: str, caused_by: Record[Any], discriminator: str = ""
    ) -> None:
        """Publish an event that `caused_by` (a record of this batch) makes.

        Its id follows from the cause's id, the topic and the discriminator, so a redelivery publishes the same event.
        Raises ValueError when one record publishes twice on a topic under one discriminator: consumers would take the
        second for a repetition of the first.
        """
        offset = self._own(caused_by)
        event_id = derived_id(caused_by.event_id, topic.name, discriminator)
        if event_id in self._ids:
            raise ValueError(f"two events on {topic.name} for one record need different discriminators")
        self._ids.add(event_id)
        event = Event(
            topic=topic,
            message=message,
            key=key,
            event_id=event_id,
            caused_by=caused_by.event_id,
            headers=tracing.onward(caused_by.headers),
        )
        self._published.append((offset, event))

    def fault_of(self, offset: int) -> Invalid | Transient | None:
        """Return why the record at `offset` is not done, None when it is."""
        return self._faults.get(offset)

    def publications(self) -> Sequence[tuple[int, Event]]:
        """Return (offset of the cause, event), in the order of the calls."""
        return self._published

    def _own(self, record: Record[Any]) -> int:
        if self._by_offset.get(record.offset) is not record:
            raise ValueError(f"record {record.topic}/{record.partition}@{record.offset} is not of this batch")
        return record.offset
