"""From judgments to a data set: caps, the screen, propensities, and a split that leaks nothing."""

from __future__ import annotations

import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Final

from anabranch_faults import Invalid
from anabranch_training.domain.judgments import GOLD, Judgment, RankingDataset, RankingRow
from anabranch_training.domain.screening import screen

__all__ = ["build_ranking_dataset", "propensities_of"]

_ENOUGH_RANDOMISED: Final = 200
"""From here on, ranks drawn by lot tell the propensities alone."""
_MOST_WEIGHT: Final = 3.0
"""An inverse propensity is clipped here: a few judgments of deep ranks must not be the whole data set. Its root is
taken: what is judged was looked at, so the full inverse would buy nothing for the variance it brings."""
_MOST_OF_A_DOCUMENT: Final = 0.02
"""Share of all weight that the judgments of one document may have: nobody gets to push one."""
_FEWEST: Final = 20


def build_ranking_dataset(
    judgments: Sequence[Judgment], *, per_user_cap: int = 50, seed: int = 0, held_out_share: float = 0.1
) -> RankingDataset:
    """Makes the data set; the same judgments in any order and the same seed make the same one.

    A user's later word on the same passage replaces the earlier one; beyond `per_user_cap` a user's judgments are left
    out, chosen by lot. Users who contradict everyone are left out whole, doubtful ones weigh less. Raises Invalid with
    reason FEATURES (rows of differing length, or not finite), TOO_FEW (under 20), ONE_LABEL (nothing to tell apart).
    """
    _check(judgments)
    latest = _latest(judgments)
    capped = _capped(latest, cap=per_user_cap, seed=seed)
    if len(capped) < _FEWEST:
        raise Invalid(
            f"has {len(capped)} usable judgments; at least {_FEWEST} are needed", field="judgments", reason="TOO_FEW"
        )
    spoken = [one for one in capped if one.source != GOLD]
    propensities = propensities_of(spoken)
    screened = screen(spoken) if spoken else None
    trusted = [] if screened is None else list(zip(spoken, screened.trust.tolist(), strict=True))
    kept = [(one, trust / math.sqrt(propensities.get(one.shown_rank, 1.0))) for one, trust in trusted if trust > 0]
    kept = [(one, min(weight, _MOST_WEIGHT)) for one, weight in kept]
    kept += [(one, 1.0) for one in capped if one.source == GOLD]
    if min((one.label for one, _ in kept), default=0) > 0.5 or max((one.label for one, _ in kept), default=0) <= 0.5:  # noqa: PLR2004  the middle
        raise Invalid("are all alike: nothing to tell apart", field="judgments", reason="ONE_LABEL")
    rows = _rows(kept)
    inside, outside = _split(rows, seed=seed, share=held_out_share)
    return RankingDataset(
        rows=tuple(inside),
        held_out=tuple(outside),
        counts=_counts(judgments, kept, leaked=len(rows) - len(inside) - len(outside)),
        sources=dict(sorted(Counter(one.source for one, _ in kept).items())),
        first=min(one.at for one, _ in kept),
        last=max(one.at for one, _ in kept),
        noise=0.0 if screened is None else screened.noise,
        dropped_by_cap=len(latest) - len(capped),
        dropped_as_outlier=sum(trust == 0 for _, trust in trusted),
        propensities=propensities,
    )


def propensities_of(judgments: Sequence[Judgment]) -> dict[int, float]:
    """Rank -> how often it is judged, relative to the likeliest rank; never rising with depth.

    From ranks drawn by lot where there are enough, else from all: every answer shows all ranks, so the counts compare.
    """
    drawn = [one for one in judgments if one.randomised]
    counted = Counter(one.shown_rank for one in (drawn if len(drawn) >= _ENOUGH_RANDOMISED else judgments))
    ranks = sorted({one.shown_rank for one in judgments})
    # Pooling adjacent violators: what chance has put out of order shares a mean.
    pools: list[tuple[float, list[int]]] = []
    for rank in ranks:
        pools.append((counted[rank] + 1.0, [rank]))
        while len(pools) > 1 and pools[-2][0] < pools[-1][0]:
            (last, after), (before, held) = pools.pop(), pools.pop()
            total = before * len(held) + last * len(after)
            pools.append((total / (len(held) + len(after)), held + after))
    if not pools:
        return {}
    return {rank: mean / pools[0][0] for mean, held in pools for rank in held}


def _check(judgments: Sequence[Judgment]) -> None:
    sizes = {len(one.features) for one in judgments}
    if len(sizes) > 1 or 0 in sizes:
        raise Invalid("differ in length, or are empty", field="judgments.features", reason="FEATURES")
    if not all(math.isfinite(value) for one in judgments for value in one.features):
        raise Invalid("must be finite", field="judgments.features", reason="FEATURES")


def _latest(judgments: Sequence[Judgment]) -> list[Judgment]:
    found: dict[tuple[str, str, str, str], Judgment] = {}
    for one in sorted(judgments, key=lambda one: (one.at, one.source, one.label, one.features)):
        found[one.user, one.question, one.chunk, one.source] = one
    return [found[key] for key in sorted(found)]


def _capped(judgments: Sequence[Judgment], *, cap: int, seed: int) -> list[Judgment]:
    by_user: dict[str, list[Judgment]] = defaultdict(list)
    for one in judgments:
        by_user["" if one.source == GOLD else f"user {one.user}"].append(one)
    kept: list[Judgment] = []
    for user, said in sorted(by_user.items()):
        drawn = sorted(said, key=lambda one: _lot(seed, one.user, one.question, one.chunk, one.source))
        kept += drawn if not user else drawn[:cap]
    return kept


def _rows(kept: Sequence[tuple[Judgment, float]]) -> list[RankingRow]:
    """Weights with a mean of 1, and no document above its share."""
    total = sum(weight for _, weight in kept)
    of_document: dict[str, float] = defaultdict(float)
    for one, weight in kept:
        of_document[one.document] += weight
    most = max(_MOST_OF_A_DOCUMENT * total, 2 * total / len(of_document))
    bounded = [weight * min(1.0, most / of_document[one.document]) for one, weight in kept]
    scale = len(kept) / sum(bounded)
    return [
        RankingRow(
            question=one.question,
            document=one.document,
            chunk=one.chunk,
            label=one.label,
            weight=weight * scale,
            shown_rank=one.shown_rank,
            features=one.features,
        )
        for (one, _), weight in zip(kept, bounded, strict=True)
    ]


def _split(rows: Sequence[RankingRow], *, seed: int, share: float) -> tuple[list[RankingRow], list[RankingRow]]:
    """Holds out questions by the document that each is most about; other questions' rows on it are left out."""
    about: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for row in rows:
        about[row.question][row.document] += row.weight * row.label
    subject = {question: max(sorted(found), key=found.__getitem__) for question, found in about.items()}
    held = {document for document in set(subject.values()) if _lot(seed, "held", document) < share}
    outside = [row for row in rows if subject[row.question] in held]
    inside = [row for row in rows if subject[row.question] not in held and row.document not in held]
    return inside, outside


def _lot(seed: int, *names: str) -> float:
    """A number in [0, 1) that depends on nothing but the names and the seed."""
    digest = hashlib.sha256("\n".join((str(seed), *names)).encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def _counts(given: Sequence[Judgment], kept: Sequence[tuple[Judgment, float]], *, leaked: int) -> Mapping[str, int]:
    return {
        "given": len(given),
        "judgments": len(kept),
        "users": len({one.user for one, _ in kept}),
        "questions": len({one.question for one, _ in kept}),
        "documents": len({one.document for one, _ in kept}),
        "relevant": sum(one.label > 0.5 for one, _ in kept),  # noqa: PLR2004  the middle
        "irrelevant": sum(one.label <= 0.5 for one, _ in kept),  # noqa: PLR2004  the middle
        "dropped_as_leak": leaked,
    }
