"""Buses for the tests of this library."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from anabranch_bus.testing import InMemory, OnKafka, create, names_for


@pytest.fixture(params=["memory", pytest.param("kafka", marks=pytest.mark.connected)])
async def stage(
    request: pytest.FixtureRequest, unique: Callable[[str], str], tmp_path: Path
) -> AsyncIterator[InMemory | OnKafka]:
    """A bus of each kind, with topics of its own."""
    names = names_for(unique)
    if request.param == "memory":
        yield InMemory(names)
        return
    bootstrap: str = request.getfixturevalue("kafka")
    await create(bootstrap, names)
    on_kafka = OnKafka(bootstrap, names, tmp_path)
    yield on_kafka
    await on_kafka.bus.stop()
