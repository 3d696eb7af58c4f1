"""Variants and routing."""

from __future__ import annotations

from typing import Any, TypeAlias

import grpc

from anabranch.registry.v1 import registry_service_pb2 as pb
from anabranch.registry.v1 import registry_service_pb2_grpc as stubs
from anabranch_registry.entrypoints.messages import routing_message, variant_from, variant_message
from anabranch_registry.entrypoints.rpc.use_cases import UseCases

__all__ = ["TrafficServicer"]

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class TrafficServicer(stubs.RegistryServiceServicer):
    """Variants and routing."""

    def __init__(self, use: UseCases) -> None:
        """Takes the use cases."""
        self._use = use

    async def CreateVariant(self, request: pb.CreateVariantRequest, context: Context) -> pb.CreateVariantResponse:  # noqa: ARG002, N802  the contract's signature
        """Keep a bundle."""
        created = await self._use.create(
            variant_from(request.variant),
            claimed_id=request.variant.variant_id,
            author=request.author,
            reason=request.reason,
        )
        return pb.CreateVariantResponse(variant=variant_message(created))

    async def GetVariant(self, request: pb.GetVariantRequest, context: Context) -> pb.GetVariantResponse:  # noqa: ARG002, N802  the contract's signature
        """One bundle."""
        return pb.GetVariantResponse(variant=variant_message(await self._use.get(request.variant_id)))

    async def ListVariants(self, request: pb.ListVariantsRequest, context: Context) -> pb.ListVariantsResponse:  # noqa: ARG002, N802  the contract's signature
        """A page of bundles."""
        variants, following = await self._use.list(page_size=request.page_size, page_token=request.page_token)
        return pb.ListVariantsResponse(
            variants=[variant_message(variant) for variant in variants], next_page_token=following
        )

    async def GetRouting(self, request: pb.GetRoutingRequest, context: Context) -> pb.GetRoutingResponse:  # noqa: ARG002, N802  the contract's signature
        """The routing of one scope."""
        return pb.GetRoutingResponse(routing=routing_message(await self._use.routing(request.scope)))

    async def SetRouting(self, request: pb.SetRoutingRequest, context: Context) -> pb.SetRoutingResponse:  # noqa: ARG002, N802  the contract's signature
        """Move traffic."""
        routing = await self._use.set(
            request.scope,
            dict(request.weights),
            expected_revision=request.expected_revision,
            author=request.author,
            reason=request.reason,
        )
        return pb.SetRoutingResponse(routing=routing_message(routing))

    async def Promote(self, request: pb.PromoteRequest, context: Context) -> pb.PromoteResponse:  # noqa: ARG002, N802  the contract's signature
        """Give a scope to a candidate or variant."""
        routing = await self._use.promote(
            candidate_id=request.candidate_id,
            scope=request.scope,
            variant_id=request.variant_id,
            whole=request.whole,
            author=request.author,
            reason=request.reason,
        )
        return pb.PromoteResponse(routing=routing_message(routing))

    async def Rollback(self, request: pb.RollbackRequest, context: Context) -> pb.RollbackResponse:  # noqa: ARG002, N802  the contract's signature
        """Take a scope back."""
        routing, candidate_id = await self._use.rollback(
            request.scope, to_revision=request.to_revision, author=request.author, reason=request.reason
        )
        return pb.RollbackResponse(routing=routing_message(routing), candidate_id=candidate_id)
