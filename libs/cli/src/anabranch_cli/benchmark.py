"""`anabranch bench ask`: a closed loop of concurrent questions against the running platform."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import click
import psutil

from anabranch_cli.connection import Platform, data_option, platform
from anabranch_cli.datasets import read_queries
from anabranch_cli.output import DONE, FAILED, console, emit, json_option, note
from anabranch_client import AsyncAnabranch
from anabranch_faults import Fault

WARM_UP = 20
"""Questions asked before the clock starts: connections, caches and lazy imports are not what is measured."""


@click.group()
def bench() -> None:
    """Measure speed under load. The machine's other work counts: compare two things in one run."""


@bench.command(name="ask")
@click.option("--corpus", required=True, help="Corpus to ask.")
@click.option(
    "--queries",
    required=True,
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="JSONL rows with `_id` and `text`.",
)
@click.option("--concurrency", default=1, show_default=True, help="Questions in flight.")
@click.option("--duration", default=10.0, show_default=True, help="Seconds to measure.")
@data_option
@json_option
def bench_ask(
    *,
    corpus: str,
    queries: Path,
    concurrency: int,
    duration: float,
    data: Path | None,
    as_json: bool,
) -> int:
    """Ask questions in a closed loop: throughput, latency, errors, CPU by service."""
    texts = [str(row["text"]) for row in read_queries(queries)]
    report = asyncio.run(load(platform(data), texts, corpus=corpus, concurrency=concurrency, seconds=duration))
    for problem, count in report["problems"].items():
        note(f"{count} x {problem}")

    def human() -> None:
        console.print(
            f"  {report['throughput']:.1f} answers/s at concurrency {concurrency}; "
            f"p50 {report['p50_ms']:.1f} ms, p95 {report['p95_ms']:.1f} ms, p99 {report['p99_ms']:.1f} ms; "
            f"{report['errors']} errors in {report['n']}"
        )
        for name, used in report["cpu_ms_per_answer"].items():
            console.print(f"    {name:<16} {used:6.2f} ms CPU an answer", style="dim")

    emit(report, as_json=as_json, human=human)
    return FAILED if report["errors"] else DONE


async def load(
    where: Platform, texts: Sequence[str], *, corpus: str, concurrency: int, seconds: float
) -> dict[str, Any]:
    """Runs the loop and returns the report. Questions are taken in turn; a failed one counts as an error."""
    took: list[float] = []
    problems: Counter[str] = Counter()
    async with where.async_client() as client:
        for index in range(WARM_UP):
            await client.ask(texts[index % len(texts)], corpus=corpus, fresh=True, timeout=timedelta(seconds=30))
        before, started = cpu_seconds(where), time.perf_counter()
        ends = started + seconds

        async def worker(offset: int) -> None:
            index = offset
            while time.perf_counter() < ends:
                try:
                    took.append(await timed(client, texts[index % len(texts)], corpus))
                except Fault as fault:
                    problems[f"{type(fault).__name__}: {fault}"] += 1
                index += concurrency

        async with asyncio.TaskGroup() as group:
            for offset in range(concurrency):
                group.create_task(worker(offset))
        elapsed = time.perf_counter() - started
        used = {name: after - before.get(name, 0.0) for name, after in cpu_seconds(where).items()}
    took.sort()
    return {
        "throughput": round(len(took) / elapsed, 2),
        "p50_ms": percentile(took, 50),
        "p95_ms": percentile(took, 95),
        "p99_ms": percentile(took, 99),
        "errors": problems.total(),
        "n": len(took) + problems.total(),
        "concurrency": concurrency,
        "seconds": round(elapsed, 2),
        "cpu_ms_per_answer": {name: round(1000 * cpu / max(len(took), 1), 2) for name, cpu in used.items()},
        "problems": dict(problems),
    }


async def timed(client: AsyncAnabranch, text: str, corpus: str) -> float:
    """Seconds one answer took, as the caller saw it."""
    started = time.perf_counter()
    await client.ask(text, corpus=corpus, fresh=True, timeout=timedelta(seconds=30))
    return time.perf_counter() - started


def percentile(ordered: Sequence[float], percent: int) -> float:
    """Nearest-rank percentile of sorted seconds, in milliseconds; 0 for nothing."""
    if not ordered:
        return 0.0
    rank = max(0, -(-len(ordered) * percent // 100) - 1)
    return round(1000 * ordered[rank], 2)


def cpu_seconds(where: Platform) -> Mapping[str, float]:
    """CPU seconds used so far by each service, its children included, and by this load generator."""
    used = {"(load generator)": time.process_time()}
    for service in where.state.services if where.state else ():
        try:
            process = psutil.Process(service.pid)
            family = [process, *process.children(recursive=True)]
            used[service.name] = sum(member.cpu_times().user + member.cpu_times().system for member in family)
        except psutil.Error:
            continue  # restarted or gone meanwhile: its share cannot be told
    return used
