"""A reindex: one corpus built under another model beside the present one, then swapped."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import datetime

from anabranch_retrieval.domain.documents import CorpusKey


class ReindexState(enum.StrEnum):
    """Where a run stands. The last three are final, but a swapped run can still be rolled back."""

    BACKFILLING = enum.auto()
    CATCHING_UP = enum.auto()
    SWAPPED = enum.auto()
    ROLLED_BACK = enum.auto()
    FAILED = enum.auto()

    @property
    def running(self) -> bool:
        """Whether work is left to do."""
        return self in {ReindexState.BACKFILLING, ReindexState.CATCHING_UP}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reindex:
    """One run; problem: the last one met, empty when all is well."""

    id: str
    corpus: CorpusKey
    from_version: str
    to_version: str
    state: ReindexState
    chunks_done: int
    chunks_total: int
    problem: str
    started_at: datetime
    finished_at: datetime | None
