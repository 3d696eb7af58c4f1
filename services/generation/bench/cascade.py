"""What a cascade saves: `python services/generation/bench/cascade.py --data FOLDER`.

Two tiers on questions with known answers (`qa_beerqa`: queries.jsonl, corpus.jsonl): the cheap one is the extractive
backend, run; the strong one is simulated, right with a fixed chance and at a fixed multiple of the price. Passages are
the first five of a BM25 search. An answer is right when a known answer stands in it. Questions are split in two by
their id: on one half the weights of the difficulty and the thresholds are fitted (the cheapest pair that keeps 95 % of
the strong tier's share of right answers, and two standard errors more), on the other all is measured. `random` sends
the same share of questions to the strong tier by chance; `ece_if_true` is the calibration error that beliefs
which are all true would show on as many questions. `shipped` has the service's weights. One JSON object is printed.
"""

# ruff: noqa: INP001  a program, not part of a package
from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import math
import re
import string
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from anabranch_generation.adapters.extractive.backend import ExtractiveBackend
from anabranch_generation.adapters.extractive.text import sentences
from anabranch_generation.application.cascading import judged
from anabranch_generation.domain import Delta, Passage, Request, Sentence, Settings
from anabranch_generation.domain.difficulty import FEATURES, WEIGHTS, features
from anabranch_grounding import stems

Numbers = NDArray[np.float64]
KEEP: Final = 0.95
TOP: Final = 5
GRID: Final = 25
RIDGE: Final = 4.0
PRIOR: Final[Mapping[str, float]] = {
    "length": 0.3,
    "numbers": 0.3,
    "hops": 1.0,
    "clauses": 0.5,
    "reasons": 0.8,
    "names": 0.2,
    "choice": 0.8,
    "uncovered": 1.2,
    "spread": 1.0,
    "gap": -0.5,
    "few": 0.5,
    "history": 0.2,
}
"""What was believed before any question was looked at."""
BINS: Final = 10
_ARTICLES: Final = re.compile(r"\b(a|an|the)\b")


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A question as both tiers did."""

    fitted_on: bool
    features: Sequence[float]
    support: float
    cheap: float
    strong: float


def plain(text: str) -> str:
    """Lower case, without punctuation and articles."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(str.maketrans("", "", string.punctuation))).split())


class Search:
    """BM25 over a small corpus."""

    def __init__(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Reads all of it."""
        self.rows = rows
        self.counts = [Counter(stems(f"{row['title']} {row['text']}")) for row in rows]
        self.lengths = [sum(counts.values()) for counts in self.counts]
        self.mean = sum(self.lengths) / len(rows)
        self.postings: dict[str, list[int]] = {}
        for at, counts in enumerate(self.counts):
            for word in counts:
                self.postings.setdefault(word, []).append(at)

    def best(self, question: str) -> list[Passage]:
        """The first passages, with their scores."""
        scores: dict[int, float] = {}
        for word in sorted(set(stems(question))):
            found = self.postings.get(word, [])
            idf = math.log1p((len(self.rows) - len(found) + 0.5) / (len(found) + 0.5))
            for at in found:
                count = self.counts[at][word]
                scores[at] = scores.get(at, 0.0) + idf * count * 2.2 / (
                    count + 1.2 * (0.25 + 0.75 * self.lengths[at] / self.mean)
                )
        first = sorted(scores.items(), key=lambda each: (-each[1], each[0]))[:TOP]
        return [self._passage(at, score) for at, score in first]

    def _passage(self, at: int, score: float) -> Passage:
        row = self.rows[at]
        spans = tuple(Sentence(start, end) for start, end in sentences(row["text"]))
        return Passage(text=row["text"], title=row["title"], chunk_id=row["_id"], score=score, sentences=spans)


async def cases(folder: Path, *, strong: float) -> list[Case]:
    """Every question that has an answer, as both tiers did."""
    corpus = [json.loads(line) for line in (folder / "corpus.jsonl").read_text(encoding="utf-8").splitlines()]
    queries = [json.loads(line) for line in (folder / "queries.jsonl").read_text(encoding="utf-8").splitlines()]
    search, backend = Search(corpus), ExtractiveBackend()
    found: list[Case] = []
    for query in queries:
        passages = search.best(query["text"])
        request = Request(question=query["text"], passages=tuple(passages), settings=Settings())
        events = [event async for event in backend.answer(request)]
        text = f" {plain(''.join(event.text for event in events if isinstance(event, Delta)))} "
        drawn = int(hashlib.sha256(f"strong {query['_id']}".encode()).hexdigest()[:8], 16) / 16**8
        values = features(query["text"], passages)
        found.append(
            Case(
                fitted_on=int(hashlib.sha256(query["_id"].encode()).hexdigest()[:8], 16) % 2 == 0,
                features=[values[name] for name in FEATURES],
                support=judged(events, request).support,
                cheap=float(any(f" {plain(answer)} " in text for answer in query["answers"])),
                strong=float(drawn < strong),
            )
        )
    return found


def fitted(rows: Numbers, labels: Numbers, prior: Numbers) -> Numbers:
    """A logistic model, the bias first, by Newton's method.

    Drawn to `prior`, all but the bias: what these questions say nothing about stays as it was.
    """
    inputs = np.hstack([np.ones((len(rows), 1)), rows])
    ridge = np.diag([0.0, *[RIDGE] * rows.shape[1]])
    weights = prior.copy()
    for _ in range(50):
        belief = 1 / (1 + np.exp(-(inputs @ weights)))
        slope = inputs.T @ (belief - labels) + ridge @ (weights - prior)
        bend = (inputs * (belief * (1 - belief))[:, None]).T @ inputs + ridge
        weights -= np.linalg.solve(bend + 1e-9 * np.eye(len(bend)), slope)
    return weights


def believed(weights: Numbers, rows: Numbers) -> Numbers:
    """The model's beliefs."""
    made: Numbers = 1 / (1 + np.exp(-(weights[0] + rows @ weights[1:])))
    return made


def auroc(beliefs: Numbers, labels: Numbers) -> float:
    """The chance that a case with the label is believed more than one without."""
    ahead, behind = beliefs[labels > 0], beliefs[labels == 0]
    return float(np.mean((ahead[:, None] > behind[None, :]) + 0.5 * (ahead[:, None] == behind[None, :])))


def ece(beliefs: Numbers, labels: Numbers) -> float:
    """The mean distance of belief from truth over bins of equal numbers."""
    order = np.argsort(beliefs, kind="stable")
    parts = np.array_split(order, BINS)
    return float(sum(len(part) * abs(beliefs[part].mean() - labels[part].mean()) for part in parts) / len(order))


def served(hard: Numbers, cases_: Sequence[Case], skip: float, escalate: float, ratio: float) -> dict[str, float]:
    """What a pair of thresholds gives."""
    cheap, strong, support = (
        np.array([getattr(case, name) for case in cases_]) for name in ("cheap", "strong", "support")
    )
    skipped = hard > skip
    escalated = ~skipped & (support < escalate)
    to_strong = skipped | escalated
    cost = (ratio * to_strong + ~skipped).mean()
    return {
        "right": float(np.where(to_strong, strong, cheap).mean()),
        "of_strong": float(np.where(to_strong, strong, cheap).mean() / strong.mean()),
        "cost": float(cost / ratio),
        "saved": float(1 - cost / ratio),
        "strong_share": float(to_strong.mean()),
    }


def measured(weights: Numbers, known: Sequence[Case], held: Sequence[Case], ratio: float) -> dict[str, Any]:
    """Thresholds from one half, figures from the other."""
    rows = {name: np.array([case.features for case in part]) for name, part in (("known", known), ("held", held))}
    hard = {name: believed(weights, part) for name, part in rows.items()}
    supports = np.array([case.support for case in known])
    skips = [1.0, *np.quantile(hard["known"], np.linspace(0.05, 1, GRID))]
    bars = [0.0, *np.quantile(supports, np.linspace(0, 1, GRID))]
    pairs = [(served(hard["known"], known, skip, bar, ratio), skip, bar) for skip in skips for bar in bars]
    # Two standard errors more than is asked for, since the half that they are chosen on flatters them.
    error = math.sqrt(KEEP * (1 - KEEP) / len(known))
    enough = [each for each in pairs if each[0]["of_strong"] >= KEEP + 2 * error]
    _, skip, bar = min(enough, key=lambda each: each[0]["cost"])
    found = served(hard["held"], held, skip, bar, ratio)
    cheap, strong = (np.mean([getattr(case, name) for case in held]) for name in ("cheap", "strong"))
    share = found["strong_share"]
    failed = np.array([1 - case.cheap for case in held])
    # So many questions leave a distance even where every belief is true.
    dealt = np.random.default_rng(7).random((200, len(held))) < hard["held"]
    right_by_chance = (1 - share) * cheap + share * strong
    return {
        "skip_above": round(float(skip), 4),
        "escalate_below": round(float(bar), 4),
        **{name: round(value, 4) for name, value in found.items()},
        "random_of_strong": round(float(right_by_chance / strong), 4),
        "difficulty_auroc": round(auroc(hard["held"], failed), 4),
        "difficulty_ece": round(ece(hard["held"], failed), 4),
        "ece_if_true": round(float(np.mean([ece(hard["held"], each) for each in dealt])), 4),
    }


def main() -> None:
    """Measures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with qa_beerqa")
    parser.add_argument("--strong", type=float, default=0.9, help="share that the strong tier has right")
    parser.add_argument("--ratio", type=float, default=20.0, help="price of the strong tier, by the cheap one's")
    arguments = parser.parse_args()
    all_ = asyncio.run(cases(arguments.data / "qa_beerqa", strong=arguments.strong))
    known, held = ([case for case in all_ if case.fitted_on is part] for part in (True, False))
    rows = np.array([case.features for case in known])
    failed = np.array([1 - case.cheap for case in known])
    shipped = np.array([WEIGHTS["bias"], *[WEIGHTS[name] for name in FEATURES]])
    own = fitted(rows, failed, np.array([-1.2, *[PRIOR[name] for name in FEATURES]]))
    report = {
        "what": "cascade",
        "questions": {"fitted_on": len(known), "measured_on": len(held)},
        "tiers": {
            "cheap_right": round(float(np.mean([case.cheap for case in held])), 4),
            "strong_right": round(float(np.mean([case.strong for case in held])), 4),
            "price_ratio": arguments.ratio,
        },
        "support_auroc": round(
            auroc(np.array([case.support for case in held]), np.array([case.cheap for case in held])), 4
        ),
        "fitted": measured(own, known, held, arguments.ratio),
        "shipped": measured(shipped, known, held, arguments.ratio),
        "weights": dict(zip(("bias", *FEATURES), [round(float(each), 3) for each in own], strict=True)),
    }
    sys.stdout.write(json.dumps(report) + "\n")


if __name__ == "__main__":
    main()
