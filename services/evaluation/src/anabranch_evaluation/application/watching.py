"""Watching experiments: exposures and opinions in, decisions out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Protocol

from anabranch_evaluation.application.datasets import Clock, utc_now
from anabranch_evaluation.domain.experiments import (
    FINAL,
    Decision,
    Experiment,
    Exposed,
    Opinion,
    Phase,
    Verb,
)
from anabranch_evaluation.domain.statistics import GroupSequential
from anabranch_evaluation.domain.watching import Reading, look_due, read
from anabranch_faults import NotFound, Transient


class Observations(Protocol):
    """Who was exposed to what, what they made of it, and what was decided."""

    async def judge(self, opinions: Sequence[Opinion]) -> None:
        """Stores opinions; the highest revision of each holds."""

    async def exposed(self, experiment_id: str, *, since_revision: int, covariate: bool = False) -> Exposed:
        """Everybody exposed under a routing of that revision or later; `covariate`: with what was known before."""

    async def weigh(self, experiment_id: str, revision: int, weights: Mapping[str, int]) -> None:
        """The routing of that revision deals by these weights; what was told of it before holds."""

    async def weights(self, experiment_id: str, *, since_revision: int) -> Mapping[int, Mapping[str, int]]:
        """Revision of the routing -> arm -> weight, of all that are known from that revision on."""

    async def sample_ratio(self, experiment_id: str, phase_revision: int) -> float:
        """The least p-value of the phase's looks; 1 where none was kept."""

    async def keep_sample_ratio(self, experiment_id: str, phase_revision: int, p_value: float) -> None:
        """Keeps it, if it is the least."""

    async def looks(self, experiment_id: str, phase_revision: int) -> Sequence[float]:
        """The looks taken in a phase, in order."""

    async def look(self, experiment_id: str, phase_revision: int, fraction: float) -> None:
        """A look is taken."""

    async def decisions(self, experiment_id: str) -> Sequence[Decision]:
        """What was decided, in order."""

    async def decide(self, decision: Decision) -> bool:
        """Stores and tells a decision, once by experiment, phase and discriminator; whether this was the once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What is known of an experiment now."""

    experiment: Experiment
    reading: Reading
    decisions: Sequence[Decision]


@dataclass(kw_only=True)
class WatchExperiments:
    """Keeps the experiments as the registry tells them, and says what follows from what people made of them.

    `decided` hears of every decision, `delayed` of an experiment that could not be looked at, and why.
    """

    observations: Observations
    delayed: Callable[[str, str], None]
    decided: Callable[[Decision], None]
    every: timedelta = timedelta(seconds=1)
    now: Clock = utc_now
    _experiments: dict[str, Experiment] = field(default_factory=dict)
    _weighed: set[tuple[str, int]] = field(default_factory=set)

    def put(self, experiment: Experiment) -> None:
        """The experiment is now this."""
        self._experiments[experiment.experiment_id] = experiment

    def drop(self, experiment_id: str) -> None:
        """The experiment is gone."""
        self._experiments.pop(experiment_id, None)

    def active(self) -> Collection[str]:
        """Experiments that are not stopped."""
        return frozenset(key for key, one in self._experiments.items() if one.phase is not Phase.STOPPED)

    async def run(self) -> None:
        """Looks at every active experiment again and again. An outage is waited out."""
        while True:
            for experiment in list(self._experiments.values()):
                if experiment.phase is not Phase.STOPPED:
                    try:
                        await self.look_at(experiment)
                    except Transient as fault:
                        self.delayed(experiment.experiment_id, str(fault))
            await asyncio.sleep(self.every.total_seconds())

    async def look_at(self, experiment: Experiment) -> Decision | None:
        """Decides what follows now, and tells it if it is new."""
        told = await self.observations.decisions(experiment.experiment_id)
        here = [one for one in told if one.phase_revision == experiment.phase_revision]
        if any(one.verb in FINAL for one in here):
            return None
        reading = await self._read(experiment, here, taking_looks=True)
        if reading.verb is None:
            return None
        measured = sum(one.measured for one in reading.arms)
        discriminator = f"{reading.verb.value}:{reading.arm}"
        if reading.verb is Verb.REWEIGH:
            moves = [one for one in here if one.verb is Verb.REWEIGH]
            # Shares move again when a fifth more is known: each move shows some people a second arm.
            if moves and measured < 1.2 * sum(arm.measured for arm in moves[-1].arms):
                return None
            discriminator = f"{reading.verb.value}:{len(moves)}"
        decision = reading.decision(experiment, at=self.now(), discriminator=discriminator)
        if not await self.observations.decide(decision):
            return None
        self.decided(decision)
        return decision

    async def report(self, experiment_id: str) -> Report:
        """What is known. Raises NotFound."""
        experiment = self._experiments.get(experiment_id)
        if experiment is None:
            raise NotFound(f"there is no experiment {experiment_id}", field="experiment_id")
        told = await self.observations.decisions(experiment_id)
        here = [one for one in told if one.phase_revision == experiment.phase_revision]
        return Report(experiment=experiment, reading=await self._read(experiment, here), decisions=told)

    async def _read(self, experiment: Experiment, here: Collection[Decision], *, taking_looks: bool = False) -> Reading:
        design, place = experiment.design, (experiment.experiment_id, experiment.phase_revision)
        await self._weigh(experiment)
        before = await self.observations.sample_ratio(*place)
        exposed = await self.observations.exposed(
            experiment.experiment_id,
            since_revision=experiment.phase_revision,
            covariate=design.covariate == "satisfaction_before",
        )
        looks = list(await self.observations.looks(*place))
        reached = look_due(experiment, exposed)
        due = taking_looks and GroupSequential(alpha=design.alpha, looks=design.looks).due(reached, looks)
        if due:
            # Kept first: a look that is decided by and forgotten would spend error twice.
            await self.observations.look(*place, reached)
            looks.append(reached)
        reading = await asyncio.to_thread(
            read,
            experiment,
            exposed,
            now=self.now(),
            # Between looks nothing is decided; after the last one what it showed stands, even if its decision was lost.
            looks=looks if due or not taking_looks or (looks and looks[-1] >= 1) else (),
            stopped=[one.arm for one in here if one.verb is Verb.STOP_ARM],
            before=before,
            weights=await self.observations.weights(place[0], since_revision=place[1]),
        )
        if taking_looks and reading.sample_ratio_p_value < before:
            # Kept, for what was once shown stays shown, whoever looks next.
            await self.observations.keep_sample_ratio(*place, reading.sample_ratio_p_value)
        return reading

    async def _weigh(self, experiment: Experiment) -> None:
        place = (experiment.experiment_id, experiment.arms_revision)
        if experiment.arms_revision and place not in self._weighed:
            await self.observations.weigh(*place, {arm.name: arm.weight for arm in experiment.arms})
            self._weighed.add(place)
