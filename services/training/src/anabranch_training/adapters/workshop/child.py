"""`python -m anabranch_training run FOLDER`: one run. It has limits, no key, and needs no network.

What is done already is not done again: killed at any moment and started once more, it goes on and makes the same files.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
from pathlib import Path
from typing import Any, Final

from anabranch_artifacts.contents import digest_of, digests, version_of
from anabranch_faults import Invalid
from anabranch_training.adapters.workshop.folder import REFUSED, RunFolder

__all__ = ["main"]

_DIE_WITH_PARENT: Final = 1


def main(folder: Path) -> int:
    """Do what the folder's order says; returns the exit code."""
    run = RunFolder(folder)
    order = run.read("order")
    if order is None:
        sys.stderr.write(f"{folder} holds no order\n")
        return 2
    _confine(order)
    try:
        dataset = run.read("dataset")
        if dataset is None or (order["recipe"] != "dataset" and run.read("model") is None):
            _make(run, order)
    except Invalid as fault:
        run.write("problem", {"problem": str(fault), "reason": fault.reason})
        return REFUSED
    run.write("progress", {"stage": "done"})
    return 0


def _confine(order: dict[str, Any]) -> None:
    if sys.platform == "linux" and os.getppid() != 1:
        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
    for kind, limit in (
        (resource.RLIMIT_AS, order["memory_bytes"]),
        (resource.RLIMIT_CPU, order["cpu_seconds"]),
        (resource.RLIMIT_CORE, 0),
    ):
        if limit == 0 and kind != resource.RLIMIT_CORE:
            continue  # none was set
        _, most = resource.getrlimit(kind)
        resource.setrlimit(kind, (limit if most == resource.RLIM_INFINITY else min(limit, most), most))
    os.nice(order["nice"])


def _make(run: RunFolder, order: dict[str, Any]) -> None:
    # Imported here: what counts against the limits is all that follows them.
    from anabranch_training.adapters.workshop import makers  # noqa: PLC0415  see above

    run.write("progress", {"stage": "dataset"})
    maker = makers.maker_of(order)
    made = maker.dataset_of(order, run)
    about = run.read("dataset")
    if about is None:
        draft = run.fresh(run.dataset)
        about = maker.write_dataset(order, made, draft)
        run.place(draft, run.dataset)
        digest = digest_of(digests(run.dataset))
        about |= {"digest": digest, "version": version_of("dataset", digest)}
        run.write("dataset", about)
    if maker.write_model is not None:
        run.write("progress", {"stage": "model", "dataset_version": about["version"]})
        draft = run.fresh(run.model)
        told = maker.write_model(order, made, about, draft)
        run.place(draft, run.model)
        run.write("model", told)
