"""The files of a data set and of a reranker."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from anabranch_artifacts.bom import Dataset, ml_bom
from anabranch_artifacts.contents import digests
from anabranch_training.adapters.learners import train_reranker, write_reranker
from anabranch_training.adapters.workshop.origin import LIBRARIES, origin_of
from anabranch_training.adapters.workshop.papers import card_of, datasheet_of
from anabranch_training.domain import Judgment, RankingDataset, RankingRow, build_ranking_dataset

__all__ = ["dataset_of", "write_dataset", "write_model"]


def dataset_of(order: Mapping[str, Any], judgments: Sequence[Judgment]) -> RankingDataset:
    """The data set of the order. Raises Invalid for judgments that teach nothing."""
    return build_ranking_dataset(judgments, per_user_cap=order["per_user_cap"], seed=order["seed"])


def write_dataset(order: Mapping[str, Any], made: RankingDataset, folder: Path) -> dict[str, Any]:
    """Writes rows and datasheet; returns the entry."""
    counts = {
        **made.counts,
        "rows": len(made.rows) + len(made.held_out),
        "held_out": len(made.held_out),
        "feedback": order["feedback"],
        "dropped_by_cap": made.dropped_by_cap,
        "dropped_as_outlier": made.dropped_as_outlier,
        "withdrawn": order["withdrawn"],
        "consent_denied": order["denied"],
    }
    sheet = datasheet_of(order, made, counts)
    _write_rows(folder / "train.jsonl", made.rows)
    _write_rows(folder / "held_out.jsonl", made.held_out)
    (folder / "datasheet.md").write_text(sheet, encoding="utf-8")
    return {
        "kind": "ranking",
        "counts": counts,
        "first": made.first.isoformat(),
        "last": made.last.isoformat(),
        "datasheet": sheet,
        "documents": sorted({row.document for row in (*made.rows, *made.held_out)}),
    }


def write_model(
    order: Mapping[str, Any], made: RankingDataset, about: Mapping[str, Any], folder: Path
) -> dict[str, Any]:
    """Learns, writes the model with card and bill of materials; returns the entry."""
    model = train_reranker(made, seed=order["seed"], reverse=order["reverse_labels"])
    write_reranker(model, folder)
    kept = json.loads((folder / "reranker.json").read_text(encoding="utf-8"))
    parameters = {**model.parameters, "per_user_cap": str(order["per_user_cap"])}
    origin = origin_of(seed=order["seed"], dataset_digest=about["digest"], parameters=parameters)
    card = card_of(order, about["version"], model, origin)
    (folder / "card.md").write_text(card, encoding="utf-8")
    bom = ml_bom(
        name="reranker",
        kind="reranker",
        made_at=made.last,
        description=f"Reranker for {order['tenant']}/{order['corpus']}",
        algorithm=model.algorithm,
        task="reranking",
        datasets=[Dataset(name="feedback", version=about["version"], digest=about["digest"])],
        libraries=LIBRARIES,
        files=digests(folder),
        metrics=model.metrics,
        properties=origin,
    )
    (folder / "bom.json").write_text(bom, encoding="utf-8")
    return {
        "kind": "reranker",
        "format": kept["format"],
        "algorithm": model.algorithm,
        "feature_set": model.feature_set,
        "metrics": dict(model.metrics),
        "parameters": parameters,
        "provenance": origin,
        "card": card,
        "declined": model.declined,
    }


def _write_rows(path: Path, rows: Sequence[RankingRow]) -> None:
    names = sorted(field.name for field in fields(RankingRow))
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps({name: getattr(row, name) for name in names}) + "\n" for row in rows)
