"""Bundles, the routing set by hand, and what happens at start."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from anabranch_faults import Conflict, Invalid, NotFound
from anabranch_registry.application import pages
from anabranch_registry.application.ports import Books, Clock, Ledger, Standing, utc_now
from anabranch_registry.application.streams import changing, loop_of
from anabranch_registry.domain import (
    Change,
    Routing,
    Share,
    Variant,
    checked_change,
    checked_scope,
    checked_weights,
    is_variant_id,
)
from anabranch_registry.domain.artifacts import Model, ModelKind
from anabranch_registry.domain.candidates import Candidate
from anabranch_registry.domain.defaults import DEFAULT_VARIANT
from anabranch_registry.domain.experiments import Experiment
from anabranch_registry.domain.guards import Attachment, GuardPolicy
from anabranch_registry.domain.notes import Link, Note
from anabranch_registry.domain.policies import Loop
from anabranch_registry.domain.prompts import PromptLabel, StoredPrompt
from anabranch_registry.domain.routing import EVERYONE
from anabranch_registry.domain.spending import Price, Quota

__all__ = ["CreateVariant", "GetRouting", "GetVariant", "ListVariants", "OpenRegistry", "SetRouting", "keep"]

_RETOLD = 100

R = TypeVar("R", Loop, Experiment, Candidate, GuardPolicy, Attachment, StoredPrompt, PromptLabel, Quota, Price)


async def keep(books: Books, variant: Variant, change: Change, *, scope: str = "") -> Variant:
    """Keep a variant, once; return it as it is kept."""
    kept = await books.variants([variant.variant_id])
    if kept:
        return kept[variant.variant_id]
    await books.keep(variant, change)
    note = Note(
        subject_kind="variant",
        subject=variant.variant_id,
        what="created",
        scope=scope,
        author=change.author,
        reason=change.reason,
        at=change.at,
    )
    await books.note([note])
    sources = [
        (variant.retrieval.reranker_version, "became"),
        (variant.generation.adapter, "became"),
        (variant.policy_version, "governed"),
        (variant.generation.prompt_ref, "prompted"),
    ]
    await books.link(Link(source=one, target=variant.variant_id, how=how) for one, how in sources if one)
    return variant


@dataclass(frozen=True, slots=True)
class CreateVariant:
    """Keeps a bundle under its content's name."""

    ledger: Ledger
    now: Clock = utc_now

    async def __call__(self, variant: Variant, *, claimed_id: str = "", author: str, reason: str) -> Variant:
        """Return the bundle as kept: the same for the same content.

        Raises Invalid, TooLarge, and NotFound when it names a model, policy or prompt that is not registered.
        """
        change = checked_change(author=author, reason=reason, at=self.now())
        completed = variant.completed(claimed_id=claimed_id)
        async with self.ledger.writing() as books:
            await _check_model(
                books, completed.retrieval.reranker_version, ModelKind.RERANKER, "variant.retrieval.reranker_version"
            )
            await _check_model(books, completed.generation.adapter, ModelKind.ADAPTER, "variant.generation.adapter")
            await _check_governed(books, completed)
            return await keep(books, completed, change)


async def _check_governed(books: Books, variant: Variant) -> None:
    version, prompt = variant.policy_version, variant.generation.prompt_ref
    if version and await books.find(GuardPolicy, version) is None:
        raise NotFound(f"there is no policy {version}", field="variant.policy_version", reason="UNKNOWN_POLICY")
    if not prompt:
        return
    if await books.find(StoredPrompt, prompt) is None and await books.find(PromptLabel, prompt) is None:
        raise NotFound(f"there is no prompt {prompt}", field="variant.generation.prompt_ref", reason="UNKNOWN_PROMPT")


async def _check_model(books: Books, version: str, kind: ModelKind, field: str) -> None:
    if not version:
        return
    model = await books.find(Model, version)
    if model is None:
        raise NotFound(f"there is no model {version}", field=field, reason="UNKNOWN_MODEL")
    if model.kind is not kind:
        raise Invalid(f"{version} is a {model.kind}, not a {kind}", field=field, reason="WRONG_KIND")


@dataclass(frozen=True, slots=True)
class GetVariant:
    """Finds one bundle."""

    ledger: Ledger

    async def __call__(self, variant_id: str) -> Variant:
        """Return it. Raises Invalid for what is no id, NotFound."""
        if not is_variant_id(variant_id):
            raise Invalid(f"{variant_id!r} is not a variant's id, as in v-0123456789ab", field="variant_id")
        async with self.ledger.reading() as books:
            found = (await books.variants([variant_id])).get(variant_id)
        if found is None:
            raise NotFound(f"there is no variant {variant_id}", field="variant_id")
        return found


@dataclass(frozen=True, slots=True)
class ListVariants:
    """Pages through all bundles, newest first."""

    ledger: Ledger

    async def __call__(self, *, page_size: int = 0, page_token: str = "") -> tuple[Sequence[Variant], str]:
        """Return a page and the token of the next, empty at the end. Raises Invalid."""
        count, before = pages.size(page_size), pages.number("variants", page_token)
        async with self.ledger.reading() as books:
            page = await books.page_of_variants(count=count, before=before)
        return page.found, pages.token("variants", page.following)


@dataclass(frozen=True, slots=True)
class GetRouting:
    """Tells the routing of one scope."""

    ledger: Ledger

    async def __call__(self, scope: str) -> Routing:
        """Return it. Raises Invalid, NotFound when it has none of its own."""
        checked_scope(scope)
        async with self.ledger.reading() as books:
            found = await books.routing(scope)
        if found is None:
            raise NotFound(f"{scope} has no routing of its own", field="scope")
        return found


@dataclass(frozen=True, slots=True)
class SetRouting:
    """Moves a scope's traffic by hand."""

    ledger: Ledger
    now: Clock = utc_now

    async def __call__(
        self, scope: str, weights: Mapping[str, int], *, expected_revision: int, author: str, reason: str
    ) -> Routing:
        """Return the routing as set.

        Raises Invalid, TooLarge, NotFound, Conflict when somebody was faster, ExperimentRuns.
        """
        change = checked_change(author=author, reason=reason, at=self.now())
        checked_scope(scope)
        wanted = checked_weights(weights)
        async with self.ledger.writing() as books:
            return await set_routing(books, scope, wanted, expected=expected_revision, change=change)


async def set_routing(
    books: Books, scope: str, weights: Mapping[str, int], *, expected: int, change: Change
) -> Routing:
    """Route within a transaction."""
    async with changing(books, scope, change) as stream:
        if stream.revision != expected:
            stands = f"at revision {stream.revision}" if stream.revision else "not routed yet (revision 0)"
            raise Conflict(
                f"{scope} is {stands}, not at {expected}: look at it again, then decide",
                field="expected_revision",
                reason="REVISION_MOVED",
            )
        variants = await books.variants(weights)
        for variant_id in weights:
            if variant_id not in variants:
                raise NotFound(f"there is no variant {variant_id}", field=f"weights[{variant_id}]")
        stream.set_by_hand([Share(variant=variants[key], weight=weight) for key, weight in weights.items()], change)
    return stream.moves[-1]


@dataclass(frozen=True, slots=True)
class OpenRegistry:
    """What happens at every start, in as many replicas as there are."""

    ledger: Ledger
    now: Clock = utc_now

    async def __call__(self) -> None:
        """See to it that everyone is routed somewhere, and have all that holds told once more.

        The second is for topics that were lost or made anew: what they hold already is told again with the same ids.
        """
        change = Change(author="registry", reason="the variant a new platform begins with", at=self.now())
        async with self.ledger.writing() as books:
            if await books.routing(EVERYONE) is None:
                variant = await keep(books, DEFAULT_VARIANT, change, scope=EVERYONE)
                await set_routing(books, EVERYONE, {variant.variant_id: 1}, expected=0, change=change)
                return
        await self.retell()

    async def retell(self) -> None:
        """Have everything that holds told once more. Harmless at any time."""
        change = Change(author="registry", reason="told again", at=self.now())
        async with self.ledger.writing() as books:
            for scope in await books.scopes():
                if (routing := await books.routing(scope)) is not None:
                    await books.tell(routing)
        await self._retell(Loop, change)
        await self._retell(Experiment, change)
        await self._retell(Candidate, change)
        # A policy before the scopes that have it, a prompt before the labels that mean it.
        await self._retell(GuardPolicy, change)
        await self._retell(Attachment, change)
        await self._retell(StoredPrompt, change)
        await self._retell(PromptLabel, change)
        await self._retell(Quota, change)
        await self._retell(Price, change)

    async def _retell(self, kind: type[R], change: Change) -> None:
        before, more = 0, True
        while more:
            async with self.ledger.writing() as books:
                page = await books.page(kind, count=_RETOLD, before=before)
                for thing in page.found:
                    if isinstance(thing, Candidate):
                        loop = await loop_of(books, thing.scope, change)
                        await books.tell(Standing(candidate=thing, loop=loop))
                    else:
                        await books.tell(thing)
            before, more = page.following, page.following > 0
