"""The ledger's behaviour, in memory and on both databases, and the registry on a real broker."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from anabranch import topics
from anabranch_bus import BusSettings, KafkaBus, MemoryBus
from anabranch_faults import Conflict, NotFound
from anabranch_registry.adapters.ledger import SqlLedger
from anabranch_registry.adapters.tables import ROUTING_CHANGES, VARIANTS
from anabranch_registry.application import (
    Changes,
    CreateVariant,
    GetLineage,
    GetRouting,
    GetVariant,
    Labels,
    Ledger,
    ListVariants,
    OpenRegistry,
    Rollback,
    SetRouting,
)
from anabranch_registry.bootstrap import build, database_of
from anabranch_registry.domain import Change, GenerationSettings, Prompt, RetrievalSettings, Routing, Variant
from anabranch_registry.domain.candidates import CandidateState
from anabranch_registry.domain.defaults import DEFAULT_VARIANT
from anabranch_registry.domain.experiments import Phase
from anabranch_registry.domain.stream.loop import Decision
from anabranch_registry.entrypoints.kafka import encoded
from anabranch_registry.settings import Settings
from anabranch_registry.testing import MemoryLedger, Story
from anabranch_runtime import Process
from anabranch_store import Database, OutboxRelay
from anabranch_testkit import poll_until

CHANGE = Change(author="ada", reason="because", at=datetime(2026, 11, 21, 10, 30, tzinfo=UTC))


def variant(top_k: int) -> Variant:
    prompt = Prompt(system="Grüße 🌊", template="{{ question }}")
    return Variant(
        description=f"top {top_k}",
        retrieval=RetrievalSettings(alpha=1.0, top_k=top_k, keep_duplicates=True),
        generation=GenerationSettings(temperature=0.7, stop=("a", "b"), seed=2**63 - 1, prompt=prompt),
    ).completed()


async def store(ledger: Ledger, one: Variant) -> Variant:
    return await CreateVariant(ledger, now=lambda: CHANGE.at)(one, author="ada", reason="because")


async def move(ledger: Ledger, scope: str, weights: dict[str, int], *, expected: int) -> Routing:
    set_routing = SetRouting(ledger, now=lambda: CHANGE.at)
    return await set_routing(scope, weights, expected_revision=expected, author="ada", reason="because")


async def present(ledger: Ledger, scope: str) -> Routing | None:
    async with ledger.reading() as books:
        return await books.routing(scope)


class LedgerContract:
    async def test_a_variant_comes_back_as_it_was_stored(self, ledger: Ledger) -> None:
        one = variant(3)
        assert await store(ledger, one) == one
        assert await GetVariant(ledger)(one.variant_id) == one
        with pytest.raises(NotFound):
            await GetVariant(ledger)("v-000000000000")

    async def test_a_variant_that_is_there_already_stays_as_it_is(self, ledger: Ledger) -> None:
        one = await store(ledger, variant(3))
        other = Variant(description="else", retrieval=one.retrieval, generation=one.generation)
        assert (await store(ledger, other)).description == "top 3"

    async def test_variants_are_paged_newest_first(self, ledger: Ledger) -> None:
        for top_k in range(1, 6):
            await store(ledger, variant(top_k))
        pages: list[list[int]] = []
        token = ""
        while not pages or token:
            page, token = await ListVariants(ledger)(page_size=2, page_token=token)
            pages.append([one.retrieval.top_k for one in page])
        assert pages == [[5, 4], [3, 2], [1]]

    async def test_a_routing_moves_by_compare_and_swap(self, ledger: Ledger) -> None:
        one, other = [await store(ledger, variant(top_k)) for top_k in (1, 2)]
        assert await present(ledger, "t") is None
        weights = {one.variant_id: 1, other.variant_id: 3}
        moved = await move(ledger, "t", weights, expected=0)
        assert await GetRouting(ledger)("t") == moved
        assert {share.variant.variant_id: share.weight for share in moved.shares} == weights
        with pytest.raises(Conflict, match="t is at revision 1, not at 0"):
            await move(ledger, "t", weights, expected=0)
        with pytest.raises(Conflict):
            await move(ledger, "u", weights, expected=1)
        assert (await move(ledger, "t", {one.variant_id: 1}, expected=1)).revision == 2

    async def test_a_routing_to_an_unknown_variant_is_not_made(self, ledger: Ledger) -> None:
        with pytest.raises(NotFound, match="v-000000000000"):
            await move(ledger, "t", {"v-000000000000": 1}, expected=0)
        assert await present(ledger, "t") is None

    async def test_of_many_who_move_at_once_one_wins_each_revision(self, ledger: Ledger) -> None:
        one = await store(ledger, variant(1))

        async def attempt() -> int:
            try:
                return (await move(ledger, "t", {one.variant_id: 1}, expected=0)).revision
            except Conflict:
                return 0

        assert sorted(await asyncio.gather(*(attempt() for _ in range(5)))) == [0, 0, 0, 0, 1]

    async def test_what_fails_half_way_leaves_nothing(self, ledger: Ledger) -> None:
        async def fail() -> None:
            async with ledger.writing() as books:
                assert await books.claim("e")
                await books.keep(variant(1), CHANGE)
                raise RuntimeError

        with pytest.raises(RuntimeError):
            await fail()
        async with ledger.writing() as books:
            assert await books.claim("e")
            assert not await books.claim("e")
            assert await books.variants([variant(1).variant_id]) == {}

    async def test_a_candidate_goes_all_the_way_and_everything_of_it_is_found_again(self, ledger: Ledger) -> None:
        await OpenRegistry(ledger)()
        story = Story(ledger)
        candidate_id = await story.train("run-1", "1")
        await story.gate(candidate_id)
        await story.decide(candidate_id, Decision.CANARY_PASSED)
        await story.decide(candidate_id, Decision.PROMOTE, arm="treatment")
        promoted = await story.candidates.get(candidate_id)
        experiment = await story.experiments.get(promoted.experiment_id)
        assert (promoted.state, experiment.phase) == (CandidateState.PROMOTED, Phase.HOLDOUT)
        assert (await story.experiments.list(scope="acme/docs"))[0] == [experiment]
        assert (await story.candidates.list())[0] == [promoted]
        labels = Labels(ledger)
        assert (await labels.get("acme/docs", "production")).variant_id == promoted.variant.variant_id
        assert (await labels.get("acme/docs", "last-good")).variant_id == DEFAULT_VARIANT.variant_id
        routing, rolled_back = await Rollback(ledger)("acme/docs", author="ada", reason="worse")
        assert (routing.shares[0].variant, rolled_back) == (DEFAULT_VARIANT, candidate_id)
        changes, _ = await Changes(ledger).list(subject=candidate_id)
        assert [change.what for change in changes] == [
            "state PROMOTED -> ROLLED_BACK",
            "state EXPERIMENT -> PROMOTED",
            "state CANARY -> EXPERIMENT",
            "state GATED -> CANARY",
            "state TRAINED -> GATED",
            "created",
        ]
        chain = await GetLineage(ledger)(promoted.variant.variant_id)
        assert {node.kind for node in chain.nodes} == {
            "variant",
            "model",
            "dataset",
            "candidate",
            "experiment",
            "gate",
        }


class TestMemoryLedger(LedgerContract):
    @pytest.fixture
    def ledger(self) -> Ledger:
        return MemoryLedger()


class TestSqlLedger(LedgerContract):
    @pytest.fixture
    def ledger(self, database: Database) -> Ledger:
        return SqlLedger(database, encode=encoded)

    async def test_what_is_decided_is_told_in_order_and_told_again_under_the_same_id(self, database: Database) -> None:
        bus, ledger = MemoryBus(), SqlLedger(database, encode=encoded)
        relay = OutboxRelay(database, bus.publish_encoded)
        one = await store(ledger, variant(1))
        for revision in range(3):
            await move(ledger, "t", {one.variant_id: revision + 1}, expected=revision)
        with pytest.raises(Conflict):
            await move(ledger, "t", {one.variant_id: 1}, expected=0)
        await OpenRegistry(ledger).retell()
        await relay.drain()
        told = bus.published(topics.REGISTRY_ROUTING_CHANGED)
        assert [event.message.revision for event in told] == [1, 2, 3, 3]
        assert told[2].event_id == told[3].event_id
        assert len({event.event_id for event in told}) == 3

    async def test_every_change_is_kept_with_author_and_reason(self, database: Database) -> None:
        ledger = SqlLedger(database, encode=encoded)
        one = await store(ledger, variant(1))
        for revision in range(2):
            await move(ledger, "t", {one.variant_id: 1}, expected=revision)
        async with database.reading() as tx:
            rows = (await tx.execute(select(ROUTING_CHANGES).order_by(ROUTING_CHANGES.c.revision))).all()
        assert [(row.revision, row.author, row.reason, row.changed_at) for row in rows] == [
            (1, "ada", "because", CHANGE.at),
            (2, "ada", "because", CHANGE.at),
        ]

    async def test_replicas_that_start_together_make_one_default(self, database_url: str) -> None:
        async def start() -> None:
            database = database_of(database_url)
            await database.migrate()
            await OpenRegistry(SqlLedger(database, encode=encoded))()
            await database.close()

        await asyncio.gather(*(start() for _ in range(4)))
        database = database_of(database_url)
        routing = await present(SqlLedger(database, encode=encoded), "*")
        assert routing is not None
        assert (routing.revision, routing.shares[0].variant) == (1, DEFAULT_VARIANT)
        async with database.reading() as tx:
            assert await tx.scalar(select(func.count()).select_from(VARIANTS)) == 1
            assert await tx.scalar(select(func.count()).select_from(ROUTING_CHANGES)) == 1
        await database.close()


@pytest.mark.connected
async def test_a_reader_that_comes_late_finds_the_present_routing_on_the_broker(kafka: str, tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:

        async def run(folder: Path) -> None:
            settings = Settings(data=folder, kafka=kafka)
            process = Process(settings, name="registry")
            await process.start(build(settings, bus=KafkaBus(BusSettings(bootstrap=kafka))))
            stack.push_async_callback(process.stop)

        await run(tmp_path)
        seen: dict[str, Any] = {}
        reader = KafkaBus(BusSettings(bootstrap=kafka))

        async def on_routing(scope: str, message: Any) -> None:
            seen[scope] = message

        register: Callable[[Callable[[str, Any], Awaitable[None]]], object] = reader.table(
            topics.REGISTRY_ROUTING_CHANGED
        )
        register(on_routing)
        await reader.start()
        stack.push_async_callback(reader.stop)

        def served() -> bool:  # others told of `*` on this broker before; the last word counts
            return "*" in seen and seen["*"].shares[0].variant.variant_id == DEFAULT_VARIANT.variant_id

        await poll_until(served, deadline=20)
