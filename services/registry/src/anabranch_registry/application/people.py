"""What people ask of the loop: approvals, promotions, the way back, experiments by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from anabranch_faults import Conflict, Invalid, NotFound
from anabranch_registry.application import pages
from anabranch_registry.application.ports import Books, Clock, Ledger, Listing, utc_now
from anabranch_registry.application.streams import changing
from anabranch_registry.domain import Routing, checked_change, checked_scope
from anabranch_registry.domain.candidates import Candidate
from anabranch_registry.domain.checks import check_required
from anabranch_registry.domain.experiments import Arm, Experiment, checked_arms
from anabranch_registry.domain.policies import faults_of_design, faults_of_holdout, refuse

__all__ = ["Candidates", "Experiments", "Promote", "Rollback"]


@dataclass(frozen=True, slots=True)
class Candidates:
    """Finds candidates, and takes a person's word on them."""

    ledger: Ledger
    now: Clock = utc_now

    async def get(self, candidate_id: str) -> Candidate:
        """Return one. Raises NotFound."""
        async with self.ledger.reading() as books:
            return await _candidate(books, candidate_id)

    async def list(
        self, *, scope: str = "", page_size: int = 0, page_token: str = ""
    ) -> tuple[Sequence[Candidate], str]:
        """Return a page, newest first. Raises Invalid."""
        count, before = pages.size(page_size), pages.number("candidates", page_token)
        if scope:
            checked_scope(scope)
        async with self.ledger.reading() as books:
            page: Listing[Candidate] = await books.page(Candidate, scope=scope, count=count, before=before)
        return page.found, pages.token("candidates", page.following)

    async def approve(self, candidate_id: str, step: str, *, rejected: bool, author: str, reason: str) -> Candidate:
        """Return the candidate as it now is. Raises NotFound, Conflict when it does not wait for that step."""
        change = checked_change(author=author, reason=reason, at=self.now())
        async with self.ledger.writing() as books:
            candidate = await _candidate(books, candidate_id)
            async with changing(books, candidate.scope, change) as stream:
                stream.approve(candidate_id, step, rejected=rejected, change=change)
            return await _candidate(books, candidate_id)


@dataclass(frozen=True, slots=True)
class Promote:
    """Gives a scope to a candidate or variant at once."""

    ledger: Ledger
    now: Clock = utc_now

    async def __call__(
        self,
        *,
        candidate_id: str = "",
        scope: str = "",
        variant_id: str = "",
        whole: bool = False,
        author: str,
        reason: str,
    ) -> Routing:
        """Return the routing as it now is. Raises Invalid, NotFound, Conflict when it serves already."""
        change = checked_change(author=author, reason=reason, at=self.now())
        if bool(candidate_id) == bool(variant_id):
            raise Invalid("name a candidate, or a scope and a variant", field="candidate_id", reason="ONE_OF")
        async with self.ledger.writing() as books:
            candidate: Candidate | None = None
            if candidate_id:
                candidate = await _candidate(books, candidate_id)
                if scope not in ("", candidate.scope):
                    raise Invalid(f"{candidate_id} is for {candidate.scope}", field="scope", reason="WRONG_SCOPE")
                scope, variant = candidate.scope, candidate.variant
            else:
                checked_scope(scope)
                found = await books.variants([variant_id])
                if variant_id not in found:
                    raise NotFound(f"there is no variant {variant_id}", field="variant_id")
                variant = found[variant_id]
                live = await books.page(Candidate, scope=scope, live=True, count=100)
                candidate = next((one for one in live.found if one.variant == variant), None)
            async with changing(books, scope, change) as stream:
                stream.promote(variant, candidate=candidate, whole=whole, change=change)
        return _routing(stream.routing)


@dataclass(frozen=True, slots=True)
class Rollback:
    """Takes a scope back."""

    ledger: Ledger
    now: Clock = utc_now

    async def __call__(self, scope: str, *, to_revision: int = 0, author: str, reason: str) -> tuple[Routing, str]:
        """Return the routing as it now is, and the candidate rolled back. Raises Invalid, NotFound, Conflict."""
        change = checked_change(author=author, reason=reason, at=self.now())
        checked_scope(scope)
        async with self.ledger.writing() as books, changing(books, scope, change) as stream:
            if stream.routing is None:
                raise NotFound(f"{scope} has no routing of its own", field="scope")
            revision = to_revision or stream.revision - 1
            earlier = await books.routing(scope, revision) if revision else None
            if to_revision and earlier is None:
                raise NotFound(f"{scope} never had a revision {to_revision}", field="to_revision")
            if to_revision == stream.revision:
                raise Conflict(f"{scope} is at revision {to_revision}", field="to_revision", reason="PRESENT")
            candidate_id = stream.roll_back(earlier, named=bool(to_revision), change=change)
        return _routing(stream.routing), candidate_id


@dataclass(frozen=True, slots=True)
class Experiments:
    """Starts, finds and stops experiments."""

    ledger: Ledger
    now: Clock = utc_now

    async def create(
        self,
        *,
        name: str,
        scope: str,
        arms: Sequence[Arm],
        design: Mapping[str, Any],
        holdout: Mapping[str, Any],
        author: str,
        reason: str,
    ) -> Experiment:
        """Return the experiment as begun. Raises Invalid, NotFound, ExperimentRuns."""
        change = checked_change(author=author, reason=reason, at=self.now())
        check_required(name, "name", 200)
        checked_scope(scope)
        checked = checked_arms(arms)
        refuse(faults_of_design(design, "design"), "design")
        refuse(faults_of_holdout(holdout, "holdout"), "holdout")
        async with self.ledger.writing() as books, changing(books, scope, change) as stream:
            variants = await books.variants([arm.variant_id for arm in checked])
            for index, arm in enumerate(checked):
                if arm.variant_id not in variants:
                    raise NotFound(f"there is no variant {arm.variant_id}", field=f"arms[{index}].variant_id")
            stream.knows(variants.values())
            return stream.create(name=name.strip(), arms=checked, design=design, holdout=holdout, change=change)

    async def get(self, experiment_id: str) -> Experiment:
        """Return one. Raises NotFound."""
        async with self.ledger.reading() as books:
            return await _experiment(books, experiment_id)

    async def list(
        self, *, scope: str = "", page_size: int = 0, page_token: str = ""
    ) -> tuple[Sequence[Experiment], str]:
        """Return a page, newest first. Raises Invalid."""
        count, before = pages.size(page_size), pages.number("experiments", page_token)
        if scope:
            checked_scope(scope)
        async with self.ledger.reading() as books:
            page: Listing[Experiment] = await books.page(Experiment, scope=scope, count=count, before=before)
        return page.found, pages.token("experiments", page.following)

    async def stop(self, experiment_id: str, *, author: str, reason: str) -> Experiment:
        """Return the experiment as it ended. Raises NotFound, Conflict when it is stopped."""
        change = checked_change(author=author, reason=reason, at=self.now())
        async with self.ledger.writing() as books:
            experiment = await _experiment(books, experiment_id)
            async with changing(books, experiment.scope, change) as stream:
                stream.stop(experiment_id, change)
            return await _experiment(books, experiment_id)


async def _candidate(books: Books, candidate_id: str) -> Candidate:
    found = await books.find(Candidate, candidate_id)
    if found is None:
        raise NotFound(f"there is no candidate {candidate_id!r}", field="candidate_id")
    return found


async def _experiment(books: Books, experiment_id: str) -> Experiment:
    found = await books.find(Experiment, experiment_id)
    if found is None:
        raise NotFound(f"there is no experiment {experiment_id!r}", field="experiment_id")
    return found


def _routing(routing: Routing | None) -> Routing:
    if routing is None:
        raise NotFound("has no routing of its own", field="scope")
    return routing
