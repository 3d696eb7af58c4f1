"""People who ask and react, as product apps see them, and what the loop makes of it.

The dataset's documents are split in two by the seed. People ask questions about one half, over the public contract, and
judge one of the passages shown: the higher it stands, the likelier it is looked at (1/rank), and some judgments are
wrong. Adversaries judge the other way round, all of them. What the loop has learned is measured on questions about the
other half, through the public search, as a person who falls into the variant measured would see it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
import yaml
from ir_measures import calc_aggregate, nDCG

from anabranch.evaluation.v1 import evaluation_service_pb2 as evaluation
from anabranch.evaluation.v1 import evaluation_service_pb2_grpc as evaluation_grpc
from anabranch.registry.v1 import lineage_pb2 as lineage
from anabranch.registry.v1 import registry_service_pb2 as registry
from anabranch.registry.v1 import registry_service_pb2_grpc as registry_grpc
from anabranch.retrieval.v1 import retrieval_service_pb2 as retrieval
from anabranch.retrieval.v1 import retrieval_service_pb2_grpc as retrieval_grpc
from anabranch.training.v1 import training_service_pb2 as training
from anabranch.training.v1 import training_service_pb2_grpc as training_grpc
from anabranch_cli.connection import Platform
from anabranch_cli.datasets import read_jsonl, read_qrels, read_queries
from anabranch_cli.documents import Tally, change, send
from anabranch_cli.internal import author, calls, scope_of
from anabranch_cli.loop import declare
from anabranch_cli.output import note, progress
from anabranch_cli.sources import sources
from anabranch_cli.training import ended
from anabranch_client import AsyncAnabranch
from anabranch_client.results import Hit, Retrieved, Started
from anabranch_faults import Invalid, NotFound, Transient

MEASURE: Final = nDCG @ 10
DEPTH: Final = 10
SHOWN: Final = 5
"""Passages a person looks at."""
CALL: Final = timedelta(seconds=60)
DEALS: Final = 400
"""Names tried until one falls into the variant to be measured."""

ON_THE_WAY: Final = (
    lineage.CANDIDATE_STATE_TRAINED,
    lineage.CANDIDATE_STATE_GATED,
    lineage.CANDIDATE_STATE_CANARY,
    lineage.CANDIDATE_STATE_EXPERIMENT,
)
LIVE: Final = (lineage.CANDIDATE_STATE_CANARY, lineage.CANDIDATE_STATE_EXPERIMENT, lineage.CANDIDATE_STATE_PROMOTED)

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is simulated."""

    corpus: str
    dataset: Path
    users: int
    events: int
    noise: float
    adversaries: float
    sabotage: bool
    seed: int
    experiment_asks: int
    patience: float
    concurrency: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A question and the documents that are right for it."""

    text: str
    question_id: str
    relevant: dict[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """One reaction to be: who asks what, where they look, and whether they err. Drawn before anything is asked."""

    user: str
    question: Question
    place: float
    errs: bool
    hostile: bool


@dataclass(slots=True)
class Simulation:
    """One run against a running platform."""

    where: Platform
    plan: Plan
    quiet: bool
    asked: list[Question] = field(default_factory=list)
    unseen: list[Question] = field(default_factory=list)
    given: int = 0

    async def run(self) -> dict[str, Any]:
        """The report. Raises Invalid for a dataset that cannot be split, Transient when the loop does not close."""
        self.split()
        await self.fill()
        self.say(f"{len(self.asked)} questions will be asked, {len(self.unseen)} are kept unseen")
        async with self.where.async_client() as client:
            serving = await self.serving()
            baseline = await self.measured(client, serving)
            self.say(f"before: nDCG@10 {baseline:.4f}")
            self.declare()
            known = {each.candidate_id for each in self.candidates()}
            await self.react(client, self.people(self.plan.events), label="feedback")
            trained_by, began = self.given, time.monotonic()
            if self.plan.sabotage:
                self.sabotage()
            candidate, to_canary = await self.arrived(known, began)
            candidate = await self.experiment(client, candidate)
            promoted = candidate.state in {lineage.CANDIDATE_STATE_PROMOTED, lineage.CANDIDATE_STATE_SETTLED}
            self.say(f"{candidate.candidate_id}: {candidate.reason}")
            after = await self.measured(client, candidate.variant.variant_id if promoted else serving)
            gold = await self.gold(candidate.base.retrieval)
        lift = gold - baseline
        return {
            "baseline": round(baseline, 4),
            "after": round(after, 4),
            "gold": round(gold, 4),
            "share": round((after - baseline) / lift, 4) if lift > 0 else None,
            "events": trained_by,
            "adversaries": self.plan.adversaries,
            "promoted": promoted,
            "rolled_back": candidate.state == lineage.CANDIDATE_STATE_ROLLED_BACK,
            "seconds_to_canary": None if to_canary is None else round(to_canary, 2),
            "state": lineage.CandidateState.Name(candidate.state).removeprefix("CANDIDATE_STATE_").lower(),
            "reason": candidate.reason,
            "model": candidate.model_version,
            "experiment_events": self.given - trained_by,
            "questions": {"asked": len(self.asked), "unseen": len(self.unseen)},
        }

    def say(self, text: str) -> None:
        """For the person at the terminal."""
        if not self.quiet:
            note(f"  {text}")

    def split(self) -> None:
        """Documents in two halves; a question belongs to a half when all that is right for it does."""
        qrels = read_qrels(self.plan.dataset / "qrels.tsv")
        documents = sorted({key for judged in qrels.values() for key, value in judged.items() if value > 0})
        rng = np.random.default_rng([self.plan.seed, 0])
        half = {documents[index] for index in rng.permutation(len(documents))[: len(documents) // 2]}
        for row in read_queries(self.plan.dataset / "queries.jsonl"):
            relevant = {key: value for key, value in qrels.get(row["_id"], {}).items() if value > 0}
            if not relevant:
                continue
            inside = sum(key in half for key in relevant)
            question = Question(text=row["text"], question_id=str(row["_id"]), relevant=relevant)
            if inside == len(relevant):
                self.asked.append(question)
            elif inside == 0:
                self.unseen.append(question)
        if len(self.asked) < 2 or len(self.unseen) < 2:  # noqa: PLR2004  nothing to compare
            raise Invalid("has too few judged questions to be split in two", field="dataset")

    async def fill(self) -> None:
        """Puts the dataset's documents in, where the corpus has fewer."""
        path = self.plan.dataset / "corpus.jsonl"
        wanted = len({row["_id"] for row in read_jsonl(path)})
        async with self.where.async_client() as client:
            present = {each.corpus: each.document_count for each in await client.corpora()}
        if present.get(self.plan.corpus, 0) >= wanted:
            return
        documents = sources([path])

        def changes(_: Tally) -> Iterable[Any]:
            for each in documents:
                yield change(self.where, each.message(tenant=self.where.tenant, corpus=self.plan.corpus))

        self.say(f"putting {wanted} documents into {self.plan.corpus}")
        tally = await send(
            self.where,
            lambda one: iter(changes(one)),
            len(documents),
            wait=True,
            patience=self.plan.patience,
            quiet=self.quiet,
        )
        if tally.waiting:
            raise Transient(f"{len(tally.waiting)} documents are not queryable yet; see `anabranch dlq ls`")

    def people(self, count: int, *, prefix: str = "user", each: int = 0) -> list[Person]:
        """Reactions to be, all drawn now. `each`: a new person after that many; 0: from the plan's users."""
        rng = np.random.default_rng([self.plan.seed, 1, count])
        hostile = round(self.plan.adversaries * self.plan.users)
        drawn = []
        for index in range(count):
            number = index // each if each else int(rng.integers(self.plan.users))
            bad = number % self.plan.users < hostile if each == 0 else bool(rng.random() < self.plan.adversaries)
            drawn.append(
                Person(
                    user=f"{prefix}-{self.plan.seed}-{number}",
                    question=self.asked[int(rng.integers(len(self.asked)))],
                    place=float(rng.random()),
                    errs=bool(rng.random() < self.plan.noise),
                    hostile=bad,
                )
            )
        return drawn

    async def react(self, client: AsyncAnabranch, people: Sequence[Person], *, label: str) -> None:
        """Everyone asks, looks at one passage, and says whether it fits."""

        async def one(person: Person) -> None:
            answer_id: str = ""
            hits: tuple[Hit, ...] = ()
            async for event in client.ask_stream(
                person.question.text, corpus=self.plan.corpus, user_id=person.user, timeout=CALL
            ):
                match event:
                    case Started():
                        answer_id = event.answer_id
                    case Retrieved():
                        hits = tuple(event.hits[:SHOWN])
            if not hits:
                return
            looks = np.cumsum(1 / np.arange(1, len(hits) + 1))
            seen = hits[int(np.searchsorted(looks, person.place * looks[-1]))]
            fits = (seen.document_id in person.question.relevant) ^ person.errs ^ person.hostile
            await client.feedback(
                answer_id,
                user_id=person.user,
                timeout=CALL,
                **({"relevant": seen.chunk_id} if fits else {"irrelevant": seen.chunk_id}),
            )
            self.given += 1

        await self.every(people, one, label=label)

    async def every(self, items: Sequence[T], one: Callable[[T], Awaitable[None]], *, label: str) -> None:
        """Runs `one` over all, several at a time. The first error ends it."""
        gate = asyncio.Semaphore(self.plan.concurrency)
        with progress(label, len(items), quiet=self.quiet) as advance:

            async def gated(item: T) -> None:
                async with gate:
                    await one(item)
                advance(1)

            async with asyncio.TaskGroup() as group:
                for item in items:
                    group.create_task(gated(item))

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
            "gate": {"datasets": [self.golden], "metric": "ndcg@10", "mode": "GATE_MODE_IMPROVEMENT"},
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

    async def serving(self) -> str:
        """The variant that holds the largest share now."""
        with calls(self.where, "registry", registry_grpc.RegistryServiceStub) as service:
            for scope in (self.scope, self.where.tenant, "*"):
                try:
                    routing = service.GetRouting(registry.GetRoutingRequest(scope=scope)).routing
                except NotFound:
                    continue
                return str(max(routing.shares, key=lambda share: share.weight).variant.variant_id)
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

    async def arrived(self, known: set[str], began: float) -> tuple[lineage.Candidate, float | None]:
        """The new candidate once it has traffic or never will, and the seconds until it had."""
        until = began + self.plan.patience
        while time.monotonic() < until:
            fresh = [each for each in self.candidates() if each.candidate_id not in known]
            if fresh and fresh[0].state in LIVE:
                return fresh[0], time.monotonic() - began
            if fresh and fresh[0].state not in ON_THE_WAY:
                return fresh[0], None
            self.check_training()
            await asyncio.sleep(0.1)
        raise Transient(
            f"no candidate has come to traffic or been refused within {self.plan.patience:g} s; see `anabranch loop`"
        )

    def check_training(self) -> None:
        """Raises Invalid when the last run failed: nothing will come of waiting."""
        with calls(self.where, "training", training_grpc.TrainingServiceStub) as service:
            runs = service.ListTrainings(
                training.ListTrainingsRequest(tenant=self.where.tenant, corpus=self.plan.corpus, page_size=1)
            ).trainings
        if runs and runs[0].state == training.TRAINING_STATE_FAILED:
            raise Invalid(f"run {runs[0].run_id} failed: {runs[0].problem}", field="training")

    async def experiment(self, client: AsyncAnabranch, candidate: lineage.Candidate) -> lineage.Candidate:
        """New people go on asking until the candidate is decided, or the allowance is used up."""
        people = self.people(self.plan.experiment_asks, prefix="visitor", each=1)
        portion = max(100, self.plan.concurrency * 10)
        for start in range(0, len(people), portion):
            if candidate.state not in ON_THE_WAY:
                return candidate
            await self.react(client, people[start : start + portion], label="experiment")
            candidate = self.candidate(candidate.candidate_id)
        for _ in range(50):  # what the last people said is still on its way
            if candidate.state not in ON_THE_WAY:
                break
            await asyncio.sleep(0.1)
            candidate = self.candidate(candidate.candidate_id)
        return candidate

    def candidate(self, candidate_id: str) -> lineage.Candidate:
        """As it now stands."""
        with calls(self.where, "registry", registry_grpc.RegistryServiceStub) as service:
            found: lineage.Candidate = service.GetCandidate(
                registry.GetCandidateRequest(candidate_id=candidate_id)
            ).candidate
        return found

    async def measured(self, client: AsyncAnabranch, variant_id: str) -> float:
        """NDCG@10 on the unseen questions, as people see it whom the gateway deals that variant."""
        run: dict[str, dict[str, float]] = {}

        async def one(question: Question) -> None:
            for attempt in range(DEALS):
                found = await client.search(
                    question.text, corpus=self.plan.corpus, limit=DEPTH, user_id=f"reader-{attempt}", timeout=CALL
                )
                if found.variant_id == variant_id:
                    run[question.question_id] = ranked(hit.document_id for hit in found.hits)
                    return
                await asyncio.sleep(0)
            raise Transient(f"the gateway deals {variant_id} to nobody", retry_after=timedelta(seconds=1))

        await self.every(self.unseen, one, label="measuring")
        return self.ndcg(run)

    def ndcg(self, run: dict[str, dict[str, float]]) -> float:
        """Mean over the unseen questions."""
        qrels = {each.question_id: each.relevant for each in self.unseen}
        return float(calc_aggregate([MEASURE], qrels, run)[MEASURE])

    async def gold(self, settings: retrieval.RetrievalSettings) -> float:
        """NDCG@10 on the unseen questions with a reranker trained on the asked half's own labels."""
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
            self.say("training the reference on gold labels")
            done = await asyncio.to_thread(ended, service, begun.run_id, timeout=self.plan.patience)
        if done.state != training.TRAINING_STATE_DONE:
            raise Transient(f"the reference run {done.run_id} failed: {done.problem}")
        asked = retrieval.RetrievalSettings()
        asked.CopyFrom(settings)
        asked.reranker_version, asked.top_k = done.model_version, DEPTH
        run: dict[str, dict[str, float]] = {}
        with (
            calls(self.where, "retrieval", retrieval_grpc.RetrievalServiceStub) as service,
            progress("reference", len(self.unseen), quiet=self.quiet) as advance,
        ):
            for question in self.unseen:
                found = service.Retrieve(
                    retrieval.RetrieveRequest(
                        tenant=self.where.tenant,
                        corpus=self.plan.corpus,
                        query=question.text,
                        settings=asked,
                        without_sentences=True,
                    )
                )
                if found.reranker_version != done.model_version:
                    raise Transient(f"retrieval did not apply {done.model_version}")
                run[question.question_id] = ranked(each.document.document_id for each in found.passages)
                advance(1)
        return self.ndcg(run)


def ranked(documents: Iterable[str]) -> dict[str, float]:
    """Document -> score that falls with its best rank."""
    scores: dict[str, float] = {}
    for rank, document_id in enumerate(documents):
        scores.setdefault(document_id, float(DEPTH - rank))
    return scores
