"""What a scope's stream is made of, and the moves that every decision is put together from."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from anabranch_registry.domain.candidates import Candidate, CandidateState
from anabranch_registry.domain.experiments import WHOLE, Arm, Experiment, Phase, promoted_arms
from anabranch_registry.domain.faults import Stale
from anabranch_registry.domain.notes import LAST_GOOD, PRODUCTION, Note
from anabranch_registry.domain.policies import Policy, holdout_keep, holdout_share
from anabranch_registry.domain.routing import Change, Routing, Share
from anabranch_registry.domain.variants import Variant

__all__ = ["State"]


@dataclass(slots=True, kw_only=True)
class State:
    """A scope as it stands. Methods change it and leave behind, in order, what has to be kept and told."""

    scope: str
    policy: Policy
    inherited: Variant
    """What the scope gets while it has no routing of its own."""
    routing: Routing | None = None
    experiment: Experiment | None = None
    """The one that is not stopped."""
    candidates: dict[str, Candidate] = field(default_factory=dict)
    """Those that are live, and the latest of the others; oldest first."""
    variants: dict[str, Variant] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)

    moves: list[Routing] = field(default_factory=list)
    ended: list[Experiment] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)

    def knows(self, variants: Iterable[Variant]) -> None:
        """Takes variants that arms and shares may name."""
        self.variants.update({variant.variant_id: variant for variant in variants})

    @property
    def revision(self) -> int:
        """Of the scope's own routing; 0 without one."""
        return self.routing.revision if self.routing else 0

    @property
    def serving(self) -> Variant:
        """The variant that the scope is given to: the winner or control of an experiment, else the largest share."""
        if self.experiment is not None:
            return self.variants[self.experiment.serving.variant_id]
        if self.routing is not None:
            return max(self.routing.shares, key=lambda share: share.weight).variant
        return self.inherited

    def candidate(self, candidate_id: str) -> Candidate:
        """Return a candidate. Raises Stale when it is none of this scope's live ones."""
        if candidate_id not in self.candidates:
            raise Stale(f"{candidate_id} is no candidate of {self.scope}", field="candidate_id", reason="UNKNOWN")
        return self.candidates[candidate_id]

    # The moves.

    def note(self, kind: str, subject: str, what: str, change: Change) -> None:
        """Write a row of the audit."""
        self.notes.append(
            Note(
                subject_kind=kind,
                subject=subject,
                what=what,
                scope=self.scope,
                author=change.author,
                reason=change.reason,
                at=change.at,
            )
        )

    def route(self, shares: Iterable[Share], change: Change) -> None:
        """Give the scope's traffic to these shares."""
        self.routing = Routing(
            scope=self.scope,
            revision=self.revision + 1,
            shares=tuple(sorted(shares, key=lambda share: (share.variant.variant_id, share.arm))),
            change=change,
        )
        self.moves.append(self.routing)
        split = ", ".join(f"{share.variant.variant_id}: {share.weight}" for share in self.routing.shares)
        self.note("routing", self.scope, f"revision {self.revision}: {split}", change)

    def route_whole(self, variant: Variant, change: Change) -> None:
        """Give all of it to one variant."""
        self.knows([variant])
        self.route([Share(variant=variant, weight=WHOLE)], change)

    def route_arms(self, experiment_id: str, arms: Iterable[Arm], change: Change) -> None:
        """Give it to the arms of an experiment."""
        self.route(
            [
                Share(
                    variant=self.variants[arm.variant_id],
                    weight=arm.weight,
                    experiment_id=experiment_id,
                    arm=arm.name,
                )
                for arm in arms
                if arm.weight
            ],
            change,
        )

    def move(
        self, candidate: Candidate, state: CandidateState, change: Change, *, why: str = "", experiment_id: str = ""
    ) -> Candidate:
        """Take a candidate to its next state. Raises Stale."""
        moved = candidate.moved(state, reason=why or change.reason, at=change.at, experiment_id=experiment_id)
        self.candidates[candidate.candidate_id] = moved
        told = replace(change, reason=moved.reason)
        self.note("candidate", candidate.candidate_id, f"state {candidate.state} -> {state}", told)
        return moved

    def wait(self, candidate: Candidate, step: str, why: str, change: Change) -> None:
        """Have a candidate wait, for a person's word if `step` is not empty. Says so once."""
        if (candidate.awaiting, candidate.reason) == (step, why):
            return
        self.candidates[candidate.candidate_id] = candidate.waiting(step, reason=why, at=change.at)
        what = f"waits for approval of {step}" if step else "waits"
        self.note("candidate", candidate.candidate_id, what, replace(change, reason=why))

    def begin(
        self,
        *,
        name: str,
        arms: tuple[Arm, ...],
        design: Mapping[str, Any],
        canary: Mapping[str, Any],
        holdout: Mapping[str, Any],
        phase: Phase,
        candidate_id: str = "",
        change: Change,
    ) -> Experiment:
        """Start an experiment on the scope's traffic."""
        content = f"{self.scope}\n{self.revision}\n{name}\n{candidate_id}\n{change.at.isoformat()}"
        experiment_id = f"ex-{hashlib.sha256(content.encode()).hexdigest()[:12]}"
        self.route_arms(experiment_id, arms, change)
        self.experiment = Experiment(
            experiment_id=experiment_id,
            name=name,
            scope=self.scope,
            arms=arms,
            design=design,
            canary=canary,
            holdout=holdout,
            phase=phase,
            phase_revision=self.revision,
            arms_revision=self.revision,
            phase_started_at=change.at,
            candidate_id=candidate_id,
            author=change.author,
            reason=change.reason,
            created_at=change.at,
        )
        self.note("experiment", experiment_id, f"created in {phase}", change)
        return self.experiment

    def enter(self, phase: Phase, arms: tuple[Arm, ...], change: Change) -> None:
        """Take the experiment to its next phase: what was seen before does not count."""
        experiment = self.running()
        self.route_arms(experiment.experiment_id, arms, change)
        self.experiment = replace(
            experiment,
            arms=arms,
            phase=phase,
            phase_revision=self.revision,
            arms_revision=self.revision,
            phase_started_at=change.at,
            revision=experiment.revision + 1,
        )
        self.note("experiment", experiment.experiment_id, f"phase {experiment.phase} -> {phase}", change)

    def reshape(self, arms: tuple[Arm, ...], what: str, change: Change) -> None:
        """Change the arms within a phase."""
        experiment = self.running()
        self.route_arms(experiment.experiment_id, arms, change)
        self.experiment = replace(experiment, arms=arms, arms_revision=self.revision, revision=experiment.revision + 1)
        self.note("experiment", experiment.experiment_id, what, change)

    def end(self, outcome: str, winner: str, change: Change, *, route: bool = True) -> None:
        """Stop the experiment and give the scope to `winner`'s variant, unless the caller routes it."""
        experiment = self.running()
        arms = tuple(replace(arm, weight=WHOLE if arm.name == winner else 0) for arm in experiment.arms)
        self.ended.append(
            replace(
                experiment,
                arms=arms,
                phase=Phase.STOPPED,
                outcome=outcome,
                winner=winner,
                holdout_until=None,
                revision=experiment.revision + 1,
            )
        )
        self.experiment = None
        self.note("experiment", experiment.experiment_id, f"phase {experiment.phase} -> STOPPED: {outcome}", change)
        if route:
            self.route_whole(self.variants[experiment.arm(winner).variant_id], change)

    def hold_out(self, winner: str, change: Change) -> None:
        """Give the scope to an arm; the control keeps the holdout's share for the holdout's time."""
        experiment = self.running()
        self.label(self.variants[experiment.control.variant_id], self.variants[experiment.arm(winner).variant_id])
        self.experiment = replace(experiment, winner=winner, holdout_until=change.at + holdout_keep(experiment.holdout))
        self.enter(Phase.HOLDOUT, promoted_arms(experiment.arms, winner, holdout_share(experiment.holdout)), change)

    def label(self, old: Variant, new: Variant) -> None:
        """Move `production` to what is promoted, and `last-good` to what was."""
        self.labels[PRODUCTION], self.labels[LAST_GOOD] = new.variant_id, old.variant_id

    def running(self) -> Experiment:
        """Return the experiment that is not stopped. Raises Stale."""
        if self.experiment is None:
            raise Stale(f"{self.scope} has no experiment that is not stopped", field="experiment_id", reason="STOPPED")
        return self.experiment
