"""How fast the outbox is: `python libs/store/tests/bench_outbox.py [DATABASE_URL]`, by default on SQLite."""

import asyncio
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

from anabranch_store import Database, Inbox, Outbox, OutboxRelay, Stored

MIGRATION = """
from alembic import op
from anabranch_store import inbox_table, outbox_table
from sqlalchemy import MetaData
revision, down_revision = "0001", None
def upgrade():
    metadata = MetaData()
    inbox_table(metadata)
    outbox_table(metadata)
    metadata.create_all(op.get_bind())
"""


def event(number: int) -> Stored:
    headers = tuple((name, b"x" * 36) for name in ("ce_id", "ce_type", "ce_source", "ce_time", "traceparent"))
    return Stored(topic="bench.event.written.v1", key=b"%d" % (number % 100), value=b"x" * 500, headers=headers)


async def main(folder: Path) -> None:
    package = folder / "bench_migrations"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "r0001_first.py").write_text(MIGRATION)
    sys.path.insert(0, str(folder))
    url = sys.argv[1] if len(sys.argv) > 1 else f"sqlite:///{folder}/bench.db"
    database = Database(url, schema="bench", migrations="bench_migrations")
    await database.migrate()
    left: asyncio.Queue[float] = asyncio.Queue()

    async def publish(events: Sequence[Any]) -> None:
        for _ in events:
            left.put_nowait(perf_counter())

    relay = OutboxRelay(database, publish)
    task = asyncio.create_task(relay.run())
    delays, writes = [], []
    for number in range(200):
        began = perf_counter()
        async with database.transaction() as tx:
            await Inbox.claim(tx, "bench", [f"idle-{number}"])
            await Outbox.add(tx, event(number))
        committed = perf_counter()
        writes.append(committed - began)
        delays.append(await left.get() - committed)
        await asyncio.sleep(0.005)
    task.cancel()
    delays.sort()
    writes.sort()
    sys.stdout.write(
        f"{database.dialect}: transaction (inbox + outbox) p50 {writes[100] * 1e3:.1f} ms; "
        f"commit to publish p50 {delays[100] * 1e3:.1f} ms, p95 {delays[190] * 1e3:.1f} ms\n"
    )
    for start in range(0, 10_000, 64):
        async with database.transaction() as tx:
            await Outbox.add(tx, *(event(number) for number in range(start, start + 64)))
    began = perf_counter()
    count = await relay.drain()
    sys.stdout.write(f"{database.dialect}: relay {count / (perf_counter() - began):.0f} events/s\n")
    await database.close()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        asyncio.run(main(Path(scratch)))
