"""Keeps texts that would harm whoever is answered from them out of the index."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from anabranch_faults import Fault, Transient, Unreachable
from anabranch_ingestion.application.ports import Finding, Guards, Log
from anabranch_ingestion.domain.chunking import Chunk
from anabranch_ingestion.domain.documents import Change, Parsed
from anabranch_ingestion.domain.refusals import Reason, Refused

# Of one request: what is found first ends the look at a long document.
_TEXTS: Final = 64
_CHARACTERS: Final = 128 * 1024
_AT_ONCE: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckDocuments:
    """Has the title and every chunk of a document looked at.

    While guardrails are away documents wait; with `open` they are taken unchecked, which the log counts.
    """

    guards: Guards
    log: Log
    open: bool = False
    _turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_AT_ONCE))

    async def __call__(self, change: Change, parsed: Parsed) -> None:
        """Returns when it may be indexed. Raises Refused (QUARANTINED), and Unreachable while that cannot be said."""
        places = [(parsed.title, "its title"), *((one.text, _where(one)) for one in parsed.chunks)]
        async with self._turns:
            for part in _parts([place for place in places if place[0].strip()]):
                finding = await self._find(change, [text for text, _ in part])
                if finding is None:
                    continue
                if not finding.blocked:
                    self.log.flagged(change, finding)
                    continue
                problem = f"the check {finding.check!r} holds {part[finding.place][1]} to be harmful: {finding.reason}"
                raise Refused(Reason.QUARANTINED, f"{problem[:800]}; take it out, or have the policy allow it")

    async def _find(self, change: Change, texts: Sequence[str]) -> Finding | None:
        try:
            return await self.guards.look(change.key, texts, event_id=change.event_id)
        except Fault as fault:
            self.log.unchecked(change, fault, taken=self.open)
            if self.open:
                return None
            if isinstance(fault, Transient):
                raise
            raise Unreachable("guardrails are away") from fault


def _where(chunk: Chunk) -> str:
    page = f"page {chunk.page}, " if chunk.page else ""
    return f"the passage at {page}line {chunk.line} (characters {chunk.start} to {chunk.end})"


def _parts(places: Sequence[tuple[str, str]]) -> Iterator[list[tuple[str, str]]]:
    part: list[tuple[str, str]] = []
    size = 0
    for place in places:
        if part and (len(part) == _TEXTS or size + len(place[0]) > _CHARACTERS):
            yield part
            part, size = [], 0
        part.append(place)
        size += len(place[0])
    if part:
        yield part
