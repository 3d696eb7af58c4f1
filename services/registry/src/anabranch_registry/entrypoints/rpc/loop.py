"""Candidates, experiments and policies."""

from __future__ import annotations

from typing import Any, TypeAlias

import grpc

from anabranch.registry.v1 import registry_service_pb2 as pb
from anabranch.registry.v1 import registry_service_pb2_grpc as stubs
from anabranch_registry.entrypoints.lineage import arm_from, candidate_message, experiment_message, loop_message
from anabranch_registry.entrypoints.policies import document_of, policy_from_yaml, yaml_of
from anabranch_registry.entrypoints.rpc.use_cases import UseCases

__all__ = ["LoopServicer"]

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class LoopServicer(stubs.RegistryServiceServicer):
    """What is on its way to traffic."""

    def __init__(self, use: UseCases) -> None:
        """Takes the use cases."""
        self._use = use

    async def ListCandidates(self, request: pb.ListCandidatesRequest, context: Context) -> pb.ListCandidatesResponse:  # noqa: ARG002, N802  the contract's signature
        """A page of candidates."""
        found, following = await self._use.candidates.list(
            scope=request.scope, page_size=request.page_size, page_token=request.page_token
        )
        return pb.ListCandidatesResponse(
            candidates=[candidate_message(one) for one in found], next_page_token=following
        )

    async def GetCandidate(self, request: pb.GetCandidateRequest, context: Context) -> pb.GetCandidateResponse:  # noqa: ARG002, N802  the contract's signature
        """One candidate."""
        return pb.GetCandidateResponse(
            candidate=candidate_message(await self._use.candidates.get(request.candidate_id))
        )

    async def ListExperiments(self, request: pb.ListExperimentsRequest, context: Context) -> pb.ListExperimentsResponse:  # noqa: ARG002, N802  the contract's signature
        """A page of experiments."""
        found, following = await self._use.experiments.list(
            scope=request.scope, page_size=request.page_size, page_token=request.page_token
        )
        return pb.ListExperimentsResponse(
            experiments=[experiment_message(one) for one in found], next_page_token=following
        )

    async def GetExperiment(self, request: pb.GetExperimentRequest, context: Context) -> pb.GetExperimentResponse:  # noqa: ARG002, N802  the contract's signature
        """One experiment."""
        return pb.GetExperimentResponse(
            experiment=experiment_message(await self._use.experiments.get(request.experiment_id))
        )

    async def Approve(self, request: pb.ApproveRequest, context: Context) -> pb.ApproveResponse:  # noqa: ARG002, N802  the contract's signature
        """A person's word."""
        candidate = await self._use.candidates.approve(
            request.candidate_id,
            request.step,
            rejected=request.rejected,
            author=request.author,
            reason=request.reason,
        )
        return pb.ApproveResponse(candidate=candidate_message(candidate))

    async def CreateExperiment(  # noqa: N802  the contract's signature
        self,
        request: pb.CreateExperimentRequest,
        context: Context,  # noqa: ARG002  the contract's signature
    ) -> pb.CreateExperimentResponse:
        """Start an experiment."""
        experiment = await self._use.experiments.create(
            name=request.name,
            scope=request.scope,
            arms=[arm_from(arm) for arm in request.arms],
            design=document_of(request.design),
            holdout=document_of(request.holdout),
            author=request.author,
            reason=request.reason,
        )
        return pb.CreateExperimentResponse(experiment=experiment_message(experiment))

    async def StopExperiment(self, request: pb.StopExperimentRequest, context: Context) -> pb.StopExperimentResponse:  # noqa: ARG002, N802  the contract's signature
        """End an experiment."""
        experiment = await self._use.experiments.stop(
            request.experiment_id, author=request.author, reason=request.reason
        )
        return pb.StopExperimentResponse(experiment=experiment_message(experiment))

    async def SetLoopPolicy(self, request: pb.SetLoopPolicyRequest, context: Context) -> pb.SetLoopPolicyResponse:  # noqa: ARG002, N802  the contract's signature
        """Declare how a scope's loop goes."""
        loop = await self._use.loops.set(
            request.scope,
            policy_from_yaml(request.yaml),
            expected_revision=request.expected_revision,
            author=request.author,
            reason=request.reason,
        )
        return pb.SetLoopPolicyResponse(loop=loop_message(loop))

    async def GetLoopPolicy(self, request: pb.GetLoopPolicyRequest, context: Context) -> pb.GetLoopPolicyResponse:  # noqa: ARG002, N802  the contract's signature
        """The policy that holds for a scope."""
        loop = await self._use.loops.get(request.scope)
        return pb.GetLoopPolicyResponse(loop=loop_message(loop), yaml=yaml_of(loop.policy.document))
