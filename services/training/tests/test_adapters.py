from __future__ import annotations

import pytest

from anabranch_faults import Overloaded
from anabranch_training.adapters.memory import MemoryTally
from anabranch_training.domain import Fate


async def test_a_corpus_too_many_is_refused_and_known_ones_go_on() -> None:
    tally = MemoryTally(most_corpora=1)
    await tally.add(Fate(tenant="t", corpus="a", state="queryable"))
    with pytest.raises(Overloaded):
        await tally.add(Fate(tenant="t", corpus="b", state="queryable"))
    await tally.add(Fate(tenant="t", corpus="a", state="rejected"))
