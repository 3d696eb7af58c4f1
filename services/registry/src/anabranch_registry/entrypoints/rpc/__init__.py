"""RegistryService and those of policies, prompts and costs: parse, call, answer."""

from __future__ import annotations

from anabranch.registry.v1 import registry_service_pb2_grpc as stubs
from anabranch_registry.entrypoints.rpc.costs import CostCases, costs_servicer
from anabranch_registry.entrypoints.rpc.loop import LoopServicer
from anabranch_registry.entrypoints.rpc.policies import policies_servicer
from anabranch_registry.entrypoints.rpc.prompts import prompts_servicer
from anabranch_registry.entrypoints.rpc.records import RecordsServicer
from anabranch_registry.entrypoints.rpc.traffic import TrafficServicer
from anabranch_registry.entrypoints.rpc.use_cases import UseCases
from anabranch_rpc import Servicer

__all__ = ["CostCases", "UseCases", "costs_servicer", "policies_servicer", "prompts_servicer", "servicer"]


class RegistryServicer(LoopServicer, RecordsServicer, TrafficServicer):
    """All of it."""


def servicer(use: UseCases) -> Servicer:
    """Return the service for a server."""
    return Servicer(
        RegistryServicer(use),
        add=stubs.add_RegistryServiceServicer_to_server,
        name="anabranch.registry.v1.RegistryService",
    )
