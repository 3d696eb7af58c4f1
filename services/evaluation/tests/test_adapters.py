from __future__ import annotations

import pytest

from anabranch_evaluation.adapters.memory import MemoryTally
from anabranch_evaluation.domain.fates import Fate
from anabranch_faults import Overloaded


async def test_a_corpus_too_many_is_refused_and_known_ones_go_on() -> None:
    tally = MemoryTally(most_corpora=1)
    await tally.add(Fate(tenant="t", corpus="a", state="queryable"))
    with pytest.raises(Overloaded):
        await tally.add(Fate(tenant="t", corpus="b", state="queryable"))
    await tally.add(Fate(tenant="t", corpus="a", state="rejected"))
