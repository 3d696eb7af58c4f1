"""The composition root: the one place that names concrete classes."""

from __future__ import annotations

import asyncio

from grpc import StatusCode

from anabranch_bus import Bus
from anabranch_registry.adapters.costs import SqlCostBook
from anabranch_registry.adapters.ledger import SqlLedger
from anabranch_registry.adapters.patterns import problem_of
from anabranch_registry.application import (
    EndHoldouts,
    ForgetCalls,
    GetCosts,
    GuardPolicies,
    OpenRegistry,
    Prices,
    Prompts,
    Quotas,
    TakeDecision,
    TakeGate,
    TakeTrained,
    TakeUsage,
)
from anabranch_registry.domain.faults import ExperimentRuns, GateClosed
from anabranch_registry.entrypoints import kafka, rpc
from anabranch_registry.settings import Settings
from anabranch_runtime import Service
from anabranch_store import Database, OutboxRelay

__all__ = ["build", "database_of"]


def database_of(url: str) -> Database:
    """Return the registry's database at `url`."""
    return Database(url, schema="registry", migrations="anabranch_registry.adapters.migrations")


def build(settings: Settings, *, bus: Bus) -> Service:
    """Wire the service."""
    database = database_of(settings.database_url)
    ledger = SqlLedger(database, encode=kafka.encoded)
    relay = OutboxRelay(database, bus.publish_encoded)
    book = SqlCostBook(database)
    kafka.register(
        bus,
        trained=TakeTrained(ledger),
        gate=TakeGate(ledger),
        decision=TakeDecision(ledger),
        usage=TakeUsage(book),
    )
    costs = rpc.CostCases(quotas=Quotas(ledger), prices=Prices(ledger), costs=GetCosts(book))
    return Service(
        name="registry",
        bus=bus,
        rpc=[
            rpc.servicer(rpc.UseCases.on(ledger)),
            rpc.policies_servicer(GuardPolicies(ledger, problem_of)),
            rpc.prompts_servicer(Prompts(ledger)),
            rpc.costs_servicer(costs),
        ],
        errors={ExperimentRuns: StatusCode.FAILED_PRECONDITION, GateClosed: StatusCode.FAILED_PRECONDITION},
        starting=[database.migrate, OpenRegistry(ledger)],
        background=[relay.run, EndHoldouts(ledger, asyncio.sleep).run, ForgetCalls(book, asyncio.sleep).run],
        closing=[database.close],
    )
