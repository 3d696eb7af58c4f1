from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import pytest

from anabranch import topics
from anabranch.registry.v1 import registry_service_pb2 as registry
from anabranch.registry.v1 import registry_service_pb2_grpc as registry_stubs
from anabranch.registry.v1.loop_pb2 import LoopChanged, LoopPolicy, TrainingPolicy
from anabranch.retrieval.v1 import retrieval_service_pb2 as retrieval
from anabranch.retrieval.v1 import retrieval_service_pb2_grpc as retrieval_stubs
from anabranch.training.v1.events_pb2 import CandidateTrained
from anabranch_artifacts import ArtifactStore, make_keys
from anabranch_bus import Batch, BusSettings, Event, KafkaBus, Outcome
from anabranch_faults import Invalid
from anabranch_rpc import connect
from anabranch_runtime import Process
from anabranch_store import Database
from anabranch_testkit import poll_until
from anabranch_training.adapters.book import SqlBook
from anabranch_training.adapters.searcher import GrpcSearcher
from anabranch_training.adapters.shelf import SignedShelf
from anabranch_training.application.ports import Made, MadeDataset
from anabranch_training.bootstrap import build, database_of
from anabranch_training.domain import GOLD, RF1
from anabranch_training.domain.ratings import GoldQuestion
from anabranch_training.domain.runs import Recipe, Run, RunState, Trigger
from anabranch_training.entrypoints.kafka import encoded
from anabranch_training.entrypoints.ratings import taken_from
from anabranch_training.settings import Settings
from anabranch_training.testing import rating, ratings

NOW = datetime(2026, 11, 21, tzinfo=UTC)
RUN = Run(
    run_id="tr-1",
    tenant="acme",
    corpus="handbook",
    recipe=Recipe.RERANKER,
    trigger=Trigger.FEEDBACK,
    author="service:training",
    reason="",
    queued_at=NOW,
)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = database_of(database_url)
    await database.migrate()
    yield database
    await database.close()


@pytest.fixture
def book(database: Database) -> SqlBook:
    return SqlBook(database, encode=encoded)


async def test_feedback_is_counted_once_however_often_it_comes_and_the_highest_revision_holds(book: SqlBook) -> None:
    first, second = taken_from(rating(1)), taken_from(rating(1, revision=2, relevant=False))
    assert await book.take([("event-2", second), ("event-1", first)]) == 1
    assert await book.take([("event-2", second), ("event-1", first), ("event-3", first)]) == 0
    supply = await book.supply("acme", "handbook")
    assert (supply.usable, supply.fresh, supply.positive, supply.negative) == (1, 1, 0, 1)
    assert [one.corpus for one in await book.supplies()] == ["handbook"]


async def test_a_corpus_has_one_automatic_run_at_a_time_and_what_it_was_started_for_is_fresh_no_longer(
    book: SqlBook,
) -> None:
    await book.take([("event-1", taken_from(rating(1)))])
    assert await book.queue(RUN) is not None
    assert await book.queue(replace(RUN, run_id="tr-2")) is None
    assert (await book.supply("acme", "handbook")).fresh == 0
    assert await book.queue(replace(RUN, run_id="tr-3", trigger=Trigger.BY_HAND)) is not None
    assert await book.move(replace(RUN, state=RunState.CANCELLED, finished_at=NOW))
    assert not await book.move(replace(RUN, state=RunState.TRAINING))
    assert await book.queue(replace(RUN, run_id="tr-4")) is not None
    assert [run.run_id for run in await book.unfinished()] == ["tr-3", "tr-4"]
    material = await book.material(RUN, most=10)
    assert (len(material.judgments), material.answers) == (1, frozenset({"answer-1"}))


async def test_a_data_set_whose_files_were_changed_after_its_run_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "dataset"
    folder.mkdir()
    (folder / "train.jsonl").write_text("changed\n")
    made = MadeDataset(
        version="ds-000000000000",
        digest="0" * 64,
        tenant="acme",
        corpus="handbook",
        counts={},
        first=NOW,
        last=NOW,
        datasheet="",
        folder=folder,
    )
    shelf = SignedShelf(ArtifactStore(str(tmp_path / "store"), public_key=None), None)
    with pytest.raises(Invalid, match="changed"):
        await shelf.put(Made(dataset=made))


class Routed(registry_stubs.RegistryServiceServicer):
    async def GetRouting(self, request: Any, context: Any) -> registry.GetRoutingResponse:  # noqa: N802  the contract's name
        if request.scope != "*":
            await context.abort(grpc.StatusCode.NOT_FOUND, "none of its own")
        response = registry.GetRoutingResponse()
        share = response.routing.shares.add(weight=1)
        share.variant.retrieval.alpha, share.variant.retrieval.reranker_version = 0.4, "rr-000000000000"
        return response


class Searched(retrieval_stubs.RetrievalServiceServicer):
    async def Retrieve(self, request: Any, context: Any) -> retrieval.RetrieveResponse:  # noqa: N802  the contract's name
        assert (request.settings.alpha, request.settings.top_k, request.settings.reranker_version) == (0.4, 50, "")
        response = retrieval.RetrieveResponse(feature_set="rf-1", feature_names=RF1)
        for place in range(3):
            passage = response.passages.add(chunk_id=f"c{place}", features=[float(place)] * len(RF1))
            passage.document.document_id = f"d{place}"
        return response


async def test_gold_questions_are_searched_as_the_present_variant_does_and_their_documents_are_right(
    short_dir: Path,
) -> None:
    # gRPC's own server: these two implement one method each.
    server = grpc.aio.server()
    registry_stubs.add_RegistryServiceServicer_to_server(Routed(), server)  # type: ignore[abstract]  # one method is called
    retrieval_stubs.add_RetrievalServiceServicer_to_server(Searched(), server)  # type: ignore[abstract]  # as above
    target = f"unix:{short_dir / 's.sock'}"
    server.add_insecure_port(target)
    await server.start()
    channel = connect(target)
    questions = [GoldQuestion(question=f"who {number}?", relevant=frozenset({"d1"})) for number in range(3)]
    found = await GrpcSearcher(retrieval_channel=channel, registry_channel=channel).judged(RUN, questions)
    assert [one.label for one in found] == [0, 1, 0] * 3
    assert {(one.source, one.shown_rank, one.user) for one in found} == {(GOLD, 0, "")}
    assert len({one.question for one in found}) == 3
    await channel.close()
    await server.stop(None)


@pytest.mark.connected
async def test_ratings_on_the_broker_become_a_signed_candidate_on_the_broker(
    kafka: str, tmp_path: Path, unique: Callable[[str], str]
) -> None:
    tenant = unique("acme")
    scope = f"{tenant}/handbook"
    make_keys(tmp_path / "key", tmp_path / "key.pub")
    settings = Settings(
        data=tmp_path / "data",
        kafka=kafka,
        retrieval="127.0.0.1:1",
        registry="127.0.0.1:1",
        artifacts=str(tmp_path / "artifacts"),
        signing_key=tmp_path / "key",
    )
    process = Process(settings, name="training")
    outside = KafkaBus(BusSettings(bootstrap=kafka))
    told: list[CandidateTrained] = []

    @outside.subscriber(topics.TRAINING_CANDIDATE_TRAINED, group=unique("reader"))
    async def on_candidate(records: Batch[CandidateTrained]) -> Outcome[CandidateTrained]:
        told.extend(one.message for one in records if one.key == scope)
        return records.outcome()

    async with AsyncExitStack() as stack:
        await process.start(build(settings, bus=KafkaBus(BusSettings(bootstrap=kafka))))
        stack.push_async_callback(process.stop)
        await outside.start()
        stack.push_async_callback(outside.stop)
        policy = LoopPolicy(training=TrainingPolicy(after_feedback=300))
        changed = LoopChanged(scope=scope, revision=1, policy=policy)
        await outside.publish(Event(topic=topics.REGISTRY_LOOP_CHANGED, message=changed, key=scope))
        given = [
            Event(topic=topics.FEEDBACK_RATING_GIVEN, message=one, key=f"{tenant}/{one.answer_id}")
            for one in ratings(300, tenant=tenant)
        ]
        await outside.publish(*given, *given[:50])  # some come twice
        await poll_until(lambda: told, deadline=90)
    (candidate,) = told
    assert (candidate.scope, candidate.dataset.counts["feedback"]) == (scope, 300)
    store = ArtifactStore(str(tmp_path / "artifacts"), public_key=tmp_path / "key.pub")
    model = store.fetch(candidate.model.model_version, into=tmp_path / "fetched")
    assert model.digest == candidate.model.digest
    stored = next((tmp_path / "artifacts").rglob("card.md"))
    stored.write_text("another")
    with pytest.raises(Invalid) as refused:
        store.fetch(candidate.model.model_version, into=tmp_path / "again")
    assert refused.value.reason == "TAMPERED"
