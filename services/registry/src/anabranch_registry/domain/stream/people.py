"""What people do: approve, promote, roll back, start and stop experiments, route by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from anabranch_faults import Conflict
from anabranch_registry.domain.candidates import Candidate, CandidateState
from anabranch_registry.domain.experiments import WHOLE, Arm, Experiment, Phase, pair
from anabranch_registry.domain.faults import ExperimentRuns
from anabranch_registry.domain.notes import LAST_GOOD, PRODUCTION
from anabranch_registry.domain.routing import Change, Routing, Share
from anabranch_registry.domain.stream.loop import Loop
from anabranch_registry.domain.variants import Variant

__all__ = ["People"]

_S = CandidateState


class People(Loop):
    """A scope's stream, moved by events and by people."""

    __slots__ = ()

    def set_by_hand(self, shares: Sequence[Share], change: Change) -> None:
        """Route as told. Raises ExperimentRuns."""
        self._free()
        self.knows(share.variant for share in shares)
        self.route(shares, change)

    def approve(self, candidate_id: str, step: str, *, rejected: bool, change: Change) -> None:
        """Take a person's word on the step that a candidate waits for. Raises Conflict when it waits for another."""
        candidate = self.candidate(candidate_id)
        if not step or candidate.awaiting != step:
            waits = f"waits for approval of {candidate.awaiting}" if candidate.awaiting else "waits for nobody"
            raise Conflict(f"{candidate_id} {waits}", field="step", reason="NOT_AWAITED")
        self.note("candidate", candidate_id, f"{step} {'rejected' if rejected else 'approved'}", change)
        if rejected:
            if step == "canary":
                self.move(candidate, _S.REJECTED, change)
            else:
                self.give_back(f"{step} rejected: {change.reason}", change)
            return
        self.wait(candidate, "", change.reason, change)
        if step == "canary":
            self.go_on(change)
        else:
            self.take(step, "", change)

    def create(
        self, *, name: str, arms: tuple[Arm, ...], design: Mapping[str, Any], holdout: Mapping[str, Any], change: Change
    ) -> Experiment:
        """Start an experiment by hand. Raises ExperimentRuns."""
        self._free()
        return self.begin(
            name=name, arms=arms, design=design, canary={}, holdout=holdout, phase=Phase.RUNNING, change=change
        )

    def stop(self, experiment_id: str, change: Change) -> None:
        """End an experiment; the control serves. Raises Stale when it is stopped."""
        experiment = self.running()
        if experiment.experiment_id != experiment_id:
            raise Conflict(f"{experiment_id} is stopped", field="experiment_id", reason="STOPPED")
        self.give_back(f"stopped by {change.author}: {change.reason}", change)

    def promote(self, variant: Variant, *, candidate: Candidate | None, whole: bool, change: Change) -> None:
        """Give the scope to a variant at once. Raises Conflict when it serves already."""
        old = self.serving
        self.knows([variant, old])
        experiment = self.experiment
        if candidate is not None and candidate.state not in {_S.TRAINED, _S.GATED, _S.CANARY, _S.EXPERIMENT}:
            if candidate.state is _S.PROMOTED and whole:
                self.settle(f"promoted wholly by {change.author}", change)
                self.go_on(change)
                return
            raise Conflict(f"{candidate.candidate_id} is {candidate.state}", field="candidate_id", reason="WRONG_STATE")
        if variant == old:
            raise Conflict(f"{variant.variant_id} serves {self.scope} already", field="variant_id", reason="SERVES")
        candidate_id = candidate.candidate_id if candidate else ""
        own = experiment is not None and candidate is not None and experiment.candidate_id == candidate_id
        if experiment is not None and not own:
            self._make_way(experiment, variant, change)
        if whole:
            self._promote_wholly(old, variant, candidate, change)
        elif own:
            self.hold_out("treatment", change)
        else:
            self.begin(
                name=f"promotion of {variant.variant_id}",
                arms=pair(control=old.variant_id, treatment=variant.variant_id, percent=50),
                design=self.policy.section("experiment"),
                canary={},
                holdout=self.policy.section("holdout"),
                phase=Phase.RUNNING,
                candidate_id=candidate_id,
                change=change,
            )
            self.hold_out("treatment", change)
        if candidate is not None and not whole:
            started = self.running().experiment_id
            self.move(candidate, _S.PROMOTED, change, experiment_id=started)
        self.go_on(change)

    def roll_back(self, earlier: Routing | None, *, named: bool, change: Change) -> str:
        """Take the scope back; return the candidate rolled back, if any. Raises Conflict when there is no way back.

        `earlier` is the revision asked for if `named`, else the one before the present; None when there is none.
        """
        experiment = self.experiment
        if experiment is not None:
            self.give_back(f"rolled back by {change.author}: {change.reason}", change, by_person=True, route=not named)
            if named and earlier is not None:
                self._restore(earlier, change)
                self.go_on(change)
            return experiment.candidate_id
        candidate = next(
            (
                one
                for one in reversed(self.candidates.values())
                if one.state is _S.SETTLED and one.variant == self.serving
            ),
            None,
        )
        if named and earlier is not None:
            self._restore(earlier, change)
        elif PRODUCTION in self.labels and LAST_GOOD in self.labels:
            self._before_promotion(change)
        elif earlier is not None:
            self._restore(_without_experiments(earlier), change)
        elif self.routing is not None and self.inherited != self.serving:
            self.route_whole(self.inherited, change)
        else:
            raise Conflict(f"{self.scope} has nothing to go back to", field="scope", reason="NOTHING_BEFORE")
        if candidate is not None and candidate.variant != self.serving:
            self.move(candidate, _S.ROLLED_BACK, change)
            return candidate.candidate_id
        return ""

    def _before_promotion(self, change: Change) -> None:
        before = self.variants[self.labels[LAST_GOOD]]
        if before == self.serving:
            raise Conflict(
                f"{self.scope} is served by what served before its last promotion; name a revision to go to another",
                field="scope",
                reason="NOTHING_BEFORE",
            )
        self.label(before, before)
        self.route_whole(before, change)

    def _restore(self, earlier: Routing, change: Change) -> None:
        shares = [Share(variant=share.variant, weight=share.weight) for share in earlier.shares]
        self.knows(share.variant for share in shares)
        self.route(shares, change)

    def _make_way(self, experiment: Experiment, variant: Variant, change: Change) -> None:
        """End another's experiment for a promotion; the promotion routes."""
        outcome = f"ended by the promotion of {variant.variant_id}"
        if experiment.phase is Phase.HOLDOUT:
            self.end(outcome, experiment.winner, change, route=False)
            state = _S.SETTLED
        else:
            self.end(outcome, experiment.control.name, change, route=False)
            state = _S.REJECTED
        if experiment.candidate_id in self.candidates:
            self.move(self.candidates[experiment.candidate_id], state, change, why=outcome)

    def _promote_wholly(self, old: Variant, new: Variant, candidate: Candidate | None, change: Change) -> None:
        self.label(old, new)
        if self.experiment is not None:
            self.end(f"promoted wholly by {change.author}", "treatment", change, route=False)
        self.route_whole(new, change)
        if candidate is not None:
            self.move(self.move(candidate, _S.PROMOTED, change), _S.SETTLED, change)

    def _free(self) -> None:
        if self.experiment is not None:
            raise ExperimentRuns(
                f"{self.scope} belongs to experiment {self.experiment.experiment_id} "
                f"({self.experiment.phase}): stop it, promote or roll back",
                field="scope",
                reason="EXPERIMENT_RUNS",
            )


def _without_experiments(routing: Routing) -> Routing:
    """Return the routing as it would be without the experiment in it: its control serves."""
    controls = [share for share in routing.shares if share.arm == "control"]
    if not any(share.experiment_id for share in routing.shares):
        return routing
    served = max(controls or routing.shares, key=lambda share: share.weight)
    whole = (Share(variant=served.variant, weight=WHOLE),)
    return Routing(scope=routing.scope, revision=routing.revision, shares=whole, change=routing.change)
