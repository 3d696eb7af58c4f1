"""The service as its callers see it, on a bus and a database in this process."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from grpc import StatusCode
from grpc.aio import AioRpcError

from anabranch import topics
from anabranch.feedback.v1 import events_pb2 as events
from anabranch.feedback.v1 import feedback_service_pb2 as pb
from anabranch.feedback.v1.feedback_service_pb2_grpc import FeedbackServiceStub
from anabranch.upstream.v1 import feedback_pb2 as upstream
from anabranch_bus import Event, MemoryBus
from anabranch_feedback.bootstrap import build
from anabranch_feedback.settings import Settings
from anabranch_feedback.testing import feedback, new_answer_id, served
from anabranch_rpc import connect
from anabranch_runtime import Process
from anabranch_testkit import poll_until

GIVEN = topics.UPSTREAM_FEEDBACK_GIVEN
SERVED = topics.GATEWAY_ANSWER_SERVED
UP, DOWN = upstream.Thumb(up=True), upstream.Thumb(up=False)


@dataclass(slots=True, kw_only=True)
class Running:
    stub: Any
    bus: MemoryBus
    ahead: list[timedelta] = field(default_factory=list)

    def now(self) -> datetime:
        return datetime.now(UTC) + sum(self.ahead, timedelta())

    def told(self) -> list[events.RatingGiven]:
        return [event.message for event in self.bus.published(topics.FEEDBACK_RATING_GIVEN)]

    def rejected(self) -> list[tuple[str, str]]:
        found = self.bus.published(topics.FEEDBACK_RATING_REJECTED)
        return [
            (events.Refusal.Name(one.message.refusal).removeprefix("REFUSAL_"), one.message.event_id) for one in found
        ]

    async def give(self, message: upstream.FeedbackGiven, *, event_id: str = "") -> pb.GiveResponse:
        response: pb.GiveResponse = await self.stub.Give(pb.GiveRequest(given=message, event_id=event_id), timeout=5)
        return response

    async def send(self, *messages: upstream.FeedbackGiven, ids: tuple[str, ...] = ()) -> None:
        names = ids or tuple(str(id(message)) for message in messages)
        await self.bus.deliver(GIVEN, [event_of(one, name) for one, name in zip(messages, names, strict=True)])


def event_of(message: upstream.FeedbackGiven, event_id: str) -> Event[upstream.FeedbackGiven]:
    return Event(topic=GIVEN, message=message, key=f"{message.tenant}/{message.answer_id}", event_id=event_id)


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Any]:
    closing = []

    async def begin(**options: Any) -> Running:
        options = {"review_random": 0, "review_thumb_down": 0, "review_abstained": 0, "sweep": "100ms", **options}
        settings, bus = Settings(data=tmp_path, **options), MemoryBus()
        process = Process(settings, name="feedback")
        running = Running(stub=None, bus=bus)
        await process.start(build(settings, bus=bus, clock=running.now))
        channel = connect(process.addresses["rpc"])
        running.stub = FeedbackServiceStub(channel)
        closing.append((channel, process))
        return running

    yield begin
    for channel, process in closing:
        await channel.close()
        await process.stop()


@pytest.fixture
async def running(start: Any) -> Running:
    return await start()  # type: ignore[no-any-return]  # the fixture gives a function


async def until_told(running: Running, count: int) -> list[events.RatingGiven]:
    await poll_until(lambda: len(running.told()) >= count, what=f"{count} ratings")
    return running.told()


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


async def test_feedback_before_its_answer_waits_for_it(running: Running) -> None:
    answer_id = new_answer_id()
    await running.send(feedback(answer_id))
    response = await running.give(feedback(answer_id, user_id="bob"))
    assert response.state == pb.JOIN_STATE_WAITING
    assert running.told() == []
    await running.bus.deliver(SERVED, [served(answer_id)])
    assert {rating.user_id for rating in await until_told(running, 2)} == {"ada", "bob"}
    await running.bus.deliver(SERVED, [served(answer_id)])
    counts = await running.stub.CountFeedback(pb.CountFeedbackRequest(tenant="acme"), timeout=5)
    assert (counts.users, counts.answers, counts.waiting) == (2, 1, 0)
    assert len(running.told()) == 2


async def test_the_feedback_given_last_holds_and_an_older_one_is_stored_nowhere(running: Running) -> None:
    answer_id, now = new_answer_id(), datetime.now(UTC)
    await running.bus.deliver(SERVED, [served(answer_id)])
    for minutes, thumb in ((-10, UP), (-5, DOWN), (-7, UP), (-5, UP)):
        message = feedback(answer_id, thumb=thumb)
        message.given_at.FromDatetime(now + timedelta(minutes=minutes))
        await running.send(message, ids=(f"e{minutes}{thumb.up}",))
    assert [(rating.revision, rating.given.thumb.up) for rating in running.told()] == [(1, True), (2, False), (3, True)]
    assert len({rating.feedback_id for rating in running.told()}) == 1
    future = feedback(answer_id, thumb=DOWN)
    future.given_at.FromDatetime(now + timedelta(days=300))
    await running.send(future)
    assert running.told()[-1].given_at.ToDatetime(UTC) < running.now()


async def test_an_event_has_its_effect_once_and_is_told_again_under_the_same_id(running: Running) -> None:
    answer_id = new_answer_id()
    await running.bus.deliver(SERVED, [served(answer_id)])
    for _ in range(2):
        await running.send(
            feedback(answer_id),
            feedback(answer_id, user_id="bob"),
            feedback(answer_id, rating=upstream.Rating(stars=7)),
            ids=("one", "two", "bad"),
        )
    told = running.bus.published(topics.FEEDBACK_RATING_GIVEN)
    assert [event.message.revision for event in told] == [1, 1, 1, 1]
    assert len({event.event_id for event in told}) == 2
    assert told[0].message == told[2].message
    assert running.rejected() == [("INVALID", "bad")] * 2
    assert len({event.event_id for event in running.bus.published(topics.FEEDBACK_RATING_REJECTED)}) == 1
    first = await running.give(feedback(answer_id, thumb=DOWN), event_id="call")
    again = await running.give(feedback(answer_id, thumb=DOWN), event_id="call")
    assert first == again
    assert first.revision == 2
    # What was overtaken is not told again by its own event.
    await running.send(feedback(answer_id), ids=("one",))
    assert [rating.revision for rating in running.told() if rating.user_id == "ada"][-1] == 2


async def test_several_minds_in_one_batch_are_told_once_by_the_last(running: Running) -> None:
    answer_id = new_answer_id()
    await running.bus.deliver(SERVED, [served(answer_id)])
    await running.send(*(feedback(answer_id, thumb=thumb) for thumb in (UP, DOWN, UP, DOWN)), ids=tuple("abcd"))
    last = running.told()[-1]
    assert not last.given.thumb.up
    assert len({rating.revision for rating in running.told()}) == len(running.told())


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


async def test_what_waits_too_long_is_rejected_with_its_event_id(running: Running) -> None:
    answer_id = new_answer_id()
    await running.send(feedback(answer_id), ids=("early",))
    await running.give(feedback(answer_id, user_id="bob"), event_id="call")
    running.ahead.append(timedelta(days=8))
    await poll_until(lambda: len(running.rejected()) == 2)
    assert sorted(running.rejected()) == [("UNKNOWN_ANSWER", "call"), ("UNKNOWN_ANSWER", "early")]
    reason = running.bus.published(topics.FEEDBACK_RATING_REJECTED)[0].message.reason
    assert "none turned up within 7 days" in reason
    await running.send(feedback(answer_id), ids=("early",))
    ids = {one.event_id for one in running.bus.published(topics.FEEDBACK_RATING_REJECTED)}
    assert len(ids) == 2


async def test_a_chunk_that_turns_out_not_to_have_been_shown_is_rejected_when_the_answer_comes(
    running: Running,
) -> None:
    answer_id = new_answer_id()
    await running.send(
        feedback(answer_id, citation=upstream.CitationJudgment(chunk_id="c9")),
        feedback(answer_id, implicit=upstream.Implicit(sign=upstream.SIGN_CITATION_OPENED, chunk_id="c2")),
        ids=("c9", "c2"),
    )
    await running.bus.deliver(SERVED, [served(answer_id)])
    await poll_until(lambda: running.rejected() == [("INVALID", "c9")])
    assert [rating.given.implicit.chunk_id for rating in await until_told(running, 1)] == ["c2"]


async def test_a_preference_waits_for_both_answers(running: Running) -> None:
    one, other = new_answer_id(), new_answer_id()
    preference = upstream.Preference(other_answer_id=other, prefers_other=True)
    await running.bus.deliver(SERVED, [served(one)])
    await running.send(feedback(one, preference=preference))
    assert running.told() == []
    await running.bus.deliver(SERVED, [served(other)])
    assert (await until_told(running, 1))[0].answer_id == one
    exported = await running.stub.ExportRatings(pb.ExportRatingsRequest(tenant="acme", with_content=True), timeout=5)
    assert exported.ratings[0].other_answer.answer_id == other


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


async def test_what_a_person_gave_can_be_forgotten(running: Running) -> None:
    answer_id = new_answer_id()
    await running.bus.deliver(SERVED, [served(answer_id)])
    await running.give(feedback(answer_id, comment="Mine."))
    await running.give(feedback(answer_id, rating=upstream.Rating(stars=2)))
    await running.give(feedback(new_answer_id()))
    await running.give(feedback(answer_id, user_id="bob"))
    erase = pb.EraseUserRequest(tenant="acme", user_id="ada")
    assert (await running.stub.EraseUser(erase, timeout=5)).feedbacks == 3
    gone = [rating for rating in await until_told(running, 5) if rating.withdrawn]
    assert {(one.revision, one.user_id, one.HasField("given"), one.HasField("cause")) for one in gone} == {
        (2, "ada", False, False)
    }
    assert (await running.stub.EraseUser(erase, timeout=5)).feedbacks == 0
    found = await running.stub.GetAnswer(pb.GetAnswerRequest(tenant="acme", answer_id=answer_id), timeout=5)
    assert [one.user_id for one in found.feedback] == ["bob"]
    back = await running.give(feedback(answer_id))
    assert back.revision == 3


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


async def test_raters_get_what_was_sampled_once_and_their_agreement_is_told(start: Any) -> None:
    running = await start(review_thumb_down=1, review_abstained=1)
    down, abstained, fine = (new_answer_id() for _ in range(3))
    await running.bus.deliver(SERVED, [served(down), served(abstained, abstained=True), served(fine)])
    await running.give(feedback(down, thumb=DOWN))
    await running.give(feedback(fine, thumb=UP))

    async def work(rater: str) -> dict[str, Any]:
        request = pb.ListReviewsRequest(tenant="acme", rater_id=rater)
        items = (await running.stub.ListReviews(request, timeout=5)).items
        return {one.answer.answer_id: one for one in items}

    items = await work("r1")
    assert {key: one.sampled_by for key, one in items.items()} == {down: "thumb-down", abstained: "abstained"}
    for rater in ("r1", "r2"):
        for answer_id, stars in ((down, 5), (abstained, 1)):
            review = upstream.Review(stars=stars, ranking=["c2", "c1"], relevant=["c2"])
            request = pb.SubmitReviewRequest(
                tenant="acme", review_id=items[answer_id].review_id, rater_id=rater, review=review
            )
            await running.stub.SubmitReview(request, timeout=5)
    assert await work("r1") == {}
    assert await work("r3") == {}
    agreement = await running.stub.GetAgreement(pb.GetAgreementRequest(tenant="acme"), timeout=5)
    assert (agreement.kappa, agreement.answers, agreement.raters) == (pytest.approx(1), 2, 2)
    last = (await until_told(running, 6))[-1]
    assert (last.channel, list(last.given.review.ranking)) == (events.CHANNEL_REVIEW, ["c2", "c1"])
    request = pb.SubmitReviewRequest(
        tenant="other", review_id=items[down].review_id, rater_id="r1", review=upstream.Review(stars=1)
    )
    assert (await code_of(running.stub.SubmitReview(request, timeout=5)))[0] is StatusCode.NOT_FOUND
