"""Answers that are judged as they are served: what waits for the judge, and what does not."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from grpc import StatusCode
from grpc.aio import AioRpcError
from pydantic import SecretStr, ValidationError

from anabranch import topics
from anabranch.evaluation.v1 import evaluation_service_pb2 as pb
from anabranch.evaluation.v1.evaluation_service_pb2_grpc import EvaluationServiceStub
from anabranch.evaluation.v1.events_pb2 import AnswerScored
from anabranch.gateway.v1.events_pb2 import AnswerServed
from anabranch.retrieval.v1 import retrieval_service_pb2 as retrieval
from anabranch_bus import MemoryBus
from anabranch_evaluation.adapters.answers import SqlAnswerLog
from anabranch_evaluation.adapters.judge import HttpJudge
from anabranch_evaluation.adapters.waiting import SqlVerdicts, SqlWaitingAnswers
from anabranch_evaluation.application import judging
from anabranch_evaluation.application.judging import AskJudge, JudgeAnswers
from anabranch_evaluation.application.observing import ObserveAnswers
from anabranch_evaluation.bootstrap import build, database_of
from anabranch_evaluation.domain.costs import Prices
from anabranch_evaluation.domain.judging import Judgment
from anabranch_evaluation.entrypoints.experiments import served_from
from anabranch_evaluation.entrypoints.kafka import encoded_judged, encoded_score
from anabranch_evaluation.settings import Settings
from anabranch_evaluation.testing.judges import HANG, JudgeServer, Raw, graded, material
from anabranch_evaluation.testing.neighbours import Neighbours
from anabranch_evaluation.testing.vectors import VectorServer
from anabranch_rpc import connect
from anabranch_runtime import Process
from anabranch_store import Database, OutboxRelay
from anabranch_testkit import poll_until

AT = datetime(2026, 11, 21, 10, 30, tzinfo=UTC)
REQUIRED: dict[str, Any] = {"retrieval": "127.0.0.1:1", "generation": "127.0.0.1:1", "registry": "127.0.0.1:1"}


def served(number: int, *, abstained: bool = False) -> AnswerServed:
    return AnswerServed(
        tenant="t",
        answer_id=f"a{number}",
        corpus="c",
        user_id="u",
        has_content=True,
        question="When was the tower finished?",
        answer=f"The tower was finished in 1889, says source {number}.",
        abstained=abstained,
        passages=[
            retrieval.Passage(chunk_id="c1", text="The tower was finished in 1889. It is tall."),
            retrieval.Passage(chunk_id="c2", text="Rivers bend."),
        ],
    )


@asynccontextmanager
async def service(tmp_path: Path, **options: Any) -> AsyncIterator[tuple[Any, MemoryBus]]:
    async with AsyncExitStack() as stack:
        world = await stack.enter_async_context(Neighbours())
        settings = Settings(
            data=tmp_path,
            retrieval=world.address,
            generation=world.address,
            registry=world.address,
            **{"sample": 1.0, "judge_sample": 1.0, **options},
        )
        bus, process = MemoryBus(), Process(settings, name="evaluation")
        await process.start(build(settings, bus=bus))
        stack.push_async_callback(process.stop)
        channel = connect(process.addresses["rpc"])
        stack.push_async_callback(channel.close)
        yield EvaluationServiceStub(channel), bus


async def told(bus: MemoryBus, count: int) -> list[AnswerScored]:
    await poll_until(lambda: len(bus.published(topics.EVALUATION_ANSWER_SCORED)) >= count or None, deadline=20)
    return [event.message for event in bus.published(topics.EVALUATION_ANSWER_SCORED)]


async def test_answers_are_told_once_with_what_the_judge_said_of_them(tmp_path: Path) -> None:
    async with (
        VectorServer() as vectors,
        JudgeServer(lambda _: graded(5)).running() as server,
        service(tmp_path, judge_url=server.url, judge_model="judge-1", embedding=vectors.address) as (stub, bus),
    ):
        for _ in range(2):  # told twice by the gateway, judged once
            await bus.deliver(topics.GATEWAY_ANSWER_SERVED, [served(1), served(2, abstained=True)])
            scored = {one.answer_id: one for one in await told(bus, 2)}
        one = scored["a1"]
        assert (one.judgment.judge, one.judgment.votes, one.judgment.score, one.judgment.agreement) == (
            "judge-1",
            4,
            1,
            1,
        )
        assert one.scores["groundedness"] > 0.3
        assert one.scorer_version == "gr-2+words-1"
        # An abstention has nothing to judge.
        assert not scored["a2"].HasField("judgment")
        assert len(server.requests) == 4
        kept = (await stub.GetScores(pb.GetScoresRequest(tenant="t", answer_id="a1"), timeout=5)).scored
        assert kept == one
        assert len(bus.published(topics.EVALUATION_ANSWER_SCORED)) == 2


async def test_only_the_share_that_is_asked_for_is_judged(tmp_path: Path) -> None:
    async with (
        JudgeServer(lambda _: graded(3)).running() as server,
        service(tmp_path, judge_url=server.url, judge_model="m", judge_sample=0.3, judge_votes=1) as (_, bus),
    ):
        await bus.deliver(topics.GATEWAY_ANSWER_SERVED, [served(number) for number in range(60)])
        scored = await told(bus, 60)
    judged = sum(one.HasField("judgment") for one in scored)
    assert 8 <= judged <= 28
    assert judged == len(server.requests)


async def test_a_judge_that_hangs_holds_up_no_answer_it_was_not_drawn_for(tmp_path: Path) -> None:
    async with (
        JudgeServer(lambda _: HANG).running() as server,
        service(tmp_path, judge_url=server.url, judge_model="m", judge_sample=0.5) as (stub, bus),
    ):
        await bus.deliver(topics.GATEWAY_ANSWER_SERVED, [served(number) for number in range(40)])
        scored = await told(bus, 8)
        assert not any(one.HasField("judgment") for one in scored)
        asked = pb.ScoreAnswerRequest(question="When?", answer="In 1889.", contexts=["It was finished in 1889."])
        assert (await stub.ScoreAnswer(asked, timeout=5)).scores["groundedness"] == 1.0


async def test_scores_and_comparisons_by_hand_ask_the_judge(tmp_path: Path) -> None:
    def says(request: dict[str, Any]) -> str:
        shown = material(request)
        if "answer" in shown:
            return graded(4)
        return json.dumps({"reason": "", "better": "A" if "1889" in shown["answer A"] else "B"})

    async with (
        JudgeServer(says).running() as server,
        service(tmp_path, judge_url=server.url, judge_model="m", judge_votes=2) as (stub, _),
    ):
        asked = pb.ScoreAnswerRequest(question="When?", answer="In 1889.", contexts=["It was finished in 1889."])
        assert not (await stub.ScoreAnswer(asked, timeout=5)).HasField("judgment")
        asked.judge = True
        assert (await stub.ScoreAnswer(asked, timeout=5)).judgment.score == 0.75
        two = pb.CompareAnswersRequest(question="When?", contexts=["In 1889."], first="In 1925.", second="In 1889.")
        found = await stub.CompareAnswers(two, timeout=5)
        assert (found.preference, found.votes, found.swayed, found.agreement) == (1.0, 2, 0, 1.0)
        two.first = " "
        with pytest.raises(AioRpcError) as refused:
            await stub.CompareAnswers(two, timeout=5)
        assert refused.value.code() is StatusCode.INVALID_ARGUMENT
        server.says = lambda _: Raw(status=503)
        two.first = "In 1900."
        with pytest.raises(AioRpcError) as away:
            await stub.CompareAnswers(two, timeout=5)
        assert away.value.code() is StatusCode.UNAVAILABLE


async def test_without_a_judge_answers_are_told_and_comparisons_refused(tmp_path: Path) -> None:
    async with service(tmp_path) as (stub, bus):
        await bus.deliver(topics.GATEWAY_ANSWER_SERVED, [served(1)])
        (one,) = await told(bus, 1)
        assert not one.HasField("judgment")
        assert one.scorer_version == "gr-2"
        with pytest.raises(AioRpcError) as refused:
            await stub.CompareAnswers(pb.CompareAnswersRequest(question="q", first="a", second="b"), timeout=5)
        assert refused.value.code() is StatusCode.FAILED_PRECONDITION
        assert "JUDGE_URL" in (refused.value.details() or "")


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = database_of(database_url)
    await database.migrate()
    yield database
    await database.close()


class Desk:
    """One replica's judging on a clock of its own."""

    def __init__(self, database: Database, judge: HttpJudge | None) -> None:
        self.now = AT
        self.heard: list[Judgment | None] = []
        log = SqlAnswerLog(database, encode=encoded_score)
        self.observe = ObserveAnswers(log=log, sample=1.0, prices=Prices(known={}), judged=1.0, now=lambda: self.now)
        ask = None if judge is None else AskJudge(judge=judge, verdicts=SqlVerdicts(database), votes=1)
        self.judging = JudgeAnswers(
            ask=ask,
            answers=SqlWaitingAnswers(database, encode=encoded_judged),
            judged=self.heard.append,
            delayed=lambda problem: None,
            at_once=2,
            now=lambda: self.now,
        )


@asynccontextmanager
async def judged_by(says: Callable[[dict[str, Any]], str | Raw]) -> AsyncIterator[HttpJudge]:
    async with JudgeServer(says).running() as server:
        judge = HttpJudge(url=server.url, model="m", time=timedelta(seconds=5))
        yield judge
        await judge.close()


async def scores_told(database: Database) -> list[AnswerScored]:
    bus = MemoryBus()
    await OutboxRelay(database, bus.publish_encoded).drain()
    return [event.message for event in bus.published(topics.EVALUATION_ANSWER_SCORED)]


async def test_an_answer_waits_for_a_judge_that_is_away_and_is_told_without_when_its_time_is_over(
    database: Database,
) -> None:
    async with judged_by(lambda _: Raw(status=503)) as judge:
        desk = Desk(database, judge)
        await desk.observe([served_from(served(1))])
        assert await desk.judging.some() == 1
        assert await desk.judging.some() == 0  # not before the pause is over
        assert await scores_told(database) == []
        desk.now += judging.PAUSE
        assert await desk.judging.some() == 1
        desk.now += judging.PATIENCE
        assert await desk.judging.some() == 1
    (one,) = await scores_told(database)
    assert not one.HasField("judgment")
    assert one.scores["groundedness"] > 0
    assert desk.heard == [None]
    assert await desk.judging.some() == 0


async def test_garbage_alone_is_told_as_garbage(database: Database) -> None:
    async with judged_by(lambda _: "I like it!") as judge:
        desk = Desk(database, judge)
        await desk.observe([served_from(served(1))])
        await desk.judging.some()
    (one,) = await scores_told(database)
    assert (one.judgment.votes, one.judgment.parse_failures, one.judgment.score) == (0, 1, 0.0)


async def test_what_one_replica_took_another_takes_only_when_it_does_not_come_back(database: Database) -> None:
    async with judged_by(lambda _: graded(5)) as judge:
        desk = Desk(database, judge)
        await desk.observe([served_from(served(number)) for number in range(3)])
        answers = desk.judging.answers
        lost = await answers.take(2, now=AT, lease=judging.LEASE)
        assert [one.answer_id for one in lost] == ["a0", "a1"]
        assert [one.answer_id for one in await answers.take(2, now=AT, lease=judging.LEASE)] == ["a2"]
        desk.now += judging.LEASE
        assert await desk.judging.some() == 2
        assert await desk.judging.some() == 1
        # The one that was thought lost ends its work, too: nothing is told twice.
        assert not await answers.tell(lost[0], None)
    assert sorted(one.answer_id for one in await scores_told(database)) == ["a0", "a1", "a2"]


async def test_while_too_many_wait_further_answers_are_told_without(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anabranch_evaluation.application.observing.LONGEST_QUEUE", 2)
    desk = Desk(database, None)
    await desk.observe([served_from(served(number)) for number in range(2)])
    await desk.observe([served_from(served(2))])
    assert [one.answer_id for one in await scores_told(database)] == ["a2"]
    # No judge is configured any more: what waits is told as it is.
    assert await desk.judging.some() == 2
    assert desk.heard == [None, None]


async def test_an_answer_that_was_told_does_not_wait_again(database: Database) -> None:
    async with judged_by(lambda _: graded(5)) as judge:
        desk = Desk(database, judge)
        for _ in range(2):
            await desk.observe([served_from(served(1))])
            await desk.judging.some()
        assert await desk.judging.answers.take(5, now=desk.now + judging.LEASE, lease=judging.LEASE) == []
    assert len(desk.heard) == 1


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"judge_url": "http://127.0.0.1:1/v1"}, "JUDGE_MODEL"),
        ({"judge_model": "m"}, "JUDGE_URL"),
        ({"judge_url": "127.0.0.1:1", "judge_model": "m"}, "not an http"),
        ({"judge_key_file": "missing.key"}, "no file"),
        ({"judge_votes": 0}, "greater than or equal to 1"),
        ({"judge_sample": 2}, "less than or equal to 1"),
    ],
)
def test_a_judge_that_cannot_be_asked_is_refused_at_start(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        Settings(**REQUIRED, **options)


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    file = tmp_path / "judge.key"
    file.write_text("sesame\n")
    return file


def test_the_judges_key_comes_from_a_file_and_is_in_no_text(key_file: Path) -> None:
    settings = Settings(**REQUIRED, judge_key_file=key_file)
    assert settings.judge_secret == "sesame"
    with pytest.raises(ValidationError, match="both set"):
        Settings(**REQUIRED, judge_key_file=key_file, judge_key=SecretStr("sesame"))
    assert "sesame" not in repr(Settings(**REQUIRED, judge_key=SecretStr("sesame")))
