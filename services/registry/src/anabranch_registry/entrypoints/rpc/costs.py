"""CostService: parse, call, answer."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, TypeAlias

import grpc

from anabranch.registry.v1 import cost_service_pb2 as pb
from anabranch.registry.v1 import cost_service_pb2_grpc as stubs
from anabranch_registry.application import GetCosts, Prices, Quotas
from anabranch_registry.entrypoints.spending import (
    by_from,
    price_from,
    price_message,
    quota_from,
    quota_message,
    spent_message,
)
from anabranch_rpc import Servicer

__all__ = ["CostCases", "costs_servicer"]

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
_NAME: Final = "anabranch.registry.v1.CostService"


@dataclass(frozen=True, slots=True, kw_only=True)
class CostCases:
    """What can be asked about money."""

    quotas: Quotas
    prices: Prices
    costs: GetCosts


class CostServicer(stubs.CostServiceServicer):
    """Quotas, prices, and what was spent."""

    def __init__(self, use: CostCases) -> None:
        """Takes the use cases."""
        self._use = use

    async def SetQuota(self, request: pb.SetQuotaRequest, context: Context) -> pb.SetQuotaResponse:  # noqa: ARG002, N802  the contract's signature
        """Say what a subject may spend."""
        quota = await self._use.quotas.set(quota_from(request.quota, now=datetime.now(UTC)))
        return pb.SetQuotaResponse(quota=quota_message(quota))

    async def ListQuotas(self, request: pb.ListQuotasRequest, context: Context) -> pb.ListQuotasResponse:  # noqa: ARG002, N802  the contract's signature
        """All of them."""
        return pb.ListQuotasResponse(quotas=[quota_message(one) for one in await self._use.quotas.list()])

    async def SetPrice(self, request: pb.SetPriceRequest, context: Context) -> pb.SetPriceResponse:  # noqa: ARG002, N802  the contract's signature
        """Say what a model costs."""
        price = await self._use.prices.set(price_from(request.price, now=datetime.now(UTC)))
        return pb.SetPriceResponse(price=price_message(price))

    async def ListPrices(self, request: pb.ListPricesRequest, context: Context) -> pb.ListPricesResponse:  # noqa: ARG002, N802  the contract's signature
        """All of them."""
        return pb.ListPricesResponse(prices=[price_message(one) for one in await self._use.prices.list()])

    async def GetCosts(self, request: pb.GetCostsRequest, context: Context) -> pb.GetCostsResponse:  # noqa: ARG002, N802  the contract's signature
        """Sums."""
        costs = await self._use.costs(
            [by_from(one) for one in request.by],
            since=request.since.ToDatetime(tzinfo=UTC),
            until=request.until.ToDatetime(tzinfo=UTC) if request.HasField("until") else None,
            tenant=request.tenant,
        )
        return pb.GetCostsResponse(
            rows=[spent_message(one) for one in costs.rows], total=spent_message(costs.total), left_out=costs.left_out
        )


def costs_servicer(use: CostCases) -> Servicer:
    """Return the service for a server."""
    return Servicer(CostServicer(use), add=stubs.add_CostServiceServicer_to_server, name=_NAME)
