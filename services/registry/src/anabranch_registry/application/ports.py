"""What the use cases stand on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Generic, Protocol, TypeAlias, TypeVar

from anabranch_registry.domain import Routing, Variant
from anabranch_registry.domain.artifacts import Dataset, Gate, Model
from anabranch_registry.domain.candidates import Candidate
from anabranch_registry.domain.experiments import Experiment
from anabranch_registry.domain.guards import Attachment, GuardPolicy
from anabranch_registry.domain.notes import Label, Link, Note
from anabranch_registry.domain.policies import Loop, Policy
from anabranch_registry.domain.prompts import PromptLabel, PromptMove, StoredPrompt
from anabranch_registry.domain.routing import Change
from anabranch_registry.domain.spending import By, Costs, Price, Quota, Usage

__all__ = ["Books", "Clock", "CostBook", "Ledger", "Listing", "Standing", "Thing", "Told", "listed_under", "utc_now"]

Clock = Callable[[], datetime]

Governed: TypeAlias = GuardPolicy | Attachment | StoredPrompt | PromptLabel | PromptMove | Quota | Price
Thing: TypeAlias = Model | Dataset | Gate | Candidate | Experiment | Loop | Label | Governed
T = TypeVar("T", bound="Thing | Variant | Note")
K = TypeVar("K", bound=Thing)


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A candidate with the policy that holds for it."""

    candidate: Candidate
    loop: Loop

    @property
    def policy(self) -> Policy:
        """The policy."""
        return self.loop.policy


Told: TypeAlias = (
    Routing | Standing | Experiment | Loop | GuardPolicy | Attachment | StoredPrompt | PromptLabel | Quota | Price
)
"""What others are told of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing(Generic[T]):
    """A page, newest first; `following` is the number to list on from, 0 at the end."""

    found: Sequence[T]
    following: int = 0


class Books(Protocol):
    """The ledger within one transaction."""

    async def claim(self, event_id: str) -> bool:
        """Take an event for this transaction; False when another took it before."""

    async def variants(self, ids: Iterable[str]) -> dict[str, Variant]:
        """Return those of the variants that are kept."""

    async def page_of_variants(self, *, count: int, before: int = 0) -> Listing[Variant]:
        """Return the `count` variants next older than number `before`, the newest for 0."""

    async def keep(self, variant: Variant, change: Change) -> None:
        """Keep a variant that is not kept yet."""

    async def routing(self, scope: str, revision: int = 0) -> Routing | None:
        """Return a revision of a scope's routing, the present one for 0; None when there is none."""

    async def scopes(self) -> Sequence[str]:
        """Return all scopes that have a routing of their own."""

    async def route(self, routing: Routing) -> None:
        """Keep the next revision of a scope's routing."""

    async def find(self, kind: type[K], key: str) -> K | None:
        """Return the entry of this id, None when there is none."""

    async def page(
        self, kind: type[K], *, scope: str = "", live: bool = False, count: int, before: int = 0
    ) -> Listing[K]:
        """Return entries, newest first: of a scope (empty: all), only those that are `live`."""

    async def put(self, thing: Thing) -> None:
        """Keep an entry, in the place of the one that has its id."""

    async def note(self, notes: Iterable[Note]) -> None:
        """Write rows of the audit."""

    async def page_of_notes(
        self, *, scope: str = "", subject: str = "", since: datetime | None = None, count: int, before: int = 0
    ) -> Listing[Note]:
        """Return rows of the audit, newest first; all that is given must match."""

    async def link(self, links: Iterable[Link]) -> None:
        """Keep what led to what; what is kept already is kept once."""

    async def links(self, ids: Iterable[str], *, up: bool) -> Sequence[Link]:
        """Return the links that lead to (`up`) or from these."""

    async def tell(self, told: Told) -> None:
        """Have everybody told when, and only when, this transaction is committed."""


class Ledger(Protocol):
    """Where all of it is kept for ever. Raises Transient, Unreachable."""

    def writing(self) -> AbstractAsyncContextManager[Books]:
        """One transaction, all or nothing; only one at a time over all replicas."""

    def reading(self) -> AbstractAsyncContextManager[Books]:
        """One that changes nothing and waits for nobody."""


class CostBook(Protocol):
    """Where what was spent is added up, for ever. Raises Transient, Unreachable."""

    async def add(self, calls: Sequence[Usage]) -> int:
        """Add calls, all of them or none, each `usage_id` once in all time; return how many were new."""

    async def sums(self, by: Sequence[By], *, since: datetime, until: datetime, tenant: str, most: int) -> Costs:
        """Return the sums over whole hours, from the one of `since` to the one of `until`; an empty tenant is all."""

    async def forget(self, *, before: datetime) -> int:
        """Remove the names of calls metered before; what they cost stays. Return how many."""


def utc_now() -> datetime:
    """The present moment, in UTC."""
    return datetime.now(UTC)


def listed_under(thing: Thing) -> str:
    """Return what an entry is listed by: its scope; of a model, its kind; of a prompt, its name."""
    for name in ("listed_under", "scope", "kind"):
        if hasattr(thing, name):
            return str(getattr(thing, name))
    return ""
