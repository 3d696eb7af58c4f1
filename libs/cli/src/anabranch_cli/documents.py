"""`anabranch put` and `anabranch delete`: changes to Kafka, and what became of them from the status topic."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import click

from anabranch import topics
from anabranch.ingestion.v1 import events_pb2 as ingestion
from anabranch.upstream.v1.events_pb2 import DocumentChanged
from anabranch_bus import Event, KafkaClient, Record
from anabranch_cli.connection import Platform, data_option, platform
from anabranch_cli.output import DONE, FAILED, console, emit, json_option, note, progress
from anabranch_cli.sources import Refused, sources
from anabranch_faults import Invalid

Status = ingestion.DocumentStatusChanged

SOURCE: Final = "anabranch-cli"
SHOWN: Final = 10
"""Rejections shown to people; --json has all."""


@dataclass(slots=True, kw_only=True)
class Tally:
    """What became of the documents sent. `waiting` maps event ids to document ids."""

    waiting: dict[str, str] = field(default_factory=dict)
    states: Counter[str] = field(default_factory=Counter)
    rejected: list[Refused] = field(default_factory=list)
    sent: int = 0

    def hear(self, status: Status) -> bool:
        """Takes a status into account; True when it settles one of the documents."""
        if status.state == ingestion.DOCUMENT_STATE_ACCEPTED or status.caused_by not in self.waiting:
            return False
        document_id = self.waiting.pop(status.caused_by)
        state = ingestion.DocumentState.Name(status.state).removeprefix("DOCUMENT_STATE_").lower()
        self.states[state] += 1
        if status.state == ingestion.DOCUMENT_STATE_REJECTED:
            self.rejected.append(Refused(document_id=document_id, reason=reason_of(status.rejection)))
        return True


def reason_of(rejection: ingestion.Rejection) -> str:
    """`NO_TEXT: a sentence`."""
    name = ingestion.RejectionReason.Name(rejection.reason).removeprefix("REJECTION_REASON_")
    return f"{name}: {rejection.detail}"


@click.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--corpus", required=True, help="Corpus to put them into.")
@click.option("--wait", is_flag=True, help="Wait until each is queryable, unchanged or rejected.")
@click.option("--timeout", default=120.0, show_default=True, help="With --wait: seconds without any news to give up.")
@data_option
@json_option
def put(*, paths: tuple[Path, ...], corpus: str, wait: bool, timeout: float, data: Path | None, as_json: bool) -> int:
    """Put files, folders or a JSONL corpus ({_id, title, text}) into CORPUS, through Kafka."""
    where = platform(data)
    documents = sources(paths)

    def changes(tally: Tally) -> Iterator[Event[DocumentChanged]]:
        for document in documents:
            try:
                message = document.message(tenant=where.tenant, corpus=corpus)
            except Invalid as fault:
                tally.rejected.append(Refused(document_id=document.document_id, reason=f"NOT_SENT: {fault}"))
                continue
            yield change(where, message)

    started = time.monotonic()
    tally = asyncio.run(send(where, changes, len(documents), wait=wait, patience=timeout, quiet=as_json))
    report = {
        "queryable": tally.states["queryable"],
        "unchanged": tally.states["unchanged"],
        "rejected": [{"document_id": each.document_id, "reason": each.reason} for each in tally.rejected],
        "seconds": round(time.monotonic() - started, 2),
        "sent": tally.sent,
        "superseded": tally.states["superseded"],
        "waiting": len(tally.waiting) if wait else 0,
    }
    emit(report, as_json=as_json, human=lambda: show_put(report, waited=wait))
    return FAILED if tally.rejected or (wait and tally.waiting) else DONE


def show_put(report: dict[str, Any], *, waited: bool) -> None:
    """The counts, and the first rejections."""
    if waited:
        counts = ", ".join(
            f"{report[name]} {name}" for name in ("queryable", "unchanged", "superseded") if report[name]
        )
        refused = f"{len(report['rejected'])} rejected"
        console.print(f"  {counts or 'nothing queryable'}, {refused}, in {report['seconds']} s")
    else:
        console.print(f"  {report['sent']} sent in {report['seconds']} s; the status topic tells what becomes of them")
    for each in report["rejected"][:SHOWN]:
        console.print(f"  rejected {each['document_id']}: {each['reason']}", style="red", markup=False)
    if len(report["rejected"]) > SHOWN:
        console.print(f"  and {len(report['rejected']) - SHOWN} more: see --json")


@click.command()
@click.argument("document_ids", nargs=-1, required=True, metavar="DOC_ID...")
@click.option("--corpus", required=True, help="Corpus they are in.")
@click.option("--no-wait", is_flag=True, help="Return once the broker has the deletions.")
@click.option("--timeout", default=60.0, show_default=True, help="Seconds without any news to give up.")
@data_option
@json_option
def delete(
    *, document_ids: tuple[str, ...], corpus: str, no_wait: bool, timeout: float, data: Path | None, as_json: bool
) -> int:
    """Remove documents from CORPUS, and wait until readers no longer see them."""
    where = platform(data)
    wanted = list(dict.fromkeys(document_ids))

    def changes(_: Tally) -> Iterator[Event[DocumentChanged]]:
        for document_id in wanted:
            message = DocumentChanged(tenant=where.tenant, corpus=corpus, document_id=document_id, deleted=True)
            yield change(where, message)

    tally = asyncio.run(send(where, changes, len(wanted), wait=not no_wait, patience=timeout, quiet=as_json))
    report = {
        "deleted": tally.states["deleted"],
        "unchanged": tally.states["unchanged"],
        "rejected": [{"document_id": each.document_id, "reason": each.reason} for each in tally.rejected],
        "sent": tally.sent,
    }

    def human() -> None:
        console.print(f"  {report['deleted']} deleted, {report['unchanged']} were not there")
        for each in tally.rejected:
            console.print(f"  rejected {each.document_id}: {each.reason}", style="red", markup=False)

    emit(report, as_json=as_json, human=human)
    return FAILED if tally.rejected or (not no_wait and tally.waiting) else DONE


def change(where: Platform, message: DocumentChanged) -> Event[DocumentChanged]:
    """The event that carries a change."""
    key = f"{where.tenant}/{message.corpus}/{message.document_id}"
    return Event(topic=topics.UPSTREAM_DOCUMENT_CHANGED, message=message, key=key, headers={"ce_source": SOURCE})


async def send(
    where: Platform,
    changes: Callable[[Tally], Iterator[Event[DocumentChanged]]],
    count: int,
    *,
    wait: bool,
    patience: float,
    quiet: bool,
) -> Tally:
    """Produces the changes and, with `wait`, listens until each has its fate or nothing was heard for `patience`.

    Raises Unreachable when the broker is away.
    """
    tally = Tally()
    async with KafkaClient(where.kafka, client_id=SOURCE) as client:
        with progress("documents", count, quiet=quiet) as advance:

            def counted() -> Iterator[Event[DocumentChanged]]:
                for event in changes(tally):
                    tally.waiting[event.event_id] = event.message.document_id
                    yield event

            if not wait:
                tally.sent = await client.produce(counted(), progress=lambda done: advance(done - tally.sent))
                return tally
            async with client.follow(topics.INGESTION_DOCUMENT_STATUS) as statuses:
                news = asyncio.Event()
                listening = asyncio.create_task(listen(statuses, tally, advance, news))
                try:
                    tally.sent = await client.produce(counted())
                    await settled(tally, listening, news, patience)
                finally:
                    listening.cancel()
                    await asyncio.wait([listening])
    return tally


async def listen(
    statuses: AsyncIterator[Record[Status]], tally: Tally, advance: Callable[[int], None], news: asyncio.Event
) -> None:
    """Hears statuses, and rings for each that is about one of the documents."""
    async for record in statuses:
        about_ours = record.message.caused_by in tally.waiting
        if tally.hear(record.message):
            advance(1)
        if about_ours:
            news.set()


async def settled(tally: Tally, listening: asyncio.Task[None], news: asyncio.Event, patience: float) -> None:
    """Returns when nothing is waited for, or nothing was heard for `patience` seconds.

    Raises what ended the listener.
    """
    while tally.waiting:
        news.clear()
        ringing = asyncio.create_task(news.wait())
        done, _ = await asyncio.wait([ringing, listening], timeout=patience, return_when=asyncio.FIRST_COMPLETED)
        ringing.cancel()
        if listening in done:
            listening.result()
        if not done:
            note(f"no news for {patience:.0f} s; still waiting for {len(tally.waiting)}: see `anabranch dlq ls`")
            return
