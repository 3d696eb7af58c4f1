"""What the registry refuses beyond the common faults.

Conflict
├── ExperimentRuns     traffic of the scope belongs to an experiment that is not stopped
├── GateClosed         a prompt's label would move to what fails its tests
└── Stale              a decision about something that is no longer so: ignored where it came as an event
"""

from __future__ import annotations

from anabranch_faults import Conflict

__all__ = ["ExperimentRuns", "GateClosed", "Stale"]


class ExperimentRuns(Conflict):
    """The scope's traffic belongs to an experiment: stop it, promote or roll back."""


class GateClosed(Conflict):
    """The version fails tests that hold for the label, or asks for more than the present one: write another."""


class Stale(Conflict):
    """The decision is about a state that has passed."""
