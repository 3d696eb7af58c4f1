"""What feedback teaches: nDCG@10 on questions about documents that nobody judged, before and after.

    python services/training/bench/learning.py --data ../shared/data/qa_beerqa --cache DIR [--alpha 0.5] [--seeds 20]
        [--gold-seeds 10] [--events 2500] [--noise 0.15] [--users 250] [--adversaries 0.1] [--json]

Half of the documents (and the questions about them) are asked about and judged; the other half is measured. A judgment
is one citation of the five shown, rank r looked at with a chance of 1/r, its label turned round with `--noise`.
`gold` learns from the right labels of all fifty candidates of the same questions; `share` is lift over gold's lift.
Crowds: `honest`; and with `--adversaries` of the users who act together: `inverse` judge everything the other way
round, `push` call one document relevant and all others irrelevant, `sly` are right about the first rank and wrong
about all others.
"""

# ruff: noqa: INP001, T201  a program, not part of a package
from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from world import Pool, World, ndcg  # type: ignore[import-not-found, unused-ignore]  # found beside the program

from anabranch_training.adapters.learners import score_rows, train_reranker
from anabranch_training.domain import GOLD, Judgment, TrainedReranker, build_ranking_dataset

START = datetime(2026, 1, 1, tzinfo=UTC)
SHOWN = 5
RANDOMISED = 0.05
CROWDS = ("honest", "inverse", "push", "sly")


def _judgment(pool: Pool, index: int, *, user: str, label: float, rank: int, drawn: bool, number: int) -> Judgment:
    return Judgment(
        question=pool.question,
        document=pool.documents[index],
        chunk=pool.chunks[index],
        user=user,
        label=label,
        shown_rank=rank,
        randomised=drawn,
        features=tuple(pool.features[index].tolist()),
        at=START + timedelta(seconds=number),
        source=GOLD if rank == 0 else "citation",
    )


def feedback(pools: Sequence[Pool], options: argparse.Namespace, seed: int, *, crowd: str) -> list[Judgment]:
    """What simulated people say."""
    chance = np.random.default_rng(seed)
    shown = list({document for pool in pools for document in pool.documents[:SHOWN]})
    pushed = sorted(shown)[int(chance.integers(len(shown)))]
    bad = 0 if crowd == "honest" else round(options.adversaries * options.users)
    found = []
    for number in range(options.events):
        user, pool = int(chance.integers(options.users)), pools[int(chance.integers(len(pools)))]
        order = np.arange(min(SHOWN, len(pool.chunks)))
        drawn = bool(chance.random() < RANDOMISED)
        if drawn:
            order = chance.permutation(order)
        looked = 1 / np.arange(1, len(order) + 1)
        rank = int(chance.choice(len(order), p=looked / looked.sum())) + 1
        index = int(order[rank - 1])
        truth = pool.documents[index] in pool.gold
        if user < bad:
            pushing = pool.documents[index] == pushed
            label = float({"inverse": not truth, "push": pushing, "sly": truth == (rank == 1)}[crowd])
        else:
            label = float(truth != (chance.random() < options.noise))
        found.append(_judgment(pool, index, user=f"u{user}", label=label, rank=rank, drawn=drawn, number=number))
    return found


def right_answers(pools: Sequence[Pool]) -> list[Judgment]:
    """The right label of every candidate."""
    return [
        _judgment(pool, i, user="", label=float(pool.documents[i] in pool.gold), rank=0, drawn=False, number=0)
        for pool in pools
        for i in range(len(pool.chunks))
    ]


def measured(pools: Sequence[Pool], model: TrainedReranker | None) -> float:
    """Mean nDCG@10 of the order that the model gives, or of the search's own."""
    told = []
    for pool in pools:
        order = np.arange(len(pool.chunks))
        if model is not None:
            order = np.argsort(-score_rows(model.score, pool.features), kind="stable")
        told.append(ndcg(pool, order.tolist()))
    return statistics.fmean(told)


def one_seed(world: World, pools: Sequence[Pool], options: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Baseline, gold and every crowd of one split."""
    left, right = world.halves(seed)
    asked, unseen = [p for p in pools if p.question in left], [p for p in pools if p.question in right]
    found: dict[str, Any] = {"seed": seed, "baseline": measured(unseen, None)}
    if seed < options.gold_seeds:
        gold = train_reranker(build_ranking_dataset(right_answers(asked), seed=seed), seed=seed)
        found |= {"gold": measured(unseen, gold), "gold_way": gold.parameters["way"]}
    for crowd in CROWDS if options.adversaries else CROWDS[:1]:
        started = time.perf_counter()
        dataset = build_ranking_dataset(feedback(asked, options, seed, crowd=crowd), seed=seed)
        model = train_reranker(dataset, seed=seed)
        found |= {
            f"{crowd}.seconds": time.perf_counter() - started,
            f"{crowd}.after": measured(unseen, model),
            f"{crowd}.way": model.parameters["way"],
            f"{crowd}.left_out": dataset.dropped_as_outlier,
            f"{crowd}.noise": dataset.noise,
        }
    return found


def summary(runs: Sequence[dict[str, Any]], crowd: str) -> dict[str, Any]:
    """Means over the seeds, the spread of the lift, a 95 % interval of its mean, and how often it was a loss."""
    baseline, after, seconds = (
        statistics.fmean(run[name] for run in runs) for name in ("baseline", f"{crowd}.after", f"{crowd}.seconds")
    )
    known = [run for run in runs if "gold" in run]
    ours, theirs = (sum(run[name] - run["baseline"] for run in known) for name in (f"{crowd}.after", "gold"))
    lifts = [run[f"{crowd}.after"] - run["baseline"] for run in runs]
    spread = statistics.stdev(lifts) if len(lifts) > 1 else 0.0
    margin = 1.96 * spread / len(lifts) ** 0.5
    return {
        "crowd": crowd,
        "baseline": baseline,
        "after": after,
        "lift": after - baseline,
        "lift_low": after - baseline - margin,
        "lift_high": after - baseline + margin,
        "lift_worst": min(lifts),
        "gold_lift": theirs / len(known) if known else None,
        "share": ours / theirs if known else None,
        "gold_seeds": len(known),
        "below_baseline": sum(lift < 0 for lift in lifts),
        "seeds": len(runs),
        "seconds": seconds,
    }


def main() -> None:
    """Reads the options, measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--alpha", type=float, default=0.5)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--gold-seeds", type=int, default=10, help="seeds that learn from right labels too: it is slow")
    parser.add_argument("--events", type=int, default=2500)
    parser.add_argument("--users", type=int, default=250)
    parser.add_argument("--noise", type=float, default=0.15)
    parser.add_argument("--adversaries", type=float, default=0.1, help="share of the users; 0: honest crowds only")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    world = World(options.data, options.cache)
    pools = world.pools(alpha=options.alpha)
    runs = []
    for seed in range(options.seeds):
        runs.append(one_seed(world, pools, options, seed))
        if not options.json:
            print(_rounded(runs[-1]), flush=True)
    told = [summary(runs, crowd) for crowd in CROWDS if f"{crowd}.after" in runs[0]]
    if options.json:
        print(json.dumps({"summary": told, "runs": runs}))
        return
    for one in told:
        print(_rounded(one))


def _rounded(values: dict[str, Any]) -> dict[str, Any]:
    return {name: round(value, 4) if isinstance(value, float) else value for name, value in values.items()}


if __name__ == "__main__":
    main()
