"""Which variants serve a scope, and who said so."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from anabranch_faults import Invalid, TooLarge
from anabranch_registry.domain.checks import check_number, check_required
from anabranch_registry.domain.variants import Variant, is_variant_id

__all__ = ["EVERYONE", "Change", "Routing", "Share", "checked_change", "checked_scope", "checked_weights"]

EVERYONE: Final = "*"
"""The scope of everything that has no narrower one."""

_SCOPE: Final = re.compile(r"[A-Za-z0-9._-]{1,64}(/[A-Za-z0-9._-]{1,128})?")
_MAX_SHARES: Final = 50
_MAX_WEIGHT: Final = 1_000_000
_MAX_AUTHOR: Final = 200
_MAX_REASON: Final = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Who changed something, why, and when (UTC)."""

    author: str
    reason: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """A variant's part of the traffic, relative to the other weights of its scope."""

    variant: Variant
    weight: int
    experiment_id: str = ""
    arm: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Routing:
    """The whole routing of a scope; shares in the order of their variants' ids."""

    scope: str
    revision: int
    shares: tuple[Share, ...]
    change: Change


def checked_scope(scope: str) -> str:
    """Return the scope: `*`, `<tenant>` or `<tenant>/<corpus>`. Raises Invalid."""
    if scope != EVERYONE and not _SCOPE.fullmatch(scope):
        raise Invalid(f"{scope!r} is not *, <tenant> or <tenant>/<corpus>", field="scope", reason="NOT_A_SCOPE")
    return scope


def checked_weights(weights: Mapping[str, int]) -> dict[str, int]:
    """Return weights by variant id, sorted. Raises Invalid, TooLarge."""
    if not any(weights.values()):
        raise Invalid("at least one weight must be above 0", field="weights", reason="NO_WEIGHT")
    if len(weights) > _MAX_SHARES:
        raise TooLarge(f"has {len(weights)} variants; the limit is {_MAX_SHARES}", field="weights")
    for variant_id, weight in weights.items():
        if not is_variant_id(variant_id):
            raise Invalid(f"{variant_id!r} is not a variant's id", field="weights", reason="NOT_AN_ID")
        check_number(weight, f"weights[{variant_id}]", 0, _MAX_WEIGHT)
    return dict(sorted(weights.items()))


def checked_change(*, author: str, reason: str, at: datetime) -> Change:
    """Return who and why, which are kept for ever and so must be said. Raises Invalid, TooLarge."""
    check_required(author, "author", _MAX_AUTHOR)
    check_required(reason, "reason", _MAX_REASON)
    return Change(author=author.strip(), reason=reason.strip(), at=at)
