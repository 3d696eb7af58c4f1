"""What the people who run the platform do in a simulation: declare, look, sabotage, train a reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import yaml

from anabranch.evaluation.v1 import evaluation_service_pb2 as evaluation
from anabranch.evaluation.v1 import evaluation_service_pb2_grpc as evaluation_grpc
from anabranch.registry.v1 import events_pb2 as variants
from anabranch.registry.v1 import lineage_pb2 as lineage
from anabranch.registry.v1 import registry_service_pb2 as registry
from anabranch.registry.v1 import registry_service_pb2_grpc as registry_grpc
from anabranch.training.v1 import training_service_pb2 as training
from anabranch.training.v1 import training_service_pb2_grpc as training_grpc
from anabranch_cli.connection import Platform
from anabranch_cli.internal import author, calls, scope_of
from anabranch_cli.loop import declare
from anabranch_cli.people import Plan, Question
from anabranch_cli.training import ended
from anabranch_faults import Invalid, NotFound, Transient

__all__ = ["Steering"]


@dataclass(frozen=True, slots=True)
class Steering:
    """The operator of one simulation."""

    where: Platform
    plan: Plan
    asked: Sequence[Question]

    @property
    def scope(self) -> str:
        """Whose traffic."""
        return scope_of(self.where, self.plan.corpus)

    @property
    def golden(self) -> str:
        """Name of the golden set that the gate uses: the questions people ask, with the dataset's judgments."""
        return f"{self.plan.corpus.lower()}-asked-{self.plan.seed}"

    def declare(self) -> None:
        """The golden set, and a policy under which the loop goes by itself."""
        questions = [
            evaluation.GoldenQuestion(question_id=each.question_id, text=each.text, relevant_documents=each.relevant)
            for each in self.asked
        ]
        with calls(self.where, "evaluation", evaluation_grpc.EvaluationServiceStub) as service:
            service.PutDataset(
                evaluation.PutDatasetRequest(
                    tenant=self.where.tenant,
                    name=self.golden,
                    corpus=self.plan.corpus,
                    questions=questions,
                    author=author(),
                )
            )
        policy = {
            "training": {
                "after_feedback": 0 if self.plan.sabotage else self.plan.events,
                "min_feedback": min(200, self.plan.events),
            },
            # Half a point: with a few hundred questions a small gain cannot be told from none, a loss that hurts can.
            "gate": {
                "datasets": [self.golden],
                "metric": "ndcg@10",
                "mode": "GATE_MODE_IMPROVEMENT",
                "margin": 0.005,
            },
            "canary": {"share": 10, "min_users": 20},
            "experiment": {
                "mode": "DECISION_MODE_ANYTIME",
                "metric": "satisfaction",
                "promote_when": "PROMOTE_WHEN_NOT_WORSE",
                "margin": 0.1,
                "min_users": 100,
                "share": 50,
                "guards": [{"metric": "latency_p95", "max_ratio": 3.0}],
            },
            "holdout": {"share": 5},
        }
        declare(self.where, self.scope, yaml.safe_dump(policy), reason="simulated people")

    def serving(self) -> variants.Variant:
        """The variant that holds the largest share now."""
        with calls(self.where, "registry", registry_grpc.RegistryServiceStub) as service:
            for scope in (self.scope, self.where.tenant, "*"):
                try:
                    routing = service.GetRouting(registry.GetRoutingRequest(scope=scope)).routing
                except NotFound:
                    continue
                variant: variants.Variant = max(routing.shares, key=lambda share: share.weight).variant
                return variant
        raise NotFound("nothing is routed", field="corpus")

    def candidates(self) -> Sequence[lineage.Candidate]:
        """Those of the corpus."""
        with calls(self.where, "registry", registry_grpc.RegistryServiceStub) as service:
            found: Sequence[lineage.Candidate] = service.ListCandidates(
                registry.ListCandidatesRequest(scope=self.scope, page_size=100)
            ).candidates
        return found

    def sabotage(self) -> None:
        """A candidate on reversed labels."""
        with calls(self.where, "training", training_grpc.TrainingServiceStub) as service:
            service.StartTraining(
                training.StartTrainingRequest(
                    tenant=self.where.tenant,
                    corpus=self.plan.corpus,
                    recipe=training.RECIPE_RERANKER,
                    seed=self.plan.seed,
                    reverse_labels=True,
                    author=author(),
                    reason="a drill: labels reversed",
                )
            )

    def last_run(self) -> training.Training:
        """The corpus's newest run; without a name where there was none."""
        with calls(self.where, "training", training_grpc.TrainingServiceStub) as service:
            runs = service.ListTrainings(
                training.ListTrainingsRequest(tenant=self.where.tenant, corpus=self.plan.corpus, page_size=1)
            ).trainings
        return runs[0] if runs else training.Training()

    def declined(self, before: training.Training) -> str:
        """Why the run since `before` offers no candidate; empty while it may. Raises Invalid when it failed."""
        run = self.last_run()
        if run.state == training.TRAINING_STATE_FAILED:
            raise Invalid(f"run {run.run_id} failed: {run.problem}", field="training")
        fresh = run.run_id != before.run_id and run.state == training.TRAINING_STATE_DONE
        return run.problem if fresh and not run.model_version else ""

    def candidate(self, candidate_id: str) -> lineage.Candidate:
        """As it now stands."""
        with calls(self.where, "registry", registry_grpc.RegistryServiceStub) as service:
            found: lineage.Candidate = service.GetCandidate(
                registry.GetCandidateRequest(candidate_id=candidate_id)
            ).candidate
        return found

    def reference(self) -> str:
        """Trains a reranker on the asked questions' own labels, withheld from traffic. Returns its model version."""
        with calls(self.where, "training", training_grpc.TrainingServiceStub) as service:
            begun = service.StartTraining(
                training.StartTrainingRequest(
                    tenant=self.where.tenant,
                    corpus=self.plan.corpus,
                    recipe=training.RECIPE_RERANKER,
                    seed=self.plan.seed,
                    gold=[
                        training.GoldJudgment(question=each.text, relevant_documents=each.relevant)
                        for each in self.asked
                    ],
                    withheld=True,
                    author=author(),
                    reason="the reference: trained on gold labels",
                )
            ).training
            done = ended(service, begun.run_id, timeout=self.plan.patience)
        if done.state != training.TRAINING_STATE_DONE:
            raise Transient(f"the reference run {done.run_id} failed: {done.problem}")
        return done.model_version
