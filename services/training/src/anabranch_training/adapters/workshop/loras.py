"""The files of a LoRA adapter. The training itself is a program for another interpreter: see `lora_program`."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from anabranch_artifacts.bom import Dataset, ml_bom
from anabranch_artifacts.contents import digests
from anabranch_training.adapters.workshop import lora_program
from anabranch_training.adapters.workshop.origin import origin_of
from anabranch_training.domain.texts import TextDataset

__all__ = ["write_adapter"]

_METHODS: Final = {"adapter_sft": "sft", "adapter_dpo": "dpo"}
_OFFLINE: Final = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}


def write_adapter(
    order: Mapping[str, Any], made: TextDataset, about: Mapping[str, Any], folder: Path
) -> dict[str, Any]:
    """Has the other interpreter train, writes card and bill of materials beside the adapter; returns the entry."""
    method, adapters = _METHODS[order["recipe"]], order["adapters"]
    place = folder.parent
    task, told = place / "lora.json", place / "lora_told.json"
    task.write_text(
        json.dumps(
            {
                "method": method,
                "base": adapters["base"],
                "base_name": adapters["base_name"],
                "dataset": str(place / "dataset"),
                "out": str(folder),
                "told": str(told),
                "seed": order["seed"],
                "parameters": adapters["parameters"],
            }
        ),
        encoding="utf-8",
    )
    # The limits of this process hold for that one too, and it ends with this one.
    subprocess.run(  # noqa: S603  the interpreter of the service's settings, and a file of this package
        [adapters["python"], "-I", lora_program.__file__, str(task)], check=True, env={**os.environ, **_OFFLINE}
    )
    learned = json.loads(told.read_text(encoding="utf-8"))
    parameters = {**learned["parameters"], "method": method, "per_user_cap": str(order["per_user_cap"])}
    origin = {
        **origin_of(seed=order["seed"], dataset_digest=about["digest"], parameters=parameters, libraries=()),
        **{f"library.{name}": number for name, number in learned["libraries"].items()},
        "base_model": adapters["base_name"],
        "device": learned["device"],
    }
    card = _card(order, method, about["version"], learned["metrics"], origin)
    (folder / "card.md").write_text(card, encoding="utf-8")
    bom = ml_bom(
        name="adapter",
        kind="adapter",
        made_at=made.last,
        description=f"LoRA adapter of {adapters['base_name']} for {order['tenant']}/{order['corpus']}",
        algorithm=f"lora-{method}",
        task="text generation",
        datasets=[Dataset(name="feedback", version=about["version"], digest=about["digest"])],
        libraries=tuple(learned["libraries"]),
        files=digests(folder),
        metrics=learned["metrics"],
        properties=origin,
    )
    (folder / "bom.json").write_text(bom, encoding="utf-8")
    return {
        "kind": "adapter",
        "format": "peft",
        "algorithm": f"lora-{method}",
        "feature_set": "",
        "metrics": learned["metrics"],
        "parameters": parameters,
        "provenance": origin,
        "base_model": adapters["base_name"],
        "card": card,
    }


def _card(
    order: Mapping[str, Any], method: str, dataset_version: str, metrics: Mapping[str, float], origin: Mapping[str, str]
) -> str:
    measured = "\n".join(f"| {name} | {value:.4f} |" for name, value in sorted(metrics.items()))
    origins = "\n".join(f"| {name} | `{value}` |" for name, value in sorted(origin.items()))
    way = "preferences (DPO)" if method == "dpo" else "corrections (SFT)"
    return f"""# LoRA adapter for {order["tenant"]}/{order["corpus"]}

Adapts `{origin["base_model"]}` by {way}; PEFT's format. It fits that base alone, and generation's default prompt.

Learned from the data set {dataset_version}, which holds people's words; the adapter may give some of them back. Whether
its answers are better is for a run of the golden sets and an experiment to tell: losses do not.

| metric | |
| --- | --- |
{measured}

| to make it again | |
| --- | --- |
{origins}
"""
