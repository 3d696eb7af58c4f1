from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from anabranch_faults import Invalid
from anabranch_training.domain.runs import Policy, Trigger, due

NOW = datetime(2026, 11, 21, tzinfo=UTC)


@pytest.mark.parametrize(
    ("policy", "fresh", "usable", "last", "trigger"),
    [
        (Policy(), 10_000, 10_000, None, None),
        (Policy(after_feedback=500), 499, 2_000, None, None),
        (Policy(after_feedback=500), 500, 2_000, NOW, Trigger.FEEDBACK),
        (Policy(after_feedback=100), 100, 199, None, None),
        (Policy(after_feedback=5, min_feedback=1), 19, 19, None, None),
        (Policy(every=timedelta(hours=1)), 1, 200, None, Trigger.SCHEDULE),
        (Policy(every=timedelta(hours=1)), 1, 200, NOW - timedelta(minutes=59), None),
        (Policy(every=timedelta(hours=1)), 1, 200, NOW - timedelta(minutes=60), Trigger.SCHEDULE),
        (Policy(every=timedelta(hours=1)), 0, 200, None, None),
    ],
)
def test_a_run_is_due_when_its_policy_says_so_and_there_is_something_new(
    policy: Policy, fresh: int, usable: int, last: datetime | None, trigger: Trigger | None
) -> None:
    found = due(policy, fresh=fresh, usable=usable, last=last, now=NOW)
    assert (found and found[0]) == trigger


def test_a_schedule_without_rest_is_refused() -> None:
    with pytest.raises(Invalid, match="every"):
        Policy(every=timedelta(0))
