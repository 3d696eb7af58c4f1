"""The judge: how its replies are read, what its votes say, and a judge behind a real HTTP server."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from prometheus_client import REGISTRY

from anabranch_evaluation.adapters.judge import HttpJudge
from anabranch_evaluation.adapters.waiting import SqlVerdicts
from anabranch_evaluation.application.judging import AskJudge
from anabranch_evaluation.bootstrap import database_of
from anabranch_evaluation.domain.judging import (
    COMPARING,
    GRADING,
    Reply,
    grading_ballots,
    judgment_of,
    preference_of,
)
from anabranch_evaluation.testing.judges import HANG, JudgeServer, Raw, graded, material
from anabranch_store import Database

AT = datetime(2026, 11, 21, 10, 30, tzinfo=UTC)
QUESTION, ANSWER = "When was the tower finished?", "The tower was finished in 1889."
PASSAGES = ("The tower was finished in 1889.", "Maria Oliveira designed the harbour.", "Rivers bend.")


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = database_of(database_url)
    await database.migrate()
    yield database
    await database.close()


@asynccontextmanager
async def asking(
    database: Database, says: Callable[[dict[str, Any]], str | Raw], *, votes: int = 4, **options: Any
) -> AsyncIterator[tuple[AskJudge, JudgeServer]]:
    async with JudgeServer(says).running() as server:
        judge = HttpJudge(url=server.url, model=options.pop("model", "judge-1"), **options)
        try:
            yield AskJudge(judge=judge, verdicts=SqlVerdicts(database), votes=votes), server
        finally:
            await judge.close()


def calls(outcome: str, rubric: str = "grade") -> float:
    labels = {"rubric": rubric, "outcome": outcome}
    return REGISTRY.get_sample_value("anabranch_evaluation_judge_calls_total", labels) or 0.0


def test_a_reply_that_is_exactly_what_was_asked_for_is_read() -> None:
    assert GRADING.verdict('{"reason": "so", "grade": 4}') == "4"
    assert COMPARING.verdict(' {"better": "neither", "reason": ""}\n') == "neither"


@pytest.mark.parametrize(
    "reply",
    [
        "",
        "4",
        "null",
        "[]",
        "The grade is 4.",
        '```json\n{"reason": "so", "grade": 4}\n```',
        '{"reason": "so", "grade": 4} and more',
        '{"reason": "so", "grade": 4',
        '{"grade": 4}',
        '{"reason": "so", "grade": "4"}',
        '{"reason": "so", "grade": 4.0}',
        '{"reason": "so", "grade": true}',
        '{"reason": "so", "grade": 0}',
        '{"reason": "so", "grade": 6}',
        '{"reason": "so", "grade": null}',
        '{"reason": 7, "grade": 4}',
        '{"reason": "so", "grade": 4, "sure": true}',
        '{"reason": "so", "grade": 1, "grade": 5}',
        "[" * 100_000,
    ],
)
def test_any_other_reply_cannot_be_read(reply: str) -> None:
    assert GRADING.verdict(reply) is None


def test_what_cannot_be_read_is_counted_and_is_no_vote() -> None:
    replies = [Reply(verdict="5"), Reply(verdict=None), Reply(verdict="5"), Reply(verdict="1")]
    found = judgment_of("j", replies)
    assert found is not None
    assert (found.votes, found.parse_failures) == (3, 1)
    assert found.score == pytest.approx((1.0 + 1.0 + 0.0) / 3)
    assert found.agreement == pytest.approx(2 / 3)


def test_no_vote_is_no_score_and_no_reply_is_no_judgment() -> None:
    found = judgment_of("j", [Reply(verdict=None), None])
    assert found is not None
    assert (found.votes, found.parse_failures, found.score, found.agreement) == (0, 1, 0.0, 0.0)
    assert judgment_of("j", [None, None]) is None
    assert preference_of("j", [None, None]) is None


def test_half_of_the_ballots_show_the_passages_in_reverse() -> None:
    ballots = grading_ballots(QUESTION, ANSWER, PASSAGES, votes=4)
    shown = [ballot.material["passages"] for ballot in ballots]
    assert shown == [list(PASSAGES), list(PASSAGES)[::-1]] * 2
    assert len({ballot.digest("j") for ballot in ballots}) == 4
    assert ballots[0].digest("j") != ballots[0].digest("k")


async def test_a_judge_is_asked_with_a_schema_a_seed_and_its_key(database: Database) -> None:
    async with asking(database, lambda _: graded(4), votes=2, key="sesame") as (ask, server):
        found = await ask.grade(QUESTION, ANSWER, PASSAGES)
    assert found is not None
    assert (found.judge, found.votes, found.score, found.agreement) == ("judge-1", 2, 0.75, 1.0)
    assert (found.order_shift, found.from_cache, found.rubric_digest) == (0.0, False, GRADING.digest)
    first, second = sorted(server.requests, key=lambda request: int(request["seed"]))
    assert first["line"] == "POST /v1/chat/completions HTTP/1.1"
    assert first["response_format"]["type"] == "json_schema"
    assert first["response_format"]["json_schema"]["schema"]["properties"]["grade"]["enum"] == [1, 2, 3, 4, 5]
    assert material(first)["passages"] == material(second)["passages"][::-1]
    assert server.keys == ["Bearer sesame"] * 2


async def test_what_was_judged_is_never_asked_for_again(database: Database) -> None:
    async with asking(database, lambda _: graded(4)) as (ask, server):
        first = await ask.grade(QUESTION, ANSWER, PASSAGES)
        again = await ask.grade(QUESTION, ANSWER, PASSAGES)
        assert first is not None
        assert again is not None
        assert (first.from_cache, again.from_cache, len(server.requests)) == (False, True, 4)
        assert again.score == first.score
        await ask.grade(QUESTION, "Another answer.", PASSAGES)
        assert len(server.requests) == 8
    async with asking(database, lambda _: graded(4), model="judge-2") as (other, server):
        found = await other.grade(QUESTION, ANSWER, PASSAGES)
        assert found is not None
        assert (found.from_cache, len(server.requests)) == (False, 4)


async def test_garbage_is_counted_asked_for_again_and_never_averaged(database: Database) -> None:
    before = calls("unreadable")
    replies = {1: graded(5), 2: "Five!", 3: graded(5), 4: '{"reason": "", "grade": 9}'}
    async with asking(database, lambda request: replies[request["seed"]]) as (ask, server):
        found = await ask.grade(QUESTION, ANSWER, PASSAGES)
        assert found is not None
        assert (found.votes, found.parse_failures, found.score, found.agreement) == (2, 2, 1.0, 1.0)
        assert calls("unreadable") == before + 2
        replies |= {2: graded(1), 4: graded(1)}
        found = await ask.grade(QUESTION, ANSWER, PASSAGES)
        assert found is not None
        assert (found.votes, found.parse_failures, found.score, found.from_cache) == (4, 0, 0.5, False)
        assert len(server.requests) == 6


async def test_a_judge_that_disagrees_with_itself_says_so(database: Database) -> None:
    grades = {1: 5, 2: 5, 3: 5, 4: 2}
    async with asking(database, lambda request: graded(grades[request["seed"]])) as (ask, _):
        found = await ask.grade(QUESTION, ANSWER, PASSAGES)
    assert found is not None
    assert (found.agreement, found.score) == (0.75, (3 + 0.25) / 4)


async def test_a_judge_that_is_swayed_by_the_order_of_passages_is_shown_to_be(database: Database) -> None:
    def says(request: dict[str, Any]) -> str:
        return graded(5 if material(request)["passages"][0] == PASSAGES[0] else 3)

    async with asking(database, says) as (ask, _):
        found = await ask.grade(QUESTION, ANSWER, PASSAGES)
    assert found is not None
    assert (found.order_shift, found.score) == (0.5, 0.75)


async def test_two_answers_are_compared_in_both_positions(database: Database) -> None:
    def says(request: dict[str, Any]) -> str:
        return json.dumps({"reason": "", "better": "A" if "1889" in material(request)["answer A"] else "B"})

    async with asking(database, says, votes=3) as (ask, server):
        found = await ask.compare(QUESTION, PASSAGES, ("In 1925.", ANSWER))
        assert found is not None
        assert (found.preference, found.votes, found.swayed, found.agreement) == (1.0, 3, 0, 1.0)
        assert len(server.requests) == 6
        again = await ask.compare(QUESTION, PASSAGES, ("In 1925.", ANSWER))
        # The swapped pair has been asked for, too: only the sides change.
        turned = await ask.compare(QUESTION, PASSAGES, (ANSWER, "In 1925."))
        assert again is not None
        assert turned is not None
        assert (again.from_cache, turned.from_cache, turned.preference) == (True, True, 0.0)
        assert len(server.requests) == 6


async def test_a_judge_that_likes_a_position_prefers_neither_answer(database: Database) -> None:
    says = json.dumps({"reason": "", "better": "A"})
    async with asking(database, lambda _: says, votes=3) as (ask, _):
        found = await ask.compare(QUESTION, PASSAGES, ("In 1925.", ANSWER))
    assert found is not None
    assert (found.preference, found.votes, found.swayed) == (0.5, 3, 3)


async def test_a_vote_of_which_one_position_cannot_be_read_is_none(database: Database) -> None:
    def says(request: dict[str, Any]) -> str:
        if request["seed"] == 2 and material(request)["answer A"] == ANSWER:
            return "A, clearly"
        return json.dumps({"reason": "", "better": "A" if material(request)["answer A"] == ANSWER else "B"})

    async with asking(database, says, votes=2) as (ask, _):
        found = await ask.compare(QUESTION, PASSAGES, (ANSWER, "In 1925."))
    assert found is not None
    assert (found.preference, found.votes, found.parse_failures) == (0.0, 1, 1)


@pytest.mark.parametrize(
    ("said", "outcome"),
    [
        (HANG, "timeout"),
        (Raw(status=500, body=b"key sk-123 is broken"), "refused"),
        (Raw(status=429), "refused"),
        (Raw(body=b"<html>"), "malformed"),
        (Raw(body=b'{"choices": []}'), "malformed"),
        (Raw(body=b"x" * 300_000), "oversized"),
    ],
    ids=["hang", "500", "429", "html", "empty", "large"],
)
async def test_a_judge_that_gives_no_reply_is_counted_and_judges_nothing(
    database: Database, said: str | Raw, outcome: str
) -> None:
    before = calls(outcome)
    async with asking(database, lambda _: said, votes=2, time=timedelta(milliseconds=200)) as (ask, _):
        assert await ask.grade(QUESTION, ANSWER, PASSAGES) is None
    assert calls(outcome) == before + 2


async def test_votes_that_got_no_reply_are_missing_and_not_counted_as_garbage(database: Database) -> None:
    async with asking(
        database, lambda request: HANG if request["seed"] == 1 else graded(3), time=timedelta(milliseconds=200)
    ) as (ask, server):
        found = await ask.grade(QUESTION, ANSWER, PASSAGES)
        assert found is not None
        assert (found.votes, found.parse_failures, found.from_cache) == (3, 0, False)
        server.says = lambda _: graded(3)
        found = await ask.grade(QUESTION, ANSWER, PASSAGES)
        assert found is not None
        assert (found.votes, found.from_cache, len(server.requests)) == (4, False, 5)


async def test_a_judge_that_is_away_is_counted(database: Database) -> None:
    before = calls("unreachable")
    judge = HttpJudge(url="http://127.0.0.1:9/v1", model="m")
    assert (
        await AskJudge(judge=judge, verdicts=SqlVerdicts(database), votes=2).grade(QUESTION, ANSWER, PASSAGES) is None
    )
    await judge.close()
    assert calls("unreachable") == before + 2
