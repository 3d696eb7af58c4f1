"""`make bench`: what section "What to reach" of docs/benchmarks.md asks for, measured on a platform of its own.

Prints one JSON document; progress goes to stderr. Datasets are read from --data (default: $ANABRANCH_DATA, else
../shared/data): `qa_beerqa` and `qa_clapnq`, each with corpus.jsonl, queries.jsonl and qrels.tsv.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from anabranch_testkit.platform import RunningPlatform, running_platform

ROOT = Path(__file__).resolve().parents[2]
FRESH = 30
"""Documents put one at a time, for freshness."""


def say(text: str) -> None:
    """Progress."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def resident_mb(platform: RunningPlatform) -> float:
    """Resident memory of everything `anabranch status` lists."""
    return round(sum(service["rss_mb"] or 0 for service in platform.json("status")["services"]), 1)


def freshness(platform: RunningPlatform) -> dict[str, float]:
    """Milliseconds from producing one document to QUERYABLE, the platform being idle."""
    took: list[float] = []
    with platform.client() as client:
        for number in range(FRESH):
            started = time.perf_counter()
            text = f"Note {number}: the heron stood in basin {number} at {time.time()}."
            accepted = client.put_document(f"note-{number}", corpus="fresh", text=text)
            client.wait_until_queryable(f"note-{number}", corpus="fresh", event_id=accepted.event_id)
            took.append(1000 * (time.perf_counter() - started))
    took.sort()
    return {"p50_ms": round(took[len(took) // 2], 1), "p95_ms": round(took[int(len(took) * 0.95)], 1), "n": len(took)}


def ask_load(platform: RunningPlatform, queries: Path, concurrency: int, seconds: int) -> Any:
    """`anabranch bench ask`."""
    return platform.json(
        "bench", "ask", "--corpus", "beerqa", "--queries", str(queries),
        "--concurrency", str(concurrency), "--duration", str(seconds),
        timeout=seconds + 120,
    )  # fmt: skip


def measure(index: str, data: Path, *, quick: bool) -> dict[str, Any]:
    """Everything on one index."""
    seconds = 5 if quick else 20
    beerqa, clapnq = data / "qa_beerqa", data / "qa_clapnq"
    report: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="anabranch-bench-") as folder:
        say(f"{index}: starting")
        started = time.perf_counter()
        with running_platform(Path(folder) / "data", "--index", index) as platform:
            report["start_s"] = round(time.perf_counter() - started, 1)
            report["rss_mb_idle"] = resident_mb(platform)
            for name, folder_of in (("beerqa", beerqa), ("clapnq", clapnq)):
                say(f"{index}: putting {name} in")
                put = platform.json("put", str(folder_of / "corpus.jsonl"), "--corpus", name, "--wait", timeout=900)
                put["documents_per_s"] = round(put["queryable"] / put["seconds"], 1)
                put["rejected"] = len(put["rejected"])
                report[f"put_{name}"] = put
            say(f"{index}: freshness")
            report["freshness"] = freshness(platform)
            say(f"{index}: retrieval")
            report["retrieval_beerqa"] = platform.json(
                "eval", "retrieval", "--corpus", "beerqa", "--dataset", str(beerqa), timeout=600
            )
            say(f"{index}: answers")
            report["answers_beerqa_single_hop"] = platform.json(
                "eval", "answers", "--corpus", "beerqa", "--dataset", str(beerqa), "--where", "multi_hop=false",
                timeout=600,
            )  # fmt: skip
            report["answers_clapnq"] = platform.json(
                "eval", "answers", "--corpus", "clapnq", "--dataset", str(clapnq), timeout=600
            )
            say(f"{index}: load")
            report["ask_concurrency_1"] = ask_load(platform, beerqa / "queries.jsonl", 1, seconds)
            report["ask_concurrency_16"] = ask_load(platform, beerqa / "queries.jsonl", 16, seconds)
            report["rss_mb_after"] = resident_mb(platform)
    return report


def main() -> int:
    """Runs on each index asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--data", type=Path, default=Path(os.environ.get("ANABRANCH_DATA") or ROOT.parent / "shared" / "data")
    )
    parser.add_argument("--index", action="append", choices=["embedded", "weaviate"], help="default: both")
    parser.add_argument("--quick", action="store_true", help="five seconds of load instead of twenty")
    options = parser.parse_args()
    for name in ("qa_beerqa", "qa_clapnq"):
        if not (options.data / name / "corpus.jsonl").is_file():
            raise SystemExit(f"{options.data} holds no {name}/corpus.jsonl: give the folder of datasets with DATA=")
    revision = subprocess.run(
        ["git", "describe", "--always", "--dirty"], check=False, capture_output=True, text=True, cwd=ROOT
    ).stdout.strip()
    report: dict[str, Any] = {
        "revision": revision,
        "machine": {"cores": psutil.cpu_count(), "memory_gb": round(psutil.virtual_memory().total / 2**30)},
    }
    for index in options.index or ["embedded", "weaviate"]:
        report[index] = measure(index, options.data, quick=options.quick)
    print(json.dumps(report, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
