"""Use cases of the registry and the port they need."""

from anabranch_registry.application.loop import EndHoldouts, TakeDecision, TakeGate, TakeTrained
from anabranch_registry.application.models import Datasets, Models
from anabranch_registry.application.people import Candidates, Experiments, Promote, Rollback
from anabranch_registry.application.ports import Books, Ledger, Listing, Standing, Thing, Told
from anabranch_registry.application.records import Changes, GetLineage, Labels, Loops
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
    "CreateVariant",
    "Datasets",
    "EndHoldouts",
    "Experiments",
    "GetLineage",
    "GetRouting",
    "GetVariant",
    "Labels",
    "Ledger",
    "ListVariants",
    "Listing",
    "Loops",
    "Models",
    "OpenRegistry",
    "Promote",
    "Rollback",
    "SetRouting",
    "Standing",
    "TakeDecision",
    "TakeGate",
    "TakeTrained",
    "Thing",
    "Told",
]
