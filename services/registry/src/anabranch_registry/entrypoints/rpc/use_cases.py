"""What can be asked of the registry."""

from __future__ import annotations

from dataclasses import dataclass

from anabranch_registry.application import (
    Candidates,
    Changes,
    CreateVariant,
    Datasets,
    Experiments,
    GetLineage,
    GetRouting,
    GetVariant,
    Labels,
    Ledger,
    ListVariants,
    Loops,
    Models,
    Promote,
    Rollback,
    SetRouting,
)

__all__ = ["UseCases"]


@dataclass(frozen=True, slots=True, kw_only=True)
class UseCases:
    """What can be asked of the registry."""

    create: CreateVariant
    get: GetVariant
    list: ListVariants
    routing: GetRouting
    set: SetRouting
    promote: Promote
    rollback: Rollback
    models: Models
    datasets: Datasets
    candidates: Candidates
    experiments: Experiments
    loops: Loops
    labels: Labels
    changes: Changes
    lineage: GetLineage

    @classmethod
    def on(cls, ledger: Ledger) -> UseCases:
        """Return them all on one ledger."""
        return cls(
            create=CreateVariant(ledger),
            get=GetVariant(ledger),
            list=ListVariants(ledger),
            routing=GetRouting(ledger),
            set=SetRouting(ledger),
            promote=Promote(ledger),
            rollback=Rollback(ledger),
            models=Models(ledger),
            datasets=Datasets(ledger),
            candidates=Candidates(ledger),
            experiments=Experiments(ledger),
            loops=Loops(ledger),
            labels=Labels(ledger),
            changes=Changes(ledger),
            lineage=GetLineage(ledger),
        )
