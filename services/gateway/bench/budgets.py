"""Whether a budget holds, and what asking costs: `python services/gateway/bench/budgets.py`.

Several processes use the gateway's own adapters on one real store, each with its share of the calls. A call reserves
(three accounts, several windows, a token limit), is billed by a backend at something else than was reserved, and
settles. The backend writes down what it billed before the caller knows, as a provider does: that is what is held
against the budget, also for the calls of the process that is killed with SIGKILL half-way. A refused call comes back a
little later, until the budget says that it is used up.

`redis` has the gateways share a Redis, `alone` their database (SQLite). `latency` is of reserve and settle together,
one call after the other (`quiet`), and at a steady rate from all processes (`steady`). One JSON object is printed.
`--redis URL` uses a Redis that is there already.
"""

# ruff: noqa: INP001  a program, not part of a package
from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import random
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack, ExitStack
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from anabranch_gateway.adapters.spending import AloneLedger, RedisLedger, SqlGrants
from anabranch_gateway.application.spending import Ledger
from anabranch_gateway.domain.spending import Bounds, BudgetBound, Cost, TokenBound
from anabranch_local.redis import RedisServer
from anabranch_observability import configure
from anabranch_store import Database

MIGRATIONS: Final = "anabranch_gateway.adapters.migrations"
DAY: Final = 86_400
MOST: Final = 20_000  # micro-dollars a call is reserved at, at most
RECORD: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One run."""

    store: str
    hard: int
    processes: int
    concurrent: int
    kill_after: float
    prefix: str
    seed: int


def bounds_of(hard: int, prefix: str) -> Bounds:
    """The installation, a tenant and its key; a day and 30 days; a limit of tokens that is not reached."""
    return Bounds(
        budgets=(
            BudgetBound(account=f"{prefix}*", seconds=30 * DAY, hard=hard * 10, soft=hard * 8),
            BudgetBound(account=f"{prefix}acme", seconds=DAY * 30, hard=hard, soft=hard // 2),
            BudgetBound(account=f"{prefix}acme", seconds=400 * DAY, hard=hard * 2),
            BudgetBound(account=f"{prefix}acme/keys/k-1", seconds=400 * DAY, hard=hard * 3),
        ),
        tokens=(TokenBound(account=f"{prefix}acme", limit=2**50),),
    )


async def ledger_of(store: str, prefix: str, stack: AsyncExitStack) -> Ledger:
    """The adapter that the gateway uses."""
    if store.startswith(("redis", "unix")):
        shared = RedisLedger(store, prefix=f"{{{prefix}}}", timeout=timedelta(seconds=20))
        stack.push_async_callback(shared.close)
        return shared
    database = Database(store, schema="gateway", migrations=MIGRATIONS)
    await database.migrate()
    stack.push_async_callback(database.close)
    alone = AloneLedger(SqlGrants(database))
    stack.push_async_callback(alone.close)
    return alone


async def spend(plan: Plan, place: int, bill: int) -> dict[str, Any]:
    """One gateway: its callers ask until the budget is used up."""
    chance = random.Random(plan.seed * 100 + place)  # noqa: S311  no secret
    bounds = bounds_of(plan.hard, plan.prefix)
    times: list[float] = []
    made = refused = 0
    async with AsyncExitStack() as stack:
        ledger = await ledger_of(plan.store, plan.prefix, stack)

        async def caller(number: int) -> None:
            nonlocal made, refused
            turn = 0
            while True:
                turn += 1
                call_id = f"{plan.prefix}-{place}-{number}-{turn}"
                most = chance.randint(MOST // 10, MOST)
                cost = Cost(micros=most, tokens=most)
                began = time.perf_counter()
                decision = await ledger.reserve(call_id, bounds, cost)
                took = time.perf_counter() - began
                if decision.refusal is not None:
                    refused += 1
                    if decision.refusal.wait > timedelta(seconds=1) or most <= MOST // 5:
                        return
                    await asyncio.sleep(chance.uniform(0.05, 0.2))
                    continue
                actual = chance.randint(most // 5, most)
                os.write(bill, actual.to_bytes(RECORD, "big"))  # one write is whole, whatever happens to this process
                await asyncio.sleep(chance.uniform(0.005, 0.05))
                began = time.perf_counter()
                await ledger.settle(call_id, bounds, Cost(micros=actual, tokens=actual))
                times.append(took + time.perf_counter() - began)
                made += 1

        await asyncio.gather(*(caller(number) for number in range(plan.concurrent // plan.processes)))
    return {"made": made, "refused": refused, "times": times}


def process(plan: Plan, place: int, file: str, answers: Any) -> None:
    """A gateway's process."""
    configure(service="bench", level="error")
    bill = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    answers.put((place, asyncio.run(spend(plan, place, bill))))


def overspend(plan: Plan, folder: Path) -> dict[str, object]:
    """Runs the gateways, kills the first, and holds what was billed against the budget."""
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    bills = [folder / f"{plan.prefix}-{place}" for place in range(plan.processes)]
    began = time.perf_counter()
    running = [
        context.Process(target=process, args=(plan, place, str(bill), answers)) for place, bill in enumerate(bills)
    ]
    for each in running:
        each.start()
    while plan.kill_after and billed(bills) < plan.hard * plan.kill_after:
        time.sleep(0.01)
        if not any(each.is_alive() for each in running):
            break
    killed = bool(plan.kill_after) and running[0].is_alive()
    at = billed(bills)
    if killed and running[0].pid is not None:
        os.kill(running[0].pid, signal.SIGKILL)
    found = [answers.get(timeout=600) for _ in range(plan.processes - killed)]
    for each in running:
        each.join(60)
    spent = billed(bills)
    times = [value for _, result in found for value in result["times"]]
    return {
        **{name: value for name, value in asdict(plan).items() if name not in ("store", "prefix", "seed")},
        "killed": killed,
        "killed_when_billed_share": round(at / plan.hard, 4) if killed else None,
        "calls": sum(result["made"] for _, result in found),
        "refusals": sum(result["refused"] for _, result in found),
        "billed_micros": spent,
        "overshoot_micros": max(0, spent - plan.hard),
        "used_share": round(spent / plan.hard, 4),
        "seconds": round(time.perf_counter() - began, 2),
        "reserve_and_settle_under_this_load": spread(times),
    }


def billed(bills: Sequence[Path]) -> int:
    """What the backend wrote down."""
    total = 0
    for bill in bills:
        raw = bill.read_bytes() if bill.exists() else b""
        total += sum(int.from_bytes(raw[at : at + RECORD], "big") for at in range(0, len(raw), RECORD))
    return total


async def quiet(store: str, prefix: str, *, calls: int) -> list[float]:
    """One call after the other."""
    bounds, times = bounds_of(2**44, prefix), []
    async with AsyncExitStack() as stack:
        ledger = await ledger_of(store, prefix, stack)
        for number in range(calls + 50):
            began = time.perf_counter()
            await ledger.reserve(f"{prefix}-{number}", bounds, Cost(micros=5_000, tokens=500))
            await ledger.settle(f"{prefix}-{number}", bounds, Cost(micros=3_000, tokens=300))
            times.append(time.perf_counter() - began)
    return times[50:]


async def steady(store: str, prefix: str, *, rate: float, seconds: float, seed: int) -> list[float]:
    """Calls that come by chance at a rate, whatever became of those before."""
    bounds, times, chance = bounds_of(2**44, prefix), [], random.Random(seed)  # noqa: S311  no secret
    async with AsyncExitStack() as stack:
        ledger = await ledger_of(store, prefix, stack)

        async def call(number: int, due: float) -> None:
            began = time.perf_counter()
            await ledger.reserve(f"{prefix}-{seed}-{number}", bounds, Cost(micros=5_000, tokens=500))
            took = time.perf_counter() - began
            await asyncio.sleep(0.01)
            began = time.perf_counter()
            await ledger.settle(f"{prefix}-{seed}-{number}", bounds, Cost(micros=3_000, tokens=300))
            if due > 1.0:  # the first second warms up
                times.append(took + time.perf_counter() - began)

        start, due, number = time.perf_counter(), 0.0, 0
        async with asyncio.TaskGroup() as group:
            while due < seconds + 1:
                due += chance.expovariate(rate)
                number += 1
                await asyncio.sleep(max(0.0, start + due - time.perf_counter()))
                group.create_task(call(number, due))
    return times


def steadily(store: str, prefix: str, *, rate: float, seconds: float, seed: int, start: Any, answers: Any) -> None:
    """A gateway's process."""
    configure(service="bench", level="error")
    start.wait(120)  # nobody measures while others still load their modules
    answers.put(asyncio.run(steady(store, prefix, rate=rate, seconds=seconds, seed=seed)))


def under_rate(store: str, prefix: str, *, processes: int, rate: float, seconds: float) -> dict[str, object]:
    """All processes at once, `rate` calls a second in all."""
    context = multiprocessing.get_context("spawn")
    answers, start = context.Queue(), context.Barrier(processes)
    running = [
        context.Process(
            target=steadily,
            args=(store, prefix),
            kwargs={"rate": rate / processes, "seconds": seconds, "seed": seed, "start": start, "answers": answers},
        )
        for seed in range(processes)
    ]
    for each in running:
        each.start()
    times = [value for _ in running for value in answers.get(timeout=600)]
    for each in running:
        each.join(60)
    return {"calls_a_second": rate, "processes": processes, **spread(times)}


def spread(times: Sequence[float]) -> dict[str, object]:
    """In milliseconds."""
    if len(times) < 2:  # noqa: PLR2004  quantiles need two
        return {"n": len(times)}
    cuts = statistics.quantiles(sorted(times), n=1_000)
    return {
        "n": len(times),
        "p50_ms": round(cuts[499] * 1_000, 3),
        "p95_ms": round(cuts[949] * 1_000, 3),
        "p99_ms": round(cuts[989] * 1_000, 3),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--redis", default="", help="url of a Redis; empty: one is started")
    parser.add_argument("--calls", type=int, default=1_000, help="at the same time, by all gateways together")
    parser.add_argument("--gateways", type=int, default=4)
    parser.add_argument("--hard", type=int, default=50_000_000, help="the budget, in millionths of a dollar")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--rate", type=float, default=200.0, help="calls a second of the steady part, in all")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--only", choices=("latency", "budget"), default="", help="one part of it")
    parser.add_argument("--durable", action="store_true", help="Redis writes to disk before it answers")
    options = parser.parse_args(arguments)
    configure(service="bench", level="error")
    result: dict[str, object] = {
        "what": "budgets",
        "load_average": round(os.getloadavg()[0], 2),
        "cores": os.cpu_count(),
    }
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ab-bench-")))
        redis = options.redis
        if not redis:
            server = RedisServer(folder / "redis", durable=options.durable)
            redis = stack.enter_context(server).url
        result["redis_durable"] = options.durable
        for name, store in (("redis", redis), ("alone", f"sqlite:///{folder / 'gateway.db'}")):
            runs = [
                overspend(
                    Plan(
                        store=store,
                        hard=options.hard,
                        processes=options.gateways,
                        concurrent=options.calls,
                        kill_after=0.5,
                        prefix=f"{name}-run{run}-{os.getpid()}",
                        seed=run,
                    ),
                    folder,
                )
                for run in range(0 if options.only == "latency" else options.runs)
            ]
            found: dict[str, object] = {}
            if runs:
                found["overshoot_micros"] = max(run["overshoot_micros"] for run in runs)  # type: ignore[type-var]  # numbers, among others
                found["used_share_min"] = min(run["used_share"] for run in runs)  # type: ignore[type-var]  # as above
                found["runs"] = runs
            if options.only != "budget":
                found["quiet"] = spread(asyncio.run(quiet(store, f"{name}-quiet-{os.getpid()}", calls=2_000)))
                found["steady"] = under_rate(
                    store,
                    f"{name}-steady-{os.getpid()}",
                    processes=options.gateways if name == "redis" else 1,
                    rate=options.rate,
                    seconds=options.seconds,
                )
            result[name] = found
    json.dump(result, sys.stdout, indent=1)
    sys.stdout.write("\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
