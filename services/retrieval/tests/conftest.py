"""The use cases on a real SQLite catalogue, with an index and an embedder in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from anabranch_retrieval.adapters.announcements import encoded
from anabranch_retrieval.adapters.catalogue import MIGRATIONS, SCHEMA, SqlCatalogue
from anabranch_retrieval.testing import HashEmbedder, MemoryIndex, World, model
from anabranch_store import Database

ONE, TWO = model("hash-one"), model("hash-two", dimension=32)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    database = Database(f"sqlite:///{tmp_path / 'r.db'}", schema=SCHEMA, migrations=MIGRATIONS)
    await database.migrate()
    catalogue = SqlCatalogue(database, encoded, retired_grace=timedelta(0))
    yield World(database, catalogue, MemoryIndex(), HashEmbedder([ONE, TWO], aliases={"two": "hash-two"}))
    await catalogue.close()
    await database.close()
