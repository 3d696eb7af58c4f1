"""Judgments as JSON: in rows, and in the files of a run."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from anabranch_training.domain import Judgment

__all__ = ["judgment_from", "judgment_json"]


def judgment_json(one: Judgment) -> Mapping[str, Any]:
    """A judgment as JSON keeps it."""
    return {
        "question": one.question,
        "document": one.document,
        "chunk": one.chunk,
        "user": one.user,
        "label": one.label,
        "shown_rank": one.shown_rank,
        "randomised": one.randomised,
        "features": list(one.features),
        "at": one.at.isoformat(),
        "source": one.source,
    }


def judgment_from(kept: Mapping[str, Any]) -> Judgment:
    """The judgment that was kept."""
    return Judgment(
        **{**kept, "features": tuple(map(float, kept["features"])), "at": datetime.fromisoformat(kept["at"])}
    )
