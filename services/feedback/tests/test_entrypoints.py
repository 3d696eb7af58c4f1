"""The service as its callers see it, on a bus and a database in this process."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from grpc import StatusCode
from grpc.aio import AioRpcError

from anabranch.feedback.v1 import events_pb2 as events
from anabranch.feedback.v1 import feedback_service_pb2 as pb
from anabranch.gateway.v1.events_pb2 import AnswerServed
from anabranch.retrieval.v1 import retrieval_service_pb2 as retrieval
from anabranch.upstream.v1 import feedback_pb2 as upstream
from anabranch_bus import Event
from anabranch_feedback.messages import cause_of
from anabranch_feedback.testing import DOWN, GIVEN, SERVED, UP, Running, feedback, new_answer_id, served


async def code_of(call: Any) -> tuple[StatusCode, str]:
    with pytest.raises(AioRpcError) as raised:
        await call
    return raised.value.code(), str(raised.value.details())


async def test_feedback_after_its_answer_is_joined_with_its_whole_cause(running: Running) -> None:
    answer_id = new_answer_id()
    more: dict[str, Any] = {
        "experiment_id": "e",
        "arm": "treatment",
        "routing_scope": "acme",
        "feature_set": "rf-1",
        "model": "m",
    }
    await running.bus.deliver(SERVED, [served(answer_id, **more)])
    await running.send(feedback(answer_id, user_id="bob", thumb=DOWN, comment="Mail me: bob@example.org"))
    (rating,) = running.told()
    assert (rating.revision, rating.corpus, rating.user_id, rating.channel) == (1, "wiki", "bob", events.CHANNEL_KAFKA)
    assert rating.given.comment == "Mail me: [email]"
    cause = rating.cause
    assert (cause.experiment_id, cause.arm, cause.routing_scope, cause.asked_by) == ("e", "treatment", "acme", "ada")
    assert [(one.chunk_id, one.shown_rank, one.rank, one.cited, list(one.features)) for one in cause.chunks] == [
        ("c1", 1, 1, True, [0.5, 1.0]),
        ("c2", 2, 2, False, [0.5, 2.0]),
    ]
    assert len(cause.question_digest) == 64


def test_the_cause_has_the_places_shown_and_those_that_retrieval_gave() -> None:
    passages = [retrieval.Passage(chunk_id="b", rank=2), retrieval.Passage(chunk_id="a", rank=1)]
    cause = cause_of(AnswerServed(answer_id="x", passages=passages, ranks_randomised=True))
    assert [(one.chunk_id, one.shown_rank, one.rank) for one in cause.chunks] == [("b", 1, 2), ("a", 2, 1)]
    assert cause.ranks_randomised


async def test_what_cannot_be_used_comes_back_with_a_reason(start: Any) -> None:
    running = await start(tenants=("acme", "other"), burst=6)
    mine, theirs = new_answer_id(), new_answer_id()
    await running.bus.deliver(SERVED, [served(mine), served(theirs, tenant="other")])
    citation = upstream.CitationJudgment(chunk_id="c9", relevant=True)
    await running.send(
        feedback(mine, rating=upstream.Rating(stars=7)),
        feedback(mine, comment="x" * 5_000),
        upstream.FeedbackGiven(tenant="acme", answer_id=mine, user_id="ada"),
        feedback(mine, citation=citation),
        feedback(theirs),
        feedback(mine, tenant="stranger"),
        ids=("stars", "comment", "none", "chunk", "theirs", "stranger"),
    )
    wrong = Event(topic=GIVEN, message=feedback(mine), key="other/x", event_id="key")
    await running.bus.deliver(GIVEN, [wrong])
    await running.send(*(feedback(mine, thumb=UP) for _ in range(6)), ids=tuple("abcdef"))
    assert dict((event_id, why) for why, event_id in running.rejected()) == {  # noqa: C402  turned round
        "stars": "INVALID",
        "comment": "INVALID",
        "none": "INVALID",
        "chunk": "INVALID",
        "theirs": "UNKNOWN_ANSWER",
        "stranger": "UNKNOWN_TENANT",
        "key": "KEY_MISMATCH",
        "e": "RATE_LIMITED",
        "f": "RATE_LIMITED",
    }
    counts = await running.stub.CountFeedback(pb.CountFeedbackRequest(tenant="acme"), timeout=5)
    assert counts.rejected == 8
    assert running.bus.dead(GIVEN, "feedback") == []


async def test_bytes_that_are_no_feedback_are_answered_and_go_to_the_dead_letters(running: Running) -> None:
    await running.bus.deliver_bytes(GIVEN, b"\xff\xfe\x00nonsense", key=b"acme/a")
    assert [why for why, _ in running.rejected()] == ["INVALID"]
    assert len(running.bus.dead(GIVEN, "feedback")) == 1


async def test_give_says_at_once_what_is_wrong(start: Any) -> None:
    running = await start(burst=1, rate=1)
    theirs = new_answer_id()
    await running.bus.deliver(SERVED, [served(theirs, tenant="other")])
    code, words = await code_of(running.give(feedback(theirs, user_id="a")))
    assert (code, words) == (StatusCode.NOT_FOUND, f"answer_id: there is no answer {theirs}")
    old = new_answer_id(datetime.now(UTC) - timedelta(hours=1))
    assert (await code_of(running.give(feedback(old, user_id="b"))))[0] is StatusCode.NOT_FOUND
    wrong = feedback(theirs, user_id="c", rating=upstream.Rating(stars=7))
    assert await code_of(running.give(wrong)) == (
        StatusCode.INVALID_ARGUMENT,
        "rating.stars: 7 is not on the scale: 1 to 5",
    )
    long = feedback(theirs, user_id="c", correction=upstream.Correction(text="x" * 1_000_000))
    assert (await code_of(running.give(long)))[0] is StatusCode.INVALID_ARGUMENT
    await running.give(feedback(new_answer_id(), user_id="d"))
    assert (await code_of(running.give(feedback(new_answer_id(), user_id="d"))))[0] is StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.parametrize("minutes", [-9, -3, 3, 9, 45])
async def test_an_answer_of_a_gateway_whose_clock_differs_by_minutes_is_waited_for(
    running: Running, minutes: int
) -> None:
    answer_id = new_answer_id(datetime.now(UTC) + timedelta(minutes=minutes))
    assert (await running.give(feedback(answer_id))).state == pb.JOIN_STATE_WAITING
    await running.bus.deliver(SERVED, [served(answer_id)])
    assert [rating.answer_id for rating in await running.until_told(1)] == [answer_id]


async def test_answers_are_found_by_document_and_person_page_by_page(running: Running) -> None:
    ids = [new_answer_id() for _ in range(5)]
    await running.bus.deliver(SERVED, [served(one, user_id=f"u{n % 2}") for n, one in enumerate(ids)])
    await running.give(feedback(ids[0]))

    async def listed(**which: Any) -> list[Any]:
        answers, token = [], ""
        while True:
            request = pb.ListAnswersRequest(tenant="acme", page_size=2, page_token=token, **which)
            page = await running.stub.ListAnswers(request, timeout=5)
            answers += page.answers
            token = page.next_page_token
            if not token:
                return answers

    everything = await listed(document_id="d1")
    assert [one.answer_id for one in everything] == ids[::-1]
    assert (everything[-1].feedback_count, everything[-1].cited, everything[0].question) == (1, True, "Who  was Ada?")
    assert not any(one.cited for one in await listed(document_id="d2", corpus="wiki"))
    assert [one.answer_id for one in await listed(user_id="u1")] == [ids[3], ids[1]]
    assert await listed(document_id="elsewhere") == []
    assert (await code_of(listed_with_token(running)))[0] is StatusCode.INVALID_ARGUMENT


def listed_with_token(running: Running) -> Any:
    return running.stub.ListAnswers(pb.ListAnswersRequest(tenant="acme", page_token="nonsense"), timeout=5)


async def test_ratings_are_exported_in_pages_and_counted_by_kind(running: Running) -> None:
    answer_id = new_answer_id()
    await running.bus.deliver(SERVED, [served(answer_id)])
    for n in range(5):
        await running.give(feedback(answer_id, user_id=f"u{n}", thumb=UP if n else DOWN))
    seen, token = [], ""
    while True:
        request = pb.ExportRatingsRequest(tenant="acme", corpus="wiki", page_size=2, page_token=token)
        page = await running.stub.ExportRatings(request, timeout=5)
        seen += [one.rating.user_id for one in page.ratings]
        token = page.next_page_token
        if not token:
            break
    assert seen == [f"u{n}" for n in range(5)]
    counts = await running.stub.CountFeedback(pb.CountFeedbackRequest(tenant="acme", corpus="wiki"), timeout=5)
    assert {one.kind: one.count for one in counts.counts} == {"thumb-up": 4, "thumb-down": 1}
    assert counts.first_at.ToDatetime() <= counts.last_at.ToDatetime()
