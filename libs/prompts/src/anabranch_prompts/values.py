"""What a prompt is: immutable, named by its content."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from anabranch_faults import Invalid
from anabranch_prompts.plain import plain

MAX_TEMPLATE: Final = 32_768
"""Characters of one template."""
MAX_PROMPT: Final = 262_144
"""Characters of all of a prompt's templates and included pieces."""
MAX_RENDERED: Final = 1_048_576
"""Characters of what is rendered."""
MAX_TESTS: Final = 100
MAX_MODELS: Final = 32
MAX_INCLUDES: Final = 32
MAX_STOPS: Final = 16
MAX_TOKENS: Final = 32_768
MAX_TEMPERATURE: Final = 2.0
PLATFORM: Final = frozenset(("question", "contexts", "history", "variables"))
"""Names that the platform gives to every template."""
NAME: Final = re.compile(r"[a-z0-9][a-z0-9.-]{0,127}")
VERSION: Final = re.compile(r"p-[0-9a-f]{12}")
LABEL: Final = re.compile(r"(?!p-[0-9a-f]{12}\Z)[a-z0-9-]{1,64}")
WORD: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelPrompt:
    """What other models are told: those whose name fits `models`, with `*` for any run of characters."""

    models: str
    system: str = ""
    template: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptTest:
    """A case: what has to stand, and must not stand, in what is rendered. `matches` are RE2 patterns.

    `variables` may also give `question`, `contexts` and `history`; what it leaves out is a short sample.
    """

    name: str
    variables: Mapping[str, Any] = field(default_factory=dict)
    contains: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()
    matches: tuple[str, ...] = ()
    model: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptTemplate:
    """A template with its variables. Checks nothing: see `check`. `included` is alias -> text of what is included."""

    name: str
    prompt_version: str = ""
    description: str = ""
    system: str = ""
    template: str = ""
    variables: Mapping[str, Any] = field(default_factory=dict)
    temperature: float = 0.0
    max_tokens: int = 0
    stop: tuple[str, ...] = ()
    models: tuple[ModelPrompt, ...] = ()
    includes: Mapping[str, str] = field(default_factory=dict)
    tests: tuple[PromptTest, ...] = ()
    included: Mapping[str, str] = field(default_factory=dict)

    def for_model(self, model: str) -> tuple[str, str]:
        """System and template for a model: the first variant whose pattern fits its name, else the plain ones."""
        for variant in self.models:
            if model and fits(variant.models, model):
                return variant.system, variant.template
        return self.system, self.template


@dataclass(frozen=True, slots=True)
class Reference:
    """`name@label` or `name@p-...`; one of label and version is empty."""

    name: str
    label: str
    version: str

    def __str__(self) -> str:
        """As it is written."""
        return f"{self.name}@{self.label or self.version}"


def reference(text: str, *, field: str = "prompt") -> Reference:
    """Reads a reference. Raises Invalid naming `field`."""
    name, _, which = text.partition("@")
    if NAME.fullmatch(name):
        if VERSION.fullmatch(which):
            return Reference(name, "", which)
        if LABEL.fullmatch(which):
            return Reference(name, which, "")
    raise Invalid(
        f"is {text[:200]!r}; it must be name@label or name@p-0123456789ab, as in support@production",
        field=field,
        reason="NOT_A_REFERENCE",
    )


def fits(pattern: str, model: str) -> bool:
    """Whether a model's name fits a pattern in which `*` stands for any run of characters."""
    first, *others = pattern.split("*")
    if not others:
        return model == pattern
    if not model.startswith(first):
        return False
    at = len(first)
    *between, last = others
    for part in between:
        found = model.find(part, at)
        if found < 0:
            return False
        at = found + len(part)
    return len(model) - at >= len(last) and model.endswith(last)


def content_address(prompt: PromptTemplate) -> str:
    """`p-` and the first 12 hex digits of the sha256 over the canonical form of all but version and description."""
    form = {
        "name": prompt.name,
        "system": prompt.system,
        "template": prompt.template,
        "variables": plain(prompt.variables),
        "temperature": plain(float(prompt.temperature)),
        "max_tokens": prompt.max_tokens,
        "stop": list(prompt.stop),
        "models": [[one.models, one.system, one.template] for one in prompt.models],
        "includes": dict(prompt.includes),
        "tests": [_test(test) for test in prompt.tests],
        "included": dict(prompt.included),
    }
    text = json.dumps(form, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return f"p-{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:12]}"


def _test(test: PromptTest) -> Sequence[Any]:
    lists = [list(test.contains), list(test.lacks), list(test.matches)]
    return [test.name, plain(test.variables), *lists, test.model]
