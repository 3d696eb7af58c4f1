"""LoRA adapters: folders that are there already, or artifacts that are fetched and verified first."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from anabranch_artifacts import ArtifactStore
from anabranch_faults import Invalid

__all__ = ["adapter_folders"]

_SETTING: Final = "ANABRANCH_GENERATION_TENSORRT_ADAPTERS"
_CONFIG: Final = "adapter_config.json"
_WEIGHTS: Final = "adapter_model.safetensors"
_MOST_BYTES: Final = 8 * 2**30


def adapter_folders(named: Sequence[str], *, store: ArtifactStore, into: Path, max_rank: int) -> dict[str, Path]:
    """Name -> folder, of `name=folder` and of artifacts `ad-...`, which are called by their version.

    An artifact is fetched into `into` and must verify: raises Invalid where its signature or digest does not, or where
    it is no adapter of PEFT in safetensors of at most `max_rank`; NotFound, Unreachable as the store does.
    """
    found: dict[str, Path] = {}
    for one in named:
        name, _, folder = one.partition("=")
        if name in found:
            raise Invalid(f"names {name!r} twice", field=_SETTING)
        found[name] = Path(folder) if folder else _fetched(name, store=store, into=into, max_rank=max_rank)
    return found


def _fetched(version: str, *, store: ArtifactStore, into: Path, max_rank: int) -> Path:
    if not version.startswith("ad-"):
        raise Invalid(f"{version} is no adapter", field=_SETTING)
    folder = store.fetch(version, into=into, max_bytes=_MOST_BYTES).folder
    try:
        config = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
        kind, rank = str(config["peft_type"]), int(config["r"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Invalid(f"{version}: {_CONFIG} cannot be read: {error}", field=_SETTING, reason="BAD_ADAPTER") from error
    if kind != "LORA" or not (folder / _WEIGHTS).is_file():
        raise Invalid(f"{version} is no LoRA adapter in safetensors", field=_SETTING, reason="BAD_ADAPTER")
    if rank > max_rank:
        raise Invalid(
            f"{version} has the rank {rank}; ANABRANCH_GENERATION_TENSORRT_MAX_LORA_RANK is {max_rank}", field=_SETTING
        )
    return folder
