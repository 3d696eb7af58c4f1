"""Public test doubles: a ledger in memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from anabranch_faults import Conflict, NotFound
from anabranch_registry.application import Page
from anabranch_registry.domain import Change, Routing, Share, Variant

__all__ = ["MemoryLedger"]


@dataclass
class MemoryLedger:
    """As the port says; `told` holds every routing in the order in which it was told."""

    told: list[Routing] = field(default_factory=list)
    _variants: dict[str, Variant] = field(default_factory=dict)
    _routings: dict[str, Routing] = field(default_factory=dict)

    async def store(self, variant: Variant, change: Change) -> Variant:  # noqa: ARG002  the port's signature
        """As in the port."""
        return self._variants.setdefault(variant.variant_id, variant)

    async def variant(self, variant_id: str) -> Variant | None:
        """As in the port."""
        return self._variants.get(variant_id)

    async def variants(self, *, count: int, before: int = 0) -> Page:
        """As in the port."""
        numbered = list(enumerate(self._variants.values(), start=1))[::-1]
        rows = [(number, variant) for number, variant in numbered if not before or number < before]
        following = rows[count - 1][0] if len(rows) > count else 0
        return Page(variants=[variant for _, variant in rows[:count]], following=following)

    async def routing(self, scope: str) -> Routing | None:
        """As in the port."""
        return self._routings.get(scope)

    async def move(self, scope: str, weights: Mapping[str, int], *, expected: int, change: Change) -> Routing:
        """As in the port."""
        present = self._routings[scope].revision if scope in self._routings else 0
        if present != expected:
            raise Conflict(f"{scope} is at revision {present}, not at {expected}", field="expected_revision")
        for variant_id in weights:
            if variant_id not in self._variants:
                raise NotFound(f"there is no variant {variant_id}", field=f"weights[{variant_id}]")
        shares = tuple(Share(variant=self._variants[key], weight=weight) for key, weight in sorted(weights.items()))
        routing = Routing(scope=scope, revision=expected + 1, shares=shares, change=change)
        self._routings[scope] = routing
        self.told.append(routing)
        return routing

    async def retell(self) -> int:
        """As in the port."""
        self.told += self._routings.values()
        return len(self._routings)
