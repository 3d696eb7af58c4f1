"""Models, data sets, labels, the audit and lineage."""

from __future__ import annotations

from datetime import UTC
from typing import Any, TypeAlias

import grpc

from anabranch.registry.v1 import registry_service_pb2 as pb
from anabranch.registry.v1 import registry_service_pb2_grpc as stubs
from anabranch_registry.entrypoints.lineage import (
    change_message,
    dataset_from,
    dataset_message,
    kind_from,
    label_message,
    lineage_message,
    model_from,
    model_message,
)
from anabranch_registry.entrypoints.rpc.use_cases import UseCases

__all__ = ["RecordsServicer"]

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class RecordsServicer(stubs.RegistryServiceServicer):
    """What is kept."""

    def __init__(self, use: UseCases) -> None:
        """Takes the use cases."""
        self._use = use

    async def RegisterModel(self, request: pb.RegisterModelRequest, context: Context) -> pb.RegisterModelResponse:  # noqa: ARG002, N802  the contract's signature
        """Keep an entry."""
        kept = await self._use.models.register(model_from(request.model), author=request.author, reason=request.reason)
        return pb.RegisterModelResponse(model=model_message(kept))

    async def GetModel(self, request: pb.GetModelRequest, context: Context) -> pb.GetModelResponse:  # noqa: ARG002, N802  the contract's signature
        """One entry."""
        return pb.GetModelResponse(model=model_message(await self._use.models.get(request.model_version)))

    async def ListModels(self, request: pb.ListModelsRequest, context: Context) -> pb.ListModelsResponse:  # noqa: ARG002, N802  the contract's signature
        """A page of entries."""
        found, following = await self._use.models.list(
            kind=kind_from(request.kind), page_size=request.page_size, page_token=request.page_token
        )
        return pb.ListModelsResponse(
            models=[model_message(one, card=False) for one in found], next_page_token=following
        )

    async def RegisterDataset(self, request: pb.RegisterDatasetRequest, context: Context) -> pb.RegisterDatasetResponse:  # noqa: ARG002, N802  the contract's signature
        """Keep an entry."""
        kept = await self._use.datasets.register(
            dataset_from(request.dataset), author=request.author, reason=request.reason
        )
        return pb.RegisterDatasetResponse(dataset=dataset_message(kept))

    async def GetDataset(self, request: pb.GetDatasetRequest, context: Context) -> pb.GetDatasetResponse:  # noqa: ARG002, N802  the contract's signature
        """One entry."""
        return pb.GetDatasetResponse(dataset=dataset_message(await self._use.datasets.get(request.dataset_version)))

    async def ListDatasets(self, request: pb.ListDatasetsRequest, context: Context) -> pb.ListDatasetsResponse:  # noqa: ARG002, N802  the contract's signature
        """A page of entries."""
        found, following = await self._use.datasets.list(page_size=request.page_size, page_token=request.page_token)
        return pb.ListDatasetsResponse(
            datasets=[dataset_message(one, datasheet=False) for one in found], next_page_token=following
        )

    async def ListChanges(self, request: pb.ListChangesRequest, context: Context) -> pb.ListChangesResponse:  # noqa: ARG002, N802  the contract's signature
        """A page of the audit."""
        since = request.since.ToDatetime(tzinfo=UTC) if request.HasField("since") else None
        found, following = await self._use.changes.list(
            scope=request.scope,
            subject=request.subject,
            since=since,
            page_size=request.page_size,
            page_token=request.page_token,
        )
        return pb.ListChangesResponse(changes=[change_message(one) for one in found], next_page_token=following)

    async def GetLineage(self, request: pb.GetLineageRequest, context: Context) -> pb.GetLineageResponse:  # noqa: ARG002, N802  the contract's signature
        """The chain, up and down."""
        return lineage_message(await self._use.lineage(request.id))

    async def SetLabel(self, request: pb.SetLabelRequest, context: Context) -> pb.SetLabelResponse:  # noqa: ARG002, N802  the contract's signature
        """Move a label."""
        label = await self._use.labels.set(
            request.scope,
            request.name,
            request.variant_id,
            expected_revision=request.expected_revision,
            author=request.author,
            reason=request.reason,
        )
        return pb.SetLabelResponse(label=label_message(label))

    async def GetLabel(self, request: pb.GetLabelRequest, context: Context) -> pb.GetLabelResponse:  # noqa: ARG002, N802  the contract's signature
        """Where a label stands."""
        return pb.GetLabelResponse(label=label_message(await self._use.labels.get(request.scope, request.name)))
