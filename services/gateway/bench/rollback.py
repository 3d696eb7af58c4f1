"""How long until every gateway answers with the old variant again: `python services/gateway/bench/rollback.py`.

The registry and several gateways as processes on a real broker, stand-ins behind the gateways. Each way back is timed
from before the registry's Rollback is called until the last of the gateways, each asked every 10 ms, has answered with
the variant before: the registry's transaction, its outbox, the broker, and the gateways' reading of it are all in.
One JSON object is printed. With `--kafka host:port` a broker that is there already is used, else one is started.
"""

# ruff: noqa: INP001  a program, not part of a package
from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

from anabranch.registry.v1 import registry_service_pb2 as pb
from anabranch_gateway.testing.processes import READY_WITHIN, SCOPE, replicas
from anabranch_gateway.testing.registry import CALL, WHO, give, registry, variant
from anabranch_local.kafka import KafkaServer
from anabranch_local.provisioning import provision
from anabranch_observability import configure


async def measure(kafka: str, data: Path, *, gateways: int, changes: int) -> dict[str, object]:
    """Rolls back, time and again."""
    back: list[float] = []
    answered: list[float] = []
    async with registry(kafka, data / "registry") as stub, replicas(kafka, data, number=gateways) as several:
        old, new = [await variant(stub, top_k) for top_k in (4, 5)]
        revision = await give(stub, SCOPE, old, revision=0)
        for _ in range(changes):
            revision = await give(stub, SCOPE, new, revision=revision)
            await several.follow(nothing, new, within=READY_WITHIN)

            async def roll_back() -> None:
                began = time.perf_counter()
                await stub.Rollback(pb.RollbackRequest(scope=SCOPE, **WHO), timeout=CALL)
                answered.append((time.perf_counter() - began) * 1_000)

            back.append(max(await several.follow(roll_back, old)) * 1_000)
            revision += 1
    return {
        "what": "rollback_from_the_command_to_the_last_gateway",
        "gateways": gateways,
        "changes": changes,
        "load_average": round(os.getloadavg()[0], 2),
        **spread(back),
        "command": spread(answered),
    }


async def nothing() -> None:
    """The change was made already."""


def spread(milliseconds: list[float]) -> dict[str, float]:
    """Median, 99th percentile and the most."""
    return {
        "p50_ms": round(statistics.median(milliseconds), 1),
        "p99_ms": round(statistics.quantiles(milliseconds, n=100, method="inclusive")[98], 1),
        "max_ms": round(max(milliseconds), 1),
    }


async def run(kafka: str, *, own: bool, gateways: int, changes: int) -> None:
    """Provisions a broker of our own, and prints what was measured."""
    if own:
        await provision(kafka)
    with tempfile.TemporaryDirectory() as data:
        async with asyncio.timeout(timedelta(minutes=10).total_seconds()):
            found = await measure(kafka, Path(data), gateways=gateways, changes=changes)
    sys.stdout.write(json.dumps(found) + "\n")


def main() -> None:
    """Starts what is needed, measures, and ends it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kafka", default="", help="host:port; empty: one of its own")
    parser.add_argument("--gateways", type=int, default=3)
    parser.add_argument("--changes", type=int, default=50)
    arguments = parser.parse_args()
    configure(service="rollback", level="error")
    with ExitStack() as stack:
        kafka = arguments.kafka
        if not kafka:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            kafka = stack.enter_context(KafkaServer(Path(folder))).bootstrap
        asyncio.run(run(kafka, own=not arguments.kafka, gateways=arguments.gateways, changes=max(arguments.changes, 2)))


if __name__ == "__main__":
    main()
