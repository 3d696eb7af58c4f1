"""The client for tools, and dead letters in people's hands."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from anabranch import topics
from anabranch.ingestion.v1.events_pb2 import DocumentStatusChanged
from anabranch.upstream.v1.events_pb2 import DocumentChanged
from anabranch_bus import Batch, BusSettings, Cause, Event, KafkaBus, KafkaClient, Letter, Morgue, Outcome
from anabranch_faults import Invalid, NotFound, Unreachable
from anabranch_testkit import poll_until

pytestmark = pytest.mark.connected

SOURCE = topics.UPSTREAM_DOCUMENT_CHANGED
GROUP = "ingestion"


class Ailing:
    """A consumer that refuses everything until it is mended."""

    def __init__(self, bootstrap: str) -> None:
        self.mended = False
        self.handled: list[str] = []
        self.events: list[tuple[str, str]] = []
        self.bus = KafkaBus(BusSettings(bootstrap=bootstrap))
        self.bus.subscriber(SOURCE, group=GROUP)(self._handle)

    async def _handle(self, batch: Batch[DocumentChanged]) -> Outcome[DocumentChanged]:
        outcome = batch.outcome()
        for record in batch:
            if self.mended:
                self.handled.append(record.message.text)
                self.events.append((record.event_id, record.headers.get("anabranch_replays", "0")))
            else:
                outcome.invalid(record, Invalid("not yet", reason="AILING"))
        return outcome


@pytest.fixture
async def ailing(kafka: str) -> AsyncIterator[Ailing]:
    found = Ailing(kafka)
    await found.bus.start()
    yield found
    await found.bus.stop()


async def test_dead_letters_are_listed_shown_and_sent_back_once_as_the_events_they_were(
    kafka: str, ailing: Ailing
) -> None:
    events = [
        Event(topic=SOURCE, message=DocumentChanged(tenant="t", text=text), key=f"t/c/{text}") for text in ("x", "y")
    ]
    ids = {event.event_id for event in events}
    async with KafkaClient(kafka) as client:
        morgue = Morgue(client)
        assert await client.produce(events) == 2

        async def mine(*, replayed: bool = False) -> list[Letter]:
            found = await morgue.ls(topic=SOURCE.name, group=GROUP, cause=Cause.INVALID, replayed=replayed)
            return [one for one in found if one.letter.event_id in ids]

        async def both_dead() -> bool:
            return len(await mine()) == 2

        await poll_until(both_dead)
        letters = await mine()
        shown = await morgue.show(letters[0].place)
        assert shown == letters[0]
        assert (shown.letter.reason, shown.letter.reason_code) == ("not yet", "AILING")
        assert {DocumentChanged.FromString(one.letter.value).text for one in letters} == {"x", "y"}

        ailing.mended = True
        first = await morgue.replay(letters[:1], rate=1000)
        assert (first.sent, first.refused) == ((letters[0].place,), ())
        await poll_until(lambda: ailing.handled)
        assert await mine() == letters[1:]
        assert len(await mine(replayed=True)) == 2

        second = await morgue.replay(await mine(replayed=True), rate=1000)
        assert second.sent == (letters[1].place,)
        assert second.refused == ((letters[0].place, "it was replayed already"),)
        await poll_until(lambda: len(ailing.handled) == 2)
    assert set(ailing.events) == {(event.event_id, "1") for event in events}


async def test_a_place_that_is_none_or_empty_is_said_so(kafka: str) -> None:
    async with KafkaClient(kafka) as client:
        morgue = Morgue(client)
        with pytest.raises(Invalid, match="topic/partition@offset"):
            await morgue.show("somewhere")
        with pytest.raises(NotFound, match="not a dead-letter topic"):
            await morgue.show("upstream.document.changed.v1/0@1")
        with pytest.raises(NotFound, match="no dead letter at"):
            await morgue.show(f"{SOURCE.dead_letters(GROUP)}/0@999999")


async def test_what_is_produced_after_following_began_is_seen_and_nothing_before(kafka: str) -> None:
    topic = topics.INGESTION_DOCUMENT_STATUS

    def status(text: str) -> Event[DocumentStatusChanged]:
        return Event(topic=topic, message=DocumentStatusChanged(caused_by=text), key=text)

    told: list[int] = []
    async with KafkaClient(kafka) as client:
        await client.produce([status("before")])
        async with client.follow(topic) as records:
            await client.produce((status(str(n)) for n in range(1200)), progress=told.append)
            seen: set[str] = set()
            async with asyncio.timeout(10):
                async for record in records:
                    seen.add(record.message.caused_by)
                    if len(seen) == 1200:
                        break
    assert seen == {str(n) for n in range(1200)}
    assert told == [500, 1000, 1200]


async def test_a_tool_says_when_there_is_no_broker(free_port: object) -> None:
    port = free_port()  # type: ignore[operator]  # a function
    with pytest.raises(Unreachable, match=str(port)):
        async with KafkaClient(f"127.0.0.1:{port}"):
            pass
