"""The service on a bus in memory, with its neighbours on a real gRPC server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from anabranch.evaluation.v1.evaluation_service_pb2_grpc import EvaluationServiceStub
from anabranch_bus import MemoryBus
from anabranch_evaluation.bootstrap import build
from anabranch_evaluation.settings import Settings
from anabranch_evaluation.testing.neighbours import Neighbours, variant
from anabranch_evaluation.testing.running import QUESTIONS, Running
from anabranch_rpc import connect
from anabranch_runtime import Process
from anabranch_testkit import poll_until


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Running]:
    async with Neighbours() as world:
        world.variants = {
            "v-base": variant("v-base"),
            "v-good": variant("v-good", "rr-good"),
            "v-bad": variant("v-bad", "rr-bad"),
            "v-gone": variant("v-gone", "rr-gone"),
        }
        world.refuses = {"rr-gone"}
        for n in range(QUESTIONS):
            right, wrong = f"d{n}", [f"x{n}-{place}" for place in range(4)]
            # The base has every third answer first and the others second; good has all first, bad all third.
            base = [right, *wrong] if n % 3 == 0 else [wrong[0], right, *wrong[1:]]
            world.ranked |= {
                ("", f"question {n}"): base,
                ("rr-good", f"question {n}"): [right, *wrong],
                ("rr-bad", f"question {n}"): [*wrong[:2], right, *wrong[2:]],
            }
        settings = Settings(
            data=tmp_path,
            retrieval=world.address,
            generation=world.address,
            registry=world.address,
            look_every=timedelta(milliseconds=50),
        )
        bus, process = MemoryBus(), Process(settings, name="evaluation")
        await process.start(build(settings, bus=bus))
        channel = connect(process.addresses["rpc"])
        yield Running(stub=EvaluationServiceStub(channel), bus=bus, world=world, poll=poll_until)
        await channel.close()
        await process.stop()
