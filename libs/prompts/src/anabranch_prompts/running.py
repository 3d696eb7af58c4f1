"""One rendering: what it may spend, and what it has put out."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from time import thread_time
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from anabranch_prompts.plain import Data, Label
from anabranch_prompts.values import MAX_RENDERED

if TYPE_CHECKING:
    from anabranch_prompts.program import Program

STEPS: Final = 60_000
"""What one rendering may spend: a step is a node of the template, or some hundred characters handled."""
CPU_SECONDS: Final = 0.08
"""A belt to the braces: steps bound the work the same way on every machine, this bounds it on a slow one."""
MAX_NESTING: Final = 24
MAX_INCLUDED: Final = 4
MAX_NUMBER: Final = 2**53
_CHARACTERS_A_STEP: Final = 128
_LOOK_EVERY: Final = 64

Names: TypeAlias = dict[str, Any]
Expression: TypeAlias = Callable[["Run", Names], Any]
Statement: TypeAlias = Callable[["Run", Names], None]


class Broken(Exception):  # noqa: N818  caught by the renderer, which knows which template it was
    """The template cannot go on; `line` is 0 where none is known. `size` is set when it asked for too much."""

    def __init__(self, problem: str, *, line: int = 0, size: bool = False, name: str = "") -> None:
        """`name` is the variable that is to blame, if one is."""
        super().__init__(problem)
        self.problem = problem
        self.line = line
        self.size = size
        self.name = name


@dataclass(frozen=True, slots=True)
class Missing:
    """Stands for what is not there; only `is defined` and `default` may touch it."""

    name: str
    root: str


@dataclass(slots=True)
class Run:
    """The state of one rendering. `mark` says how text from outside is put out."""

    mark: Callable[[str, type[str]], str]
    included: Mapping[str, Program]
    steps: int = STEPS
    until: float = field(default_factory=lambda: thread_time() + CPU_SECONDS)
    pieces: list[str] = field(default_factory=list)
    size: int = 0
    depth: int = 0
    look_at: int = STEPS

    def spend(self, steps: int = 1) -> None:
        """Raises Broken when there is nothing left to spend."""
        self.steps -= steps
        if self.steps < self.look_at:
            self.look_at = self.steps - _LOOK_EVERY
            if self.steps < 0 or thread_time() > self.until:
                raise Broken("takes too many steps: shorten its loops, or what they go over", size=True)

    def read(self, text: str) -> None:
        """Charges for handling a text."""
        self.spend(1 + len(text) // _CHARACTERS_A_STEP)

    def weigh(self, value: Any, nesting: int = 0) -> type[str]:
        """Charges for walking a value; returns the least trusted kind of text in it."""
        if isinstance(value, str):
            self.read(value)
            return type(value)
        self.spend()
        if not isinstance(value, list | dict):
            return str
        if nesting >= MAX_NESTING:
            raise Broken(f"makes a value nested over {MAX_NESTING} deep", size=True)
        kind: type[str] = str
        for inner in value if isinstance(value, list) else value.values():
            kind = worse(kind, self.weigh(inner, nesting + 1))
        if isinstance(value, dict):
            for key in value:
                kind = worse(kind, self.weigh(key, nesting + 1))
        return kind

    def put(self, text: str) -> None:
        """Puts out a text of the template itself."""
        self.read(text)
        self.size += len(text)
        if self.size > MAX_RENDERED:
            raise Broken(f"renders to more than {MAX_RENDERED} characters", size=True)
        self.pieces.append(text)

    def show(self, value: Any) -> None:
        """Puts out a value; text from outside as the data that it is."""
        text = self.text(value)
        self.put(self.mark(text, type(text)) if isinstance(text, Data) else text)

    def text(self, value: Any) -> str:
        """A value as text, as little trusted as the least trusted in it; lists and maps as JSON."""
        if isinstance(value, str):
            return value
        kind = self.weigh(value)
        if isinstance(value, list | dict):
            written = kind(json.dumps(value, ensure_ascii=False))
            self.read(written)
            return written
        return str(value)


def worse(one: type[str], other: type[str]) -> type[str]:
    """The less trusted of two kinds of text."""
    if Data in (one, other):
        return Data
    return Label if Label in (one, other) else str


def number(value: float) -> float:
    """A number that is one of JSON, and small enough to be exact. Raises Broken."""
    if not math.isfinite(value):
        raise Broken("reckons to no number")
    if abs(value) > MAX_NUMBER:
        raise Broken(f"reckons to a number beyond {MAX_NUMBER}", size=True)
    return value


def is_number(value: object) -> bool:
    """Whether it can be reckoned with."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def kind_of(value: object) -> str:
    """What a value is called to people."""
    names: Mapping[type, str] = {
        bool: "a truth value",
        int: "a number",
        float: "a number",
        list: "a list",
        dict: "a map",
    }
    return "text" if isinstance(value, str) else names.get(type(value), "nothing")
