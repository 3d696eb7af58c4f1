"""PolicyService: parse, call, answer."""

from __future__ import annotations

from typing import Any, Final, TypeAlias

import grpc

from anabranch.registry.v1 import policy_service_pb2 as pb
from anabranch.registry.v1 import policy_service_pb2_grpc as stubs
from anabranch_registry.application import GuardPolicies
from anabranch_registry.entrypoints.policies import attachment_message, guards_from_yaml, guards_message
from anabranch_registry.entrypoints.rpc.fitting import fitting
from anabranch_rpc import Servicer

__all__ = ["policies_servicer"]

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
_NAME: Final = "anabranch.registry.v1.PolicyService"


class PolicyServicer(stubs.PolicyServiceServicer):
    """Guardrail policies."""

    def __init__(self, policies: GuardPolicies) -> None:
        """Takes the use cases."""
        self._policies = policies

    async def CreatePolicy(self, request: pb.CreatePolicyRequest, context: Context) -> pb.CreatePolicyResponse:  # noqa: ARG002, N802  the contract's signature
        """Keep one."""
        document, faults = guards_from_yaml(request.yaml)
        kept = await self._policies.create(document, faults=faults, author=request.author, reason=request.reason)
        return pb.CreatePolicyResponse(policy=guards_message(kept.document))

    async def GetPolicy(self, request: pb.GetPolicyRequest, context: Context) -> pb.GetPolicyResponse:  # noqa: ARG002, N802  the contract's signature
        """One of them."""
        found = await self._policies.get(request.policy_version)
        return pb.GetPolicyResponse(policy=guards_message(found.document))

    async def ListPolicies(self, request: pb.ListPoliciesRequest, context: Context) -> pb.ListPoliciesResponse:  # noqa: ARG002, N802  the contract's signature
        """A page of them."""

        async def page(size: int) -> pb.ListPoliciesResponse:
            found, following = await self._policies.list(page_size=size, page_token=request.page_token)
            return pb.ListPoliciesResponse(
                policies=[guards_message(one.document) for one in found], next_page_token=following
            )

        return await fitting(request.page_size, page)

    async def AttachPolicy(self, request: pb.AttachPolicyRequest, context: Context) -> pb.AttachPolicyResponse:  # noqa: ARG002, N802  the contract's signature
        """Say where one holds."""
        attachment = await self._policies.attach(
            request.scope,
            request.policy_version,
            expected_revision=request.expected_revision,
            author=request.author,
            reason=request.reason,
        )
        return pb.AttachPolicyResponse(attachment=attachment_message(attachment))

    async def GetAttachment(self, request: pb.GetAttachmentRequest, context: Context) -> pb.GetAttachmentResponse:  # noqa: ARG002, N802  the contract's signature
        """What holds somewhere."""
        attachment = await self._policies.attachment(request.scope)
        return pb.GetAttachmentResponse(attachment=attachment_message(attachment))


def policies_servicer(policies: GuardPolicies) -> Servicer:
    """Return the service for a server."""
    return Servicer(PolicyServicer(policies), add=stubs.add_PolicyServiceServicer_to_server, name=_NAME)
