from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from anabranch_gateway.testing import Downstream, Gateway, running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def _shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    async with running(tmp_path_factory.mktemp("gateway")) as one:
        yield one


@pytest.fixture
def gateway(_shared: Gateway) -> Gateway:
    """A gateway that is ready, whose tenant has the corpus `handbook`; one a module, as new for each test."""
    _shared.renew()
    return _shared


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def _watched(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    async with Downstream() as downstream:
        data = tmp_path_factory.mktemp("guarded")
        async with running(data, downstream=downstream, guardrails=downstream.address) as one:
            yield one


@pytest.fixture
def guarded(_watched: Gateway) -> Gateway:
    """As `gateway`, with guardrails behind it."""
    _watched.renew()
    return _watched


@pytest_asyncio.fixture(loop_scope="module")
async def own(tmp_path: Path) -> AsyncIterator[Gateway]:
    """The same for this test alone: for those that change its routing, or count its records."""
    async with running(tmp_path) as one:
        yield one
