"""Answers with one thing wrong in them: a number, a name, a negation, or a sentence that nothing bears out."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from anabranch_grounding import sentences_of

__all__ = ["WRONG", "Claim", "perturbed"]

WRONG: Final = ("number", "name", "negation", "addition")
"""What can be wrong."""
_NUMBER: Final = re.compile(r"(?<![\w.,])\d[\d,]*(?:\.\d+)?(?!\w)")
_NAME: Final = re.compile(r"(?<![.!?]\s)(?<!^)(?<![\"'(])\b[A-ZÀ-Þ][a-zà-ÿ]{2,}(?: [A-ZÀ-Þ][a-zà-ÿ]{2,})*")
_VERB: Final = re.compile(r"\b(is|was|are|were|has|have|had|can|could|will|would|did|does|do|may|should)\b( not)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """An answer and what it was drawn from; `wrong` says what is wrong with it, empty for nothing."""

    group: str
    answer: str
    contexts: tuple[str, ...]
    source: str
    wrong: str = ""


def perturbed(claims: Sequence[Claim], seed: int) -> Iterator[Claim]:
    """Each claim, and up to four versions of it of which nothing bears out one part; the same for the same seed."""
    source = random.Random(seed)  # noqa: S311  an order is no secret
    names = [name for claim in claims for name in _NAME.findall(" ".join(claim.contexts)[:600])]
    additions = [
        (claim.group, part)
        for claim in claims
        for part in sentences_of(claim.answer)
        if 30 < len(part) < 300  # noqa: PLR2004  a sentence
    ]
    for claim in claims:
        yield claim
        held = " ".join(claim.contexts)
        others = [part for group, part in source.sample(additions, min(5, len(additions))) if group != claim.group]
        made: tuple[tuple[str, Callable[[], str | None]], ...] = (
            ("number", lambda claim=claim, held=held: _other_number(source, claim.answer, held)),  # type: ignore[misc] # bound now
            ("name", lambda claim=claim, held=held: _other_name(source, claim.answer, held, names)),  # type: ignore[misc] # bound now
            ("negation", lambda claim=claim: _turned(source, claim.answer)),  # type: ignore[misc] # bound now
            ("addition", lambda claim=claim, others=others: _more(source, claim.answer, others)),  # type: ignore[misc] # bound now
        )
        for wrong, make in made:
            answer = make()
            if answer and answer != claim.answer:
                yield replace(claim, answer=answer, wrong=wrong)


def _other_number(source: random.Random, answer: str, held: str) -> str | None:
    matches = list(_NUMBER.finditer(answer))
    if not matches:
        return None
    match = source.choice(matches)
    shown = match.group()
    others = [other for other in _NUMBER.findall(held) if other != shown and other not in answer]
    other = source.choice(others) if others and source.random() < 0.3 else _changed(source, shown)  # noqa: PLR2004  a share
    return None if other == shown else answer[: match.start()] + other + answer[match.end() :]


def _changed(source: random.Random, shown: str) -> str:
    plain = shown.replace(",", "")
    if "." in plain:
        return f"{float(plain) * source.choice((0.5, 1.3, 2)):.1f}"
    value = int(plain)
    if re.fullmatch(r"[12]\d{3}", plain):
        return str(value + source.choice((-30, -12, -7, -2, -1, 1, 2, 3, 9, 15)))
    value = max(0, value + source.choice((-value // 2 - 1, 1, 2, 3, 10, value + 1)))
    return f"{value:,}" if "," in shown else str(value)


def _other_name(source: random.Random, answer: str, held: str, names: Sequence[str]) -> str | None:
    matches = list(_NAME.finditer(answer))
    if not matches:
        return None
    match = source.choice(matches)
    near = [name for name in _NAME.findall(held) if name not in answer]
    other = source.choice(near) if near and source.random() < 0.4 else source.choice(names)  # noqa: PLR2004  a share
    return None if other in answer else answer[: match.start()] + other + answer[match.end() :]


def _turned(source: random.Random, answer: str) -> str | None:
    matches = list(_VERB.finditer(answer))
    if not matches:
        return None
    match = source.choice(matches)
    if match.group(2):
        return answer[: match.start()] + match.group(1) + answer[match.end() :]
    chance = source.random()
    word = " not" if chance < 0.7 else " never"  # noqa: PLR2004  a share
    if chance > 0.85 and match.group(1) in {"is", "was", "are", "were"}:  # noqa: PLR2004  a share
        word = "n't"
    return answer[: match.end()] + word + answer[match.end() :]


def _more(source: random.Random, answer: str, others: Sequence[str]) -> str | None:
    return f"{answer.rstrip()} {source.choice(others)}" if others else None
