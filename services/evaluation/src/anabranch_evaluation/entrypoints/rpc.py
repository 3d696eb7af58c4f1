"""EvaluationService: parse, call, answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC
from typing import Any, Final, TypeAlias

import grpc

from anabranch.evaluation.v1 import evaluation_service_pb2 as pb
from anabranch.evaluation.v1 import evaluation_service_pb2_grpc as stubs
from anabranch.evaluation.v1 import events_pb2 as events
from anabranch.registry.v1 import lineage_pb2
from anabranch_evaluation.application.cascading import EstimateCascade
from anabranch_evaluation.application.datasets import KeepGoldenSets
from anabranch_evaluation.application.gating import DecideGates
from anabranch_evaluation.application.judging import AskJudge
from anabranch_evaluation.application.reading import ReadRuns
from anabranch_evaluation.application.running import RunVariant
from anabranch_evaluation.application.scoring import Material, ScoreAnswers
from anabranch_evaluation.application.watching import WatchExperiments
from anabranch_evaluation.domain.watching import Reading
from anabranch_evaluation.entrypoints.cascades import report_message
from anabranch_evaluation.entrypoints.experiments import decision_message, summary_message, support_message
from anabranch_evaluation.entrypoints.judgments import judgment_message, preference_message
from anabranch_evaluation.entrypoints.messages import (
    difference_message,
    entry_message,
    gate_message,
    golden_from,
    run_message,
    spec_from,
)
from anabranch_faults import Conflict, Invalid, Unreachable
from anabranch_rpc import Servicer, detached

__all__ = ["PUT_BYTES", "NoJudge", "UseCases", "servicer"]

PUT_BYTES: Final = 16 * 1024 * 1024
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class NoJudge(Conflict):
    """This needs a judge, and none is configured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UseCases:
    """What can be asked of evaluation."""

    sets: KeepGoldenSets
    run: RunVariant
    read: ReadRuns
    decide: DecideGates
    watch: WatchExperiments
    scored: Callable[[str, str], Awaitable[bytes]]
    cascade: EstimateCascade
    score: ScoreAnswers = field(default_factory=ScoreAnswers)
    judge: AskJudge | None = None


class EvaluationServicer(stubs.EvaluationServiceServicer):
    """Golden sets, runs and gates."""

    def __init__(self, use: UseCases) -> None:
        """Takes the use cases."""
        self._use = use

    async def PutDataset(self, request: pb.PutDatasetRequest, context: Context) -> pb.PutDatasetResponse:  # noqa: ARG002, N802  the contract's signature
        """Keep a golden set."""
        version = await self._use.sets.put(golden_from(request), author=request.author)
        return pb.PutDatasetResponse(dataset_version=version, questions=len(request.questions))

    async def ListDatasets(self, request: pb.ListDatasetsRequest, context: Context) -> pb.ListDatasetsResponse:  # noqa: ARG002, N802  the contract's signature
        """The tenant's golden sets."""
        entries = await self._use.sets.entries(request.tenant)
        return pb.ListDatasetsResponse(datasets=[entry_message(entry) for entry in entries])

    async def StartRun(self, request: pb.StartRunRequest, context: Context) -> pb.StartRunResponse:  # noqa: ARG002, N802  the contract's signature
        """Begin a run, which outlives the call."""
        with detached():
            run = await self._use.run.start(
                tenant=request.tenant,
                dataset=request.dataset,
                variant_id=request.variant_id,
                corpus=request.corpus,
                answers=request.answers,
            )
        return pb.StartRunResponse(run_id=run.run_id)

    async def GetRun(self, request: pb.GetRunRequest, context: Context) -> pb.GetRunResponse:  # noqa: ARG002, N802  the contract's signature
        """One run."""
        return pb.GetRunResponse(run=run_message(await self._use.read.one(request.run_id)))

    async def ListRuns(self, request: pb.ListRunsRequest, context: Context) -> pb.ListRunsResponse:  # noqa: ARG002, N802  the contract's signature
        """A page of runs."""
        runs, following = await self._use.read.page(
            request.tenant, dataset=request.dataset, page_size=request.page_size, page_token=request.page_token
        )
        return pb.ListRunsResponse(runs=[run_message(run) for run in runs], next_page_token=following)

    async def CompareRuns(self, request: pb.CompareRunsRequest, context: Context) -> pb.CompareRunsResponse:  # noqa: ARG002, N802  the contract's signature
        """Two runs side by side."""
        found, worst = await self._use.read.compare(request.baseline_run_id, request.candidate_run_id)
        return pb.CompareRunsResponse(
            differences=[difference_message(one) for one in found],
            worst_slices=[difference_message(one) for one in worst],
        )

    async def DecideGate(self, request: pb.DecideGateRequest, context: Context) -> pb.DecideGateResponse:  # noqa: ARG002, N802  the contract's signature
        """A gate by hand."""
        gate = await self._use.decide.by_hand(
            tenant=request.tenant,
            corpus=request.corpus,
            baseline_variant_id=request.baseline_variant_id,
            candidate_variant_id=request.candidate_variant_id,
            spec=spec_from(request.gate),
        )
        return pb.DecideGateResponse(gate=gate_message(gate))

    async def GetExperimentReport(  # noqa: N802  the contract's signature
        self,
        request: pb.GetExperimentReportRequest,
        context: Context,  # noqa: ARG002  as above
    ) -> pb.GetExperimentReportResponse:
        """What is known of an experiment."""
        report = await self._use.watch.report(request.experiment_id)
        experiment = report.experiment.message
        return pb.GetExperimentReportResponse(
            experiment=experiment if isinstance(experiment, lineage_pb2.Experiment) else None,
            arms=[summary_message(one) for one in report.reading.arms],
            sample_ratio_p_value=report.reading.sample_ratio_p_value,
            verdict=verdict_of(report.reading),
            decisions=[decision_message(one) for one in report.decisions],
        )

    async def GetScores(self, request: pb.GetScoresRequest, context: Context) -> pb.GetScoresResponse:  # noqa: ARG002, N802  the contract's signature
        """Live scores."""
        kept = await self._use.scored(request.tenant, request.answer_id)
        return pb.GetScoresResponse(scored=events.AnswerScored.FromString(kept))

    async def ScoreAnswer(self, request: pb.ScoreAnswerRequest, context: Context) -> pb.ScoreAnswerResponse:  # noqa: ARG002, N802  the contract's signature
        """Score what is given."""
        contexts = tuple(request.contexts)
        (found,) = await self._use.score(
            [Material(question=request.question, answer=request.answer, contexts=contexts)]
        )
        judgment = None
        if request.judge and self._use.judge is not None and found.scores:
            judgment = await self._use.judge.grade(request.question, request.answer, contexts)
        return pb.ScoreAnswerResponse(
            scores=found.scores,
            sentences=[support_message(one) for one in found.sentences],
            scorer_version=found.version,
            judgment=judgment_message(judgment),
        )

    async def CompareAnswers(self, request: pb.CompareAnswersRequest, context: Context) -> pb.CompareAnswersResponse:  # noqa: ARG002, N802  the contract's signature
        """Which of two answers the judge prefers."""
        for name in ("question", "first", "second"):
            if not getattr(request, name).strip():
                raise Invalid("is empty", field=name)
        if self._use.judge is None:
            raise NoJudge("no judge is configured: set ANABRANCH_EVALUATION_JUDGE_URL and _JUDGE_MODEL")
        answers = (request.first, request.second)
        found = await self._use.judge.compare(request.question, tuple(request.contexts), answers)
        if found is None:
            raise Unreachable("the judge gave no reply")
        return preference_message(found)

    async def EstimateCascade(self, request: pb.EstimateCascadeRequest, context: Context) -> pb.EstimateCascadeResponse:  # noqa: ARG002, N802  the contract's signature
        """What other thresholds would have been worth."""
        since = request.since.ToDatetime(tzinfo=UTC) if request.HasField("since") else None
        report = await self._use.cascade(
            tenant=request.tenant,
            corpus=request.corpus,
            variant_id=request.variant_id,
            since=since,
            keep=request.keep,
        )
        return report_message(report)


def verdict_of(reading: Reading) -> str:
    """What would be decided now, for people."""
    if reading.verb is None:
        return reading.reason
    return f"{reading.verb.value.replace('_', ' ')} {reading.arm}".strip() + f": {reading.reason}"


def servicer(use: UseCases) -> Servicer:
    """Return the service for a server."""
    return Servicer(
        EvaluationServicer(use),
        add=stubs.add_EvaluationServiceServicer_to_server,
        name="anabranch.evaluation.v1.EvaluationService",
    )
