"""A candidate: a model on its way to traffic, and the steps it may take."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import ClassVar, Final

from anabranch_registry.domain.faults import Stale
from anabranch_registry.domain.variants import Variant

__all__ = ["NEXT", "Candidate", "CandidateState", "candidate_id_of"]


class CandidateState(StrEnum):
    """Where a candidate stands."""

    TRAINED = "TRAINED"
    GATED = "GATED"
    CANARY = "CANARY"
    EXPERIMENT = "EXPERIMENT"
    PROMOTED = "PROMOTED"
    SETTLED = "SETTLED"
    REJECTED = "REJECTED"
    ROLLED_BACK = "ROLLED_BACK"


_S = CandidateState
NEXT: Final[Mapping[CandidateState, frozenset[CandidateState]]] = {
    # From anywhere before PROMOTED a person may promote at once.
    _S.TRAINED: frozenset({_S.GATED, _S.REJECTED, _S.PROMOTED}),
    # Back to its gate when, at its turn, something else serves than what it was gated against.
    _S.GATED: frozenset({_S.TRAINED, _S.CANARY, _S.REJECTED, _S.PROMOTED}),
    _S.CANARY: frozenset({_S.EXPERIMENT, _S.REJECTED, _S.ROLLED_BACK, _S.PROMOTED}),
    _S.EXPERIMENT: frozenset({_S.PROMOTED, _S.REJECTED, _S.ROLLED_BACK}),
    _S.PROMOTED: frozenset({_S.SETTLED, _S.ROLLED_BACK}),
    _S.SETTLED: frozenset({_S.ROLLED_BACK}),
    _S.REJECTED: frozenset(),
    _S.ROLLED_BACK: frozenset(),
}
"""What may follow what."""

_LIVE: Final = frozenset({_S.TRAINED, _S.GATED, _S.CANARY, _S.EXPERIMENT, _S.PROMOTED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """As it now stands; every step is a new revision."""

    noun: ClassVar[str] = "candidate"

    candidate_id: str
    scope: str
    model_version: str
    dataset_version: str
    base: Variant
    variant: Variant
    state: CandidateState = CandidateState.TRAINED
    reason: str
    awaiting: str = ""
    experiment_id: str = ""
    revision: int = 1
    author: str
    created_at: datetime
    changed_at: datetime

    @property
    def key(self) -> str:
        """Its id."""
        return self.candidate_id

    @property
    def live(self) -> bool:
        """May anything still happen to it by itself?"""
        return self.state in _LIVE

    def moved(self, state: CandidateState, *, reason: str, at: datetime, experiment_id: str = "") -> Candidate:
        """Return it in its next state, waiting for nobody. Raises Stale when that cannot follow."""
        if state not in NEXT[self.state]:
            raise Stale(
                f"candidate {self.candidate_id} is {self.state}: {state} cannot follow",
                field="candidate_id",
                reason="WRONG_STATE",
            )
        return replace(
            self,
            state=state,
            reason=reason,
            awaiting="",
            experiment_id=experiment_id or self.experiment_id,
            revision=self.revision + 1,
            changed_at=at,
        )

    def waiting(self, step: str, *, reason: str, at: datetime) -> Candidate:
        """Return it waiting for a person's word on `step`; for nobody's when that is empty."""
        return replace(self, awaiting=step, reason=reason, revision=self.revision + 1, changed_at=at)


def candidate_id_of(run_id: str, scope: str) -> str:
    """Return the id of the candidate that a training run makes: a run told twice makes one."""
    content = f"{run_id}\n{scope}"
    return f"ca-{hashlib.sha256(content.encode()).hexdigest()[:12]}"
