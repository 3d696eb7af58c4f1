from __future__ import annotations

from anabranch_evaluation.adapters.memory import MemoryTally
from anabranch_evaluation.application import CountFates
from anabranch_evaluation.domain.fates import Fate

QUERYABLE = Fate(tenant="t", corpus="c", state="queryable")


async def test_equal_fates_are_counted_together_and_others_apart() -> None:
    tally = MemoryTally(most_corpora=2)
    await CountFates(tally=tally)([QUERYABLE, QUERYABLE, Fate(tenant="t", corpus="d", state="queryable")])
    assert await tally.count(QUERYABLE) == 2
