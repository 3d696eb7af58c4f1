"""Trains a LoRA adapter. Run by another interpreter: this file and nothing else of Anabranch.

`PYTHON lora_program.py ORDER.json`: the order names `method` (sft, dpo), `base` (folder or hub name), `dataset` (folder
with train.jsonl and perhaps held_out.jsonl, in TRL's format), `out` (empty folder), `told` (file for what came of it),
`seed`, and the `parameters` below. The same order on the same machine makes the same adapter.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import math
import signal
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

DIE_WITH_PARENT = 1
LIBRARIES = ("accelerate", "datasets", "peft", "safetensors", "tokenizers", "torch", "transformers", "trl")
PARAMETERS = {
    "steps": 100,
    "batch": 4,
    "accumulate": 1,
    "learning_rate": 2e-4,
    "rank": 16,
    "alpha": 32,
    "dropout": 0.0,
    "max_length": 2048,
    "beta": 0.1,
    "targets": "all-linear",
}


def main(path: Path) -> int:
    """Does what the order says; returns the exit code."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(DIE_WITH_PARENT, signal.SIGKILL)
    order = json.loads(path.read_text(encoding="utf-8"))
    given = {**PARAMETERS, **order.get("parameters", {})}
    # By name: whoever looks through the package has none of these.
    names = ("datasets", "peft", "torch", "transformers", "trl")
    datasets, peft, torch, transformers, trl = (importlib.import_module(name) for name in names)

    transformers.set_seed(order["seed"])
    gpu = torch.cuda.is_available()
    if not gpu:
        torch.use_deterministic_algorithms(mode=True)
    rows = {name: _rows(Path(order["dataset"]) / f"{name}.jsonl") for name in ("train", "held_out")}
    sets = {name: datasets.Dataset.from_list(found) if found else None for name, found in rows.items()}
    tokenizer = transformers.AutoTokenizer.from_pretrained(order["base"])
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    dtype = torch.bfloat16 if gpu else torch.float32
    model = transformers.AutoModelForCausalLM.from_pretrained(order["base"], dtype=dtype)
    lora = peft.LoraConfig(
        r=given["rank"],
        lora_alpha=given["alpha"],
        lora_dropout=given["dropout"],
        target_modules=given["targets"],
        task_type="CAUSAL_LM",
    )
    common: dict[str, Any] = {
        "output_dir": str(Path(order["told"]).parent / "trainer"),
        "max_steps": given["steps"],
        "per_device_train_batch_size": given["batch"],
        "per_device_eval_batch_size": given["batch"],
        "gradient_accumulation_steps": given["accumulate"],
        "learning_rate": given["learning_rate"],
        "lr_scheduler_type": "linear",
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": [],
        "seed": order["seed"],
        "data_seed": order["seed"],
        "use_cpu": not gpu,
        "bf16": gpu,
        "gradient_checkpointing": gpu,
        "max_length": given["max_length"],
        "disable_tqdm": True,
    }
    arguments = {
        "model": model,
        "train_dataset": sets["train"],
        "eval_dataset": sets["held_out"],
        "processing_class": tokenizer,
        "peft_config": lora,
    }
    if order["method"] == "dpo":
        trainer: Any = trl.DPOTrainer(args=trl.DPOConfig(beta=given["beta"], **common), **arguments)
    else:
        trainer = trl.SFTTrainer(args=trl.SFTConfig(**common), **arguments)
    before = trainer.evaluate() if sets["held_out"] is not None else {}
    trainer.train()
    after = trainer.evaluate() if sets["held_out"] is not None else {}
    out = Path(order["out"])
    trainer.model.save_pretrained(str(out), safe_serialization=True)
    _tidy(out, base=order["base_name"])
    Path(order["told"]).write_text(
        json.dumps(
            {
                "metrics": _metrics(trainer.state.log_history, before, after),
                "parameters": {name: str(value) for name, value in sorted(given.items())},
                "libraries": {name: version(name) for name in LIBRARIES},
                "device": torch.cuda.get_device_name(0) if gpu else "cpu",
                "rows": {name: len(found) for name, found in rows.items()},
            },
            sort_keys=True,
        ),
        encoding="utf-8",
    )
    return 0


def _rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def _tidy(out: Path, *, base: str) -> None:
    """Only what loads stays, and nothing in it tells of this machine."""
    config = json.loads((out / "adapter_config.json").read_text(encoding="utf-8"))
    config["base_model_name_or_path"] = base
    for name, value in config.items():
        if name == "target_modules" and isinstance(value, list):
            config[name] = sorted(value)
    (out / "adapter_config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    for path in out.iterdir():
        if path.name not in {"adapter_config.json", "adapter_model.safetensors"}:
            path.unlink()


def _metrics(history: list[dict[str, Any]], before: dict[str, Any], after: dict[str, Any]) -> dict[str, float]:
    losses = [float(one["loss"]) for one in history if "loss" in one]
    few = max(1, len(losses) // 5)
    found = {
        "train_loss_first": sum(losses[:few]) / few,
        "train_loss_last": sum(losses[-few:]) / few,
        "steps": float(len(losses)),
    }
    for name, key in (
        ("loss", "eval_loss"),
        ("reward_accuracy", "eval_rewards/accuracies"),
        ("reward_margin", "eval_rewards/margins"),
        ("token_accuracy", "eval_mean_token_accuracy"),
    ):
        if key in after:
            found[f"held_out_{name}"] = float(after[key])
            if key in before:
                found[f"held_out_{name}_before"] = float(before[key])
    return {name: value for name, value in found.items() if math.isfinite(value)}


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
