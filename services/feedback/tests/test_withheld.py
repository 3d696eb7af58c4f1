"""Passages that guardrails withheld, and what an answer's record says besides."""

from __future__ import annotations

from anabranch.gateway.v1.events_pb2 import AnswerServed
from anabranch.generation.v1 import generation_service_pb2 as generation
from anabranch.guardrails.v1 import events_pb2 as guardrails
from anabranch_feedback.application.ports import Kept
from anabranch_feedback.messages import CODEC, answer_from, cause_of
from anabranch_feedback.testing import served


def test_a_passage_that_was_withheld_was_not_shown() -> None:
    record = served("a-1", passages=3)
    record.guards.add(check="injection", verdict=guardrails.VERDICT_BLOCK, passage=1)
    record.guards.add(check="injection", verdict=guardrails.VERDICT_BLOCK, passage=2, shadow=True)
    record.guards.add(check="injection", verdict=guardrails.VERDICT_BLOCK)
    kept = [record.passages[0].chunk_id, record.passages[2].chunk_id]
    chunks = cause_of(record).chunks
    assert [chunk.chunk_id for chunk in chunks] == kept
    assert [chunk.shown_rank for chunk in chunks] == [1, 2]


def test_an_erased_record_says_nothing_of_what_was_said_before_or_filled_in() -> None:
    record = served("a-1")
    record.history.add(role=generation.ROLE_USER, text="a private matter")
    record.variables["name"] = "private"
    record.guards.add(check="pii", verdict=guardrails.VERDICT_FLAG, reason="a private address")
    known = answer_from(record)
    kept = CODEC.emptied(Kept(tenant="acme", answer_id="a-1", record=known.record, cause=known.cause))
    left = AnswerServed.FromString(kept.record)
    assert "private" not in str(left)
    assert [guard.check for guard in left.guards] == ["pii"]
