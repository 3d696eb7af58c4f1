"""Answers and passages that guardrails stopped."""

from __future__ import annotations

from anabranch.gateway.v1.events_pb2 import AnswerServed
from anabranch.generation.v1 import generation_service_pb2 as generation
from anabranch.guardrails.v1 import events_pb2 as guardrails
from anabranch_evaluation.entrypoints.experiments import served_from


def record() -> AnswerServed:
    made = AnswerServed(tenant="acme", answer_id="a-1", experiment_id="ex-1", arm="control", has_content=True)
    made.passages.add(chunk_id="c-1", text="one")
    made.passages.add(chunk_id="c-2", text="two")
    return made


def test_a_blocked_answer_counts_for_its_arm_and_is_not_scored() -> None:
    blocked = record()
    blocked.finish_reason = generation.FINISH_REASON_BLOCKED
    served = served_from(blocked)
    assert served.exposure is not None
    assert served.exposure.blocked
    assert not served.readable


def test_a_passage_that_was_withheld_bears_nothing_out() -> None:
    withheld = record()
    withheld.guards.add(check="injection", verdict=guardrails.VERDICT_BLOCK, passage=0)
    withheld.guards.add(check="injection", verdict=guardrails.VERDICT_BLOCK, passage=1, shadow=True)
    served = served_from(withheld)
    assert served.readable
    assert [context.chunk_id for context in served.contexts] == ["c-2"]
