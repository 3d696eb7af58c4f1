"""Judgments and opinions as JSON: in rows, and in the files of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Any

from anabranch_training.domain import Judgment
from anabranch_training.domain.opinions import Answered, Opinion, Said, ShownPassage

__all__ = ["judgment_from", "judgment_json", "opinion_from", "opinion_json"]


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
        "rank": one.rank,
    }


def judgment_from(kept: Mapping[str, Any]) -> Judgment:
    """The judgment that was kept."""
    return Judgment(
        **{**kept, "features": tuple(map(float, kept["features"])), "at": datetime.fromisoformat(kept["at"])}
    )


def opinion_json(one: Opinion) -> Mapping[str, Any]:
    """An opinion as JSON keeps it."""
    return {**asdict(one), "at": one.at.isoformat()}


def opinion_from(kept: Mapping[str, Any]) -> Opinion:
    """The opinion that was kept."""
    other = kept["other"]
    return Opinion(
        **{
            **kept,
            "at": datetime.fromisoformat(kept["at"]),
            "said": Said(kept["said"]),
            "answer": _answered(kept["answer"]),
            "other": None if other is None else _answered(other),
        }
    )


def _answered(kept: Mapping[str, Any]) -> Answered:
    return Answered(**{**kept, "passages": tuple(ShownPassage(**one) for one in kept["passages"])})
