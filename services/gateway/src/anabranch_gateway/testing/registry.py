"""The registry as a process of its own, and the calls that move a scope."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from anabranch.registry.v1 import registry_service_pb2 as pb
from anabranch.registry.v1.registry_service_pb2_grpc import RegistryServiceStub
from anabranch_gateway.testing.processes import READY_WITHIN
from anabranch_rpc import connect

WHO: Final[dict[str, Any]] = {"author": "test", "reason": "to see what follows"}
CALL: Final = 10.0  # seconds


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
        async with asyncio.timeout(READY_WITHIN.total_seconds()):
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


async def variant(stub: Any, top_k: int) -> str:
    """A variant of that many passages; its id."""
    asked = pb.CreateVariantRequest(**WHO)
    asked.variant.retrieval.alpha, asked.variant.retrieval.top_k = 0.5, top_k
    asked.variant.generation.backend, asked.variant.generation.max_tokens = "extractive", 200
    asked.variant.generation.max_sentences = 2
    made: str = (await stub.CreateVariant(asked, timeout=CALL)).variant.variant_id
    return made


async def give(stub: Any, scope: str, variant_id: str, *, revision: int) -> int:
    """Routes the scope to a variant; the routing's revision."""
    asked = pb.SetRoutingRequest(scope=scope, weights={variant_id: 1}, expected_revision=revision, **WHO)
    set_to: int = (await stub.SetRouting(asked, timeout=CALL)).routing.revision
    return set_to
