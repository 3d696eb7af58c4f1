"""Real texts without harm: a quarter is trained on, a quarter says where the threshold for passages goes.

The other half is measured only (`bench/heads.py`).
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from anabranch_guardrails.domain import Stage
from services.guardrails.training.texts import FOLDS, Row

__all__ = ["SOURCES", "digests", "harmless", "lines", "real_passages", "real_rows"]

_EACH: Final = 200


SOURCES: Final = {
    "qa_beerqa/corpus.jsonl": "SQuAD and HotpotQA paragraphs (CC BY-SA 4.0)",
    "qa_beerqa/queries.jsonl": "SQuAD and HotpotQA questions (CC BY-SA 4.0)",
    "qa_clapnq/corpus.jsonl": "CLAP NQ (Apache-2.0)",
    "qa_clapnq/queries.jsonl": "CLAP NQ (Apache-2.0)",
    "groundedness/wice_claims_dev.jsonl": "WiCE (annotations ODC-BY; text of web pages as cited)",
    "documents/docs_corpus/runbooks": "Prometheus operator's runbooks (Apache-2.0)",
    "documents/docs_corpus/peps": "PEPs (public domain, CC0)",
}


def digests(folder: Path) -> dict[str, str]:
    """Of the files, and of folders: of their files' names and digests, one a line, sorted."""
    found = {}
    for name in SOURCES:
        path = folder / name
        if path.is_dir():
            files = sorted(one for one in path.rglob("*") if one.is_file())
            told = "".join(
                f"{one.relative_to(path).as_posix()} {hashlib.sha256(one.read_bytes()).hexdigest()}\n" for one in files
            )
            found[name] = hashlib.sha256(told.encode()).hexdigest()
        elif path.is_file():
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def lines(path: Path) -> list[dict[str, Any]]:
    """The rows of a file of JSON lines; none where there is no such file."""
    return [json.loads(line) for line in path.read_text("utf-8").split("\n") if line] if path.is_file() else []


def harmless(folder: Path) -> Iterator[tuple[str, Stage, list[tuple[str, str]]]]:
    """Name, stage, and texts with their questions."""
    known = {row["text"].strip() for row in lines(folder / "guardrails" / "indirect_documents_composed.jsonl")}
    for name in ("qa_beerqa", "qa_clapnq"):
        queries = lines(folder / name / "queries.jsonl")
        yield f"{name} questions", Stage.INPUT, [(row["text"], "") for row in queries]
        asked = {paragraph: row["text"] for row in queries for paragraph in row.get("paragraph_ids", [])}
        corpus = lines(folder / name / "corpus.jsonl")
        yield (
            f"{name} paragraphs",
            Stage.CONTEXT,
            [(row["text"], asked.get(row["_id"], "")) for row in corpus if row["text"].strip() not in known],
        )
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
        yield f"{name} in chunks", Stage.CONTEXT, [(chunk, "") for chunk in _chunks(texts)]


def _chunks(texts: list[str]) -> list[str]:
    """Their beginnings in chunks, so that of every four chunks in a row the first are of some files, and so on."""
    quarters = [
        [text[at : at + 1200] for text in texts[quarter::4] for at in range(0, min(len(text), 6000), 1200)]
        for quarter in range(4)
    ]
    return [chunk for row in zip(*quarters, strict=False) for chunk in row]


def real_passages(folder: Path, *, start: int = 2) -> list[tuple[str, str]]:
    """As many of each kind, with the questions they were found for: every fourth text from `start` on.

    0: trained on; 2: for the threshold; 1 and 3 are measured only.
    """
    dice = random.Random(11)  # noqa: S311  the same texts every time
    found: list[tuple[str, str]] = []
    for _, stage, texts in harmless(folder):
        if stage is Stage.CONTEXT:
            part = [one for one in texts[start::4] if one[0].strip()]
            found += dice.sample(part, min(_EACH, len(part)))
    return found


def real_rows(folder: Path) -> list[Row]:
    """Those that are trained on."""
    return [
        Row(text=text, label=0, source="real text", fold=number % FOLDS, question=question)
        for number, (text, question) in enumerate(real_passages(folder, start=0))
    ]
