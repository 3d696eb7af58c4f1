"""Looking at runs."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from anabranch_evaluation.application.ports import GoldenSets, Runs
from anabranch_evaluation.domain.comparison import Difference, compare_runs
from anabranch_evaluation.domain.runs import Run, RunState
from anabranch_faults import Conflict, Invalid

LARGEST_PAGE: Final = 100
USUAL_PAGE: Final = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadRuns:
    """Runs as they stand, and two side by side."""

    runs: Runs
    sets: GoldenSets

    async def one(self, run_id: str) -> Run:
        """Raises NotFound."""
        return await self.runs.get(run_id)

    async def page(self, tenant: str, *, dataset: str, page_size: int, page_token: str) -> tuple[Sequence[Run], str]:
        """Runs, newest first, and the token of the next page. Raises Invalid for a page that cannot be."""
        if not tenant:
            raise Invalid("is empty", field="tenant")
        if page_size > LARGEST_PAGE:
            raise Invalid(f"must be at most {LARGEST_PAGE}", field="page_size")
        if page_token and not page_token.isdecimal():
            raise Invalid("is none that was given out", field="page_token")
        runs, following = await self.runs.page(
            tenant, dataset=dataset, count=page_size or USUAL_PAGE, before=int(page_token or 0)
        )
        return runs, str(following or "")

    async def compare(
        self, baseline_run_id: str, candidate_run_id: str
    ) -> tuple[Sequence[Difference], Sequence[Difference]]:
        """Every metric and slice, and the slices that lost most. Raises Conflict for runs that are not done."""
        baseline, candidate = await self.runs.get(baseline_run_id), await self.runs.get(candidate_run_id)
        for run in (baseline, candidate):
            if run.state is not RunState.DONE:
                raise Conflict(f"the run {run.run_id} is {run.state.value}, not done", reason="NOT_DONE")
        if baseline.key.tenant != candidate.key.tenant:
            raise Conflict("the runs are of different tenants", reason="OTHER_TENANT")
        golden = await self.sets.version(baseline.key.tenant, baseline.key.dataset_version)
        return await asyncio.to_thread(compare_runs, golden, baseline, candidate)
