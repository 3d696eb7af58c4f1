"""People who ask and react, as product apps see them, and what the loop makes of it.

The dataset's documents are split in two by the seed. People ask questions about one half, over the public contract, and
judge one of the passages shown: the higher it stands, the likelier it is looked at (1/rank); some judgments are wrong,
some people say nothing. Adversaries judge the other way round, all of them. What the loop has learned is measured on
questions about the other half, through the public search, as a person who falls into the variant measured would see it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Any, Final, TypeVar

import numpy as np
from ir_measures import calc_aggregate, nDCG

from anabranch.registry.v1 import events_pb2 as variants
from anabranch.registry.v1 import lineage_pb2 as lineage
from anabranch.retrieval.v1 import retrieval_service_pb2 as retrieval
from anabranch.retrieval.v1 import retrieval_service_pb2_grpc as retrieval_grpc
from anabranch.training.v1 import training_service_pb2 as training
from anabranch_cli.connection import Platform
from anabranch_cli.datasets import read_jsonl
from anabranch_cli.documents import Tally, change, send
from anabranch_cli.internal import calls
from anabranch_cli.output import note, progress
from anabranch_cli.people import Person, Plan, Question, halves, people
from anabranch_cli.sources import sources
from anabranch_cli.steering import Steering
from anabranch_client import AsyncAnabranch
from anabranch_client.results import Hit, Retrieved, Started
from anabranch_faults import Overloaded, Transient

MEASURE: Final = nDCG @ 10
DEPTH: Final = 10
SHOWN: Final = 5
"""Passages a person looks at."""
CALL: Final = timedelta(seconds=60)
ROUNDS: Final = 10
"""In which people come until enough have reacted; most are done in one or two."""
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


@dataclass(slots=True)
class Simulation:
    """One run against a running platform."""

    where: Platform
    plan: Plan
    quiet: bool
    asked: list[Question] = field(default_factory=list)
    unseen: list[Question] = field(default_factory=list)
    given: int = 0
    steering: Steering = field(init=False)

    async def run(self) -> dict[str, Any]:
        """The report. Raises Invalid for a dataset that cannot be split, Transient when the loop does not close."""
        self.asked, self.unseen = halves(self.plan)
        self.steering = Steering(self.where, self.plan, self.asked)
        await self.fill()
        self.say(f"{len(self.asked)} questions will be asked, {len(self.unseen)} are kept unseen")
        async with self.where.async_client() as client:
            serving = self.steering.serving()
            baseline = await self.measured(client, serving.variant_id)
            self.say(f"before: nDCG@10 {baseline:.4f}")
            self.steering.declare()
            known = {each.candidate_id for each in self.steering.candidates()}
            earlier = self.steering.last_run()
            await self.judge(client)
            trained_by, began = self.given, time.monotonic()
            if self.plan.sabotage:
                self.steering.sabotage()
            candidate, to_canary = await self.arrived(known, began, earlier=earlier, serving=serving)
            candidate = await self.experiment(client, candidate)
            promoted = candidate.state in {lineage.CANDIDATE_STATE_PROMOTED, lineage.CANDIDATE_STATE_SETTLED}
            self.say(f"{candidate.candidate_id or 'no candidate'}: {candidate.reason}")
            after = await self.measured(client, (candidate.variant if promoted else serving).variant_id)
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

    async def judge(self, client: AsyncAnabranch) -> None:
        """People react until the plan's number of reactions came; others come for those who were shown nothing."""
        for _ in range(ROUNDS):
            if (missing := self.plan.events - self.given) <= 0:
                return
            await self.react(client, people(self.plan, self.asked, missing), label="feedback")
        if self.given < self.plan.events:
            raise Transient(f"only {self.given} of {self.plan.events} were shown a passage to judge")

    async def react(self, client: AsyncAnabranch, crowd: Sequence[Person], *, label: str) -> None:
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
            if not hits or person.silent:
                return
            looks = np.cumsum(1 / np.arange(1, len(hits) + 1))
            seen = hits[int(np.searchsorted(looks, person.place * looks[-1]))]
            fits = (seen.document_id in person.question.relevant) ^ person.errs ^ person.hostile
            give = partial(client.feedback, answer_id, user_id=person.user, timeout=CALL)
            until = time.monotonic() + self.plan.patience
            while True:
                try:
                    await (give(relevant=seen.chunk_id) if fits else give(irrelevant=seen.chunk_id))
                    break
                except Overloaded as full:  # few people who say much meet the limit of one person's feedback
                    if time.monotonic() > until:
                        raise
                    await asyncio.sleep((full.retry_after or timedelta(seconds=1)).total_seconds())
            self.given += 1

        await self.every(crowd, one, label=label)

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

    async def arrived(
        self, known: set[str], began: float, *, earlier: training.Training, serving: variants.Variant
    ) -> tuple[lineage.Candidate, float | None]:
        """The new candidate once it has traffic or never will, and the seconds until it had.

        Where training found nothing to gain, a rejected one without a name stands for it.
        """
        until = began + self.plan.patience
        while time.monotonic() < until:
            fresh = [each for each in self.steering.candidates() if each.candidate_id not in known]
            if fresh and fresh[0].state in LIVE:
                return fresh[0], time.monotonic() - began
            if fresh and fresh[0].state not in ON_THE_WAY:
                return fresh[0], None
            declined = self.steering.declined(earlier)
            if declined:
                return lineage.Candidate(state=lineage.CANDIDATE_STATE_REJECTED, reason=declined, base=serving), None
            await asyncio.sleep(0.1)
        raise Transient(
            f"no candidate has come to traffic or been refused within {self.plan.patience:g} s; see `anabranch loop`"
        )

    async def experiment(self, client: AsyncAnabranch, candidate: lineage.Candidate) -> lineage.Candidate:
        """New people go on asking until the candidate is decided, or the allowance is used up."""
        visitors = people(self.plan, self.asked, self.plan.experiment_asks, prefix="visitor", each=1)[
            : self.plan.experiment_asks
        ]
        portion = max(100, self.plan.concurrency * 10)
        for start in range(0, len(visitors), portion):
            if candidate.state not in ON_THE_WAY:
                return candidate
            await self.react(client, visitors[start : start + portion], label="experiment")
            candidate = self.steering.candidate(candidate.candidate_id)
        for _ in range(50):  # what the last people said is still on its way
            if candidate.state not in ON_THE_WAY:
                break
            await asyncio.sleep(0.1)
            candidate = self.steering.candidate(candidate.candidate_id)
        return candidate

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
        self.say("training the reference on gold labels")
        model = await asyncio.to_thread(self.steering.reference)
        asked = retrieval.RetrievalSettings()
        asked.CopyFrom(settings)
        asked.reranker_version, asked.top_k = model, DEPTH
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
                if found.reranker_version != model:
                    raise Transient(f"retrieval did not apply {model}")
                run[question.question_id] = ranked(each.document.document_id for each in found.passages)
                advance(1)
        return self.ndcg(run)


def ranked(documents: Iterable[str]) -> dict[str, float]:
    """Document -> score that falls with its best rank."""
    scores: dict[str, float] = {}
    for rank, document_id in enumerate(documents):
        scores.setdefault(document_id, float(DEPTH - rank))
    return scores
