"""What feedback teaches: nDCG@10 on questions about documents that nobody judged, before and after.

    python services/training/bench/learning.py --data ../shared/data/qa_beerqa --cache DIR [--alpha 0.5 1.0]
        [--seeds 20] [--first-seed 0] [--gold-seeds 20] [--adversaries 10 20 30] [--events 2500] [--noise 0.15]
        [--users 250] [--processes 2] [--json]

Half of the documents (and the questions about them) are asked about and judged; the other half is measured. A judgment
is one citation of the five shown, rank r looked at with a chance of 1/r, its label turned round with `--noise`.
`gold` learns from the right labels of all fifty candidates of the same questions; `share` is lift over gold's lift, of
the same seeds. Where training declines to make a candidate, the order stays as it was: the lift is 0.

Crowds: `honest`; `inverse`, `push` and `sly` with a number: so many percent of the users act together. `inverse` judge
everything the other way round, `push` call one document relevant and all others irrelevant, `sly` are right about the
first rank and wrong about all others. `coins`: every label is drawn by lot.

Seeds from 100 on were used to choose; those below are for reporting. They split one corpus, so the interval is
narrower than one over corpora would be.
"""

# ruff: noqa: INP001, T201  a program, not part of a package
from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

# One thread a process, before numpy reads it.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from world import Pool, World, ndcg  # type: ignore[import-not-found, unused-ignore]  # found beside the program

from anabranch_training.adapters.learners import order_rows, train_reranker
from anabranch_training.domain import GOLD, Judgment, TrainedReranker, build_ranking_dataset

START = datetime(2026, 1, 1, tzinfo=UTC)
SHOWN = 5
RANDOMISED = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Crowd:
    """People: a share of them acts together, in a `way`; the others err with `noise` (None: as asked for)."""

    name: str
    way: str = ""
    share: float = 0.0
    noise: float | None = None


def crowds(percents: Sequence[int]) -> list[Crowd]:
    """All that are looked at."""
    acting = [
        Crowd(name=f"{way} {percent}", way=way, share=percent / 100)
        for percent in percents
        for way in ("inverse", "push", "sly")
    ]
    return [Crowd(name="honest"), *acting, Crowd(name="coins", noise=0.5)]


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
        rank=0 if rank == 0 else index + 1,
    )


def feedback(pools: Sequence[Pool], options: argparse.Namespace, seed: int, *, crowd: Crowd) -> list[Judgment]:
    """What simulated people say."""
    chance = np.random.default_rng(seed)
    shown = list({document for pool in pools for document in pool.documents[:SHOWN]})
    pushed = sorted(shown)[int(chance.integers(len(shown)))]
    bad, noise = round(crowd.share * options.users), options.noise if crowd.noise is None else crowd.noise
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
            label = float({"inverse": not truth, "push": pushing, "sly": truth == (rank == 1)}[crowd.way])
        else:
            label = float(truth != (chance.random() < noise))
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
            order = order_rows(model, pool.features)
        told.append(ndcg(pool, order.tolist()))
    return statistics.fmean(told)


def one_seed(world: World, pools: Sequence[Pool], options: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Before, gold and every crowd of one split."""
    left, right = world.halves(seed)
    asked, unseen = [p for p in pools if p.question in left], [p for p in pools if p.question in right]
    before = measured(unseen, None)
    found: dict[str, Any] = {"seed": seed, "before": before}
    if seed - options.first_seed < options.gold_seeds:
        gold = train_reranker(build_ranking_dataset(right_answers(asked), seed=seed), seed=seed)
        found |= {"gold": measured(unseen, gold) - before, "gold_way": gold.parameters["way"]}
    for crowd in crowds(options.adversaries):
        started = time.perf_counter()
        dataset = build_ranking_dataset(feedback(asked, options, seed, crowd=crowd), seed=seed)
        model = train_reranker(dataset, seed=seed)
        seconds, lift = time.perf_counter() - started, measured(unseen, model) - before
        found[crowd.name] = {
            "lift": 0.0 if model.declined else lift,
            "declined": bool(model.declined),
            "lift_of_model": lift,
            "depth": model.depth,
            "borne_out": model.metrics["cv_log_likelihood.gain"] / model.metrics["cv_log_likelihood.error"],
            "left_out": dataset.dropped_as_outlier,
            "noise": dataset.noise,
            "seconds": seconds,
        }
    return found


def summary(runs: Sequence[dict[str, Any]], crowd: str) -> dict[str, Any]:
    """Means over the seeds, a 95 % interval of the mean lift, and how often it was a loss."""
    ours = [run[crowd] for run in runs]
    lifts = [one["lift"] for one in ours]
    known = [run for run in runs if "gold" in run]
    learned, gold = (sum(some) for some in ([run[crowd]["lift"] for run in known], [run["gold"] for run in known]))
    margin = 1.96 * (statistics.stdev(lifts) if len(lifts) > 1 else 0.0) / len(lifts) ** 0.5
    return {
        "crowd": crowd,
        "before": statistics.fmean(run["before"] for run in runs),
        "lift": (lift := statistics.fmean(lifts)),
        "lift_low": lift - margin,
        "lift_high": lift + margin,
        "lift_worst": min(lifts),
        "gold_lift": gold / len(known) if known else None,
        "share": learned / gold if known else None,
        "gold_seeds": len(known),
        "below_before": sum(one < 0 for one in lifts),
        "declined": sum(one["declined"] for one in ours),
        "seeds": len(runs),
        "seconds": statistics.fmean(one["seconds"] for one in ours),
    }


_SHARED: dict[str, Any] = {}
"""What the processes inherit."""


def _one(place: tuple[float, int]) -> tuple[float, dict[str, Any]]:
    alpha, seed = place
    return alpha, one_seed(_SHARED["world"], _SHARED["pools"][alpha], _SHARED["options"], seed)


def main() -> None:
    """Reads the options, measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--alpha", type=float, nargs="+", default=[0.5, 1.0])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--gold-seeds", type=int, default=20, help="of them, how many learn from right labels too")
    parser.add_argument("--adversaries", type=int, nargs="*", default=[10, 20, 30], help="percent of the users")
    parser.add_argument("--events", type=int, default=2500)
    parser.add_argument("--users", type=int, default=250)
    parser.add_argument("--noise", type=float, default=0.15)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    started = time.perf_counter()
    world = World(options.data, options.cache)
    pools = {alpha: world.pools(alpha=alpha) for alpha in options.alpha}
    _SHARED.update(world=world, pools=pools, options=options)
    places = [(alpha, options.first_seed + seed) for alpha in options.alpha for seed in range(options.seeds)]
    found: dict[float, list[dict[str, Any]]] = {alpha: [] for alpha in options.alpha}
    # Forked: the processes inherit the world.
    with multiprocessing.get_context("fork").Pool(options.processes) as processes:
        for alpha, run in processes.imap(_one, places):
            found[alpha].append(run)
            # Beside the JSON, for whoever waits.
            print(_line(alpha, run), flush=True, file=sys.stderr if options.json else sys.stdout)
    names = [crowd.name for crowd in crowds(options.adversaries)]
    summaries = {alpha: [summary(runs, name) for name in names] for alpha, runs in found.items()}
    seconds = time.perf_counter() - started
    if options.json:
        document = [{"alpha": alpha, "summary": summaries[alpha], "runs": runs} for alpha, runs in found.items()]
        print(json.dumps({"data": options.data.name, "seconds": seconds, "alphas": document}))
        return
    for alpha, rows in summaries.items():
        for one in rows:
            print(
                f"alpha {alpha:g} {one['crowd']:<10} lift {one['lift']:+.4f} ({one['lift_low']:+.4f} to "
                f"{one['lift_high']:+.4f}) worst {one['lift_worst']:+.4f} share {one['share'] or float('nan'):.2f} "
                f"below {one['below_before']} of {one['seeds']} declined {one['declined']} in {one['seconds']:.2f} s"
            )
    print(f"{seconds:.0f} s")


def _line(alpha: float, run: dict[str, Any]) -> str:
    told = [f"alpha {alpha:g} seed {run['seed']:3}: before {run['before']:.4f}"]
    told += [f"gold {run['gold']:+.4f}"] if "gold" in run else []
    for name, one in run.items():
        if isinstance(one, dict):
            lift = f"{one['lift_of_model']:+.4f}"
            told.append(f"{name} ({lift})" if one["declined"] else f"{name} {lift}")
    return "  ".join(told)


if __name__ == "__main__":
    main()
