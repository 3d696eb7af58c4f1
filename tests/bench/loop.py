"""`make bench-loop`: whole rounds of the loop on a platform of its own: what simulated people's feedback changes.

Prints one JSON document; progress goes to stderr. Reads `qa_beerqa` from --data (default: $ANABRANCH_DATA, else
../shared/data). Every round has a corpus of its own and a seed of its own, on one platform.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from anabranch_testkit.platform import RunningPlatform, running_platform

ROOT = Path(__file__).resolve().parents[2]
KINDS: dict[str, tuple[str, ...]] = {
    "fair": (),
    "adversaries": ("--adversaries", "0.1"),
    "sabotage": ("--sabotage",),
}


def say(text: str) -> None:
    """Progress."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def a_round(platform: RunningPlatform, options: argparse.Namespace, kind: str, seed: int) -> dict[str, Any]:
    """One simulation's report."""
    say(f"{kind}, seed {seed}")
    report: dict[str, Any] = platform.json(
        "loop", "simulate", "--corpus", f"{kind}-{seed}", "--dataset", str(options.data / "qa_beerqa"),
        "--users", str(options.users), "--events", str(options.events), "--seed", str(seed), *KINDS[kind],
        timeout=3_000,
    )  # fmt: skip
    say(f"{kind}, seed {seed}: {report['state']}, {report['baseline']} -> {report['after']} (gold {report['gold']})")
    return report


def summary(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """What the bars ask: the share of gold's lift, rounds that ended below their baseline, seconds to the canary."""
    to_canary = [each["seconds_to_canary"] for each in rounds if each["seconds_to_canary"] is not None]
    lift = sum(each["gold"] - each["baseline"] for each in rounds)
    return {
        "rounds": len(rounds),
        "promoted": sum(each["promoted"] for each in rounds),
        "below_baseline": sum(each["after"] < each["baseline"] for each in rounds),
        "share_of_gold": round(sum(each["after"] - each["baseline"] for each in rounds) / lift, 3)
        if lift > 0
        else None,
        "seconds_to_canary": round(statistics.median(to_canary), 2) if to_canary else None,
    }


def main() -> int:
    """Runs the rounds asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--data", type=Path, default=Path(os.environ.get("ANABRANCH_DATA") or ROOT.parent / "shared" / "data")
    )
    parser.add_argument("--events", type=int, default=2_500)
    parser.add_argument("--users", type=int, default=250)
    parser.add_argument("--seeds", type=int, default=1, help="rounds of each kind")
    parser.add_argument("--kind", action="append", choices=[*KINDS], help="default: all")
    options = parser.parse_args()
    if not (options.data / "qa_beerqa" / "corpus.jsonl").is_file():
        raise SystemExit(f"{options.data} holds no qa_beerqa/corpus.jsonl: give the folder of datasets with DATA=")
    report: dict[str, Any] = {"events": options.events, "users": options.users}
    with tempfile.TemporaryDirectory(prefix="anabranch-bench-") as folder:
        say("starting")
        with running_platform(Path(folder) / "data") as platform:
            for kind in options.kind or KINDS:
                rounds = [a_round(platform, options, kind, seed) for seed in range(options.seeds)]
                report[kind] = {**summary(rounds), "each": rounds}
    print(json.dumps(report, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
