"""For tests and measurements: stand-ins for the services behind the gateway, and a gateway running in this process."""

from __future__ import annotations

from anabranch_gateway.testing.calls import Calls
from anabranch_gateway.testing.downstream import (
    Downstream,
    FakeGeneration,
    FakeIngestion,
    FakeRetrieval,
    citation,
    passage,
    route,
)
from anabranch_gateway.testing.feedback import FakeFeedback
from anabranch_gateway.testing.guardrails import FakeGuardrails
from anabranch_gateway.testing.running import Gateway, running

__all__ = [
    "Calls",
    "Downstream",
    "FakeFeedback",
    "FakeGeneration",
    "FakeGuardrails",
    "FakeIngestion",
    "FakeRetrieval",
    "Gateway",
    "citation",
    "passage",
    "route",
    "running",
]
