"""`anabranch dlq ls|show|replay`: what could not be handled, why, and back again once that is mended."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click
from rich.table import Table

from anabranch_bus import Cause, KafkaClient, Letter, Morgue
from anabranch_cli.connection import data_option, platform
from anabranch_cli.output import DONE, FAILED, console, emit, json_option, progress

T = TypeVar("T")

CLIENT = "anabranch-cli"
PREVIEW_BYTES = 400


@click.group()
def dlq() -> None:
    """Dead letters: list them, look at one, send them back."""


def chosen(command: Callable[..., int]) -> Callable[..., int]:
    """The options by which letters are chosen."""
    for option in (
        click.option("--limit", default=100, show_default=True, help="At most the newest N."),
        click.option("--cause", type=click.Choice([cause.value for cause in Cause]), help="Only those dead of this."),
        click.option("--group", default="", help="Only those left by this consumer group."),
        click.option("--topic", default="", help="Only those of this topic."),
    ):
        command = option(command)
    return command


@dlq.command(name="ls")
@chosen
@click.option("--all", "replayed", is_flag=True, help="Those that were replayed, too.")
@data_option
@json_option
def list_letters(
    *, topic: str, group: str, cause: str | None, limit: int, replayed: bool, data: Path | None, as_json: bool
) -> int:
    """List dead letters, oldest first."""

    async def read(morgue: Morgue) -> list[Letter]:
        wanted = Cause(cause) if cause else None
        return await morgue.ls(topic=topic, group=group, cause=wanted, replayed=replayed, limit=limit)

    letters = with_morgue(data, read)

    def human() -> None:
        if not letters:
            console.print("  no dead letters")
            return
        table = Table("place", "key", "cause", "error", "reason", "died", box=None)
        for one in letters:
            letter = one.letter
            died = letter.died_at.strftime("%m-%d %H:%M:%S")
            table.add_row(one.place, letter.key, letter.cause.value, letter.error, letter.reason[:120], died)
        console.print(table)

    emit({"dead_letters": [document(one) for one in letters]}, as_json=as_json, human=human)
    return DONE


@dlq.command()
@click.argument("place")
@data_option
@json_option
def show(*, place: str, data: Path | None, as_json: bool) -> int:
    """Show the dead letter at PLACE (topic/partition@offset), with its headers and the start of its body."""

    async def read(morgue: Morgue) -> Letter:
        return await morgue.show(place)

    one = with_morgue(data, read)
    report = document(one)
    report["headers"] = dict(one.letter.headers)
    report["bytes"] = len(one.letter.value)
    report["preview"] = one.letter.value[:PREVIEW_BYTES].decode("utf-8", "backslashreplace")

    def human() -> None:
        for name, value in report.items():
            console.print(f"  {name:<14} {value}", markup=False)

    emit(report, as_json=as_json, human=human)
    return DONE


@dlq.command()
@click.argument("places", nargs=-1)
@chosen
@click.option("--everything", is_flag=True, help="All that --topic, --group and --cause choose.")
@click.option("--again", is_flag=True, help="Those that were replayed before, too.")
@click.option("--rate", default=50.0, show_default=True, help="Records a second.")
@data_option
@json_option
def replay(
    *,
    places: tuple[str, ...],
    topic: str,
    group: str,
    cause: str | None,
    limit: int,
    everything: bool,
    again: bool,
    rate: float,
    data: Path | None,
    as_json: bool,
) -> int:
    """Send dead letters back to where they came from: those at PLACES, or with --everything all that are chosen.

    They keep their event ids, so whatever was done for them already is not done twice.
    """
    if bool(places) == everything:
        raise click.UsageError("name places, or give --everything")

    async def send(morgue: Morgue) -> dict[str, Any]:
        if places:
            letters: Sequence[Letter] = [await morgue.show(place) for place in places]
        else:
            wanted = Cause(cause) if cause else None
            letters = await morgue.ls(topic=topic, group=group, cause=wanted, replayed=again, limit=limit)
        with progress("dead letters", len(letters), quiet=as_json) as advance:
            done = await morgue.replay(letters, rate=rate, again=again, progress=lambda _: advance(1))
        return {
            "replayed": list(done.sent),
            "refused": [{"place": place, "reason": reason} for place, reason in done.refused],
        }

    report = with_morgue(data, send)

    def human() -> None:
        console.print(f"  {len(report['replayed'])} sent back")
        for each in report["refused"]:
            console.print(f"  {each['place']}: {each['reason']}", style="yellow", markup=False)

    emit(report, as_json=as_json, human=human)
    return FAILED if report["refused"] else DONE


def with_morgue(data: Path | None, use: Callable[[Morgue], Awaitable[T]]) -> T:
    """Runs something with the platform's dead letters. Raises NotRunning, Unreachable."""
    where = platform(data)

    async def run() -> T:
        async with KafkaClient(where.kafka, client_id=CLIENT) as client:
            return await use(Morgue(client))

    return asyncio.run(run())


def document(one: Letter) -> dict[str, Any]:
    """A letter for programs."""
    letter = one.letter
    return {
        "place": one.place,
        "topic": letter.topic,
        "partition": letter.partition,
        "offset": letter.offset,
        "group": letter.group,
        "key": letter.key,
        "event_id": letter.event_id,
        "cause": letter.cause.value,
        "error": letter.error,
        "reason": letter.reason,
        "attempts": letter.attempts,
        "died_at": letter.died_at.isoformat(),
        "code_version": letter.code_version,
        "replayed": one.replayed,
    }
