"""The check `length`: how much a text asks for before anything is made of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from anabranch_guardrails.adapters.options import Options
from anabranch_guardrails.domain import Finding, Subject

__all__ = ["Length", "configured", "estimated_tokens"]

VERSION: Final = "length-1"
_A_TOKEN: Final = 4
"""Bytes of UTF-8 that make about one token."""


class Length:
    """Finds texts that are too long, or would cost too much."""

    name = "length"
    version = VERSION

    def __init__(self, *, characters: int, tokens: int, micros: int, price: float) -> None:
        """The most of each; `price` in micro-dollars a thousand tokens; 0: no such limit."""
        self._characters = characters
        self._tokens = tokens
        self._micros = micros
        self._price = price

    def look(self, subject: Subject) -> Finding:
        """1 where a limit is passed, else 0. Turns before count as tokens and cost, not as characters."""
        over: list[str] = []
        size = len(subject.text)
        if self._characters and size > self._characters:
            over.append(f"{size} characters, {self._characters} are allowed")
        if self._tokens or self._micros:
            tokens = estimated_tokens((subject.text, *subject.turns))
            cost = tokens * self._price / 1_000
            if self._tokens and tokens > self._tokens:
                over.append(f"about {tokens} tokens, {self._tokens} are allowed")
            if self._micros and cost > self._micros:
                over.append(f"about {cost:.0f} micro-dollars, {self._micros} are allowed")
        return Finding(score=1.0 if over else 0.0, reason="; ".join(over))


def configured(options: Mapping[str, object]) -> Length:
    """`characters` (default 4096), `tokens`, `micros` with `micros_per_1000_tokens`."""
    read = Options(options, known=("characters", "tokens", "micros", "micros_per_1000_tokens"))
    micros = read.whole("micros", default=0, low=0, high=10**12)
    price = read.number("micros_per_1000_tokens", default=0.0, low=0.0, high=1e9)
    if micros and not price:
        raise read.fault("micros", "says nothing without micros_per_1000_tokens")
    return Length(
        characters=read.whole("characters", default=4_096, low=0, high=10**8),
        tokens=read.whole("tokens", default=0, low=0, high=10**8),
        micros=micros,
        price=price,
    )


def estimated_tokens(texts: Iterable[str]) -> int:
    """About how many tokens a model makes of them: a quarter of their bytes, and one for what is left of each."""
    return sum(-(-len(text.encode("utf-8", "replace")) // _A_TOKEN) for text in texts)
