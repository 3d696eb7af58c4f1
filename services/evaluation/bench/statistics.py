"""What the statistics promise, by simulation; prints JSON. `--quick`: fewer runs, for a test; `--only`: some of it.

uv run python services/evaluation/bench/statistics.py
"""  # noqa: INP001 - a program

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta  # type: ignore[import-untyped] # scipy carries no types

from anabranch_evaluation.domain.statistics import (
    Design,
    GateMode,
    GroupSequential,
    PromoteWhen,
    Sample,
    Verdict,
    cuped,
    decide,
    paired_gate,
)
from anabranch_evaluation.domain.statistics.anytime import boundary, relative_time
from anabranch_evaluation.domain.statistics.bandit import Bandit
from anabranch_evaluation.domain.statistics.sample_ratio import log_evidence
from anabranch_evaluation.domain.statistics.samples import squared_error

Floats = NDArray[np.float64]
ARM, LOOKS = 5_000, 100
RATES: dict[str, list[float]] = {
    f"{shape} of {arms}": [0.65 - (0.05 * i if shape == "ladder" else 0.05 * (i > 0)) for i in range(arms)]
    for shape in ("one ahead", "ladder")
    for arms in (3, 4, 5, 6)
}


def upper(hits: float, runs: int, level: float = 0.99) -> float:
    """Clopper-Pearson's one-sided upper bound of a rate."""
    return float(beta.ppf(level, hits + 1, runs - hits)) if hits < runs else 1.0


def rate(declared: Any) -> dict[str, float]:
    """A rate with its upper bound."""
    hits = np.asarray(declared)
    return {"rate": float(hits.mean()), "upper_99": upper(float(hits.sum()), hits.size), "runs": int(hits.size)}


def arm(generator: np.random.Generator, p: float, runs: int) -> tuple[Floats, Floats]:
    """Means and variances of an arm of yes-or-no values at every look."""
    count = np.arange(1, LOOKS + 1) * (ARM // LOOKS)
    mean = generator.binomial(ARM // LOOKS, p, size=(runs, LOOKS)).cumsum(axis=1) / count
    return mean, mean * (1 - mean) * count / (count - 1)


def sequential(runs: int, first: float, second: float, seed: int) -> dict[str, Any]:
    """How often a difference is declared, by either mode, of 5,000 people an arm."""
    generator = np.random.default_rng(seed)
    (m0, v0), (m1, v1) = arm(generator, first, runs), arm(generator, second, runs)
    count = np.arange(1, LOOKS + 1) * (ARM // LOOKS)
    clock, error = relative_time((count, count), (v0, v1), tuned_to=ARM)
    z = np.abs(m1 - m0) / error
    out = {"anytime, 100 looks": rate((z > boundary(clock, 0.05)).any(axis=1))}
    plain = np.sqrt(squared_error(count, v0) + squared_error(count, v1))
    for looks in (10, 100):
        at = slice(LOOKS // looks - 1, None, LOOKS // looks)
        bounds = np.array(GroupSequential(alpha=0.05, looks=looks).boundaries())
        declared = (np.abs(m1 - m0) / plain)[:, at] > bounds
        out[f"group-sequential, {looks} looks"] = rate(declared.any(axis=1))
    return out


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """Experiments played to their end. `used`: people in each; the first arm is best."""

    used: Floats
    winner: NDArray[np.int64]

    @property
    def wrong(self) -> float:
        """Share in which another arm than the best won."""
        return float((self.winner > 0).mean())

    @property
    def right(self) -> float:
        """Share in which the best won."""
        return float((self.winner == 0).mean())


def play(p: Sequence[float], bandit: Bandit, runs: int, *, equal: bool = False, batch: int = 100) -> Played:
    """Plays experiments of yes-or-no values; `batch` people between looks."""
    generator = np.random.default_rng(7)
    arms = len(p)
    count, total = np.zeros((runs, arms)), np.zeros((runs, arms))
    weights, winner, going = np.full((runs, arms), 1 / arms), np.full(runs, -1), np.arange(runs)
    while going.size and count[going[0]].sum() < bandit.horizon * arms:
        new = generator.multinomial(batch, weights[going])
        count[going] += new
        total[going] += generator.binomial(new, p)
        n = np.maximum(count[going], 2)
        mean = np.minimum(total[going] / n, 1.0)
        best = bandit.believe(n, mean, mean * (1 - mean) * n / (n - 1))
        ready = count[going].min(axis=1) >= bandit.min_users
        won = ready & (best.max(axis=1) >= bandit.confidence)
        winner[going[won]] = best.argmax(axis=1)[won]
        if not equal:
            weights[going] = np.where(ready[:, None], bandit.weights(best), 1 / arms)
        going = going[~won]
    return Played(used=count.sum(axis=1), winner=winner)


def fixed_split(p: Sequence[float], *, right: float, bar: float, runs: int = 10_000) -> int:
    """People in all of the smallest equal split, looked at once, that names the best so often.

    It names the leader if it is `bar` standard errors ahead of the second. At 1.645 a wrong arm is named in at most 5 %
    however little the best is ahead; at 0 the leader always is, which needs the gap to be known beforehand.
    """
    generator = np.random.default_rng(5)
    low, high = 10, 50_000
    while high - low > max(5, low // 200):
        middle = (low + high) // 2
        means = (generator.binomial(middle, p, size=(runs, len(p))) + generator.random((runs, len(p))) * 0.1) / middle
        first, second = np.sort(means, axis=1)[:, :-3:-1].T
        ahead = first - second >= bar * np.sqrt((first * (1 - first) + second * (1 - second)) / middle)
        named = ahead & (means.argmax(axis=1) == 0)
        low, high = (low, middle) if named.mean() >= right else (middle, high)
    return high * len(p)


def bandits(runs: int) -> dict[str, Any]:
    """The bandit against equal splits of three kinds.

    One that keeps the same promise and finds the best as often (or in 95 % of experiments, if that is less); one that
    stops by the bandit's rule; and one that knows the gap beforehand, which nobody does.
    """
    out: dict[str, Any] = {}
    for name, p in RATES.items():
        moved, same = play(p, Bandit(), runs), play(p, Bandit(), runs, equal=True)
        used = float(moved.used.mean())
        promised = fixed_split(p, right=min(moved.right, 0.95), bar=1.645)
        knowing = fixed_split(p, right=0.95, bar=0.0)
        out[name] = {
            "bandit": used,
            "wrong_winner": moved.wrong,
            "right_winner": moved.right,
            "equal_split": promised,
            "saved": 1 - used / promised,
            "equal_split_same_rule": float(same.used.mean()),
            "right_winner_same_rule": same.right,
            "saved_same_rule": 1 - used / float(same.used.mean()),
            "equal_split_that_knows_the_gap": knowing,
            "saved_against_one_that_knows": 1 - used / knowing,
        }
    for key in ("saved", "saved_same_rule", "saved_against_one_that_knows"):
        out[f"{key}_mean_3_to_6_arms"] = float(np.mean([out[name][key] for name in RATES]))
    return out


def wrong_winners(runs: int) -> dict[str, Any]:
    """How often a wrong arm wins where the best is hardly ahead, looked at every 25 people."""
    shapes: dict[str, Callable[[float], list[float]]] = {
        "2 arms": lambda gap: [0.65, 0.65 - gap],
        "3 arms": lambda gap: [0.65, 0.65 - gap, 0.65 - gap],
        "two of 4 ahead": lambda gap: [0.65, 0.65 - gap, 0.55, 0.55],
        "two of 6 ahead": lambda gap: [0.65, 0.65 - gap, 0.55, 0.55, 0.55, 0.55],
        "2 rare": lambda gap: [0.05, 0.05 - gap],
    }
    out: dict[str, Any] = {}
    for name, shape in shapes.items():
        for gap in (0.0025, 0.01, 0.03)[: 2 if "6" in name else 3]:
            found = play(shape(gap), Bandit(), runs, batch=25)
            out[f"{name}, gap {gap:g}"] = {**rate(found.winner > 0), "no_winner": float((found.winner < 0).mean())}
    out["most"] = max(one["rate"] for one in out.values())
    return out


def reranked(generator: np.random.Generator, size: int, points: float) -> tuple[Floats, Floats]:
    """nDCG@10 of one right passage per question under two rerankers that agree in part; means differ by `points`.

    One question in ten is out of reach of both (0), half are at rank 1 with both; of the rest each reranker has its own
    rank. `points` are lost by right passages that fall from the first rank to the fourth.
    """

    def ndcg(rank: NDArray[np.int64]) -> Floats:
        return np.where(rank <= 10, 1 / np.log2(rank + 1), 0.0)  # noqa: PLR2004 - nDCG@10

    kind = generator.random(size)
    fixed = np.where(kind < 0.1, 99, 1)  # noqa: PLR2004 - the share out of reach
    base, new = (np.where(kind < 0.6, fixed, generator.geometric(0.3, size)) for _ in range(2))  # noqa: PLR2004 - as above
    falls = abs(points) / (1 - float(ndcg(np.array([4]))[0])) / 0.62  # the share at rank 1 is 0.62
    new = np.where((new == 1) & (generator.random(size) < falls), 4, new)
    return ndcg(base), ndcg(new)


def gates(runs: int) -> dict[str, Any]:
    """False alarms and power of a gate of 500 questions, and its size against no gain."""
    generator, out = np.random.default_rng(11), {}
    for name, points, mode in (
        ("false_alarms", 0.0, GateMode.NO_REGRESSION),
        ("power_3_points", -0.03, GateMode.NO_REGRESSION),
        ("no_gain_passed", 0.0, GateMode.IMPROVEMENT),
        ("sabotage_passed", -0.03, GateMode.IMPROVEMENT),
    ):
        hits, drops, spread = np.zeros(runs, dtype=bool), [], []
        for run in range(runs):
            base, new = reranked(generator, 500, points)
            verdict = paired_gate(base, new, mode=mode, seed=run, resamples=999)
            hits[run] = verdict.passed if mode is GateMode.IMPROVEMENT else not verdict.passed
            drops.append(verdict.difference)
            spread.append((new - base).std())
        out[name] = {**rate(hits), "mean_difference": float(np.mean(drops)), "deviation": float(np.mean(spread))}
    return out


def sabotage(runs: int) -> dict[str, Any]:
    """Candidates worse by 3 points, through a gate that wants a gain and an experiment that wants no harm."""
    generator, through, promoted = np.random.default_rng(13), 0, 0
    design = Design(promote_when=PromoteWhen.NOT_WORSE, margin=0.05, max_users=20_000)
    for run in range(runs):
        base, new = reranked(generator, 500, -0.03)
        if not paired_gate(base, new, mode=GateMode.IMPROVEMENT, seed=run, resamples=999).passed:
            continue
        through += 1
        control, treatment = generator.random(10_000) < 0.70, generator.random(10_000) < 0.67  # noqa: PLR2004 - rates
        for people in range(50, 10_001, 50):
            verdict = decide(Sample.of(control[:people]), {"t": Sample.of(treatment[:people])}, design).verdict
            if verdict is not Verdict.GO_ON:
                promoted += verdict is Verdict.PROMOTE
                break
    return {"runs": runs, "through_the_gate": through, "promoted": promoted}


def splits(runs: int) -> dict[str, Any]:
    """The sample-ratio test at alpha 0.01, looked at every 200 of 20,000 people."""
    generator, out = np.random.default_rng(17), {}
    for name, share in (("false_alarms", 0.5), ("power_52_48", 0.52)):
        first = generator.binomial(200, share, size=(runs, LOOKS)).cumsum(axis=1)
        counts = np.stack([first, np.arange(1, LOOKS + 1) * 200 - first], axis=-1)
        out[name] = rate((log_evidence(counts, [0.5, 0.5]) > math.log(100)).any(axis=1))
    return out


def covariates() -> dict[str, float]:
    """The variance that a covariate of correlation 0.7 takes out."""
    generator = np.random.default_rng(19)
    x = generator.standard_normal(50_000)
    y = 0.7 * x + math.sqrt(1 - 0.49) * generator.standard_normal(50_000)
    return {"rho": 0.7, "variance_cut": cuped(y, x).variance_cut}


def main() -> None:
    """Runs all, prints JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", action="append", help="a part by its name in the JSON (repeatable)")
    chosen = parser.parse_args()
    quick = chosen.quick
    runs, fewer = (2_000, 60) if quick else (20_000, 2_000)
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        "a_a": lambda: sequential(runs, 0.10, 0.10, 1),
        "power_10_12": lambda: sequential(runs, 0.10, 0.12, 2),
        "bandit": lambda: bandits(fewer),
        "bandit_wrong_winners": lambda: wrong_winners(fewer),
        "gate": lambda: gates(30 if quick else 2_000),
        "sabotage": lambda: sabotage(30 if quick else 1_000),
        "sample_ratio": lambda: splits(runs),
        "cuped": covariates,
    }
    out: dict[str, Any] = {}
    for name in chosen.only or parts:
        start, spent = time.perf_counter(), time.process_time()
        found = parts[name]()
        out[name] = {
            **found,
            "seconds": round(time.perf_counter() - start, 1),
            "processor_seconds": round(time.process_time() - spent, 1),
        }
    sys.stdout.write(json.dumps(out, indent=2) + "\n")


if __name__ == "__main__":
    main()
