"""What the drift detector finds, against dummies, on simulated streams of answers; prints JSON. `--quick`: fewer.

Run it as `python services/training/bench/drift.py`.
"""  # noqa: INP001 - a program

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np

from anabranch_training.domain.drift import ALPHA, STEP, WINDOW, Period, Reading, Signal, drifted, topic_of

BEFORE, AFTER, CHANGE = 1_000, 2_000, 600
"""Answers before the data set and after it, and the answer after it at which things change, where they do."""
KINDS: Final = ("none", "scores fall", "scores spread", "queries longer", "topics move", "all creep")
Detector: TypeAlias = Callable[[Sequence[Reading], Sequence[Reading], np.random.Generator], int]


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """How answers come out: mean and deviation of the best cosine, of the keyword score, and what is asked about."""

    dense: float = 0.62
    spread: float = 0.10
    keywords: float = 12.0
    moved: float = 0.0

    def readings(self, generator: np.random.Generator, count: int) -> list[Reading]:
        """Readings of as many answers. Topics are asked for as by Zipf; `moved` of them are about new documents."""
        dense = generator.normal(self.dense, self.spread, count)
        sentence = dense + generator.normal(0.05, 0.06, count)
        keywords = generator.gamma(6.0, self.keywords / 6.0, count)
        overlap = np.round(generator.beta(6, 3, count) * 8) / 8
        documents = np.minimum(generator.zipf(1.3, count), 300) + 1_000 * (generator.random(count) < self.moved)
        return [
            Reading(
                topic=topic_of(f"document-{documents[n]}"),
                numbers={
                    Signal.QUERIES: (float(keywords[n]), float(overlap[n])),
                    Signal.SCORES: (float(dense[n]), float(sentence[n]), float(abs(dense[n]) * 0.3)),
                },
            )
            for n in range(count)
        ]


WORLDS: Final = {
    "none": World(),
    "scores fall": World(dense=0.57),
    "scores spread": World(spread=0.16),
    "queries longer": World(keywords=15.0),
    "topics move": World(moved=0.25),
    "all creep": World(dense=0.60, keywords=13.0, moved=0.1),
}


def detector(before: Sequence[Reading], after: Sequence[Reading], generator: np.random.Generator) -> int:  # noqa: ARG001  as the others
    """The service's: the answer at which it says so, -1 for never."""
    period = Period(before)
    for place in range(0, len(after), STEP):
        period.add(after[place : place + STEP])
        if drifted(period.p_values) is not None:
            return period.came
    return -1


def uncorrected(before: Sequence[Reading], after: Sequence[Reading], generator: np.random.Generator) -> int:  # noqa: ARG001  as above
    """The same tests at the same looks, each at alpha 0.05 by itself."""
    for place in range(WINDOW, len(after) + 1, STEP):
        period = Period(before)
        period.add(after[place - WINDOW : place])
        # The first look of a period spends half of the error.
        if drifted(period.p_values, alpha=0.05 * 2) is not None:
            return place
    return -1


def dummies() -> dict[str, Detector]:
    """What says so whatever it sees: never, at the first look, at looks drawn by lot."""

    def never(before: Sequence[Reading], after: Sequence[Reading], generator: np.random.Generator) -> int:  # noqa: ARG001  as above
        return -1

    def always(before: Sequence[Reading], after: Sequence[Reading], generator: np.random.Generator) -> int:  # noqa: ARG001  as above
        return WINDOW

    def by_lot(before: Sequence[Reading], after: Sequence[Reading], generator: np.random.Generator) -> int:  # noqa: ARG001  as above
        looks = np.arange(WINDOW, len(after) + 1, STEP)
        # As often as half of all streams drift: the likeliest guess of one who sees nothing.
        said = looks[generator.random(looks.size) < 1 - 0.5 ** (1 / looks.size)]
        return int(said[0]) if said.size else -1

    return {"never": never, "always": always, "random": by_lot}


def scored(detect: Detector, streams: Sequence[tuple[str, list[Reading], list[Reading]]]) -> dict[str, Any]:
    """Precision and recall over all streams: right is to say so after things changed, and only where they did."""
    generator = np.random.default_rng(3)
    right, said, drifting, early, quiet_said, quiet = 0, 0, 0, 0, 0, 0
    found: dict[str, list[int]] = {kind: [] for kind in KINDS if kind != "none"}
    counts = dict.fromkeys(found, 0)
    for kind, before, after in streams:
        at = detect(before, after, generator)
        said += at >= 0
        if kind == "none":
            quiet, quiet_said = quiet + 1, quiet_said + (at >= 0)
            continue
        drifting, counts[kind] = drifting + 1, counts[kind] + 1
        early += 0 <= at <= CHANGE
        if at > CHANGE:
            right += 1
            found[kind].append(at - CHANGE)
    precision, recall = right / said if said else 0.0, right / drifting
    return {
        "precision": round(precision, 3),
        "recall": round(recall, 3),
        "f1": round(2 * precision * recall / (precision + recall), 3) if right else 0.0,
        "false_alarms_without_drift": round(quiet_said / quiet, 3),
        "false_alarms_before_it": round(early / drifting, 3),
        "recall_by_kind": {kind: round(len(delays) / counts[kind], 3) for kind, delays in found.items()},
        "median_delay_answers": {kind: float(np.median(delays)) for kind, delays in found.items() if delays},
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Scores all detectors on the same streams, half of them without drift."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    each = 4 if parser.parse_args(arguments).quick else 60
    generator = np.random.default_rng(1)
    streams = []
    for kind in KINDS:
        for _ in range(each * (len(KINDS) - 1 if kind == "none" else 1)):
            usual = World()
            recent = usual.readings(generator, CHANGE) + WORLDS[kind].readings(generator, AFTER - CHANGE)
            streams.append((kind, usual.readings(generator, BEFORE), recent))
    chosen = {"detector": detector, "uncorrected": uncorrected, **dummies()}
    out = {"streams": len(streams), "alpha_of_a_signal": ALPHA, "answers_until_change": CHANGE}
    sys.stdout.write(
        json.dumps({**out, "scores": {name: scored(one, streams) for name, one in chosen.items()}}, indent=2) + "\n"
    )


if __name__ == "__main__":
    main()
