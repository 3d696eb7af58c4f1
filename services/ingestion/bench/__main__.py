"""How well and how safely documents are read: `python services/ingestion/bench DATA_FOLDER`, JSON on standard output.

DATA_FOLDER holds `documents_manifest.jsonl` with rows of {path, format, expect, expected_text}. Every file goes
through the worker pool, as in the service. Reported: the share of `expect: parse` files that gave text; mean F1 of
words where a text to expect is given; how the hostile ones ended, after how long, and the most memory of a worker.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import sys
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from anabranch_ingestion.adapters.isolation.pool import PoolLimits, WorkerPool
from anabranch_ingestion.adapters.isolation.sandbox import peak_bytes
from anabranch_ingestion.adapters.parsing.reading import ReadLimits
from anabranch_ingestion.application.ports import Body
from anabranch_ingestion.domain.chunking import Window
from anabranch_ingestion.domain.documents import Parsed
from anabranch_ingestion.domain.refusals import Refused

_WORD = re.compile(r"\w+")


@dataclass
class _Results:
    rows: list[dict[str, Any]] = field(default_factory=list)
    lost: int = 0
    peak: int = 0


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--only", default="", help="a part of the path")
    arguments = parser.parse_args()
    manifest = (arguments.data / "documents_manifest.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [row for row in map(json.loads, manifest) if arguments.only in row["path"]]
    results = asyncio.run(_measure(arguments.data, rows))
    json.dump(_summary(results), sys.stdout, indent=2)
    sys.stdout.write("\n")


async def _measure(data: Path, rows: list[dict[str, Any]]) -> _Results:
    results = _Results()

    def told(event: str, facts: dict[str, Any]) -> None:
        results.lost += event == "lost"
        del facts

    pool = WorkerPool(PoolLimits(), ReadLimits(), Window(), told=told)
    await pool.start()
    try:
        for row in rows:
            results.rows.append(await _one(pool, data, row))
            results.peak = max([results.peak, *(peak_bytes(pid) for pid in pool.pids)])
    finally:
        await pool.close()
    return results


async def _one(pool: WorkerPool, data: Path, row: dict[str, Any]) -> dict[str, Any]:
    path = data / row["path"]
    body = Body(data=path.read_bytes(), filename=path.name)
    began = time.perf_counter()
    parsed: Parsed | None = None
    reason = problem = ""
    try:
        parsed = await pool.parse(body, title="")
    except Refused as refused:
        reason, problem = refused.why.value, str(refused)
    result = {
        "path": row["path"],
        "format": row["format"],
        "expect": row["expect"],
        "seconds": round(time.perf_counter() - began, 4),
        "parsed": parsed is not None,
        "reason": reason,
        "problem": problem,
        "parser": parsed.parser if parsed else "",
        "chunks": len(parsed.chunks) if parsed else 0,
    }
    if row.get("expected_text"):
        expected = (data / row["expected_text"]).read_text(encoding="utf-8")
        result["f1"] = round(_f1(parsed.text if parsed else "", expected), 4)
    return result


def _f1(found: str, expected: str) -> float:
    a, b = (Counter(_WORD.findall(text.lower())) for text in (found, expected))
    common = sum((a & b).values())
    return 2 * common / (sum(a.values()) + sum(b.values())) if common else 0.0


def _summary(results: _Results) -> dict[str, Any]:
    parse = [row for row in results.rows if row["expect"] == "parse"]
    scored = [row["f1"] for row in results.rows if "f1" in row]
    hostile = [row for row in results.rows if "/hostile/" in row["path"]]
    seconds = sorted(row["seconds"] for row in results.rows)
    by_format: dict[str, list[float]] = defaultdict(list)
    for row in results.rows:
        by_format[row["format"]].append(row["seconds"])
    return {
        "files": len(results.rows),
        "expect_parse": len(parse),
        "parsed_share": round(sum(row["parsed"] for row in parse) / max(1, len(parse)), 4),
        "mean_f1": round(sum(scored) / max(1, len(scored)), 4),
        "f1_files": len(scored),
        "hostile": len(hostile),
        "hostile_slowest_seconds": max((row["seconds"] for row in hostile), default=0),
        "worker_peak_mib": round(results.peak / (1 << 20), 1),
        "workers_lost": results.lost,
        "p50_ms": round(1000 * seconds[len(seconds) // 2], 2) if seconds else 0,
        "p99_ms": round(1000 * seconds[int(len(seconds) * 0.99)], 2) if seconds else 0,
        "mean_ms_by_format": {name: round(1000 * sum(v) / len(v), 1) for name, v in sorted(by_format.items())},
        "unparsed": [
            {"path": row["path"], "reason": row["reason"], "problem": row["problem"]}
            for row in parse
            if not row["parsed"]
        ],
        "hostile_outcomes": [
            {"path": row["path"], "outcome": row["reason"] or "parsed", "seconds": row["seconds"]} for row in hostile
        ],
        "lowest_f1": sorted([row["f1"], row["path"]] for row in results.rows if "f1" in row)[:10],
    }


if __name__ == "__main__":
    main()
