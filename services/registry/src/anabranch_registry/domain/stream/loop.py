"""What happens by itself: candidates arrive, gates and experiments are decided, holdouts end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from enum import StrEnum

from anabranch_registry.domain.candidates import Candidate, CandidateState
from anabranch_registry.domain.experiments import Phase, pair, reweighed, without
from anabranch_registry.domain.faults import Stale
from anabranch_registry.domain.routing import Change
from anabranch_registry.domain.stream.state import State

__all__ = ["Decision", "Loop"]


class Decision(StrEnum):
    """What evaluation makes of a phase."""

    CANARY_PASSED = "CANARY_PASSED"
    PROMOTE = "PROMOTE"
    KEEP_CONTROL = "KEEP_CONTROL"
    STOP_ARM = "STOP_ARM"
    SAMPLE_RATIO_MISMATCH = "SAMPLE_RATIO_MISMATCH"
    REWEIGH = "REWEIGH"


_IN_PHASE = {
    Phase.CANARY: {Decision.CANARY_PASSED, Decision.STOP_ARM, Decision.SAMPLE_RATIO_MISMATCH},
    Phase.RUNNING: set(Decision) - {Decision.CANARY_PASSED},
    Phase.HOLDOUT: {Decision.STOP_ARM, Decision.SAMPLE_RATIO_MISMATCH},
}


class Loop(State):
    """A scope's stream, as events move it. Raises Stale for what is about a state that has passed."""

    __slots__ = ()

    def arrive(self, candidate: Candidate, change: Change) -> None:
        """Take a candidate that was just trained."""
        self.knows([candidate.base, candidate.variant])
        self.candidates[candidate.candidate_id] = candidate
        self.note("candidate", candidate.candidate_id, "created", change)
        if candidate.variant == self.serving:
            self.move(candidate, CandidateState.REJECTED, change, why="it is what serves already")

    def gated(self, candidate_id: str, *, passed: bool, change: Change) -> None:
        """Take a gate's verdict: refused, or on its way as far as policy, people and traffic allow."""
        candidate = self.candidate(candidate_id)
        if candidate.state is not CandidateState.TRAINED:
            raise Stale(f"{candidate_id} is {candidate.state}, not TRAINED", field="candidate_id", reason="WRONG_STATE")
        if not passed:
            self.move(candidate, CandidateState.REJECTED, change)
            return
        self.move(candidate, CandidateState.GATED, change)
        order = list(self.candidates)
        waiting = [one for one in order if self.candidates[one].state is CandidateState.GATED]
        # A newer one knows what the older knew, and more; one still at its gate may yet fail it.
        for older in waiting[:-1]:
            self.move(self.candidates[older], CandidateState.REJECTED, change, why=f"superseded by {waiting[-1]}")
        candidate = self.candidate(candidate_id)
        if candidate.state is CandidateState.GATED:
            if self.policy.paused:
                self.wait(candidate, "canary", "the loop of its scope is paused", change)
            elif "canary" in self.policy.approvals:
                self.wait(candidate, "canary", "the canary waits for a person", change)
        self.go_on(change)

    def go_on(self, change: Change) -> None:
        """Start the canary of whoever waits for nothing but the scope's traffic, or send it to its gate again.

        What serves may have changed while a candidate waited: then its gate said nothing about what it has to beat.
        """
        for candidate in reversed(list(self.candidates.values())):
            if candidate.state is not CandidateState.GATED or candidate.awaiting:
                continue
            if self.experiment is not None:
                self.wait(candidate, "", f"waits for the end of experiment {self.experiment.experiment_id}", change)
            elif candidate.variant == self.serving:
                self.move(candidate, CandidateState.REJECTED, change, why="it is what serves already")
            elif candidate.base != self.serving:
                self._gate_again(candidate, change)
            else:
                self._start(candidate, change)

    def decided(
        self,
        experiment_id: str,
        *,
        phase: Phase,
        phase_revision: int,
        decision: Decision,
        arm: str = "",
        weights: Mapping[str, int] | None = None,
        change: Change,
    ) -> None:
        """Take a decision about the present phase of the experiment. Raises Stale, Invalid for an unknown arm."""
        experiment = self.experiment
        if experiment is None or experiment.experiment_id != experiment_id:
            raise Stale(f"{experiment_id} is stopped", field="experiment_id", reason="STOPPED")
        if (experiment.phase, experiment.phase_revision) != (phase, phase_revision):
            raise Stale(
                f"{experiment_id} is in {experiment.phase} since revision {experiment.phase_revision}, "
                f"not in {phase} since {phase_revision}",
                field="phase_revision",
                reason="PHASE_PASSED",
            )
        if decision not in _IN_PHASE[phase]:
            raise Stale(f"{decision} says nothing in {phase}", field="decision", reason="WRONG_PHASE")
        match decision:
            case Decision.CANARY_PASSED:
                self._step("experiment", experiment.candidate_id, "", change)
            case Decision.PROMOTE:
                if experiment.arm(arm).control or experiment.arm(arm).stopped:
                    raise Stale(f"{arm} cannot be promoted", field="arm", reason="WRONG_ARM")
                self._step("promotion", experiment.candidate_id, arm, change)
            case Decision.REWEIGH:
                self.reshape(reweighed(experiment.arms, weights or {}), "reweighed", change)
            case Decision.STOP_ARM if phase is not Phase.HOLDOUT:
                self._stop_arm(arm, change)
            case _:
                self.give_back(f"{decision}: {change.reason}", change)

    def expire(self, now: datetime, change: Change) -> None:
        """End a holdout whose time is over: the winner serves all."""
        experiment = self.running()
        if experiment.phase is not Phase.HOLDOUT or experiment.holdout_until is None or now < experiment.holdout_until:
            raise Stale(f"{experiment.experiment_id} is not at the end of its holdout", reason="TOO_EARLY")
        self.settle("the holdout is over", change)
        self.go_on(change)

    # Steps.

    def take(self, step: str, arm: str, change: Change) -> None:
        """Go from one phase to the next, or from GATED to the canary."""
        experiment = self.running()
        candidate = self.candidates.get(experiment.candidate_id)
        if step == "experiment":
            arms = pair(
                control=experiment.control.variant_id,
                treatment=experiment.arm("treatment").variant_id,
                percent=int(experiment.design.get("share", 0)) or 50,
            )
            self.enter(Phase.RUNNING, arms, change)
            if candidate is not None:
                self.move(candidate, CandidateState.EXPERIMENT, change)
        else:
            self.hold_out(arm or "treatment", change)
            if candidate is not None:
                self.move(candidate, CandidateState.PROMOTED, change)

    def settle(self, outcome: str, change: Change) -> None:
        """End a holdout in favour of its winner."""
        experiment = self.running()
        self.end(outcome, experiment.winner, change)
        if experiment.candidate_id in self.candidates:
            self.move(self.candidates[experiment.candidate_id], CandidateState.SETTLED, change)

    def give_back(self, outcome: str, change: Change, *, by_person: bool = False, route: bool = True) -> None:
        """Stop the experiment in favour of its control. Its candidate is rejected; once promoted, rolled back."""
        experiment = self.running()
        promoted = experiment.phase is Phase.HOLDOUT
        control = self.variants[experiment.control.variant_id]
        if promoted:
            self.label(control, control)
        self.end(outcome, experiment.control.name, change, route=route)
        if experiment.candidate_id in self.candidates:
            state = CandidateState.ROLLED_BACK if promoted or by_person else CandidateState.REJECTED
            self.move(self.candidates[experiment.candidate_id], state, change)
        if route:
            self.go_on(change)

    def _step(self, step: str, candidate_id: str, arm: str, change: Change) -> None:
        candidate = self.candidates.get(candidate_id)
        if candidate is not None and candidate.awaiting:
            raise Stale(f"{candidate_id} waits for approval of {candidate.awaiting}", reason="WAITS")
        if candidate is not None and step in self.policy.approvals:
            self.wait(candidate, step, f"{change.reason}; the {step} waits for a person", change)
        else:
            self.take(step, arm, change)

    def _stop_arm(self, name: str, change: Change) -> None:
        experiment = self.running()
        arm = experiment.arm(name)
        if arm.control or arm.stopped:
            raise Stale(f"{name} is the control or stopped already", field="arm", reason="WRONG_ARM")
        arms = without(experiment.arms, name)
        if any(not one.control and not one.stopped for one in arms):
            self.reshape(arms, f"arm {name} stopped", change)
        else:
            self.experiment = replace(experiment, arms=arms)
            self.give_back(f"{name} stopped: {change.reason}", change)

    def _gate_again(self, candidate: Candidate, change: Change) -> None:
        old, new = candidate.base.variant_id, self.serving.variant_id
        why = f"gated against {old}, and {new} serves since: gated again"
        self.move(replace(candidate, base=self.serving), CandidateState.TRAINED, change, why=why)

    def _start(self, candidate: Candidate, change: Change) -> None:
        base = self.serving
        self.knows([base, candidate.variant])
        experiment = self.begin(
            name=f"model {candidate.model_version}",
            arms=pair(
                control=base.variant_id, treatment=candidate.variant.variant_id, percent=self.policy.canary_share
            ),
            design=self.policy.section("experiment"),
            canary=self.policy.section("canary"),
            holdout=self.policy.section("holdout"),
            phase=Phase.CANARY,
            candidate_id=candidate.candidate_id,
            change=change,
        )
        self.move(candidate, CandidateState.CANARY, change, experiment_id=experiment.experiment_id)
