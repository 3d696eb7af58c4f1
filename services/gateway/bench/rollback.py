"""How long until every gateway answers with the old variant again: `python services/gateway/bench/rollback.py`.

Several gateways as processes on a real broker, stand-ins behind them. Each change is timed from before it is published
until the last of the gateways, asked without a pause, has answered with the variant it names. One JSON object is
printed. With `--kafka host:port` a broker that is there already is used, else one is started.
"""

# ruff: noqa: INP001  a program, not part of a package
from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

from anabranch_bus import BusSettings, KafkaBus
from anabranch_gateway.testing.processes import replicas
from anabranch_local.kafka import KafkaServer
from anabranch_local.provisioning import provision
from anabranch_observability import configure


async def measure(kafka: str, data: Path, *, gateways: int, changes: int) -> dict[str, object]:
    """Rolls back and forth, and counts the way back."""
    bus = KafkaBus(BusSettings(bootstrap=kafka))
    back: list[float] = []
    try:
        async with replicas(kafka, bus, data, number=gateways) as several:
            for _ in range(changes):
                await several.move("v-new")
                back.append(max(await several.move("v-old")) * 1_000)
    finally:
        await bus.stop()
    return {
        "what": "rollback_to_last_gateway",
        "gateways": gateways,
        "changes": changes,
        "p50_ms": round(statistics.median(back), 1),
        "p99_ms": round(statistics.quantiles(back, n=100, method="inclusive")[98], 1),
        "max_ms": round(max(back), 1),
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
    parser = argparse.ArgumentParser(description=__doc__)
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
