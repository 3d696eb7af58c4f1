"""The loop over the service's own gRPC and topics."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from grpc import StatusCode
from grpc.aio import AioRpcError

from anabranch import topics
from anabranch.evaluation.v1 import events_pb2 as evaluation
from anabranch.registry.v1 import lineage_pb2 as lineage
from anabranch.registry.v1 import registry_service_pb2 as pb
from anabranch.registry.v1.registry_service_pb2_grpc import RegistryServiceStub
from anabranch.training.v1.events_pb2 import CandidateTrained
from anabranch_bus import MemoryBus
from anabranch_faults import Invalid, NotFound
from anabranch_registry.application import EndHoldouts, OpenRegistry
from anabranch_registry.application.ports import Standing
from anabranch_registry.bootstrap import build
from anabranch_registry.domain.candidates import CandidateState
from anabranch_registry.domain.defaults import DEFAULT_VARIANT
from anabranch_registry.domain.faults import Stale
from anabranch_registry.domain.policies import faults_of_policy
from anabranch_registry.domain.stream.loop import Decision
from anabranch_registry.entrypoints.policies import policy_from_yaml, yaml_of
from anabranch_registry.settings import Settings
from anabranch_registry.testing import MemoryLedger, Story
from anabranch_rpc import connect
from anabranch_runtime import Process
from anabranch_testkit import poll_until

WHO: dict[str, Any] = {"author": "ada", "reason": "because"}
SCOPE = "acme/docs"
DIGEST = hashlib.sha256(b"model").hexdigest()
DATA = hashlib.sha256(b"data").hexdigest()


@dataclass(slots=True, kw_only=True)
class Registry:
    stub: Any
    bus: MemoryBus

    async def call(self, method: str, request: Any) -> Any:
        return await getattr(self.stub, method)(request, timeout=5)

    async def refused(self, method: str, request: Any) -> AioRpcError:
        with pytest.raises(AioRpcError) as raised:
            await self.call(method, request)
        return raised.value

    def last(self, topic: Any) -> Any:
        return self.bus.published(topic)[-1].message

    async def candidate(self, state: int) -> Any:
        def reached() -> bool:
            told = self.bus.published(topics.REGISTRY_CANDIDATE_CHANGED)
            return bool(told) and told[-1].message.candidate.state == state

        await poll_until(reached, deadline=10)
        return self.last(topics.REGISTRY_CANDIDATE_CHANGED).candidate

    async def train(self, *, withheld: bool = False) -> None:
        trained = CandidateTrained(run_id="tr-1", scope=SCOPE, author="service:training", reason="r", withheld=withheld)
        trained.model.kind, trained.model.digest = lineage.MODEL_KIND_RERANKER, DIGEST
        trained.model.dataset_version, trained.model.card = f"ds-{DATA[:12]}", "# Card"
        trained.dataset.digest, trained.dataset.kind = DATA, lineage.DATASET_KIND_RANKING
        await self.bus.deliver(topics.TRAINING_CANDIDATE_TRAINED, [trained])

    async def gate(self, candidate: Any) -> None:
        decided = evaluation.GateDecided(
            gate_id="ga-0123456789ab",
            candidate_id=candidate.candidate_id,
            scope=SCOPE,
            baseline_variant_id=candidate.base.variant_id,
            candidate_variant_id=candidate.variant.variant_id,
            passed=True,
            reason="better",
        )
        await self.bus.deliver(topics.EVALUATION_GATE_DECIDED, [decided])

    async def decide(self, decision: evaluation.Decision.ValueType, *, late: int = 0, arm: str = "") -> None:
        experiment = self.last(topics.REGISTRY_EXPERIMENT_CHANGED).experiment
        decided = evaluation.ExperimentDecided(
            experiment_id=experiment.experiment_id,
            phase=experiment.phase,
            phase_revision=experiment.phase_revision - late,
            decision=decision,
            arm=arm,
            reason="measured",
        )
        await self.bus.deliver(topics.EVALUATION_EXPERIMENT_DECIDED, [decided])


@pytest.fixture
async def registry(tmp_path: Path) -> AsyncIterator[Registry]:
    settings, bus = Settings(data=tmp_path), MemoryBus()
    process = Process(settings, name="registry")
    await process.start(build(settings, bus=bus))
    channel = connect(process.addresses["rpc"])
    yield Registry(stub=RegistryServiceStub(channel), bus=bus)
    await channel.close()
    await process.stop()


async def test_what_training_tells_goes_through_gate_and_experiment_to_traffic_and_back(registry: Registry) -> None:
    await registry.train()
    candidate = await registry.candidate(lineage.CANDIDATE_STATE_TRAINED)
    assert candidate.base.variant_id == DEFAULT_VARIANT.variant_id
    assert candidate.variant.retrieval.reranker_version == f"rr-{DIGEST[:12]}"
    await registry.gate(candidate)
    await registry.candidate(lineage.CANDIDATE_STATE_CANARY)
    shares = {share.arm: share for share in registry.last(topics.REGISTRY_ROUTING_CHANGED).shares}
    experiment = registry.last(topics.REGISTRY_EXPERIMENT_CHANGED).experiment
    assert {arm: share.weight for arm, share in shares.items()} == {"control": 9500, "treatment": 500}
    assert {share.experiment_id for share in shares.values()} == {experiment.experiment_id}
    hand = pb.SetRoutingRequest(scope=SCOPE, weights={DEFAULT_VARIANT.variant_id: 1}, expected_revision=1, **WHO)
    assert (await registry.refused("SetRouting", hand)).code() == StatusCode.FAILED_PRECONDITION
    await registry.decide(evaluation.DECISION_CANARY_PASSED)
    await registry.candidate(lineage.CANDIDATE_STATE_EXPERIMENT)
    await registry.decide(evaluation.DECISION_KEEP_CONTROL, late=1)
    await registry.decide(evaluation.DECISION_PROMOTE, arm="treatment")
    promoted = await registry.candidate(lineage.CANDIDATE_STATE_PROMOTED)
    label = await registry.call("GetLabel", pb.GetLabelRequest(scope=SCOPE, name="production"))
    assert label.label.variant_id == promoted.variant.variant_id
    back = await registry.call("Rollback", pb.RollbackRequest(scope=SCOPE, **WHO))
    assert back.candidate_id == candidate.candidate_id
    assert [share.variant.variant_id for share in back.routing.shares] == [DEFAULT_VARIANT.variant_id]
    changes = await registry.call("ListChanges", pb.ListChangesRequest(scope=SCOPE, page_size=1000))
    kinds = {change.subject_kind for change in changes.changes}
    assert kinds == {"candidate", "dataset", "experiment", "gate", "label", "model", "routing", "variant"}
    assert all(change.author and change.reason for change in changes.changes)
    for one in (f"ds-{DATA[:12]}", f"rr-{DIGEST[:12]}", promoted.variant.variant_id, promoted.experiment_id):
        chain = await registry.call("GetLineage", pb.GetLineageRequest(id=one))
        assert chain.nodes[0].id == one
        assert {"dataset", "model", "candidate", "variant", "experiment"} <= {node.kind for node in chain.nodes}
    assert not registry.bus.dead(topics.EVALUATION_EXPERIMENT_DECIDED, "registry")


async def test_a_withheld_model_has_a_variant_and_is_no_candidate(registry: Registry) -> None:
    await registry.train(withheld=True)
    variants = (await registry.call("ListVariants", pb.ListVariantsRequest())).variants
    assert f"rr-{DIGEST[:12]}" in variants[0].description
    assert variants[0].retrieval.reranker_version == f"rr-{DIGEST[:12]}"
    assert not (await registry.call("ListCandidates", pb.ListCandidatesRequest())).candidates
    models = (await registry.call("ListModels", pb.ListModelsRequest(kind=lineage.MODEL_KIND_RERANKER))).models
    assert [(model.model_version, model.card) for model in models] == [(f"rr-{DIGEST[:12]}", "")]
    model = await registry.call("GetModel", pb.GetModelRequest(model_version=models[0].model_version))
    assert model.model.card == "# Card"
    assert len((await registry.call("ListDatasets", pb.ListDatasetsRequest())).datasets) == 1


async def test_an_experiment_by_hand_runs_and_stops(registry: Registry) -> None:
    await registry.train(withheld=True)
    other = (await registry.call("ListVariants", pb.ListVariantsRequest())).variants[0].variant_id
    control = lineage.Arm(name="control", variant_id=DEFAULT_VARIANT.variant_id, weight=5000, control=True)
    request = pb.CreateExperimentRequest(name="try it", scope=SCOPE, **WHO)
    request.arms.extend([control, lineage.Arm(name="other", variant_id=other, weight=4000)])
    assert "arms.weight: the weights sum to 9,000" in str(
        (await registry.refused("CreateExperiment", request)).details()
    )
    request.arms[1].weight = 5000
    request.arms[1].variant_id = "v-000000000000"
    missing = await registry.refused("CreateExperiment", request)
    assert (missing.code(), "arms[1].variant_id" in str(missing.details())) == (StatusCode.NOT_FOUND, True)
    request.arms[1].variant_id = other
    created = (await registry.call("CreateExperiment", request)).experiment
    assert created.phase == lineage.EXPERIMENT_PHASE_RUNNING
    assert (await registry.refused("CreateExperiment", request)).code() == StatusCode.FAILED_PRECONDITION
    stop = pb.StopExperimentRequest(experiment_id=created.experiment_id, **WHO)
    stopped = (await registry.call("StopExperiment", stop)).experiment
    assert (stopped.phase, stopped.winner) == (lineage.EXPERIMENT_PHASE_STOPPED, "control")
    routing = (await registry.call("GetRouting", pb.GetRoutingRequest(scope=SCOPE))).routing
    assert [(share.variant.variant_id, share.arm) for share in routing.shares] == [(DEFAULT_VARIANT.variant_id, "")]


async def test_a_variant_that_names_a_missing_model_is_refused(registry: Registry) -> None:
    request = pb.CreateVariantRequest(**WHO)
    request.variant.retrieval.alpha, request.variant.retrieval.top_k = 0.5, 5
    request.variant.retrieval.reranker_version = "rr-000000000000"
    refused = await registry.refused("CreateVariant", request)
    assert refused.code() == StatusCode.NOT_FOUND
    assert "variant.retrieval.reranker_version" in str(refused.details())


async def test_a_policy_is_declared_by_compare_and_swap_and_the_nearest_holds(registry: Registry) -> None:
    default = (await registry.call("GetLoopPolicy", pb.GetLoopPolicyRequest(scope=SCOPE))).loop
    assert (default.revision, default.policy.training.after_feedback) == (0, 0)
    text = "training:\n  after_feedback: 2500\n  every: 3600s\napprovals: [promotion]\n"
    request = pb.SetLoopPolicyRequest(scope="acme", yaml=text, **WHO)
    assert (await registry.call("SetLoopPolicy", request)).loop.revision == 1
    assert (await registry.refused("SetLoopPolicy", request)).code() == StatusCode.ABORTED
    found = await registry.call("GetLoopPolicy", pb.GetLoopPolicyRequest(scope=SCOPE))
    assert (found.loop.scope, found.loop.policy.training.every.seconds) == ("acme", 3600)
    assert policy_from_yaml(found.yaml) == policy_from_yaml(text)
    await poll_until(lambda: registry.bus.published(topics.REGISTRY_LOOP_CHANGED), deadline=10)
    assert registry.last(topics.REGISTRY_LOOP_CHANGED).policy == found.loop.policy


def test_all_faults_of_a_policy_are_named_together() -> None:
    text = "gate: {metrik: x, alpha: much}\ncanary:\n  share: -1\nexperiment: {mode: GUESS}\nnothing: 1\nholdout: 3\n"
    with pytest.raises(Invalid) as raised:
        policy_from_yaml(text)
    for path in ("gate.metrik", "gate.alpha", "canary.share", "experiment.mode", "nothing", "holdout"):
        assert f"{path}:" in str(raised.value)


@pytest.mark.parametrize("text", ["- 1", "a: [", "x: &a [1]\ny: *a", "42", "training: {every: soon}"])
def test_what_is_no_policy_is_refused(text: str) -> None:
    with pytest.raises(Invalid):
        policy_from_yaml(text)


async def test_values_out_of_range_are_named_together(registry: Registry) -> None:
    text = "canary: {share: 100}\nholdout: {share: 120, keep: 0s}\napprovals: [launch]\nexperiment: {metric: joy}\n"
    refused = await registry.refused("SetLoopPolicy", pb.SetLoopPolicyRequest(scope="acme", yaml=text, **WHO))
    assert refused.code() == StatusCode.INVALID_ARGUMENT
    for path in ("canary.share", "holdout.share", "holdout.keep", "approvals[0]", "experiment.metric"):
        assert f"{path}:" in str(refused.details())


def test_drift_may_start_training_and_costs_and_blocked_answers_may_be_guarded_each_by_its_own_limit() -> None:
    policy = {
        "training": {"on_drift": True},
        "gate": {"cost_ratio": 1.2},
        "experiment": {"guards": [{"metric": "cost", "max_ratio": 1.5}]},
        "holdout": {"guards": [{"metric": "block_rate", "max_loss": 0.1}]},
    }
    assert faults_of_policy(policy) == []
    policy["experiment"] = {"guards": [{"metric": "cost", "max_loss": 1.5}, {"metric": "satisfaction", "max_ratio": 2}]}
    policy["holdout"] = {"guards": [{"metric": "charm", "max_loss": 0.1}]}
    assert [fault.split(":")[0] for fault in faults_of_policy(policy)] == [
        "experiment.guards[0].max_loss",
        "experiment.guards[1].max_ratio",
        "holdout.guards[0].metric",
    ]


def test_yaml_of_a_policy_reads_back() -> None:
    document = policy_from_yaml("gate: {datasets: [a], margin: 0.01}\npaused: true\n")
    assert policy_from_yaml(yaml_of(document)) == document


async def test_a_holdout_ends_by_itself_and_everything_is_told_again_at_start() -> None:
    ledger = MemoryLedger()
    await OpenRegistry(ledger)()
    story = Story(ledger)
    candidate_id = await story.train("run", "1")
    await story.gate(candidate_id)
    await story.decide(candidate_id, Decision.CANARY_PASSED)
    await story.decide(candidate_id, Decision.PROMOTE, arm="treatment")

    async def never(_: float) -> None:
        pytest.fail("nothing is to be waited for here")

    assert await EndHoldouts(ledger, never).once() == 0
    assert await EndHoldouts(ledger, never, now=lambda: datetime(2100, 1, 1, tzinfo=UTC)).once() == 1
    assert (await story.candidates.get(candidate_id)).state is CandidateState.SETTLED
    before = len(ledger.told)
    await OpenRegistry(ledger)()
    kinds = sorted(type(told).__name__ for told in ledger.told[before:])
    assert kinds == ["Experiment", "Routing", "Routing", "Standing"]


async def test_a_verdict_against_what_served_before_is_stale_and_the_next_one_counts() -> None:
    ledger = MemoryLedger()
    await OpenRegistry(ledger)()
    story = Story(ledger)
    first, second = await story.train("tr-1", "one"), await story.train("tr-2", "two")
    await story.gate(first)
    before = await story.candidates.get(second)
    await story.gate(second)
    await story.decide(first, Decision.CANARY_PASSED)
    await story.decide(first, Decision.PROMOTE, arm="treatment")
    now = datetime.now(UTC) + timedelta(days=8)
    assert await EndHoldouts(ledger, asyncio.sleep, now=lambda: now).once() == 1
    waited, winner = await story.candidates.get(second), await story.candidates.get(first)
    assert (waited.state, waited.base) == (CandidateState.TRAINED, winner.variant)
    told = [one.candidate for one in ledger.told if isinstance(one, Standing)][-1]
    assert (told.candidate_id, told.state, told.base) == (second, CandidateState.TRAINED, winner.variant)
    with pytest.raises(Stale, match="the gate compared with"):
        await story.gate(second, base=before.base.variant_id)
    await story.gate(second)
    assert (await story.candidates.get(second)).state is CandidateState.CANARY


async def test_an_event_that_comes_twice_takes_effect_once() -> None:
    ledger = MemoryLedger()
    await OpenRegistry(ledger)()
    assert await Story(ledger).train("run", "1")
    told = len(ledger.told)
    # The second story counts its events from the beginning: the same ids.
    assert await Story(ledger).train("run", "1") == ""
    assert len(ledger.told) == told


async def test_what_the_registry_does_not_know_has_no_lineage(registry: Registry) -> None:
    refused = await registry.refused("GetLineage", pb.GetLineageRequest(id="rr-000000000000"))
    assert refused.code() == StatusCode.NOT_FOUND
    with pytest.raises(NotFound):
        await Story(MemoryLedger()).candidates.get("ca-0")
