"""PromptService: parse, call, answer."""

from __future__ import annotations

from typing import Any, Final, TypeAlias

import grpc

from anabranch.registry.v1 import prompt_service_pb2 as pb
from anabranch.registry.v1 import prompt_service_pb2_grpc as stubs
from anabranch_registry.application import Prompts
from anabranch_registry.entrypoints.prompts import label_message, prompt_from, prompt_message, tried_message
from anabranch_registry.entrypoints.rpc.fitting import fitting
from anabranch_rpc import Servicer

__all__ = ["prompts_servicer"]

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
_NAME: Final = "anabranch.registry.v1.PromptService"


class PromptServicer(stubs.PromptServiceServicer):
    """Prompts and their labels."""

    def __init__(self, prompts: Prompts) -> None:
        """Takes the use cases."""
        self._prompts = prompts

    async def CreatePrompt(self, request: pb.CreatePromptRequest, context: Context) -> pb.CreatePromptResponse:  # noqa: ARG002, N802  the contract's signature
        """Keep one."""
        kept = await self._prompts.create(prompt_from(request.prompt), author=request.author, reason=request.reason)
        return pb.CreatePromptResponse(prompt=prompt_message(kept))

    async def GetPrompt(self, request: pb.GetPromptRequest, context: Context) -> pb.GetPromptResponse:  # noqa: ARG002, N802  the contract's signature
        """One of them."""
        return pb.GetPromptResponse(prompt=prompt_message(await self._prompts.get(request.prompt)))

    async def ListPrompts(self, request: pb.ListPromptsRequest, context: Context) -> pb.ListPromptsResponse:  # noqa: ARG002, N802  the contract's signature
        """A page of them; the texts of what they include are left to GetPrompt."""

        async def page(size: int) -> pb.ListPromptsResponse:
            found, following = await self._prompts.list(
                name=request.name, page_size=size, page_token=request.page_token
            )
            return pb.ListPromptsResponse(
                prompts=[prompt_message(one, included=False) for one in found], next_page_token=following
            )

        return await fitting(request.page_size, page)

    async def SetPromptLabel(self, request: pb.SetPromptLabelRequest, context: Context) -> pb.SetPromptLabelResponse:  # noqa: ARG002, N802  the contract's signature
        """Move a label."""
        label = await self._prompts.move(
            request.name,
            request.label,
            request.prompt_version,
            expected_revision=request.expected_revision,
            author=request.author,
            reason=request.reason,
        )
        return pb.SetPromptLabelResponse(label=label_message(label))

    async def RollbackPromptLabel(  # noqa: N802  the contract's name
        self,
        request: pb.RollbackPromptLabelRequest,
        context: Context,  # noqa: ARG002  the contract's signature
    ) -> pb.RollbackPromptLabelResponse:
        """Move a label back."""
        label = await self._prompts.rollback(
            request.name,
            request.label,
            to_revision=request.to_revision,
            author=request.author,
            reason=request.reason,
        )
        return pb.RollbackPromptLabelResponse(label=label_message(label))

    async def ListPromptLabels(  # noqa: N802  the contract's name
        self,
        request: pb.ListPromptLabelsRequest,
        context: Context,  # noqa: ARG002  the contract's signature
    ) -> pb.ListPromptLabelsResponse:
        """All labels of a prompt, or of all."""
        return pb.ListPromptLabelsResponse(
            labels=[label_message(one) for one in await self._prompts.labels(request.name)]
        )

    async def TestPrompt(self, request: pb.TestPromptRequest, context: Context) -> pb.TestPromptResponse:  # noqa: ARG002, N802  the contract's signature
        """Its cases."""
        return pb.TestPromptResponse(results=[tried_message(one) for one in await self._prompts.test(request.prompt)])


def prompts_servicer(prompts: Prompts) -> Servicer:
    """Return the service for a server."""
    return Servicer(PromptServicer(prompts), add=stubs.add_PromptServiceServicer_to_server, name=_NAME)
