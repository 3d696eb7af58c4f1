"""The workshop: starts a process for each run, and starts it again when it was killed."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from anabranch_faults import Invalid
from anabranch_observability import counter, get_logger
from anabranch_observability.names import training as names
from anabranch_training.adapters.lines import judgment_json, opinion_json
from anabranch_training.adapters.workshop.folder import REFUSED, RunFolder
from anabranch_training.application.ports import Made, MadeDataset, MadeModel, NotEnough, Order
from anabranch_training.domain import FEATURE_SET
from anabranch_training.domain.runs import DatasetKind, ModelKind

__all__ = ["AdapterSetup", "Limits", "ProcessWorkshop"]

log = get_logger()

_ONE_THREAD: Final = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS"), "1"
)
_LAST_WORDS: Final = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a run may use."""

    memory_bytes: int = 2 * 1024**3
    cpu: timedelta = timedelta(minutes=10)
    time: timedelta = timedelta(minutes=20)
    nice: int = 5
    attempts: int = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterSetup:
    """What adapters are trained with: an interpreter that has torch, peft and trl, and a base model it can load.

    `base_name`: the base's name on papers. `parameters`: see `lora_program`. A memory of 0 is not limited: an
    accelerator's driver claims addresses by the hundred gigabytes.
    """

    python: Path
    base: str
    base_name: str
    parameters: Mapping[str, Any]
    time: timedelta = timedelta(hours=6)
    memory_bytes: int = 0


class ProcessWorkshop:
    """As the port says. One folder a run, under `root`, for its owner only."""

    def __init__(
        self, root: Path, *, limits: Limits, adapters: AdapterSetup | None = None, command: Sequence[str] = ()
    ) -> None:
        """Takes the command of a run, to which the folder is added; empty: this package's own."""
        self._root = root
        self._limits = limits
        self._adapters = adapters
        self._command = tuple(command) or (sys.executable, "-m", "anabranch_training", "run")

    def folder(self, run_id: str) -> RunFolder:
        """Where a run is."""
        return RunFolder(self._root / run_id)

    def ordered(self, run_id: str) -> bool:
        """As in the port."""
        return self.folder(run_id).read("order") is not None

    async def order(self, order: Order) -> None:
        """As in the port."""
        await asyncio.to_thread(self._order, order)

    async def answers(self, run_id: str) -> frozenset[str]:
        """As in the port."""
        return frozenset((self.folder(run_id).read("answers") or {}).get("answers", ()))

    async def work(self, run_id: str) -> Made:
        """As in the port."""
        folder = self.folder(run_id)
        for attempt in range(1, self._limits.attempts + 1):
            code = await self._once(folder)
            if code == 0:
                return self._made(folder)
            if code == REFUSED:
                told = folder.read("problem") or {}
                raise NotEnough(str(told.get("problem", "")), field="dataset", reason=str(told.get("reason", "")))
            counter(names.LOST_PROCESSES).inc()
            log.warning(names.Log.RUN_PROCESS_LOST, run_id=run_id, exit_code=code, attempt=attempt)
        raise Invalid(
            f"its process ended {self._limits.attempts} times without a result, last with exit code {code}: "
            f"{_last_words(folder.log)}"
        )

    async def clear(self, run_id: str) -> None:
        """As in the port."""
        await asyncio.to_thread(shutil.rmtree, self.folder(run_id).path, ignore_errors=True)

    async def _once(self, folder: RunFolder) -> int:
        with folder.log.open("ab") as said:
            process = await asyncio.create_subprocess_exec(
                *self._command,
                str(folder.path),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                env={**_without_secrets(), **_ONE_THREAD},
            )
        folder.write("process", {"pid": process.pid})
        longest = self._adapters.time if self._adapters and self._adapting(folder) else self._limits.time
        try:
            return await asyncio.wait_for(process.wait(), longest.total_seconds())
        except TimeoutError:
            raise Invalid(f"took more than {longest}") from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()

    @staticmethod
    def _adapting(folder: RunFolder) -> bool:
        return "adapters" in (folder.read("order") or {})

    def _order(self, order: Order) -> None:
        run, folder = order.run, self.folder(order.run.run_id)
        adapting: dict[str, Any] = {}
        if run.recipe.makes is ModelKind.ADAPTER:
            if self._adapters is None:
                raise Invalid("adapters are not trained here", field="recipe", reason="UNKNOWN_RECIPE")
            adapting = {
                "adapters": {
                    "python": str(self._adapters.python),
                    "base": self._adapters.base,
                    "base_name": self._adapters.base_name,
                    "parameters": dict(self._adapters.parameters),
                },
                "memory_bytes": self._adapters.memory_bytes,
                "cpu_seconds": 0,
            }
        shutil.rmtree(folder.path, ignore_errors=True)
        folder.path.mkdir(parents=True, mode=0o700)
        lines = (json.dumps(judgment_json(one)) for one in order.material.judgments)
        folder.write_lines(folder.judgments, lines)
        folder.write_lines(folder.opinions, (json.dumps(opinion_json(one)) for one in order.material.opinions))
        folder.write("answers", {"answers": sorted(order.material.answers)})
        # Last, so that an order that is there is whole.
        folder.write(
            "order",
            {
                "run_id": run.run_id,
                "tenant": run.tenant,
                "corpus": run.corpus,
                "recipe": run.recipe.value,
                "kind": run.kind.value,
                "seed": run.seed,
                "gold": run.gold,
                "reverse_labels": run.reverse_labels,
                "per_user_cap": order.per_user_cap,
                "feature_set": FEATURE_SET,
                "feedback": order.material.feedback,
                "withdrawn": order.material.withdrawn,
                "denied": order.material.denied,
                "memory_bytes": self._limits.memory_bytes,
                "cpu_seconds": int(self._limits.cpu.total_seconds()),
                "nice": self._limits.nice,
                **adapting,
            },
        )

    def _made(self, folder: RunFolder) -> Made:
        order, about, told = folder.read("order"), folder.read("dataset"), folder.read("model")
        if order is None or about is None:
            raise Invalid("the run's process left no data set")
        return Made(dataset=_dataset(order, about, folder.dataset), model=_model(told, folder.model) if told else None)


def _dataset(order: dict[str, Any], about: dict[str, Any], folder: Path) -> MadeDataset:
    return MadeDataset(
        version=about["version"],
        digest=about["digest"],
        tenant=order["tenant"],
        corpus=order["corpus"],
        counts=about["counts"],
        first=datetime.fromisoformat(about["first"]),
        last=datetime.fromisoformat(about["last"]),
        datasheet=about["datasheet"],
        documents=frozenset(about["documents"]),
        folder=folder,
        kind=DatasetKind(about["kind"]),
    )


def _model(told: dict[str, Any], folder: Path) -> MadeModel:
    return MadeModel(**{**told, "kind": ModelKind(told["kind"])}, folder=folder)


def _without_secrets() -> dict[str, str]:
    """The environment without the service's settings: a run needs none, and must not know where the key is."""
    return {name: value for name, value in os.environ.items() if not name.startswith("ANABRANCH_TRAINING_")}


def _last_words(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")[-_LAST_WORDS:].strip()
    except OSError:
        return ""
