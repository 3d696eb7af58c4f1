"""Datasets on disk, in the BEIR layout: corpus.jsonl, queries.jsonl, qrels.tsv."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from anabranch_faults import Invalid

__all__ = ["matching", "read_jsonl", "read_qrels", "read_queries"]


def read_jsonl(path: Path) -> Iterator[dict[str, Any]]:
    """Rows of a JSONL file. Raises Invalid with the line at fault."""
    if not path.is_file():
        raise Invalid(f"{path} does not exist", field="dataset")
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise Invalid(f"{path.name} line {number} is not JSON: {error}", field="dataset") from error
            if not isinstance(row, dict):
                raise Invalid(f"{path.name} line {number} is not an object", field="dataset")
            yield row


def read_queries(path: Path) -> list[dict[str, Any]]:
    """Rows with `_id` and `text`."""
    rows = list(read_jsonl(path))
    for number, row in enumerate(rows, start=1):
        if not row.get("_id") or not row.get("text"):
            raise Invalid(f"{path.name} row {number} needs `_id` and `text`", field="dataset")
    if not rows:
        raise Invalid(f"{path.name} holds no query", field="dataset")
    return rows


def read_qrels(path: Path) -> dict[str, dict[str, int]]:
    """Query id -> document id -> relevance, from a TSV with the header `query-id corpus-id score`."""
    if not path.is_file():
        raise Invalid(f"{path} does not exist", field="dataset")
    qrels: dict[str, dict[str, int]] = {}
    with path.open(encoding="utf-8", newline="") as lines:
        for row in csv.DictReader(lines, delimiter="\t"):
            try:
                qrels.setdefault(row["query-id"], {})[row["corpus-id"]] = int(row["score"])
            except (KeyError, TypeError, ValueError) as error:
                raise Invalid(f"{path.name}: {row} is not query-id, corpus-id, score", field="dataset") from error
    return qrels


def matching(rows: list[dict[str, Any]], conditions: Mapping[str, str]) -> list[dict[str, Any]]:
    """Rows whose fields equal the conditions, compared as JSON scalars or text (`multi_hop=false`, `source=squad`)."""

    def same(value: Any, wanted: str) -> bool:
        return str(value) == wanted or json.dumps(value) == wanted

    return [row for row in rows if all(same(row.get(name), wanted) for name, wanted in conditions.items())]
