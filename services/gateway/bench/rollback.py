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
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from anabranch.registry.v1 import registry_service_pb2 as pb
from anabranch.registry.v1.registry_service_pb2_grpc import RegistryServiceStub
from anabranch_gateway.testing.processes import SCOPE, replicas
from anabranch_local.kafka import KafkaServer
from anabranch_local.provisioning import provision
from anabranch_observability import configure
from anabranch_rpc import connect

_WHO: dict[str, Any] = {"author": "bench", "reason": "to measure the way back"}
_START = timedelta(seconds=60)
_CALL = 10.0


@asynccontextmanager
async def registry(kafka: str, data: Path) -> AsyncIterator[Any]:
    """A registry of its own; gives its stub."""
    await asyncio.to_thread(data.mkdir)
    addresses = data / "addresses"
    settings = {"KAFKA": kafka, "DATA": str(data), "ADDRESS_FILE": str(addresses), "LISTEN": "127.0.0.1:0"}
    with (data / "log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "anabranch_registry",
            env={**os.environ, **{f"ANABRANCH_REGISTRY_{name}": value for name, value in settings.items()}},
            stderr=log,
            stdout=log,
        )
    try:
        async with asyncio.timeout(_START.total_seconds()):
            while not addresses.exists():
                if process.returncode is not None:
                    raise RuntimeError((data / "log").read_text(encoding="utf-8")[-3_000:])
                await asyncio.sleep(0.05)
        channel = connect(json.loads(addresses.read_text(encoding="utf-8"))["rpc"])
        yield RegistryServiceStub(channel)
        await channel.close()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def measure(kafka: str, data: Path, *, gateways: int, changes: int) -> dict[str, object]:
    """Rolls back, time and again."""
    back: list[float] = []
    answered: list[float] = []
    async with registry(kafka, data / "registry") as stub, replicas(kafka, data, number=gateways) as several:
        old, new = [await variant(stub, top_k) for top_k in (4, 5)]
        revision = await give(stub, old, revision=0)
        for _ in range(changes):
            revision = await give(stub, new, revision=revision)
            await several.follow(nothing, new, within=_START)

            async def roll_back() -> None:
                began = time.perf_counter()
                await stub.Rollback(pb.RollbackRequest(scope=SCOPE, **_WHO), timeout=_CALL)
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


async def variant(stub: Any, top_k: int) -> str:
    """A variant of that many passages; its id."""
    asked = pb.CreateVariantRequest(**_WHO)
    asked.variant.retrieval.alpha, asked.variant.retrieval.top_k = 0.5, top_k
    asked.variant.generation.backend, asked.variant.generation.max_tokens = "extractive", 200
    asked.variant.generation.max_sentences = 2
    made: str = (await stub.CreateVariant(asked, timeout=_CALL)).variant.variant_id
    return made


async def give(stub: Any, variant_id: str, *, revision: int) -> int:
    """Routes the scope to a variant; the routing's revision."""
    asked = pb.SetRoutingRequest(scope=SCOPE, weights={variant_id: 1}, expected_revision=revision, **_WHO)
    set_to: int = (await stub.SetRouting(asked, timeout=_CALL)).routing.revision
    return set_to


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
