"""What becomes of feedback: joined, overtaken, waiting, refused, forgotten, reviewed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from grpc import StatusCode
from grpc.aio import AioRpcError

from anabranch import topics
from anabranch.evaluation.v1.events_pb2 import AnswerScored, Judgment
from anabranch.feedback.v1 import events_pb2 as events
from anabranch.feedback.v1 import feedback_service_pb2 as pb
from anabranch.upstream.v1 import feedback_pb2 as upstream
from anabranch_feedback.testing import DOWN, SERVED, UP, Running, feedback, new_answer_id, served
from anabranch_testkit import poll_until


async def code_of(call: Any) -> tuple[StatusCode, str]:
    with pytest.raises(AioRpcError) as raised:
        await call
    return raised.value.code(), str(raised.value.details())


async def test_feedback_before_its_answer_waits_for_it(running: Running) -> None:
    answer_id = new_answer_id()
    await running.send(feedback(answer_id))
    response = await running.give(feedback(answer_id, user_id="bob"))
    assert response.state == pb.JOIN_STATE_WAITING
    assert running.told() == []
    await running.bus.deliver(SERVED, [served(answer_id)])
    assert {rating.user_id for rating in await running.until_told(2)} == {"ada", "bob"}
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
    assert [rating.given.implicit.chunk_id for rating in await running.until_told(1)] == ["c2"]


async def test_a_preference_waits_for_both_answers(running: Running) -> None:
    one, other = new_answer_id(), new_answer_id()
    preference = upstream.Preference(other_answer_id=other, prefers_other=True)
    await running.bus.deliver(SERVED, [served(one)])
    await running.send(feedback(one, preference=preference))
    assert running.told() == []
    await running.bus.deliver(SERVED, [served(other)])
    assert (await running.until_told(1))[0].answer_id == one
    exported = await running.stub.ExportRatings(pb.ExportRatingsRequest(tenant="acme", with_content=True), timeout=5)
    assert exported.ratings[0].other_answer.answer_id == other


async def test_what_a_person_gave_can_be_forgotten(running: Running) -> None:
    answer_id = new_answer_id()
    await running.bus.deliver(SERVED, [served(answer_id)])
    await running.give(feedback(answer_id, comment="Mine."))
    await running.give(feedback(answer_id, rating=upstream.Rating(stars=2)))
    await running.give(feedback(new_answer_id()))
    await running.give(feedback(answer_id, user_id="bob"))
    erase = pb.EraseUserRequest(tenant="acme", user_id="ada")
    erased = await running.stub.EraseUser(erase, timeout=5)
    assert (erased.feedbacks, erased.answers) == (3, 1)
    told = await running.until_told(6)
    gone = [rating for rating in told if rating.withdrawn]
    assert {(one.revision, one.user_id, one.HasField("given"), one.HasField("cause")) for one in gone} == {
        (2, "ada", False, False)
    }
    # Whoever kept what another said of her answer kept that she had asked.
    (other,) = (rating for rating in told if rating.user_id == "bob" and rating.revision == 2)
    assert (other.withdrawn, other.given.thumb.up, other.cause.asked_by) == (False, True, "")
    assert [chunk.chunk_id for chunk in other.cause.chunks] == ["c1", "c2"]
    assert (await running.stub.EraseUser(erase, timeout=5)) == pb.EraseUserResponse()
    found = await running.stub.GetAnswer(pb.GetAnswerRequest(tenant="acme", answer_id=answer_id), timeout=5)
    assert [one.user_id for one in found.feedback] == ["bob"]
    assert (found.answer.user_id, found.answer.question, found.answer.answer) == ("", "", "")
    back = await running.give(feedback(answer_id))
    assert back.revision == 3


async def test_raters_get_what_scored_low_and_what_the_judges_votes_or_people_disagree_over(start: Any) -> None:
    running = await start(review_low_score=1, review_disagreement=1)
    low, torn, disputed, fine, unrecorded = (new_answer_id() for _ in range(5))
    judgment = Judgment(votes=3, score=0.6, agreement=0.6)
    scored = [
        AnswerScored(tenant="acme", answer_id=answer_id, corpus="wiki", scores={"groundedness": score}, judgment=said)
        for answer_id, score, said in (
            (low, 0.1, None),
            (torn, 0.9, judgment),
            (fine, 0.9, None),
            (unrecorded, 0.1, None),
        )
    ]
    await running.bus.deliver(topics.EVALUATION_ANSWER_SCORED, [*scored, AnswerScored(scores={"groundedness": 0})])
    assert len(running.bus.dead(topics.EVALUATION_ANSWER_SCORED, "feedback")) == 1
    await running.bus.deliver(SERVED, [served(one) for one in (low, torn, disputed, fine)])
    await running.bus.deliver(SERVED, [served(unrecorded, has_content=False)])
    await running.give(feedback(disputed, user_id="u1", thumb=UP))
    await running.give(feedback(disputed, user_id="u2", thumb=DOWN))
    await running.give(feedback(fine, user_id="u1", thumb=UP))
    items = (await running.stub.ListReviews(pb.ListReviewsRequest(tenant="acme", rater_id="r"), timeout=5)).items
    assert {one.answer.answer_id: one.sampled_by for one in items} == {
        low: "low-score",
        torn: "disagreement",
        disputed: "disagreement",
    }


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
    last = (await running.until_told(6))[-1]
    assert (last.channel, list(last.given.review.ranking)) == (events.CHANNEL_REVIEW, ["c2", "c1"])
    request = pb.SubmitReviewRequest(
        tenant="other", review_id=items[down].review_id, rater_id="r1", review=upstream.Review(stars=1)
    )
    assert (await code_of(running.stub.SubmitReview(request, timeout=5)))[0] is StatusCode.NOT_FOUND
