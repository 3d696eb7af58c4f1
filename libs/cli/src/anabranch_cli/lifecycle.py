"""`anabranch up`, `down` and `status`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import click
from rich.table import Table

from anabranch_cli.connection import data_option
from anabranch_cli.output import DONE, FAILED, NOT_RUNNING, console, emit, errors, json_option, note
from anabranch_local.state import DEFAULT_FOLDER, State, find_data_dir, load_state

if TYPE_CHECKING:
    from anabranch_local.topology import Index, Options

__all__ = ["down", "status", "up"]


@click.command()
@click.option("--detach", is_flag=True, help="Return once everything is ready, and leave it running.")
@data_option
@click.option(
    "--index",
    type=click.Choice(["embedded", "weaviate"]),
    default="embedded",
    show_default=True,
    help="Where vectors live.",
)
@click.option("--scale", multiple=True, metavar="SERVICE=N", help="Run a service as N processes. Repeatable.")
@json_option
def up(*, detach: bool, data: Path | None, index: str, scale: tuple[str, ...], as_json: bool) -> int:
    """Start Kafka, the index and the services, and wait until they are ready.

    In the foreground until Ctrl-C, unless --detach is given. Data, logs and the API key live in the data folder.
    """
    # What starts Kafka is imported here: `status` and `down` answer faster without.
    from anabranch_local.process import StartError  # noqa: PLC0415
    from anabranch_local.supervisor import AlreadyRunningError  # noqa: PLC0415
    from anabranch_local.up import report, run_detached, run_here  # noqa: PLC0415

    options = _options(data, index, scale)

    def ready(state: State) -> None:
        progress.stop()
        emit(report(state), as_json=as_json, human=lambda: _show_start(state, detach=detach))

    with _Progress(quiet=as_json) as progress:
        try:
            if detach:
                ready(run_detached(options, progress=progress))
                return DONE
            run_here(options, progress=progress, ready=ready)
        except (AlreadyRunningError, StartError) as error:
            progress.stop()
            note(f"anabranch: {error}")
            return _leave(FAILED, detach=detach)
    return _leave(DONE, detach=detach)


@click.command()
@data_option
@json_option
def down(*, data: Path | None, as_json: bool) -> int:
    """Stop what `up` started. Documents, indexes and keys stay in the data folder."""
    from anabranch_local.up import stop  # noqa: PLC0415 - `status` answers faster without

    folder = find_data_dir(data)
    with _Progress(quiet=as_json) as progress:
        stopped = stop(folder, progress=progress)
    emit(
        {"stopped": stopped, "data_dir": str(folder)},
        as_json=as_json,
        human=lambda: note(f"stopped; the data stays in {folder}" if stopped else f"nothing runs in {folder}"),
    )
    return DONE if stopped else NOT_RUNNING


@click.command()
@data_option
@json_option
def status(*, data: Path | None, as_json: bool) -> int:
    """Show what runs, where to reach it, and how much memory it takes. Exit code 3 when nothing runs."""
    folder = find_data_dir(data)
    state = load_state(folder)
    if state is None:
        emit(
            {"ready": False, "tenant": "", "services": [], "endpoints": {}, "key_file": ""},
            as_json=as_json,
            human=lambda: note(f"nothing runs in {folder}; start it with `anabranch up --detach`"),
        )
        return NOT_RUNNING
    from anabranch_local.up import report  # noqa: PLC0415 - only where something runs

    document = report(state)
    emit(document, as_json=as_json, human=lambda: _show_status(document))
    return DONE


def _options(data: Path | None, index: str, scale: tuple[str, ...]) -> Options:
    from anabranch_local.topology import Options  # noqa: PLC0415 - as in `up`

    counts: dict[str, int] = {}
    for each in scale:
        service, _, count = each.partition("=")
        if not count.isdigit():
            raise click.UsageError(f"--scale {each}: write it as SERVICE=N, as in --scale embedding=2")
        counts[service] = int(count)
    folder = data or Path(os.environ.get("ANABRANCH_DATA_DIR") or DEFAULT_FOLDER)
    where: Index = "weaviate" if index == "weaviate" else "embedded"
    try:
        return Options(data_dir=folder.absolute(), index=where, scale=counts)
    except ValueError as error:
        raise click.UsageError(str(error)) from None


def _leave(code: int, *, detach: bool) -> int:
    if detach:
        return code
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # a build that was interrupted would hold the process back until it has finished


class _Progress:
    """One line on stderr that says what takes long: renewed in place on a terminal, written once each elsewhere."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._status = errors.status("starting") if errors.is_terminal and not quiet else None
        self._live = False
        self._said = ""

    def __enter__(self) -> Self:
        if self._status is not None:
            self._status.start()
            self._live = True
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __call__(self, phrase: str) -> None:
        if self._status is not None and self._live:
            self._status.update(phrase)
        elif not self._quiet:
            # Without a terminal, a phrase that only counts on is not said again.
            kind = phrase.partition(":")[0]
            if kind != self._said:
                note(phrase)
            self._said = kind

    def stop(self) -> None:
        """Leave the line free."""
        if self._status is not None:
            self._status.stop()
        self._live = False


def _show_start(state: State, *, detach: bool) -> None:
    _endpoints(grpc=state.grpc, http=state.http, kafka=state.kafka, key_file=state.key_file)
    note("stop it with `anabranch down`" if detach else "running; Ctrl-C stops it")


def _show_status(document: dict[str, Any]) -> None:
    table = Table(box=None, pad_edge=False)
    for heading in ("service", "state"):
        table.add_column(heading)
    for heading in ("pid", "MiB", "restarts"):
        table.add_column(heading, justify="right")
    for service in document["services"]:
        table.add_row(
            service["name"],
            service["state"] + (f": {service['reason']}" if service.get("reason") else ""),
            str(service["pid"] or ""),
            f"{service['rss_mb']:.0f}",
            str(service["restarts"] or ""),
        )
    total = sum(service["rss_mb"] for service in document["services"])
    summary = "ready" if document["ready"] else document.get("phase") or "not ready"
    table.add_row("total", summary, "", f"{total:.0f}", "")
    console.print(table)
    _endpoints(**document["endpoints"], key_file=document["key_file"])


def _endpoints(*, grpc: str, http: str, kafka: str, key_file: str) -> None:
    for name, value in (("gRPC", grpc), ("HTTP", http), ("Kafka", kafka), ("API key in", key_file)):
        console.print(f"{name:<10} {value}", markup=False)
