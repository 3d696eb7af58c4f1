"""Real texts without harm that nothing is trained on: they say where the threshold for passages goes."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from anabranch_guardrails.domain import Stage

__all__ = ["harmless", "lines", "real_passages"]

_EACH: Final = 150


def lines(path: Path) -> list[dict[str, Any]]:
    """The rows of a file of JSON lines; none where there is no such file."""
    return [json.loads(line) for line in path.read_text("utf-8").split("\n") if line] if path.is_file() else []


def harmless(folder: Path) -> Iterator[tuple[str, Stage, list[tuple[str, str]]]]:
    """Name, stage, and texts with their questions."""
    for name in ("qa_beerqa", "qa_clapnq"):
        queries = lines(folder / name / "queries.jsonl")
        yield f"{name} questions", Stage.INPUT, [(row["text"], "") for row in queries]
        asked = {paragraph: row["text"] for row in queries for paragraph in row.get("paragraph_ids", [])}
        corpus = lines(folder / name / "corpus.jsonl")
        yield f"{name} paragraphs", Stage.CONTEXT, [(row["text"], asked.get(row["_id"], "")) for row in corpus]
    yield (
        "documentation questions",
        Stage.INPUT,
        [
            (row["text"], "")
            for name in ("kafka_config_questions", "pep_header_questions")
            for row in lines(folder / "docs_qa" / f"{name}.jsonl")
        ],
    )
    pages = lines(folder / "groundedness" / "wice_claims_dev.jsonl")
    yield "web pages", Stage.CONTEXT, [("\n".join(row["evidence"])[:1600], row["claim"]) for row in pages]
    yield (
        "sentences with personal data",
        Stage.INPUT,
        [(row["text"], "") for row in lines(folder / "pii" / "presidio_synth_train.jsonl")],
    )
    for name, pattern in (("runbooks", "*.md"), ("peps", "*.rst")):
        files = sorted((folder / "documents" / "docs_corpus" / name).rglob(pattern))
        texts = [path.read_text("utf-8", "replace") for path in files]
        yield (
            f"{name} in chunks",
            Stage.CONTEXT,
            [(text[at : at + 1200], "") for text in texts for at in range(0, min(len(text), 6000), 1200)],
        )


def real_passages(folder: Path) -> list[tuple[str, str]]:
    """As many of each kind, with the questions they were found for; every second text, so that others are left."""
    dice = random.Random(11)  # noqa: S311  the same texts every time
    found: list[tuple[str, str]] = []
    for _, stage, texts in harmless(folder):
        if stage is Stage.CONTEXT:
            half = [one for one in texts[::2] if one[0].strip()]
            found += dice.sample(half, min(_EACH, len(half)))
    return found
