"""Verdicts in SQL; what is stored leaves through the outbox."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from sqlalchemy import select
from sqlalchemy.dialects import postgresql, sqlite

from anabranch_evaluation.adapters.tables import GATES
from anabranch_evaluation.domain.gates import Check, Gate
from anabranch_store import Database, Encoded, Outbox


class SqlGates:
    """As the port says. `encode` makes the event that tells a verdict."""

    def __init__(self, database: Database, *, encode: Callable[[Gate], Encoded]) -> None:
        """Takes a database that is migrated before the first call."""
        self._database = database
        self._encode = encode

    async def decided(self, gate_id: str) -> Gate | None:
        """As in the port."""
        async with self._database.reading() as tx:
            row = (await tx.execute(select(GATES).where(GATES.c.gate_id == gate_id))).first()
        if row is None:
            return None
        kept: dict[str, Any] = json.loads(row.verdict)
        kept["checks"] = tuple(Check(**check) for check in kept["checks"])
        return Gate(**kept, decided_at=row.decided_at)

    async def decide(self, gate: Gate) -> Gate:
        """As in the port."""
        kept = asdict(gate)
        del kept["decided_at"]
        row = {
            "gate_id": gate.gate_id,
            "candidate_id": gate.candidate_id,
            "passed": gate.passed,
            "verdict": json.dumps(kept),
            "decided_at": gate.decided_at,
        }
        async with self._database.transaction() as tx:
            add: Any = postgresql.insert if self._database.dialect == "postgresql" else sqlite.insert
            statement = add(GATES).values(row).on_conflict_do_nothing().returning(GATES.c.gate_id)
            if (await tx.execute(statement)).first() is not None:
                await Outbox.add(tx, self._encode(gate))
                return gate
        return await self.decided(gate.gate_id) or gate
