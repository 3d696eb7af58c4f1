"""`python -m anabranch_gateway` runs the service; `python -m anabranch_gateway key ...` looks after keys."""

from __future__ import annotations

import asyncio
import sys
from argparse import Namespace

from anabranch_gateway.adapters.keys import SqlKeys
from anabranch_gateway.bootstrap import build, database_of
from anabranch_gateway.entrypoints import admin
from anabranch_gateway.settings import Settings, StoredSettings
from anabranch_observability import configure
from anabranch_runtime import WrongSettings, load, serve


async def _keys(wanted: Namespace, settings: StoredSettings) -> int:
    database = database_of(settings)
    try:
        await database.migrate()
        return await admin.run(wanted, SqlKeys(database))
    finally:
        await database.close()


def main() -> None:
    """Never returns."""
    if sys.argv[1:2] != ["key"]:
        serve(build, Settings)
    try:
        settings = load(StoredSettings)
    except WrongSettings as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(2) from None
    configure(service="gateway", level="warning", format=settings.log_format)
    wanted = admin.parse(sys.argv[2:], tenant=settings.tenant)
    raise SystemExit(asyncio.run(_keys(wanted, settings)))


if __name__ == "__main__":
    main()
