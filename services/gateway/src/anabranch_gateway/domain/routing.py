"""Which variant answers whom."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, NewType

from anabranch_faults import Invalid, Unreachable

EVERYONE: Final = "*"

# A variant's settings, in the form that retrieval and generation take them. The gateway carries them and does not look
# inside, except that the adapter to generation may lower the number of tokens.
RetrievalSettings = NewType("RetrievalSettings", object)
GenerationSettings = NewType("GenerationSettings", object)


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """An immutable bundle of settings, named by its content."""

    variant_id: str
    retrieval: RetrievalSettings
    generation: GenerationSettings
    prompt_version: str = ""
    adapter: str = ""
    policy_version: str = ""


class UnitKind(IntEnum):
    """What a variant is dealt by; the numbers are the contract's."""

    UNSPECIFIED = 0
    USER = 1
    SESSION = 2
    ANSWER = 3


@dataclass(frozen=True, slots=True)
class Unit:
    """Who is dealt a variant."""

    kind: UnitKind
    name: str


def unit_of(*, user_id: str, session_id: str, answer_id: str) -> Unit:
    """The person where the app names one, else the conversation, else the answer alone."""
    if user_id:
        return Unit(UnitKind.USER, user_id)
    if session_id:
        return Unit(UnitKind.SESSION, session_id)
    return Unit(UnitKind.ANSWER, answer_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """A variant's part of a scope's traffic, relative to the other weights.

    In an experiment it is one of the arms; outside, `experiment_id` and `arm` are empty.
    """

    variant: Variant
    weight: int
    experiment_id: str = ""
    arm: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """The whole routing of one scope: `*`, `<tenant>` or `<tenant>/<corpus>`."""

    scope: str
    revision: int
    shares: Sequence[Share]

    def __post_init__(self) -> None:
        """Refuses a route that could answer nobody, or that names a variant or an arm twice."""
        if not self.scope:
            raise Invalid("is empty", field="scope")
        ids = [share.variant.variant_id for share in self.shares]
        if len(set(ids)) != len(ids) or not all(ids):
            raise Invalid("names a variant twice, or one without an id", field="shares")
        if any(share.weight < 0 for share in self.shares) or not any(share.weight for share in self.shares):
            raise Invalid("has no positive weight", field="shares")
        if any(bool(share.experiment_id) != bool(share.arm) for share in self.shares):
            raise Invalid("names an experiment without an arm, or an arm without one", field="shares")
        arms = [(share.experiment_id, share.arm) for share in self.shares if share.arm]
        if len(set(arms)) != len(arms):
            raise Invalid("names an arm twice", field="shares")


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The variant that answers, what chose it, and what that exposes the person to."""

    variant: Variant
    scope: str
    revision: int
    unit: UnitKind
    experiment_id: str = ""
    arm: str = ""


class Routing:
    """The routes known now. The last one told per scope holds."""

    def __init__(self, *, salt: str = "anabranch") -> None:
        """`salt` decides who falls where; keep it, or everyone is dealt anew."""
        self._salt = salt
        self._routes: dict[str, Route] = {}

    def __len__(self) -> int:
        """How many scopes have a route."""
        return len(self._routes)

    def put(self, route: Route) -> None:
        """Takes a scope's new routing."""
        self._routes[route.scope] = route

    def drop(self, scope: str) -> None:
        """Forgets a scope; what it routed falls to the next wider one."""
        self._routes.pop(scope, None)

    def choose(self, *, tenant: str, corpus: str, unit: Unit) -> Choice:
        """The variant for a unit of a tenant and corpus.

        The most specific scope wins. The same unit gets the same variant for as long as weights stay, and when they
        move only as many units move as must. Raises Unreachable while no scope fits.
        """
        for scope in (f"{tenant}/{corpus}", tenant, EVERYONE):
            if (route := self._routes.get(scope)) is not None:
                share = self._deal(route, f"{tenant}\n{unit.name}")
                return Choice(
                    variant=share.variant,
                    scope=route.scope,
                    revision=route.revision,
                    unit=unit.kind,
                    experiment_id=share.experiment_id,
                    arm=share.arm,
                )
        raise Unreachable(f"no variant is routed for tenant {tenant} yet")

    def _deal(self, route: Route, unit: str) -> Share:
        live = [share for share in route.shares if share.weight > 0]
        if len(live) == 1:
            return live[0]
        # Weighted rendezvous hashing: each variant draws an exponential variate of its weight from the hash, and the
        # smallest wins. Adding, removing or re-weighting one variant moves only the units it gains or loses.
        return min(live, key=lambda share: self._draw(route.scope, share, unit))

    def _draw(self, scope: str, share: Share, unit: str) -> float:
        # The experiment is part of it, so that whoever fell to the control of one is dealt anew for the next: else a
        # control would gather the same people for ever. Within an experiment a person's draws never change.
        text = f"{self._salt}\n{scope}\n{share.variant.variant_id}\n{unit}"
        if share.experiment_id:
            text = f"{text}\n{share.experiment_id}"
        number = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest())
        return -math.log((number + 1) / 2**64) / share.weight
