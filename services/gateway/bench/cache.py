# ruff: noqa: INP001  a program, not a package
"""Measures the answer cache: python services/gateway/bench/cache.py --data DIR.

Streams of questions of known truth: from the test split of the data (by what they are about; the verifier was trained
on others), in other words and with near misses by the half of the rules that the verifier was not trained on. A
question's answer is the name of what it truly asks; a served answer with another name is one that a fresh answer would
contradict. Popularity is Zipf's; a part of the questions is verbatim, and is not counted as semantic for anyone.

For each bound: the cache's served errors and hits over all streams, against the static cosine threshold with the most
hits among those that keep the same bound in as many streams. JSON on stdout.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "training"))
from verifier import Embedding  # type: ignore[import-not-found]  # a program in the folder beside this one

from anabranch_gateway.adapters.caching import packaged_verifier
from anabranch_gateway.application.caching import AnswerCache, CachedAnswer, CacheQuestion, Entry, Lookup, Outcome
from anabranch_gateway.domain.answers import FinishReason
from anabranch_gateway.domain.caching.features import Source
from anabranch_gateway.domain.caching.fitness import normalised, unfit_question
from anabranch_gateway.domain.caching.shelf import Shelf
from anabranch_gateway.testing.rephrasing import Half, Rephraser, names_in
from anabranch_gateway.testing.replay import Asked, Finder, cited_of, load, part_of, quantised

_THRESHOLDS: Final = (*np.arange(0.70, 0.95, 0.025).round(3), *np.arange(0.95, 1.0, 0.005).round(4), 0.9975, 0.999)
_KEPT: Final = 0.95
_WORDINGS: Final = 8
_NEAR_WORDINGS: Final = 3


@dataclass(frozen=True, slots=True)
class Put:
    """One question of a stream. `rule`: what makes it a near miss; empty for the questions themselves."""

    text: str
    truth: int
    rule: str


class Silent:
    """Is told, and says nothing."""

    def looked(self, lookup: Lookup, *, seconds: float) -> None:
        """Nothing."""

    def compared(self, *, probe: bool, agreed: bool) -> None:
        """Nothing."""

    def forgot(self, reason: str, number: int) -> None:
        """Nothing."""

    def holding(self, entries: int) -> None:
        """Nothing."""

    def tightened(self, *, share: float) -> None:
        """Nothing."""


def streams_of(asked: Sequence[Asked], seed: int, options: argparse.Namespace) -> list[list[Put]]:
    """Streams of one choice of topics, each the questions in order."""
    rng = random.Random(seed)  # noqa: S311  reproducible on purpose
    rephraser = Rephraser(options.rules, names_in([each.text for each in asked]), seed)
    chosen = rng.sample(list(asked), min(options.topics, len(asked)))
    truth = 0
    topics: list[list[tuple[int, str, list[str]]]] = []
    for each in chosen:
        classes = [(truth, "", [each.text, *(rephraser.same(each.text) for _ in range(_WORDINGS - 1))])]
        truth += 1
        rules: set[str] = set()
        for _ in range(options.near):
            near = rephraser.near(each.text)
            # One of a rule: two negations of a question may well be the same question.
            if near is not None and near.rule not in rules:
                rules.add(near.rule)
                wordings = [near.text, *(rephraser.same(near.text) for _ in range(_NEAR_WORDINGS - 1))]
                classes.append((truth, near.rule, wordings))
                truth += 1
        topics.append(classes)
    return [_drawn(topics, rng, options) for _ in range(options.orders)]


def _drawn(
    topics: Sequence[list[tuple[int, str, list[str]]]], rng: random.Random, options: argparse.Namespace
) -> list[Put]:
    weights = [1 / (rank + 5) for rank in range(len(topics))]
    made = []
    for _ in range(options.questions):
        classes = rng.choices(topics, weights)[0]
        number, rule, wordings = classes[0] if rng.random() > options.near_share else rng.choice(classes)
        text = wordings[0] if rng.random() < 0.2 else rng.choice(wordings)  # noqa: PLR2004  a part is verbatim
        made.append(Put(text, number, rule))
    return [put for put in made if unfit_question(put.text, filters={}) is None]


@dataclass(slots=True)
class Tally:
    """What came of one stream."""

    hits: int = 0
    wrong: int = 0
    probes: int = 0
    verbatim: int = 0

    @property
    def error(self) -> float:
        """Of what was served, the share that was wrong."""
        return self.wrong / self.hits if self.hits else 0.0


async def ours(
    puts: Sequence[Put],
    found: dict[str, list[Source]],
    vectors: dict[str, bytes],
    *,
    bound: float,
    seed: int,
    asked: Counter[str],
    caught: Counter[str],
    noise: float,
) -> tuple[Tally, float]:
    """One stream through the cache."""
    rng = random.Random(seed)  # noqa: S311  reproducible on purpose
    cache = AnswerCache(
        shelf=Shelf[Entry](),
        watcher=Silent(),
        verifier=packaged_verifier(),
        error_bound=bound,
        random=rng.random,
    )
    tally, seconds = Tally(), 0.0
    for put in puts:
        question = CacheQuestion(
            tenant="t", corpus="c", question=put.text, variant_id="v", sources=found[put.text], vector=vectors[put.text]
        )
        began = time.perf_counter()
        lookup = await cache.find(question)
        seconds += time.perf_counter() - began
        asked[put.rule] += 1
        if lookup.answer is not None:
            wrong = lookup.answer.answer_id != str(put.truth)
            if lookup.outcome is Outcome.SEMANTIC:
                tally.hits += 1
                tally.wrong += wrong
                caught[put.rule] += wrong
            else:
                tally.verbatim += 1
            continue
        tally.probes += lookup.probing
        said = f"answer {put.truth}" if rng.random() >= noise else f"other words {rng.random()}"
        await cache.keep(
            lookup,
            CachedAnswer(
                answer_id=str(put.truth),
                text=said,
                citations=(),
                cited=(cited_of(found[put.text]),),
                quotes=(),
                reason=FinishReason.STOP,
                abstained=False,
                backend="b",
                model="m",
            ),
        )
    return tally, seconds


def static(
    puts: Sequence[Put], vectors: dict[str, NDArray[np.float32]], thresholds: Sequence[float]
) -> dict[float, Tally]:
    """One stream through caches that serve the nearest answer above a cosine, by their thresholds."""
    texts = sorted({put.text for put in puts})
    matrix = np.stack([vectors[text] for text in texts])
    cosines, places = matrix @ matrix.T, {text: place for place, text in enumerate(texts)}
    return {threshold: _static(puts, cosines, places, threshold) for threshold in thresholds}


def _static(puts: Sequence[Put], cosines: NDArray[np.float32], places: dict[str, int], threshold: float) -> Tally:
    tally, names = Tally(), set()
    kept: list[Put] = []
    rows = np.zeros(len(puts), dtype=np.int64)
    for put in puts:
        if (name := normalised(put.text)) in names:
            tally.verbatim += 1
            continue
        place = places[put.text]
        near = cosines[place, rows[: len(kept)]]
        if near.size and near[best := int(near.argmax())] >= threshold:
            tally.hits += 1
            tally.wrong += kept[best].truth != put.truth
            continue
        rows[len(kept)] = place
        kept.append(put)
        names.add(name)
    return tally


def ideal(puts: Sequence[Put]) -> Tally:
    """One stream through a cache that knows what every question truly asks."""
    tally, kept, names = Tally(), set(), set()
    for put in puts:
        if (name := normalised(put.text)) in names:
            tally.verbatim += 1
        elif put.truth in kept:
            tally.hits += 1
        else:
            names.add(name)
        kept.add(put.truth)
    return tally


def summary(tallies: Sequence[Tally], questions: int, bound: float) -> dict[str, Any]:
    """Over all streams."""
    hits, wrong = sum(each.hits for each in tallies), sum(each.wrong for each in tallies)
    return {
        "semantic_hit_share": round(hits / questions, 4),
        "served_error": round(wrong / max(hits, 1), 5),
        "streams_within_bound": round(float(np.mean([each.error <= bound for each in tallies])), 4),
        "worst_stream": round(max(each.error for each in tallies), 4),
        "verbatim_share": round(sum(each.verbatim for each in tallies) / questions, 4),
        "probe_share": round(sum(each.probes for each in tallies) / questions, 4),
    }


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--vectors", type=Path, default=None, help="file to keep vectors in between runs")
    parser.add_argument("--streams", type=int, default=20, help="choices of topics")
    parser.add_argument("--orders", type=int, default=3, help="streams of a choice")
    parser.add_argument("--questions", type=int, default=1_500, help="of a stream")
    parser.add_argument("--topics", type=int, default=120, help="of a stream")
    parser.add_argument("--near", type=int, default=3, help="near misses of a topic")
    parser.add_argument("--near-share", type=float, default=0.4)
    parser.add_argument("--noise", type=float, default=0.0, help="share of fresh answers worded beyond recognition")
    parser.add_argument("--rules", choices=["a", "b"], default="b")
    parser.add_argument("--part", choices=["validation", "test"], default="test")
    parser.add_argument("--bounds", type=float, nargs="+", default=[0.01, 0.02, 0.05])
    options = parser.parse_args()
    rules: Half = options.rules
    asked, texts = load(options.data)
    mine = [each for each in asked if part_of(each.group) == options.part]
    streams = [one for seed in range(options.streams) for one in streams_of(mine, 1_000 + seed, options)]
    embed = Embedding(options.vectors)
    finder = Finder(texts, embed)
    vectors = dict(embed([put.text for puts in streams for put in puts]))
    found = {text: finder.find(text, vector) for text, vector in vectors.items()}
    packed = {text: quantised(vector) for text, vector in vectors.items()}
    questions = sum(map(len, streams))
    grid = [float(each) for each in _THRESHOLDS]
    statics = [static(puts, vectors, grid) for puts in streams]
    thresholds = {each: [one[each] for one in statics] for each in grid}
    report: dict[str, Any] = {
        "verifier": packaged_verifier().version,
        "rules": rules,
        "part": options.part,
        "streams": len(streams),
        "questions": questions,
        "noise": options.noise,
        "near_share": options.near_share,
        "ideal": summary([ideal(puts) for puts in streams], questions, 0.0),
        "bounds": {},
    }
    for bound in options.bounds:
        seen: Counter[str] = Counter()
        caught: Counter[str] = Counter()
        tallies, seconds = [], 0.0
        for seed, puts in enumerate(streams):
            tally, took = asyncio.run(
                ours(
                    puts,
                    found,
                    packed,
                    bound=bound,
                    seed=seed,
                    asked=seen,
                    caught=caught,
                    noise=options.noise,
                )
            )
            tallies.append(tally)
            seconds += took
        own = summary(tallies, questions, bound)
        safe = {
            each: some
            for each, some in thresholds.items()
            if np.mean([tally.error <= bound for tally in some]) >= _KEPT
        }
        pooled = {
            each: some
            for each, some in thresholds.items()
            if sum(tally.wrong for tally in some) <= bound * sum(tally.hits for tally in some)
        }
        best = max(safe, key=lambda each: sum(tally.hits for tally in safe[each]), default=None)
        lenient = max(pooled, key=lambda each: sum(tally.hits for tally in pooled[each]), default=None)
        cosine = None if best is None else {"threshold": best, **summary(thresholds[best], questions, bound)}
        mean = None if lenient is None else {"threshold": lenient, **summary(thresholds[lenient], questions, bound)}
        report["bounds"][str(bound)] = {
            "cache": own,
            "best_safe_cosine": cosine,
            "best_cosine_safe_on_the_whole": mean,
            # None: no cosine that keeps the bound serves anything.
            "times_the_hits": round(own["semantic_hit_share"] / cosine["semantic_hit_share"], 2)
            if cosine and cosine["semantic_hit_share"]
            else None,
            "traps_served_wrong": {rule or "none": f"{caught[rule]}/{seen[rule]}" for rule in sorted(seen)},
            "lookup_ms": round(1_000 * seconds / questions, 3),
        }
    at_80 = thresholds[0.8]
    report["cosine_0.8"] = summary(at_80, questions, 0.02)
    json.dump(report, sys.stdout, indent=1)


if __name__ == "__main__":
    main()
