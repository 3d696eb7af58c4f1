"""Running a variant over a golden set."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from time import monotonic
from typing import Final
from uuid import uuid4

from anabranch_evaluation.application.datasets import Clock, utc_now
from anabranch_evaluation.application.ports import GoldenSets, Judge, Runs, Search, Variants, Writer
from anabranch_evaluation.application.scoring import Material, ScoreAnswers
from anabranch_evaluation.domain.costs import Usage
from anabranch_evaluation.domain.golden import GoldenQuestion, GoldenSet
from anabranch_evaluation.domain.ranking import Found, ranking
from anabranch_evaluation.domain.runs import DEPTH, Run, RunKey, RunState, Scored, Variant, summary
from anabranch_faults import Fault, Transient

PROGRESS_EVERY: Final = timedelta(seconds=1)


class RunFailed(Fault):
    """The run ended without metrics; the sentence says why. Not the caller's fault, and repeating it will not help."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunVariant:
    """Runs variants, a few questions at a time."""

    sets: GoldenSets
    runs: Runs
    search: Search
    writer: Writer
    variants: Variants
    judge: Judge
    score: ScoreAnswers = field(default_factory=ScoreAnswers)
    at_once: int = 4
    now: Clock = utc_now
    _tasks: set[asyncio.Task[Run]] = field(default_factory=set)
    _going: set[str] = field(default_factory=set)

    @property
    def going(self) -> Collection[str]:
        """Runs that this process is at."""
        return frozenset(self._going)

    async def start(
        self, *, tenant: str, dataset: str, variant_id: str, corpus: str = "", answers: bool = False
    ) -> Run:
        """Begins a run that goes on by itself, or gives the finished one that says the same. Raises NotFound."""
        golden = await self.sets.latest(tenant, dataset)
        variant = await self.variants.variant(variant_id)
        scorer = await self.score.version() if answers else ""
        key = _key(golden, variant, corpus=corpus, scorer=scorer)
        known = await self.runs.done(key, index_generation=await self.search.generation(tenant, key.corpus))
        if known is not None:
            return known
        run = await self._begin(key, golden)
        task = asyncio.get_running_loop().create_task(self._run_to_the_end(run, golden, variant))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return run

    async def finished(self, golden: GoldenSet, variant: Variant, *, corpus: str = "", answers: bool = False) -> Run:
        """A finished run, made now or before over the same index. Raises RunFailed; Transient: a service is away."""
        scorer = await self.score.version() if answers else ""
        key = _key(golden, variant, corpus=corpus, scorer=scorer)
        known = await self.runs.done(key, index_generation=await self.search.generation(key.tenant, key.corpus))
        if known is not None:
            return known
        run = await self._run_to_the_end(await self._begin(key, golden), golden, variant, raising=True)
        if run.state is RunState.FAILED:
            raise RunFailed(run.problem)
        return run

    async def stop(self) -> None:
        """Ends what is running."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _begin(self, key: RunKey, golden: GoldenSet) -> Run:
        run = Run(
            run_id=f"rn-{uuid4().hex[:12]}",
            key=key,
            state=RunState.RUNNING,
            started_at=self.now(),
            total=len(golden.questions),
        )
        self._going.add(run.run_id)
        await self.runs.begin(run)
        return run

    async def _run_to_the_end(self, run: Run, golden: GoldenSet, variant: Variant, *, raising: bool = False) -> Run:
        try:
            done = await self._run(run, golden, variant)
        except Fault as fault:
            done = replace(run, state=RunState.FAILED, problem=str(fault), finished_at=self.now())
            await self.runs.finish(done)
            if raising and isinstance(fault, Transient):
                raise
            return done
        except asyncio.CancelledError:
            stopped = replace(run, state=RunState.FAILED, problem="the service stopped", finished_at=self.now())
            await asyncio.shield(self.runs.finish(stopped))
            raise
        finally:
            self._going.discard(run.run_id)
        await self.runs.finish(done)
        return done

    async def _run(self, run: Run, golden: GoldenSet, variant: Variant) -> Run:
        work = _Work(self, run, variant)
        left = iter(golden.questions)  # one iterator, so that each question is asked once
        tasks = [asyncio.ensure_future(work.take(left)) for _ in range(self.at_once)]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        ranked = {one.question_id: work.ranked[one.question_id] for one in golden.questions}
        relevant = {one.question_id: one.relevant for one in golden.questions if one.relevant and not one.unanswerable}
        scores = await asyncio.to_thread(self.judge.rankings, ranked, relevant)
        questions = {
            key: Scored(
                scores={**scores.get(key, {}), **work.answers.get(key, {})},
                latency=work.latency[key],
                usage=work.usage.get(key),
            )
            for key in sorted(ranked)
        }
        return replace(
            run,
            state=RunState.DONE,
            done=len(questions),
            # A run during which the index moved is true of no generation: it is kept, and never taken for another.
            index_generation=work.generations.pop() if len(work.generations) == 1 else 0,
            questions=questions,
            metrics=await asyncio.to_thread(summary, golden, questions),
            finished_at=self.now(),
        )


class _Work:
    """The questions of one run, shared out."""

    def __init__(self, use: RunVariant, run: Run, variant: Variant) -> None:
        self._use = use
        self._run = run
        self._variant = variant
        self._told = monotonic()
        self.ranked: dict[str, Sequence[str]] = {}
        self.latency: dict[str, timedelta] = {}
        self.answers: dict[str, Mapping[str, float]] = {}
        self.usage: dict[str, Usage | None] = {}
        self.generations: set[int] = set()

    async def take(self, questions: Iterator[GoldenQuestion]) -> None:
        """Asks questions until none is left."""
        for question in questions:
            await self._ask(question)
            if monotonic() - self._told > PROGRESS_EVERY.total_seconds():
                self._told = monotonic()
                await self._use.runs.progress(self._run.run_id, len(self.ranked))

    async def _ask(self, question: GoldenQuestion) -> None:
        key = self._run.key
        found = await self._use.search.find(
            tenant=key.tenant,
            corpus=key.corpus,
            query=question.text,
            variant=self._variant,
            depth=DEPTH,
            to_write=key.answers,
        )
        check_applied(self._variant, found)
        self.generations.add(found.index_generation)
        self.ranked[question.question_id] = ranking(found.hits, of_chunks=bool(question.chunks))
        self.latency[question.question_id] = found.latency
        if key.answers:
            written = await self._use.writer.write(question=question.text, hits=found.hits, variant=self._variant)
            self.usage[question.question_id] = written.usage
            contexts = [hit.text for hit in found.hits]
            meaning = await self._use.score.meaning(self._use.judge.texts(question, written, contexts))
            scores = await asyncio.to_thread(self._use.judge.answer, question, written, contexts, meaning)
            material = Material(
                question=question.text, answer=written.text, contexts=contexts, abstained=written.abstained
            )
            self.answers[question.question_id] = {**scores, **self._use.score.rewarded(material)}


def check_applied(variant: Variant, found: Found) -> None:
    """Raises RunFailed when the search was not the variant's: its scores would be another's."""
    if variant.reranker and found.reranker != variant.reranker:
        raise RunFailed(
            f"retrieval did not apply the reranker {variant.reranker}: it could not be loaded or did not verify"
        )


def _key(golden: GoldenSet, variant: Variant, *, corpus: str, scorer: str) -> RunKey:
    return RunKey(
        tenant=golden.tenant,
        dataset=golden.name,
        dataset_version=golden.version,
        variant_id=variant.variant_id,
        corpus=corpus or golden.corpus,
        answers=bool(scorer),
        scorer=scorer,
    )
