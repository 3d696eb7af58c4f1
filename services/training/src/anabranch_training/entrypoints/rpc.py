"""TrainingService: parse, call, answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import grpc

from anabranch.training.v1 import training_service_pb2 as pb
from anabranch.training.v1 import training_service_pb2_grpc as stubs
from anabranch_rpc import Servicer
from anabranch_training.application.runs import (
    BuildDataset,
    CancelTraining,
    GetTraining,
    ListTrainings,
    StartTraining,
    Status,
    TraceUse,
)
from anabranch_training.domain.drift import Signal
from anabranch_training.entrypoints.messages import (
    dataset_message,
    kind_from,
    moment,
    request_from,
    stamp,
    training_message,
)

__all__ = ["UseCases", "servicer"]

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


@dataclass(frozen=True, slots=True, kw_only=True)
class UseCases:
    """What can be asked of training."""

    start: StartTraining
    get: GetTraining
    list: ListTrainings
    cancel: CancelTraining
    build: BuildDataset
    trace: TraceUse
    status: Status
    drift: Callable[[str, str], Awaitable[Mapping[Signal, float]]]


class TrainingServicer(stubs.TrainingServiceServicer):
    """Runs and data sets."""

    def __init__(self, use: UseCases) -> None:
        """Takes the use cases."""
        self._use = use

    async def StartTraining(self, request: pb.StartTrainingRequest, context: Context) -> pb.StartTrainingResponse:  # noqa: ARG002, N802  the contract's signature
        """Queue a run."""
        return pb.StartTrainingResponse(training=training_message(await self._use.start(request_from(request))))

    async def GetTraining(self, request: pb.GetTrainingRequest, context: Context) -> pb.GetTrainingResponse:  # noqa: ARG002, N802  the contract's signature
        """One run."""
        return pb.GetTrainingResponse(training=training_message(await self._use.get(request.run_id)))

    async def ListTrainings(self, request: pb.ListTrainingsRequest, context: Context) -> pb.ListTrainingsResponse:  # noqa: ARG002, N802  the contract's signature
        """A page of runs."""
        runs, following = await self._use.list(
            tenant=request.tenant,
            corpus=request.corpus,
            page_size=request.page_size,
            page_token=request.page_token,
        )
        return pb.ListTrainingsResponse(trainings=[training_message(run) for run in runs], next_page_token=following)

    async def CancelTraining(self, request: pb.CancelTrainingRequest, context: Context) -> pb.CancelTrainingResponse:  # noqa: ARG002, N802  the contract's signature
        """Stop a run."""
        return pb.CancelTrainingResponse(training=training_message(await self._use.cancel(request.run_id)))

    async def BuildDataset(self, request: pb.BuildDatasetRequest, context: Context) -> pb.BuildDatasetResponse:  # noqa: ARG002, N802  the contract's signature
        """A data set, without training."""
        made = await self._use.build(
            request.tenant,
            request.corpus,
            kind=kind_from(request.kind),
            since=moment(request, "since"),
            until=moment(request, "until"),
            author=request.author,
        )
        return pb.BuildDatasetResponse(dataset=dataset_message(made))

    async def TraceUse(self, request: pb.TraceUseRequest, context: Context) -> pb.TraceUseResponse:  # noqa: ARG002, N802  the contract's signature
        """Data sets that hold something."""
        found = await self._use.trace(
            request.tenant,
            answer_id=request.answer_id,
            corpus=request.corpus,
            document_id=request.document_id,
        )
        return pb.TraceUseResponse(datasets=[dataset_message(made) for made in found])

    async def GetStatus(self, request: pb.GetStatusRequest, context: Context) -> pb.GetStatusResponse:  # noqa: ARG002, N802  the contract's signature
        """What the next run waits for."""
        supply, needed, following = await self._use.status(request.tenant, request.corpus)
        message = pb.GetStatusResponse(feedback_since_last=supply.fresh, feedback_needed=needed)
        stamp(message.last_run_at, supply.last_run_at)
        stamp(message.next_run_at, following)
        message.drift.update(
            {str(name): value for name, value in (await self._use.drift(request.tenant, request.corpus)).items()}
        )
        return message


def servicer(use: UseCases) -> Servicer:
    """Return the service for a server."""
    return Servicer(
        TrainingServicer(use),
        add=stubs.add_TrainingServiceServicer_to_server,
        name="anabranch.training.v1.TrainingService",
    )
