"""What a feedback says of an answer, from 0 to 1."""

from __future__ import annotations

_STARS = 5


def of_thumb(*, up: bool) -> float:
    """1 up, 0 down."""
    return float(up)


def of_stars(stars: int) -> float | None:
    """1 to 5 stars as 0 to 1; None for what is no number of stars."""
    return (stars - 1) / (_STARS - 1) if 1 <= stars <= _STARS else None


def of_citation(*, relevant: bool) -> float:
    """A passage judged relevant or not; a person's several judgments of an answer are averaged."""
    return float(relevant)
