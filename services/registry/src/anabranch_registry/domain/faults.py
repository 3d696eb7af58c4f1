"""What the registry refuses beyond the common faults.

Conflict
├── ExperimentRuns     traffic of the scope belongs to an experiment that is not stopped
└── Stale              a decision about something that is no longer so: ignored where it came as an event
"""

from __future__ import annotations

from anabranch_faults import Conflict

__all__ = ["ExperimentRuns", "Stale"]


class ExperimentRuns(Conflict):
    """The scope's traffic belongs to an experiment: stop it, promote or roll back."""


class Stale(Conflict):
    """The decision is about a state that has passed."""
