"""The audit, labels, and the walk over what came of what."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar, Final

from anabranch_faults import Invalid
from anabranch_registry.domain.routing import Change
from anabranch_registry.domain.variants import Variant

__all__ = ["LAST_GOOD", "PRODUCTION", "Label", "Link", "Node", "Note", "checked_label"]

PRODUCTION: Final = "production"
LAST_GOOD: Final = "last-good"

_LABEL: Final = re.compile(r"[a-z0-9-]{1,64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """A row of the audit; `number` is 0 until it is written."""

    number: int = 0
    subject_kind: str
    subject: str
    what: str
    scope: str = ""
    author: str
    reason: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """A name of a scope that points to a variant."""

    noun: ClassVar[str] = "label"

    scope: str
    name: str
    variant_id: str
    revision: int
    change: Change

    @property
    def key(self) -> str:
        """Scope and name."""
        return f"{self.scope}\n{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """`source` led to `target`."""

    source: str
    target: str
    how: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A thing in the chain, in one line."""

    id: str
    kind: str
    summary: str
    at: datetime


def checked_label(name: str) -> str:
    """Return the label's name. Raises Invalid."""
    if not _LABEL.fullmatch(name):
        raise Invalid(f"{name!r} is not [a-z0-9-]{{1,64}}", field="name", reason="NOT_A_NAME")
    return name


def described(variant: Variant) -> str:
    """Return one line about a variant."""
    reranker = f", reranker {variant.retrieval.reranker_version}" if variant.retrieval.reranker_version else ""
    return variant.description or f"alpha {variant.retrieval.alpha:g}, top {variant.retrieval.top_k}{reranker}"
