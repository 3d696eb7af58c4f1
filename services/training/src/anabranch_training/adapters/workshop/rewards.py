"""The files of a reward model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from anabranch_artifacts.bom import Dataset, ml_bom
from anabranch_artifacts.contents import digests
from anabranch_reward import FEATURE_SET
from anabranch_training.adapters.learners.reward import train_reward
from anabranch_training.adapters.workshop.origin import origin_of
from anabranch_training.domain.texts import TextDataset

__all__ = ["write_reward"]

_LIBRARIES: Final = ("numpy", "safetensors", "scipy")
_ALGORITHM: Final = "bradley-terry"


def write_reward(order: Mapping[str, Any], made: TextDataset, about: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Learns, writes the model with card and bill of materials; returns the entry."""
    trained = train_reward(made, seed=order["seed"])
    trained.model.save(folder)
    parameters = {**trained.parameters, "per_user_cap": str(order["per_user_cap"])}
    origin = origin_of(seed=order["seed"], dataset_digest=about["digest"], parameters=parameters, libraries=_LIBRARIES)
    card = _card(order, about["version"], trained.metrics, origin)
    (folder / "card.md").write_text(card, encoding="utf-8")
    bom = ml_bom(
        name="reward",
        kind="reward",
        made_at=made.last,
        description=f"Reward model for {order['tenant']}/{order['corpus']}",
        algorithm=_ALGORITHM,
        task="reward modelling",
        datasets=[Dataset(name="preferences", version=about["version"], digest=about["digest"])],
        libraries=_LIBRARIES,
        files=digests(folder),
        metrics=trained.metrics,
        properties=origin,
    )
    (folder / "bom.json").write_text(bom, encoding="utf-8")
    return {
        "kind": "reward",
        "format": "safetensors",
        "algorithm": _ALGORITHM,
        "feature_set": FEATURE_SET,
        "metrics": dict(trained.metrics),
        "parameters": parameters,
        "provenance": origin,
        "card": card,
    }


def _card(
    order: Mapping[str, Any], dataset_version: str, metrics: Mapping[str, float], origin: Mapping[str, str]
) -> str:
    measured = "\n".join(f"| {name} | {value:.4f} |" for name, value in sorted(metrics.items()))
    origins = "\n".join(f"| {name} | `{value}` |" for name, value in sorted(origin.items()))
    return f"""# Reward model for {order["tenant"]}/{order["corpus"]}

Scores an answer by what people prefer, from the features {FEATURE_SET} of question, passages and answer; a
Bradley-Terry model: the difference of two scores is the log of the odds that people prefer the first. Meant for scoring
answers offline and for picking the best of several; `anabranch_reward` reads it.

Learned from the data set {dataset_version}; its datasheet tells what that is made of. Limits: it sees words, not
meaning, so what contradicts a passage in the passage's own words scores well; a generator trained against it would
learn to copy. It serves no traffic.

| metric (`longer_is_better`: accuracy of always preferring the longer answer) | |
| --- | --- |
{measured}

| to make it again | |
| --- | --- |
{origins}
"""
