"""Use cases of the registry and the port they need."""

from anabranch_registry.application.guards import GuardPolicies
from anabranch_registry.application.loop import EndHoldouts, TakeDecision, TakeGate, TakeTrained
from anabranch_registry.application.models import Datasets, Models
from anabranch_registry.application.people import Candidates, Experiments, Promote, Rollback
from anabranch_registry.application.ports import Books, CostBook, Ledger, Listing, Standing, Thing, Told
from anabranch_registry.application.prompts import Prompts
from anabranch_registry.application.records import Changes, GetLineage, Labels, Loops
from anabranch_registry.application.spending import ForgetCalls, GetCosts, Prices, Quotas, TakeUsage
from anabranch_registry.application.variants import (
    CreateVariant,
    GetRouting,
    GetVariant,
    ListVariants,
    OpenRegistry,
    SetRouting,
)

__all__ = [
    "Books",
    "Candidates",
    "Changes",
    "CostBook",
    "CreateVariant",
    "Datasets",
    "EndHoldouts",
    "Experiments",
    "ForgetCalls",
    "GetCosts",
    "GetLineage",
    "GetRouting",
    "GetVariant",
    "GuardPolicies",
    "Labels",
    "Ledger",
    "ListVariants",
    "Listing",
    "Loops",
    "Models",
    "OpenRegistry",
    "Prices",
    "Promote",
    "Prompts",
    "Quotas",
    "Rollback",
    "SetRouting",
    "Standing",
    "TakeDecision",
    "TakeGate",
    "TakeTrained",
    "TakeUsage",
    "Thing",
    "Told",
]
