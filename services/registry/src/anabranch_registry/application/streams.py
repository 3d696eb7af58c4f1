"""Loading a scope's stream, and keeping and telling what became of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from anabranch_registry.application.ports import Books, Standing
from anabranch_registry.domain import Variant
from anabranch_registry.domain.candidates import Candidate
from anabranch_registry.domain.defaults import DEFAULT_VARIANT
from anabranch_registry.domain.experiments import Experiment
from anabranch_registry.domain.notes import LAST_GOOD, PRODUCTION, Label, Link
from anabranch_registry.domain.policies import Loop, built_in
from anabranch_registry.domain.routing import EVERYONE, Change
from anabranch_registry.domain.stream import Stream

__all__ = ["changing", "loop_of", "parents", "present"]

_RECENT = 20
_LIVE = 1_000


def parents(scope: str) -> list[str]:
    """Return the wider scopes, nearest first."""
    if scope == EVERYONE:
        return []
    tenant, slash, _ = scope.partition("/")
    return [tenant, EVERYONE] if slash else [EVERYONE]


async def loop_of(books: Books, scope: str, change: Change) -> Loop:
    """Return the policy that holds for a scope."""
    for one in (scope, *parents(scope)):
        if (found := await books.find(Loop, one)) is not None:
            return found
    return built_in(change)


async def present(books: Books, scope: str) -> Variant | None:
    """Return what a scope is given to by a routing of its own, None when it has none."""
    routing = await books.routing(scope)
    if routing is None:
        return None
    running = (await books.page(Experiment, scope=scope, live=True, count=1)).found
    if running:
        serving = running[0].serving.variant_id
        return (await books.variants([serving]))[serving]
    return max(routing.shares, key=lambda share: share.weight).variant


async def _load(books: Books, scope: str, change: Change) -> Stream:
    inherited = DEFAULT_VARIANT
    for parent in parents(scope):
        if (found := await present(books, parent)) is not None:
            inherited = found
            break
    running = (await books.page(Experiment, scope=scope, live=True, count=1)).found
    recent = await books.page(Candidate, scope=scope, count=_RECENT)
    live = await books.page(Candidate, scope=scope, live=True, count=_LIVE)
    newest = {one.candidate_id: one for one in (*recent.found, *live.found)}
    old = [one for one in live.found if one.candidate_id not in {other.candidate_id for other in recent.found}]
    ordered = [*reversed(old), *reversed(recent.found)]
    routing = await books.routing(scope)
    labels = {
        name: label.variant_id
        for name in (PRODUCTION, LAST_GOOD)
        if (label := await books.find(Label, f"{scope}\n{name}")) is not None
    }
    stream = Stream(
        scope=scope,
        policy=(await loop_of(books, scope, change)).policy,
        inherited=inherited,
        routing=routing,
        experiment=running[0] if running else None,
        candidates={one.candidate_id: newest[one.candidate_id] for one in ordered},
        labels=labels,
    )
    arms = [arm.variant_id for arm in running[0].arms] if running else []
    stream.variants = await books.variants([*arms, *labels.values()])
    stream.knows([inherited, *(share.variant for share in (routing.shares if routing else ()))])
    for one in ordered:
        stream.knows([one.base, one.variant])
    return stream


@asynccontextmanager
async def changing(books: Books, scope: str, change: Change) -> AsyncIterator[Stream]:
    """Give the scope's stream; when the block ends, keep what changed and have it told."""
    stream = await _load(books, scope, change)
    experiment, candidates, labels = stream.experiment, dict(stream.candidates), dict(stream.labels)
    yield stream
    for routing in stream.moves:
        await books.route(routing)
        await books.tell(routing)
    for ended in stream.ended:
        await _put_experiment(books, ended)
    if stream.experiment is not None and stream.experiment != experiment:
        await _put_experiment(books, stream.experiment)
    moved = [one for one in stream.candidates.values() if candidates.get(one.candidate_id) != one]
    if moved:
        loop = await loop_of(books, scope, change)
        for candidate in moved:
            await _put_candidate(books, candidate, loop)
    for name, variant_id in stream.labels.items():
        if labels.get(name) != variant_id:
            await _put_label(books, stream, name, variant_id, change)
    await books.note(stream.notes)


async def _put_experiment(books: Books, experiment: Experiment) -> None:
    await books.put(experiment)
    await books.tell(experiment)
    links = [
        Link(source=arm.variant_id, target=experiment.experiment_id, how="compared" if arm.control else "tested")
        for arm in experiment.arms
    ]
    if experiment.winner and not experiment.arm(experiment.winner).control:
        promoted = experiment.arm(experiment.winner).variant_id
        links.append(Link(source=experiment.experiment_id, target=promoted, how="promoted"))
    await books.link(links)


async def _put_candidate(books: Books, candidate: Candidate, loop: Loop) -> None:
    await books.put(candidate)
    await books.tell(Standing(candidate=candidate, loop=loop))
    me = candidate.candidate_id
    links = [
        Link(source=candidate.model_version, target=me, how="proposed"),
        Link(source=candidate.base.variant_id, target=me, how="compared"),
        Link(source=me, target=candidate.variant.variant_id, how="became"),
    ]
    if candidate.experiment_id:
        links.append(Link(source=me, target=candidate.experiment_id, how="tested"))
    await books.link(links)


async def _put_label(books: Books, stream: Stream, name: str, variant_id: str, change: Change) -> None:
    before = await books.find(Label, f"{stream.scope}\n{name}")
    label = Label(
        scope=stream.scope,
        name=name,
        variant_id=variant_id,
        revision=before.revision + 1 if before else 1,
        change=change,
    )
    await books.put(label)
    stream.note("label", name, f"moved to {variant_id}", change)
