from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from anabranch_gateway.testing import Gateway, running


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Gateway]:
    """A gateway that is ready, whose tenant has the corpus `handbook`."""
    async with running(tmp_path) as one:
        yield one
