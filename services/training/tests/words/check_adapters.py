"""Trains adapters of a tiny model, for real. `make test-train` runs it, and makes what it needs."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from anabranch.registry.v1 import lineage_pb2 as lineage
from anabranch.training.v1 import training_service_pb2 as pb

PYTHON = os.environ.get("ANABRANCH_TRAIN_PYTHON", "")
PROGRAMS = Path(__file__).parents[2] / "lora"
PARAMETERS = {"steps": 12, "batch": 4, "learning_rate": 0.005, "rank": 8, "alpha": 16, "max_length": 512}


def run(program: str, *arguments: str) -> str:
    done = subprocess.run(
        [PYTHON, str(PROGRAMS / program), *arguments], capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("method", ["sft", "dpo"])
async def test_an_adapter_is_trained_signed_told_made_again_and_loaded(
    serve: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], method: str
) -> None:
    base = tmp_path / "tiny-llama"
    kind = lineage.DATASET_KIND_SFT if method == "sft" else lineage.DATASET_KIND_PREFERENCE
    recipe = pb.RECIPE_ADAPTER_SFT if method == "sft" else pb.RECIPE_ADAPTER_DPO
    options = {"adapters_python": PYTHON, "adapters_base": str(base), "adapters_parameters": PARAMETERS}
    async with serve(**options) as training:
        made = await training.built(kind)
        rows = training.store.fetch(made.dataset_version, into=tmp_path / "rows").folder / "train.jsonl"
        await asyncio.to_thread(run, "tiny_base.py", str(base), str(rows))
        trained = await training.trained(recipe, deadline=900)
        assert trained.state == pb.TRAINING_STATE_DONE, trained.problem
        assert trained.dataset_version == made.dataset_version
        found = dict(trained.metrics)
        with capsys.disabled():
            print("\n" + json.dumps({"method": method, **found}, sort_keys=True))  # noqa: T201  what was reached
        assert found["train_loss_last"] < found["train_loss_first"]
        assert found["held_out_loss"] < found["held_out_loss_before"]
        if method == "dpo":
            assert found["held_out_reward_accuracy"] > 0.5
        told = await training.told()
        assert (told.model.kind, told.model.format, told.withheld) == (lineage.MODEL_KIND_ADAPTER, "peft", True)
        assert (told.model.base_model, told.model.algorithm) == ("tiny-llama", f"lora-{method}")
        assert {"library.torch", "library.peft", "seed", "dataset_digest"} <= set(told.model.provenance)
        artifact = training.store.fetch(told.model.model_version, into=tmp_path / "models")
        assert {path.name for path in artifact.folder.iterdir()} == {
            "adapter_config.json",
            "adapter_model.safetensors",
            "bom.json",
            "card.md",
            "model.sig",
        }
        assert str(tmp_path) not in (artifact.folder / "adapter_config.json").read_text()
        loaded = json.loads(await asyncio.to_thread(run, "loads.py", str(base), str(artifact.folder)))
        assert loaded["parameters"] > 0
        assert loaded["moved"] > 0.001
        if method == "sft":
            again = await training.trained(recipe, deadline=900)
            assert again.state == pb.TRAINING_STATE_DONE, again.problem
            assert again.metrics == trained.metrics
            other = training.store.fetch(again.model_version, into=tmp_path / "models")
            assert weights(other.folder) == weights(artifact.folder)


def weights(folder: Path) -> bytes:
    return (folder / "adapter_model.safetensors").read_bytes()
