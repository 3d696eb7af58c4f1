"""What people do with dead letters: look at them, and send them back once what ailed them is mended."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError, UnknownTopicOrPartitionError

from anabranch import topics
from anabranch_bus.dead_letters import REPLAYS, Cause, DeadLetter, exhume, mark, marked
from anabranch_bus.events import Encoded
from anabranch_bus.kafka.client import KafkaClient
from anabranch_bus.records import Raw
from anabranch_faults import Invalid, NotFound, Unreachable

__all__ = ["Letter", "Morgue", "Replayed"]

_PLACE: Final = "topic/partition@offset"


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """A dead letter and whether it was replayed already."""

    letter: DeadLetter
    replayed: bool

    @property
    def place(self) -> str:
        """Its name: `topic/partition@offset`."""
        return self.letter.place


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """What a replay did. `refused` pairs the place of a letter with why it was not sent."""

    sent: tuple[str, ...]
    refused: tuple[tuple[str, str], ...]


def dead_letter_topics() -> list[str]:
    """Return the names of all dead-letter topics of the project."""
    return [topic.dead_letters(group) for topic in topics.ALL for group in topic.consumers]


class Morgue:
    """Dead letters of all groups, through a client of the caller."""

    def __init__(self, client: KafkaClient) -> None:
        """Takes an entered client."""
        self._client = client

    async def ls(
        self,
        *,
        topic: str = "",
        group: str = "",
        cause: Cause | None = None,
        replayed: bool = False,
        limit: int = 100,
    ) -> list[Letter]:
        """Return dead letters, oldest first, at most the newest `limit`.

        `topic` and `group` are those where the record died; replayed ones only with `replayed`. Raises Unreachable.
        """
        wanted = [
            of.dead_letters(by)
            for of in topics.ALL
            for by in of.consumers
            if topic in ("", of.name) and group in ("", by)
        ]
        found = [letter for name in wanted for letter in await self._read(name)]
        kept = [one for one in found if (replayed or not one.replayed) and cause in (None, one.letter.cause)]
        return sorted(kept, key=lambda one: one.letter.died_at)[-limit:] if limit > 0 else []

    async def show(self, place: str) -> Letter:
        """Return the letter at `topic/partition@offset`. Raises Invalid, NotFound, Unreachable."""
        name, partition, offset = _parse(place)
        for letter in await self._read(name):
            if (letter.letter.letter_partition, letter.letter.letter_offset) == (partition, offset):
                return letter
        raise NotFound(f"there is no dead letter at {place}", field="place")

    async def replay(
        self,
        letters: Iterable[Letter],
        *,
        rate: float = 50.0,
        again: bool = False,
        progress: Callable[[int], None] = lambda _: None,
    ) -> Replayed:
        """Send letters back to the topics they came from, as the events they were, at most `rate` a second.

        A letter keeps its event id, so that whoever handled it before takes it for a repetition. Each is noted as
        replayed once the broker has it, and refused the next time unless `again`. Raises Unreachable.
        """
        sent: list[str] = []
        refused: list[tuple[str, str]] = []
        for one in letters:
            try:
                original = await self._original(one, again=again)
            except Invalid as fault:
                refused.append((one.place, str(fault)))
                continue
            await self._client.publish(original)
            await self._client.publish(mark(one.letter, at=datetime.now(UTC)))
            sent.append(one.place)
            progress(len(sent))
            await asyncio.sleep(1 / rate)
        return Replayed(sent=tuple(sent), refused=tuple(refused))

    async def _original(self, one: Letter, *, again: bool) -> Encoded:
        letter = one.letter
        if one.replayed and not again:
            raise Invalid("it was replayed already")
        if letter.no_body:
            raise Invalid("the record had no body: no handler will ever take it")
        if not letter.topic:
            raise Invalid("it does not say where it came from")
        value = (await self._at_origin(letter)).value if letter.body_omitted else letter.value
        dropped = {"ce_id", REPLAYS}
        kept = tuple((name, content) for name, content in letter.raw_headers if name not in dropped)
        added = (("ce_id", letter.event_id.encode()), (REPLAYS, str(letter.replays + 1).encode()))
        return Encoded(topic=letter.topic, key=letter.raw_key or b"", value=value or b"", headers=kept + added)

    async def _at_origin(self, letter: DeadLetter) -> Raw:
        tp = TopicPartition(letter.topic, letter.partition)
        for raw in await self._client.backlog(letter.topic, starts={tp: letter.offset}):
            if raw.offset == letter.offset:
                return raw
        raise NotFound(f"its body was not kept, and {letter.topic} no longer has it")

    async def _read(self, name: str) -> list[Letter]:
        try:
            raws = await self._client.backlog(name)
        except (UnknownTopicOrPartitionError, Unreachable) as error:
            if isinstance(error, UnknownTopicOrPartitionError) or isinstance(
                error.__cause__, UnknownTopicOrPartitionError
            ):
                return []
            raise
        except KafkaError as error:
            raise Unreachable(f"cannot read {name}: {error}") from error
        return _letters(raws)


def _letters(raws: Sequence[Raw]) -> list[Letter]:
    notes = {note for raw in raws if (note := marked(raw)) is not None}
    return [
        Letter(letter=exhume(raw), replayed=(raw.partition, raw.offset) in notes) for raw in raws if marked(raw) is None
    ]


def _parse(place: str) -> tuple[str, int, int]:
    name, slash, rest = place.rpartition("/")
    partition, at, offset = rest.partition("@")
    if not (slash and at and partition.isdigit() and offset.isdigit()):
        raise Invalid(f"{place!r} is not {_PLACE}", field="place")
    if name not in dead_letter_topics():
        raise NotFound(f"{name} is not a dead-letter topic", field="place")
    return name, int(partition), int(offset)
