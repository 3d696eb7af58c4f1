"""What a command prints: one JSON document on stdout with --json, otherwise something for people.

Progress and hints go to stderr, so that stdout can always be piped.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from anabranch_faults import Fault

__all__ = ["DONE", "FAILED", "NOT_RUNNING", "USAGE", "NotRunning", "console", "emit", "json_option", "note", "progress"]

DONE, FAILED, USAGE, NOT_RUNNING = 0, 1, 2, 3

console = Console(highlight=False, soft_wrap=True)
errors = Console(stderr=True, highlight=False, soft_wrap=True)

P = ParamSpec("P")
T = TypeVar("T")


class NotRunning(Fault):
    """Nothing runs where the command looked."""


def json_option(command: Callable[P, T]) -> Callable[P, T]:
    """Adds --json; the command gets it as `as_json`."""

    @click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout.")
    @wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> T:
        return command(*args, **kwargs)

    return wrapped


def emit(document: Mapping[str, Any], *, as_json: bool, human: Callable[[], None]) -> None:
    """Prints the document, or calls `human` to print it for people."""
    if as_json:
        sys.stdout.write(json.dumps(document, ensure_ascii=False) + "\n")
        sys.stdout.flush()
    else:
        human()


def note(message: str) -> None:
    """A line for the person at the terminal, on stderr."""
    errors.print(message, markup=False)


@contextmanager
def progress(label: str, total: int, *, quiet: bool) -> Iterator[Callable[[int], None]]:
    """Shows a bar on stderr while the block runs; yields `advance(n)`. Quiet: shows nothing."""
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=errors,
        disable=quiet,
        transient=not errors.is_terminal,
    )
    with bar:
        task = bar.add_task(label, total=total)
        yield lambda n: bar.advance(task, n)
