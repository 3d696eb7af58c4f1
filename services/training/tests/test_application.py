from __future__ import annotations

import pytest

from anabranch_training.application.ports import LoopPolicies, NotEnough, Supply
from anabranch_training.application.runs import enough
from anabranch_training.domain.runs import Policy


def test_the_most_specific_policy_holds() -> None:
    policies = LoopPolicies()
    assert policies.of("t", "c") == Policy()
    for scope, after in (("*", 1), ("t", 2), ("t/c", 3)):
        policies.put(scope, Policy(after_feedback=after))
    assert [policies.of(*place).after_feedback for place in (("t", "c"), ("t", "d"), ("u", "c"))] == [3, 2, 1]
    policies.put("t/c", None)
    assert policies.of("t", "c").after_feedback == 2


@pytest.mark.parametrize(
    ("supply", "problem"),
    [
        (Supply(tenant="t", corpus="c", usable=199, positive=100, negative=99), "199 usable feedbacks and needs 200"),
        (Supply(tenant="t", corpus="c", usable=500, positive=500), "all feedback of t/c says relevant"),
        (Supply(tenant="t", corpus="c", usable=500, negative=500), "all feedback of t/c says irrelevant"),
    ],
)
def test_what_teaches_nothing_is_named(supply: Supply, problem: str) -> None:
    with pytest.raises(NotEnough, match=problem):
        enough(supply, Policy())
