"""Policies, labels, the audit and lineage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from anabranch_faults import NotFound
from anabranch_registry.application import pages
from anabranch_registry.application.audit import noted, swap
from anabranch_registry.application.ports import Books, Clock, Ledger, utc_now
from anabranch_registry.application.streams import loop_of
from anabranch_registry.domain import Change, checked_change, checked_scope, is_variant_id
from anabranch_registry.domain.artifacts import Dataset, Gate, Model
from anabranch_registry.domain.candidates import Candidate
from anabranch_registry.domain.experiments import Experiment
from anabranch_registry.domain.guards import GuardPolicy
from anabranch_registry.domain.notes import Label, Link, Node, Note, checked_label, described
from anabranch_registry.domain.policies import Loop, Policy, faults_of_policy, refuse
from anabranch_registry.domain.prompts import PromptLabel, StoredPrompt

__all__ = ["Changes", "GetLineage", "Labels", "Lineage", "Loops"]

_MOST_NODES: Final = 1_000


@dataclass(frozen=True, slots=True)
class Loops:
    """Declares and tells how the loop of a scope goes."""

    ledger: Ledger
    now: Clock = utc_now

    async def set(
        self, scope: str, document: Mapping[str, Any], *, expected_revision: int, author: str, reason: str
    ) -> Loop:
        """Return the policy as set. Raises Invalid, Conflict when somebody was faster."""
        change = checked_change(author=author, reason=reason, at=self.now())
        checked_scope(scope)
        refuse(faults_of_policy(document), "yaml")
        async with self.ledger.writing() as books:
            before = await books.find(Loop, scope)
            swap(f"the policy of {scope}", before.revision if before else 0, expected_revision)
            loop = Loop(scope=scope, revision=expected_revision + 1, policy=Policy(document), change=change)
            await books.put(loop)
            await books.tell(loop)
            await books.note([noted("loop", scope, f"revision {loop.revision}", scope, change)])
        return loop

    async def get(self, scope: str) -> Loop:
        """Return the policy that holds for a scope; revision 0 is the built-in one. Raises Invalid."""
        checked_scope(scope)
        change = Change(author="registry", reason="built in", at=self.now())
        async with self.ledger.reading() as books:
            return await loop_of(books, scope, change)


@dataclass(frozen=True, slots=True)
class Labels:
    """Moves and finds labels."""

    ledger: Ledger
    now: Clock = utc_now

    async def set(
        self, scope: str, name: str, variant_id: str, *, expected_revision: int, author: str, reason: str
    ) -> Label:
        """Return the label as it now is. Raises Invalid, NotFound, Conflict when somebody was faster."""
        change = checked_change(author=author, reason=reason, at=self.now())
        checked_scope(scope)
        checked_label(name)
        async with self.ledger.writing() as books:
            before = await books.find(Label, f"{scope}\n{name}")
            swap(f"{name} of {scope}", before.revision if before else 0, expected_revision)
            if not await books.variants([variant_id]):
                raise NotFound(f"there is no variant {variant_id!r}", field="variant_id")
            label = Label(scope=scope, name=name, variant_id=variant_id, revision=expected_revision + 1, change=change)
            await books.put(label)
            await books.note([noted("label", name, f"moved to {variant_id}", scope, change)])
        return label

    async def get(self, scope: str, name: str) -> Label:
        """Return where it stands. Raises Invalid, NotFound."""
        checked_scope(scope)
        checked_label(name)
        async with self.ledger.reading() as books:
            found = await books.find(Label, f"{scope}\n{name}")
        if found is None:
            raise NotFound(f"{scope} has no label {name}", field="name")
        return found


@dataclass(frozen=True, slots=True)
class Changes:
    """Tells the audit."""

    ledger: Ledger

    async def list(
        self,
        *,
        scope: str = "",
        subject: str = "",
        since: datetime | None = None,
        page_size: int = 0,
        page_token: str = "",
    ) -> tuple[Sequence[Note], str]:
        """Return a page, newest first. Raises Invalid."""
        count = pages.size(page_size, default=100, most=1_000)
        before = pages.number("changes", page_token)
        async with self.ledger.reading() as books:
            page = await books.page_of_notes(scope=scope, subject=subject, since=since, count=count, before=before)
        return page.found, pages.token("changes", page.following)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lineage:
    """The chain, nearest first."""

    nodes: Sequence[Node]
    links: Sequence[Link]


@dataclass(frozen=True, slots=True)
class GetLineage:
    """Walks up to what something came from, and down to what came of it."""

    ledger: Ledger

    async def __call__(self, id_: str) -> Lineage:
        """Return the chain. Raises NotFound for an id the registry does not know."""
        async with self.ledger.reading() as books:
            if await _node(books, id_) is None:
                raise NotFound(f"the registry knows nothing of {id_!r}", field="id")
            seen: dict[str, int] = {id_: 0}
            links: dict[Link, None] = {}
            for up in (True, False):
                await _walk(books, id_, seen, links, up=up)
            ids = sorted(seen, key=seen.__getitem__)
            nodes = [node for one in ids if (node := await _node(books, one)) is not None]
        known = {node.id for node in nodes}
        return Lineage(nodes=nodes, links=[link for link in links if link.source in known and link.target in known])


async def _walk(books: Books, start: str, seen: dict[str, int], links: dict[Link, None], *, up: bool) -> None:
    visited, edge, distance = {start}, [start], 0
    while edge and len(seen) < _MOST_NODES:
        distance += 1
        found = await books.links(edge, up=up)
        links.update(dict.fromkeys(found))
        edge = []
        for link in found:
            other = link.source if up else link.target
            seen.setdefault(other, distance)
            if other not in visited:
                visited.add(other)
                edge.append(other)


async def _node(books: Books, id_: str) -> Node | None:  # noqa: PLR0911  one for each kind of thing
    if is_variant_id(id_):
        variant = (await books.variants([id_])).get(id_)
        notes = await books.page_of_notes(subject=id_, count=1)
        at = notes.found[0].at if notes.found else datetime.min.replace(tzinfo=UTC)
        return None if variant is None else Node(id=id_, kind="variant", summary=described(variant), at=at)
    if (model := await books.find(Model, id_)) is not None:
        summary = f"{model.kind.lower()}, {model.algorithm or model.format}"
        return Node(id=id_, kind="model", summary=summary, at=model.created_at)
    if (dataset := await books.find(Dataset, id_)) is not None:
        counts = ", ".join(f"{number:,} {name}" for name, number in sorted(dataset.counts.items()))
        return Node(id=id_, kind="dataset", summary=f"{dataset.kind.lower()}: {counts}", at=dataset.created_at)
    if (candidate := await books.find(Candidate, id_)) is not None:
        summary = f"{candidate.state} in {candidate.scope}: {candidate.reason}"
        return Node(id=id_, kind="candidate", summary=summary, at=candidate.created_at)
    if (experiment := await books.find(Experiment, id_)) is not None:
        outcome = f": {experiment.outcome}" if experiment.outcome else ""
        summary = f"{experiment.name}, {experiment.phase} in {experiment.scope}{outcome}"
        return Node(id=id_, kind="experiment", summary=summary, at=experiment.created_at)
    if (gate := await books.find(Gate, id_)) is not None:
        summary = f"{'passed' if gate.passed else 'failed'}: {gate.reason}"
        return Node(id=id_, kind="gate", summary=summary, at=gate.decided_at)
    return await _governed(books, id_)


async def _governed(books: Books, id_: str) -> Node | None:
    if (policy := await books.find(GuardPolicy, id_)) is not None:
        rules = len(policy.document.get("rules", ()))
        return Node(id=id_, kind="policy", summary=f"{policy.document['name']}, {rules} rules", at=policy.change.at)
    if (prompt := await books.find(StoredPrompt, id_)) is not None:
        return Node(id=id_, kind="prompt", summary=prompt.template.description or "prompt", at=prompt.change.at)
    if (label := await books.find(PromptLabel, id_)) is not None:
        summary = f"means {label.prompt_version} since revision {label.revision}"
        return Node(id=id_, kind="label", summary=summary, at=label.change.at)
    return None
