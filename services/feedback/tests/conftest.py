"""The service on a bus and a database in this process."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from anabranch.feedback.v1.feedback_service_pb2_grpc import FeedbackServiceStub
from anabranch_bus import MemoryBus
from anabranch_feedback.bootstrap import build
from anabranch_feedback.settings import Settings
from anabranch_feedback.testing import Running
from anabranch_rpc import connect
from anabranch_runtime import Process
from anabranch_testkit import poll_until


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Any]:
    closing = []

    async def begin(**options: Any) -> Running:
        shares = ("random", "thumb_down", "abstained", "low_score", "disagreement")
        options = {**{f"review_{share}": 0 for share in shares}, "sweep": "100ms", **options}
        settings, bus = Settings(data=tmp_path, **options), MemoryBus()
        process = Process(settings, name="feedback")
        running = Running(stub=None, bus=bus, poll=poll_until)
        await process.start(build(settings, bus=bus, clock=running.now))
        channel = connect(process.addresses["rpc"])
        running.stub = FeedbackServiceStub(channel)
        closing.append((channel, process))
        return running

    yield begin
    for channel, process in closing:
        await channel.close()
        await process.stop()


@pytest.fixture
async def running(start: Any) -> Running:
    return await start()  # type: ignore[no-any-return]  # the fixture gives a function
