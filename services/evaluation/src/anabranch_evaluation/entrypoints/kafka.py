"""What is heard and told: candidates in, verdicts out."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from anabranch import topics
from anabranch.registry.v1.lineage_pb2 import CandidateChanged
from anabranch_bus import Batch, Bus, Encoded, Event, Outcome, derived_id
from anabranch_evaluation.application.gating import DecideGates
from anabranch_evaluation.domain.gates import Gate
from anabranch_evaluation.entrypoints.messages import candidacy_from, gate_message

__all__ = ["encoded_gate", "register_gates"]

GROUP: Final = "evaluation"
GATE_TAKES: Final = timedelta(minutes=30)
"""A gate over a large golden set is long work, not a stuck handler."""


def register_gates(bus: Bus, decide: DecideGates) -> None:
    """Declares the handler of candidates."""

    @bus.subscriber(topics.REGISTRY_CANDIDATE_CHANGED, group=GROUP, max_records=1, stuck_after=GATE_TAKES)
    async def on_candidate_changed(records: Batch[CandidateChanged]) -> Outcome[CandidateChanged]:
        outcome = records.outcome()
        for _, candidacy in outcome.parse(candidacy_from):
            if candidacy is not None:
                await decide.candidate(candidacy)
        return outcome


def encoded_gate(gate: Gate) -> Encoded:
    """Return the event that tells a verdict. Its id follows from the gate's: told again, it is the same."""
    topic = topics.EVALUATION_GATE_DECIDED
    return Event(
        topic=topic,
        message=gate_message(gate),
        key=gate.candidate_id or gate.gate_id,
        event_id=derived_id(gate.gate_id, topic.name),
        time=gate.decided_at,
    ).encode()
