"""The service as tests drive it, and the messages that they send it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from anabranch import topics
from anabranch.evaluation.v1 import evaluation_service_pb2 as pb
from anabranch.feedback.v1.events_pb2 import Cause, RatingGiven
from anabranch.gateway.v1.events_pb2 import AnswerServed
from anabranch.registry.v1 import lineage_pb2, loop_pb2
from anabranch.retrieval.v1 import retrieval_service_pb2 as retrieval
from anabranch_bus import MemoryBus
from anabranch_evaluation.testing.neighbours import Neighbours

QUESTIONS = 60


@dataclass(slots=True, kw_only=True)
class Running:
    """One service that runs in this process, its bus and what it asks."""

    stub: Any
    bus: MemoryBus
    world: Neighbours
    # Calls a function until it gives something; the test kit's, which services do not depend on.
    poll: Any

    async def put(self, **changes: Any) -> str:
        """Put the golden set; returns its version."""
        request = pb.PutDatasetRequest(
            tenant="t",
            name="golden",
            corpus="c",
            slices=["group"],
            author="ada",
            questions=[
                pb.GoldenQuestion(
                    question_id=f"q{n:02}",
                    text=f"question {n}",
                    answers=[f"About d{n}."],
                    relevant_documents={f"d{n}": 1},
                    metadata={"group": "even" if n % 2 == 0 else "odd"},
                )
                for n in range(QUESTIONS)
            ],
        )
        for name, value in changes.items():
            setattr(request, name, value)
        response = await self.stub.PutDataset(request, timeout=10)
        return str(response.dataset_version)

    async def run(self, variant_id: str, *, answers: bool = False) -> Any:
        """Run a variant over the golden set; returns the run when it ended."""
        asked = pb.StartRunRequest(tenant="t", dataset="golden", variant_id=variant_id, answers=answers)
        run_id = (await self.stub.StartRun(asked, timeout=10)).run_id

        async def ended() -> Any:
            run = (await self.stub.GetRun(pb.GetRunRequest(run_id=run_id), timeout=10)).run
            return run if run.state != pb.RUN_STATE_RUNNING else None

        return await self.poll(ended, deadline=20)

    async def candidate(self, candidate_id: str, treatment: str, *, revision: int = 1, **gate: Any) -> Any:
        """Tell of a candidate; returns the gates decided on it."""
        await self.bus.deliver(
            topics.REGISTRY_CANDIDATE_CHANGED,
            [
                lineage_pb2.CandidateChanged(
                    candidate=lineage_pb2.Candidate(
                        candidate_id=candidate_id,
                        scope="t/c",
                        base=self.world.variants["v-base"],
                        variant=self.world.variants[treatment],
                        state=lineage_pb2.CANDIDATE_STATE_TRAINED,
                        revision=revision,
                    ),
                    policy=loop_pb2.LoopPolicy(gate=loop_pb2.GateSpec(**gate)),
                )
            ],
        )
        return await self.poll(
            lambda: [
                event.message
                for event in self.bus.published(topics.EVALUATION_GATE_DECIDED)
                if event.message.candidate_id == candidate_id
            ],
            deadline=20,
        )


def experiment(phase: Any, revision: int, **design: Any) -> lineage_pb2.ExperimentChanged:
    """An experiment of two arms in that phase."""
    shares = {lineage_pb2.EXPERIMENT_PHASE_CANARY: 5_000, lineage_pb2.EXPERIMENT_PHASE_RUNNING: 5_000}
    treatment = shares.get(phase, 9_500)
    return lineage_pb2.ExperimentChanged(
        experiment=lineage_pb2.Experiment(
            experiment_id="ex-1",
            scope="t/c",
            candidate_id="ca-1",
            arms=[
                lineage_pb2.Arm(name="control", variant_id="v-base", weight=10_000 - treatment, control=True),
                lineage_pb2.Arm(name="treatment", variant_id="v-good", weight=treatment),
            ],
            phase=phase,
            phase_revision=revision,
            canary=loop_pb2.CanaryPolicy(min_users=20),
            design=loop_pb2.ExperimentDesign(**design),
        )
    )


def served(user: int, arm: str, revision: int, *, answer: str = "", abstained: bool = False) -> AnswerServed:
    """An answer that a user got in an arm."""
    text = answer or "The tower was finished in 1889."
    return AnswerServed(
        tenant="t",
        answer_id=f"a-{user}-{arm}-{revision}",
        corpus="c",
        user_id=f"u{user}",
        experiment_id="ex-1",
        arm=arm,
        routing_scope="t/c",
        routing_revision=revision,
        has_content=True,
        question="When was the tower finished?",
        answer=text,
        abstained=abstained,
        passages=[retrieval.Passage(chunk_id="c1", text="The tower was finished in 1889. It is tall.")],
    )


def rated(user: int, arm: str, revision: int, *, up: bool, given: int = 1, withdrawn: bool = False) -> RatingGiven:
    """The same user's thumb about that answer."""
    answer = f"a-{user}-{arm}-{revision}"
    message = RatingGiven(
        feedback_id=f"f-{answer}",
        revision=given,
        tenant="t",
        answer_id=answer,
        user_id=f"u{user}",
        cause=Cause(experiment_id="ex-1", arm=arm, routing_revision=revision, asked_by=f"u{user}"),
        withdrawn=withdrawn,
    )
    if not withdrawn:
        message.given.thumb.up = up
    return message


ARMS = ("control", "treatment")
CANARY, RUNNING, HOLDOUT = (
    lineage_pb2.EXPERIMENT_PHASE_CANARY,
    lineage_pb2.EXPERIMENT_PHASE_RUNNING,
    lineage_pb2.EXPERIMENT_PHASE_HOLDOUT,
)


async def expose(running: Running, revision: int, users: range, *, satisfied: dict[str, float] | None = None) -> None:
    """Users by turns in control and treatment; `satisfied`: share of thumbs up by arm."""
    await running.bus.deliver(topics.GATEWAY_ANSWER_SERVED, [served(user, ARMS[user % 2], revision) for user in users])
    if satisfied:
        ratings = [
            rated(user, ARMS[user % 2], revision, up=(user // 2) % 100 < satisfied[ARMS[user % 2]] * 100)
            for user in users
        ]
        await running.bus.deliver(topics.FEEDBACK_RATING_GIVEN, ratings)


async def decided(running: Running, phase_revision: int) -> Any:
    """Wait for a decision about that phase; returns the first."""
    found = await running.poll(
        lambda: [
            event.message
            for event in running.bus.published(topics.EVALUATION_EXPERIMENT_DECIDED)
            if event.message.phase_revision == phase_revision
        ],
        deadline=20,
    )
    return found[0]


async def report(running: Running) -> Any:
    """What the service says of the experiment now."""
    return await running.stub.GetExperimentReport(pb.GetExperimentReportRequest(experiment_id="ex-1"), timeout=10)
