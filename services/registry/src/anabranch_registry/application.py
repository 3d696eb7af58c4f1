"""Use cases of the registry and the port they need."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Protocol

from anabranch_faults import Conflict, Invalid, NotFound
from anabranch_registry.domain import (
    Change,
    Routing,
    Variant,
    checked_change,
    checked_scope,
    checked_weights,
    is_variant_id,
)
from anabranch_registry.domain.defaults import DEFAULT_VARIANT
from anabranch_registry.domain.routing import EVERYONE

__all__ = [
    "CreateVariant",
    "GetRouting",
    "GetVariant",
    "Ledger",
    "ListVariants",
    "OpenRegistry",
    "Page",
    "SetRouting",
]

Clock = Callable[[], datetime]

_PAGE: Final = 50
_MAX_PAGE: Final = 100


def utc_now() -> datetime:
    """The present moment, in UTC."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Variants newest first; `following` is the number to list on from, 0 at the end."""

    variants: Sequence[Variant]
    following: int = 0


class Ledger(Protocol):
    """Where variants and routings are kept for ever. Raises Transient, Unreachable."""

    async def store(self, variant: Variant, change: Change) -> Variant:
        """Keep the variant; return it as it is kept. One that is there already stays, with its description."""

    async def variant(self, variant_id: str) -> Variant | None:
        """Return a variant, None when there is none."""

    async def variants(self, *, count: int, before: int = 0) -> Page:
        """Return the `count` variants next older than number `before`, the newest for 0."""

    async def routing(self, scope: str) -> Routing | None:
        """Return the present routing of a scope, None when it has none of its own."""

    async def move(self, scope: str, weights: Mapping[str, int], *, expected: int, change: Change) -> Routing:
        """Make revision `expected` + 1 of a scope, and see to it that everybody is told: both or neither.

        Raises Conflict when the present revision is not `expected` (0: none), NotFound when a variant is not kept.
        """

    async def retell(self) -> int:
        """Have every scope's present routing told once more; return how many. Harmless at any time."""


@dataclass(frozen=True, slots=True)
class CreateVariant:
    """Keeps a bundle under its content's name."""

    ledger: Ledger
    now: Clock = utc_now

    async def __call__(self, variant: Variant, *, claimed_id: str = "", author: str, reason: str) -> Variant:
        """Return the bundle as kept: the same for the same content. Raises Invalid, TooLarge."""
        change = checked_change(author=author, reason=reason, at=self.now())
        return await self.ledger.store(variant.completed(claimed_id=claimed_id), change)


@dataclass(frozen=True, slots=True)
class GetVariant:
    """Finds one bundle."""

    ledger: Ledger

    async def __call__(self, variant_id: str) -> Variant:
        """Return it. Raises Invalid for what is no id, NotFound."""
        if not is_variant_id(variant_id):
            raise Invalid(f"{variant_id!r} is not a variant's id, as in v-0123456789ab", field="variant_id")
        found = await self.ledger.variant(variant_id)
        if found is None:
            raise NotFound(f"there is no variant {variant_id}", field="variant_id")
        return found


@dataclass(frozen=True, slots=True)
class ListVariants:
    """Pages through all bundles, newest first."""

    ledger: Ledger

    async def __call__(self, *, page_size: int = 0, page_token: str = "") -> tuple[Sequence[Variant], str]:
        """Return a page and the token of the next, empty at the end. Raises Invalid."""
        if not 0 <= page_size <= _MAX_PAGE:
            raise Invalid(f"is {page_size}; allowed is 1 to {_MAX_PAGE}, or 0 for {_PAGE}", field="page_size")
        page = await self.ledger.variants(count=page_size or _PAGE, before=_number(page_token))
        return page.variants, _token(page.following)


@dataclass(frozen=True, slots=True)
class GetRouting:
    """Tells the routing of one scope."""

    ledger: Ledger

    async def __call__(self, scope: str) -> Routing:
        """Return it. Raises Invalid, NotFound when it has none of its own."""
        found = await self.ledger.routing(checked_scope(scope))
        if found is None:
            raise NotFound(f"{scope} has no routing of its own", field="scope")
        return found


@dataclass(frozen=True, slots=True)
class SetRouting:
    """Moves a scope's traffic."""

    ledger: Ledger
    now: Clock = utc_now

    async def __call__(
        self, scope: str, weights: Mapping[str, int], *, expected_revision: int, author: str, reason: str
    ) -> Routing:
        """Return the routing as set. Raises Invalid, TooLarge, NotFound, and Conflict when somebody was faster."""
        change = checked_change(author=author, reason=reason, at=self.now())
        return await self.ledger.move(
            checked_scope(scope), checked_weights(weights), expected=expected_revision, change=change
        )


@dataclass(frozen=True, slots=True)
class OpenRegistry:
    """What happens at every start, in as many replicas as there are."""

    ledger: Ledger
    now: Clock = utc_now

    async def __call__(self) -> None:
        """See to it that everyone is routed somewhere, and have all routings told once more.

        The second is for a topic that was lost or made anew: what it holds already is told again with the same ids.
        """
        change = Change(author="registry", reason="the variant a new platform begins with", at=self.now())
        if await self.ledger.routing(EVERYONE) is not None:
            await self.ledger.retell()
            return
        variant = await self.ledger.store(DEFAULT_VARIANT, change)
        # Where another replica, or a person, was faster, what was wanted is there.
        with suppress(Conflict):
            await self.ledger.move(EVERYONE, {variant.variant_id: 1}, expected=0, change=change)


def _token(number: int) -> str:
    return base64.urlsafe_b64encode(f"variants:{number}".encode()).decode().rstrip("=") if number else ""


def _number(token: str) -> int:
    if not token:
        return 0
    try:
        text = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)).decode()
    except (binascii.Error, ValueError):
        text = ""
    kind, _, number = text.partition(":")
    if kind != "variants" or not number.isascii() or not number.isdigit() or not 0 < int(number) < 2**63:
        raise Invalid("was not given by this service", field="page_token", reason="UNKNOWN_TOKEN")
    return int(number)
