from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from uuid import uuid4

import pytest

from anabranch_store import Database

FIRST = """
import sqlalchemy as sa
from alembic import op
from anabranch_store import UtcDateTime, inbox_table, outbox_table

revision = "0001"
down_revision = None


def upgrade() -> None:
    metadata = sa.MetaData()
    inbox_table(metadata)
    outbox_table(metadata)
    sa.Table("account", metadata, sa.Column("name", sa.String(50), primary_key=True), sa.Column("sum", sa.Integer))
    sa.Table(
        "entry",
        metadata,
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("account", sa.String(50), sa.ForeignKey("account.name")),
        sa.Column("at", UtcDateTime()),
    )
    metadata.create_all(op.get_bind())
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A package of migrations with one revision."""
    name = f"migrations_{uuid4().hex}"
    folder = tmp_path / "packages" / name
    folder.mkdir(parents=True)
    (folder / "__init__.py").touch()
    (folder / "r0001_first.py").write_text(FIRST)
    monkeypatch.syspath_prepend(str(folder.parent))
    return name


@pytest.fixture
def add_revision(package: str, tmp_path: Path) -> Callable[[str, str], Path]:
    """Adds a revision after the one named, with this body of `upgrade`."""

    def add(after: str, body: str) -> Path:
        revision = f"{int(after) + 1:04}"
        path = tmp_path / "packages" / package / f"r{revision}_next.py"
        path.write_text(
            "import sqlalchemy as sa\nfrom alembic import op\n"
            f"revision = {revision!r}\ndown_revision = {after!r}\n\n\ndef upgrade() -> None:\n    {body}\n"
        )
        return path

    return add


@pytest.fixture
async def replica(database_url: str, package: str) -> AsyncIterator[Callable[..., Awaitable[Database]]]:
    """Opens one more Database of the same service; each stands for a process."""
    async with AsyncExitStack() as stack:

        async def opened(*, schema: str = "things", migrated: bool = True) -> Database:
            database = Database(database_url, schema=schema, migrations=package)
            stack.push_async_callback(database.close)
            if migrated:
                await database.migrate()
            return database

        yield opened


@pytest.fixture
async def database(replica: Callable[..., Awaitable[Database]]) -> Database:
    return await replica()
