"""Which answers are worth a rater's time."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Shares:
    """Which share of answers raters get to see, by what speaks for it; 0 to 1 each."""

    random: float = 0.0
    thumb_down: float = 0.0
    abstained: float = 0.0
    low_score: float = 0.0
    disagreement: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """An answer as it was scored: by metric, and how far the votes of a model as judge agree, where there are two."""

    tenant: str
    corpus: str
    answer_id: str
    scores: Mapping[str, float]
    agreement: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Bars:
    """What is low. A metric that is not named here puts no answer before raters."""

    scores: Mapping[str, float] = field(default_factory=dict)
    agreement: float = 0.0

    def why(self, scored: Scored, shares: Shares) -> str:
        """Why raters should see it; empty: they need not."""
        low = any(scored.scores.get(metric, bar) < bar for metric, bar in self.scores.items())
        if low and sampled(scored.answer_id, "low-score", shares.low_score):
            return "low-score"
        torn = scored.agreement is not None and scored.agreement < self.agreement
        if torn and sampled(scored.answer_id, "disagreement", shares.disagreement):
            return "disagreement"
        return ""


def sampled(answer_id: str, purpose: str, share: float) -> bool:
    """Whether the answer is in the sample: the same for every replica and every time, and apart for each purpose."""
    if share <= 0:
        return False
    digest = hashlib.sha256(f"{purpose}\n{answer_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64
