"""The bus as services see it: declare handlers, publish events, start, stop."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Any, TypeVar

from google.protobuf.message import Message

from anabranch.topics import Topic
from anabranch_bus.events import Encoded, Event
from anabranch_bus.records import Batch, Outcome, Unreadable
from anabranch_bus.subscription import Letters, Subscription, Table, letters_subscription

__all__ = ["Bus"]

M = TypeVar("M", bound=Message)


class Bus(ABC):
    """Handlers are declared before `start`; nothing is read before it.

    A handler may raise, too: Invalid isolates the culprit and sends it to the dead letters; Overloaded and
    Unreachable pause the partition, at no charge; another Transient backs off, then gives up; anything else is a
    bug: the culprit is isolated, tried again twice, then dead. A handler that is cancelled commits nothing.
    """

    def __init__(self) -> None:
        """Starts with nothing declared."""
        self._subscriptions: list[Subscription] = []
        self._tables: list[Table] = []
        self._gathering: dict[str, timedelta] = {}

    def subscriber(
        self,
        topic: Topic[M],
        *,
        group: str,
        max_records: int = 64,
        max_wait: timedelta = timedelta(milliseconds=20),
        unreadable: Callable[[Unreadable], Awaitable[Sequence[Event]]] | None = None,
        stuck_after: timedelta = timedelta(seconds=60),
    ) -> Callable[[Callable[[Batch[M]], Awaitable[Outcome[M]]]], Callable[[Batch[M]], Awaitable[Outcome[M]]]]:
        """Declare the handler of a topic for a consumer group.

        It gets up to `max_records` records of one partition at a time, one batch a partition at once, in order;
        several partitions run side by side. `max_wait` is how long a busy partition's record may wait for company;
        a record that finds the partition idle never waits. `unreadable` is called for a record whose bytes are not
        the message: what it returns is published, then the record goes to the dead letters. A batch that makes no
        progress for `stuck_after` is cancelled, its stacks are dumped, and the consumer starts again.
        """

        def declare(
            handler: Callable[[Batch[M]], Awaitable[Outcome[M]]],
        ) -> Callable[[Batch[M]], Awaitable[Outcome[M]]]:
            self._declare(
                Subscription(
                    topic=topic.name,
                    group=group,
                    read=topic,
                    handler=handler,
                    max_records=max_records,
                    max_wait=max_wait,
                    unreadable=unreadable,
                    stuck_after=stuck_after,
                    dead_letters=topic.dead_letters(group),
                )
            )
            return handler

        return declare

    def gather(self, group: str, *, up_to: timedelta) -> None:
        """Let records of a group's topics wait for company, up to this long, before they are fetched.

        For handlers that nobody waits for: records that come singly would otherwise cost a fetch, a transaction and a
        commit each. It holds for all topics of the group; a backlog is read at full speed all the same.
        """
        self._gathering[group] = up_to

    def dead_letters(self, topic: Topic[Any], *, of: str, group: str) -> Callable[[Letters], Letters]:
        """Declare a reader of the dead letters that the group `of` left on `topic`.

        What it raises is treated as in `subscriber`, but there are no dead letters of dead letters: one that cannot
        be handled is logged and passed over; it stays in its topic.
        """

        def declare(handler: Letters) -> Letters:
            self._declare(letters_subscription(topic, of=of, group=group, handler=handler))
            return handler

        return declare

    def table(
        self, topic: Topic[M]
    ) -> Callable[[Callable[[str, M | None], Awaitable[None]]], Callable[[str, M | None], Awaitable[None]]]:
        """Declare a reader of a compacted topic: (key, value) for every key, None when it was deleted.

        Every replica reads the topic from its beginning, at every start; the bus is ready only when that is done.
        The reader must bear repetitions. What it raises is logged, and the entry passed over, except Transient:
        that is tried again.
        """
        if not topic.compacted:
            raise ValueError(f"{topic.name} is not compacted: it is no table")

        def declare(
            handler: Callable[[str, M | None], Awaitable[None]],
        ) -> Callable[[str, M | None], Awaitable[None]]:
            self._tables.append(Table(topic=topic, handler=handler))
            return handler

        return declare

    def news(
        self, topic: Topic[M], *, gap: Callable[[], Awaitable[None]]
    ) -> Callable[[Callable[[str, M | None], Awaitable[None]]], Callable[[str, M | None], Awaitable[None]]]:
        """Declare a reader of (key, value) for every record that comes from now on.

        Every replica hears every record, and nothing is kept for one that was away: for forgetting what was derived
        from something that changed. `gap` is called when records may have been missed, because the client had to be
        built anew; what rests on having heard them must then be forgotten. The bus is ready only once it listens. The
        reader must bear repetitions and old records; what it raises is treated as in `table`.
        """

        def declare(
            handler: Callable[[str, M | None], Awaitable[None]],
        ) -> Callable[[str, M | None], Awaitable[None]]:
            self._tables.append(Table(topic=topic, handler=handler, gap=gap))
            return handler

        return declare

    async def publish(self, *events: Event) -> None:
        """Publish; return when the broker has acknowledged all. Raises Unreachable, TooLarge."""
        await self.publish_encoded([event.encode() for event in events])

    @abstractmethod
    async def publish_encoded(self, encoded: Sequence[Encoded]) -> None:
        """Publish events encoded before, in order; return when all are acknowledged. Raises Unreachable, TooLarge."""

    @abstractmethod
    async def start(self) -> None:
        """Connect and begin to read. Raises Unreachable when the broker cannot be reached for long."""

    @abstractmethod
    async def stop(self) -> None:
        """Stop reading, finish what is being handled, commit it, leave; what does not finish is not committed."""

    @property
    @abstractmethod
    def ready(self) -> str | None:
        """None when every handler can work and every table is read; otherwise why not, in a sentence."""

    def _declare(self, subscription: Subscription) -> None:
        for other in self._subscriptions:
            if (other.topic, other.group) == (subscription.topic, subscription.group):
                raise ValueError(f"{subscription.topic} has a handler for the group {subscription.group} already")
        self._subscriptions.append(subscription)
