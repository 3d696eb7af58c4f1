"""Texts from templates, and documents from lines."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import yaml

__all__ = ["ATTACKS", "CARRIERS", "EXTRACTION", "PASSAGES", "PROMPTS", "TASKS", "Families", "document", "filled"]

Families = Mapping[str, Sequence[str]]

_HERE: Final = Path(__file__).parent
_SLOT: Final = re.compile(r"\{(\w+)\}")
_DEPTH: Final = 4


def _stored(name: str) -> Mapping[str, Families]:
    found: Mapping[str, Families] = yaml.safe_load((_HERE / f"{name}.yaml").read_text("utf-8"))
    return found


_SLOTS: Final[Families] = yaml.safe_load((_HERE / "phrases.yaml").read_text("utf-8"))
ATTACKS: Final = _stored("attacks")["attacks"]
EXTRACTION: Final = _stored("attacks")["extraction"]
PASSAGES: Final = _stored("attacks")["passages"]
TASKS: Final = _stored("attacks")["tasks"]
PROMPTS: Final = _stored("benign")["prompts"]
CARRIERS: Final = _stored("carriers")["carriers"]

_SPACED: Final = frozenset({"manual", "prose"})
"""Kinds whose sentences stand in paragraphs; the others' stand on lines."""


def filled(template: str, dice: random.Random) -> str:
    """The template with each slot filled; what fills a slot may hold slots of its own."""
    for _ in range(_DEPTH):
        if "{" not in template:
            break
        template = _SLOT.sub(lambda match: dice.choice(_SLOTS[match[1]]) if match[1] in _SLOTS else match[0], template)
    return re.sub(r" {2,}", " ", template).strip()


def document(
    kind: str,
    dice: random.Random,
    *,
    lines: Sequence[str] = (),
    attack: str = "",
    sentences: tuple[int, int] = (5, 22),
) -> str:
    """A document of that kind, with the attack somewhere in it if one is given: in a cell or a comment now and then.

    Made of `lines`, if there are any, and otherwise of all lines of that kind.
    """
    lines = [filled(dice.choice(lines or CARRIERS[kind]), dice) for _ in range(dice.randint(*sentences))]
    if attack:
        place = dice.choice((0, len(lines), dice.randint(0, len(lines)), dice.randint(0, len(lines))))
        inside = dice.randrange(2)
        if kind == "table" and inside:
            attack = f"| {attack} | {filled('{place}', dice)} | {filled('{number}', dice)} |"
        elif kind == "code" and inside:
            attack = f"# {attack}"
        lines.insert(place, attack)
    return (" " if kind in _SPACED else "\n").join(lines)
