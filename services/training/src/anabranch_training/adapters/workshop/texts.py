"""The files of a data set of words, in TRL's format."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from anabranch_training.domain.opinions import Opinion
from anabranch_training.domain.prompts import prompt_of
from anabranch_training.domain.runs import DatasetKind
from anabranch_training.domain.texts import TextDataset, TextRow, build_text_dataset

__all__ = ["text_dataset_of", "trl_row", "write_text_dataset"]

_ABOUT = {
    DatasetKind.PREFERENCE: ("Preferences", "`prompt`, `chosen`, `rejected`: of two answers, the better one"),
    DatasetKind.SFT: ("Corrections", "`prompt`, `completion`: what the answer should have been"),
}


def text_dataset_of(order: Mapping[str, Any], opinions: Sequence[Opinion]) -> TextDataset:
    """The data set of the order. Raises Invalid for opinions that teach nothing."""
    return build_text_dataset(
        opinions, kind=DatasetKind(order["kind"]), per_user_cap=order["per_user_cap"], seed=order["seed"]
    )


def write_text_dataset(order: Mapping[str, Any], made: TextDataset, folder: Path) -> dict[str, Any]:
    """Writes rows, where each comes from, and the datasheet; returns the entry."""
    counts = {
        **made.counts,
        "rows": len(made.rows) + len(made.held_out),
        "held_out": len(made.held_out),
        "feedback": order["feedback"],
        "consent_denied": order["denied"],
    }
    sheet = _datasheet(order, made, counts)
    for name, rows in (("train", made.rows), ("held_out", made.held_out)):
        _write(folder / f"{name}.jsonl", [trl_row(row) for row in rows])
        _write(folder / f"{name}.origin.jsonl", [_origin(row) for row in rows])
    (folder / "datasheet.md").write_text(sheet, encoding="utf-8")
    every = (*made.rows, *made.held_out)
    return {
        "kind": made.kind.value,
        "counts": counts,
        "first": made.first.isoformat(),
        "last": made.last.isoformat(),
        "datasheet": sheet,
        "documents": sorted({one.document for row in every for one in row.served.passages}),
    }


def trl_row(row: TextRow) -> dict[str, Any]:
    """A row as TRL's trainers take it."""

    def said(text: str) -> list[dict[str, str]]:
        return [{"role": "assistant", "content": text}]

    prompt = prompt_of(row.served.question, row.served.passages)
    if row.rejected:
        return {"prompt": prompt, "chosen": said(row.chosen), "rejected": said(row.rejected)}
    return {"prompt": prompt, "completion": said(row.chosen)}


def _origin(row: TextRow) -> dict[str, Any]:
    return {"question": row.served.key, "documents": row.about, "sources": row.sources, "votes": row.votes}


def _write(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, sort_keys=True, ensure_ascii=False) + "\n" for row in rows)


def _datasheet(order: Mapping[str, Any], made: TextDataset, counts: Mapping[str, int]) -> str:
    title, rows = _ABOUT[made.kind]
    sources = "\n".join(f"| {name} | {number} |" for name, number in made.sources.items())
    numbers = "\n".join(f"| {name} | {number} |" for name, number in sorted(counts.items()))
    return f"""# {title} of {order["tenant"]}/{order["corpus"]}

TRL's conversational format, one JSON object a line: {rows}. The prompt is generation's default one, with the passages
that were shown. Line for line beside it in `*.origin.jsonl`: digest of the question, documents, kinds of feedback, and
votes (people for it less people against it). **Free text of people and passages is in it**; nobody's name is.

| source | opinions |
| --- | --- |
{sources}

| count | |
| --- | --- |
{numbers}

- time span: {made.first.isoformat()} to {made.last.isoformat()}
- consent: given or not refused by everyone in it; {order["denied"]} feedbacks kept out because it was refused
- erasure: what was withdrawn before it was made was not handed out by the feedback service and is not counted here
- personal data: corrections as stored, that is redacted when they came; questions and answers as they were recorded
- filters: at most {order["per_user_cap"]} opinions a person; answers recorded without their words; two answers that say
  the same; preferences between answers to different questions; pairs on which as many people say one as the other
- judged answers pair only where everyone called the one good and everyone the other bad
- held out: questions by the document their answers are about; no question and no such document is in both parts
"""
