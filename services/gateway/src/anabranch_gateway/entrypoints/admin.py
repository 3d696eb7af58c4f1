"""`python -m anabranch_gateway key create|list|revoke`: keys on the command line."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any

from anabranch_faults import Fault
from anabranch_gateway.application.admin import AdministerKeys
from anabranch_gateway.application.ports import Keys
from anabranch_gateway.domain.keys import Key


def parse(argv: Sequence[str], *, tenant: str) -> argparse.Namespace:
    """What is wanted; `tenant` is meant when none is named. Exits with 2 on wrong usage."""
    parser = argparse.ArgumentParser(prog="python -m anabranch_gateway key", description="Keys of the public API.")
    commands = parser.add_subparsers(dest="command", required=True)
    create = commands.add_parser("create", help="make a key; it is printed once and never again")
    create.add_argument("--tenant", default=tenant)
    create.add_argument("--label", action="append", help="ACL label the key may claim; repeat; `*` is any (default)")
    create.add_argument("--note", default="", help="whom it is for")
    shown = commands.add_parser("list", help="show a tenant's keys, without the keys themselves")
    shown.add_argument("--tenant", default=tenant)
    revoke = commands.add_parser("revoke", help="end a key")
    revoke.add_argument("key_id")
    return parser.parse_args(argv)


async def run(wanted: argparse.Namespace, keys: Keys) -> int:
    """Does it; prints one JSON object a line. Returns the exit code."""
    administer = AdministerKeys(keys)
    try:
        if wanted.command == "create":
            made = await administer.create(wanted.tenant, labels=wanted.label or ["*"], note=wanted.note)
            _print({**_shown(made.key), "key": made.secret})
        elif wanted.command == "revoke":
            await administer.revoke(wanted.key_id)
            _print({"key_id": wanted.key_id, "revoked": True})
        else:
            for key in await keys.of_tenant(wanted.tenant):
                _print(_shown(key))
    except Fault as fault:
        sys.stderr.write(f"{fault}\n")
        return 1
    return 0


def _shown(key: Key) -> dict[str, Any]:
    return {
        "key_id": key.key_id,
        "tenant": key.tenant,
        "labels": sorted(key.labels),
        "note": key.note,
        "created_at": key.created_at.isoformat(),
        "revoked_at": key.revoked_at.isoformat() if key.revoked_at else None,
    }


def _print(line: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(line, ensure_ascii=False) + "\n")
