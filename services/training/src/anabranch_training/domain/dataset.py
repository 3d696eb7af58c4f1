"""From judgments to a data set: caps, the screen, propensities, and a split that leaks nothing."""

from __future__ import annotations

import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from anabranch_faults import Invalid
from anabranch_training.domain.judgments import GOLD, Judgment, RankingDataset, RankingRow
from anabranch_training.domain.screening import screen

__all__ = ["build_ranking_dataset", "propensities_of"]

_ENOUGH_RANDOMISED: Final = 200
"""From here on, passages that changed places by lot tell the propensities alone."""
_FAINT: Final = 1e-3
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

    From passages that changed places by lot where there are enough, else from all: every answer shows all ranks, so
    the counts compare, as far as good passages are not judged more than others for being good.
    """
    ranks = sorted({one.shown_rank for one in judgments})
    if not ranks:
        return {}
    swapped = [one for one in judgments if one.randomised and one.rank not in (0, one.shown_rank)]
    if len(swapped) >= _ENOUGH_RANDOMISED:
        seen = _from_swaps(swapped, [one for one in judgments if not one.randomised], ranks)
    else:
        counted = Counter(one.shown_rank for one in judgments)
        seen = [counted[rank] + 1.0 for rank in ranks]
    # Pooling adjacent violators: what chance has put out of order shares a mean.
    pools: list[tuple[float, list[int]]] = []
    for rank, often in zip(ranks, seen, strict=True):
        pools.append((often, [rank]))
        while len(pools) > 1 and pools[-2][0] < pools[-1][0]:
            (last, after), (before, held) = pools.pop(), pools.pop()
            total = before * len(held) + last * len(after)
            pools.append((total / (len(held) + len(after)), held + after))
    return {rank: mean / pools[0][0] for mean, held in pools for rank in held}


def _from_swaps(swapped: Sequence[Judgment], others: Sequence[Judgment], ranks: Sequence[int]) -> list[float]:
    """How often each rank is judged, whatever lies there, up to a factor.

    What lies at a rank is judged with a chance that is the rank's times the passage's own. Where the passages of two
    ranks changed places, and where they did not, the passages' own chances cancel: the ratio of the ranks is the root
    of the product of both ratios of counts (as in swap experiments; Joachims, Swaminathan and Schnabel, 2017). The
    ratios of all pairs are joined by least squares, each by the inverse of its variance.
    """
    pairs: dict[tuple[int, int], Counter[int]] = defaultdict(Counter)
    for one in swapped:
        pairs[min(one.rank, one.shown_rank), max(one.rank, one.shown_rank)][one.shown_rank] += 1
    plain = Counter(one.shown_rank for one in others)
    place = {rank: number for number, rank in enumerate(ranks)}
    # A faint wish to be as they are counted: it decides only where nothing changed places.
    rows, wanted = [_FAINT * row for row in np.eye(len(ranks))], [_FAINT * math.log(plain[one] + 1.0) for one in ranks]
    for (upper, lower), judged in pairs.items():
        if upper in place and lower in place:
            counts = [number + 0.5 for number in (judged[upper], judged[lower], plain[upper], plain[lower])]
            certain = 2.0 / math.sqrt(sum(1.0 / number for number in counts))
            row = np.zeros(len(ranks))
            row[place[upper]], row[place[lower]] = certain, -certain
            rows.append(row)
            wanted.append(certain * 0.5 * (math.log(counts[0] / counts[1]) + math.log(counts[2] / counts[3])))
    found = np.linalg.lstsq(np.array(rows), np.array(wanted), rcond=None)[0]
    return [math.exp(one) for one in (found - found.max()).tolist()]


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
