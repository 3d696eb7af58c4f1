from __future__ import annotations

from itertools import pairwise

import pytest

from anabranch_faults import Invalid
from anabranch_guardrails.domain import Finding, Verdict


def test_a_block_outweighs_a_review_and_a_review_all_that_lets_text_through() -> None:
    order = [Verdict.ALLOW, Verdict.FLAG, Verdict.REDACT, Verdict.REVIEW, Verdict.BLOCK]
    assert all(later.outweighs(earlier) for earlier, later in pairwise(order))


@pytest.mark.parametrize("score", [float("nan"), -0.1, 1.1])
def test_a_score_that_no_threshold_can_be_held_against_is_refused(score: float) -> None:
    with pytest.raises(Invalid, match="score"):
        Finding(score=score)
