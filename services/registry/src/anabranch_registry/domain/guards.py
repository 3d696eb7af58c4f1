"""Guardrail policies: what may be declared, what is inherited, and where one holds."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, ClassVar, Final

from anabranch_registry.domain.content import plain, version_of
from anabranch_registry.domain.known import CHECKS
from anabranch_registry.domain.routing import Change

__all__ = ["Attachment", "GuardPolicy", "Pattern", "faults_of_guards", "inherited", "is_policy_version"]

Pattern = Callable[[str], str]
"""Says what is wrong with an RE2 pattern; empty: nothing."""

_VERSION: Final = re.compile(r"gp-[0-9a-f]{12}")
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_KIND: Final = re.compile(r"[A-Z][A-Z0-9_]{0,63}")
_MAX_RULES: Final = 200
_MAX_ALLOW: Final = 2_000
_MAX_KINDS: Final = 64
_MAX_PATTERN: Final = 1_000
_MAX_TEXT: Final = 4_096
_MAX_DESCRIPTION: Final = 4_000
_MAX_MESSAGE: Final = 1_000
_MAX_TEXTS: Final = 1_000
_STAGES: Final = ("input", "context", "output", "ingestion")
_SHAPES: Final[Mapping[str, Callable[[Any], bool]]] = {
    "integer": lambda value: isinstance(value, (int, float)) and not isinstance(value, bool) and value == int(value),
    "number": lambda value: isinstance(value, (int, float)) and not isinstance(value, bool),
    "boolean": lambda value: isinstance(value, bool),
    "object": lambda value: isinstance(value, Mapping),
    "examples": lambda value: isinstance(value, Mapping),
}
_LONGEST_TIMEOUT: Final = timedelta(seconds=30)
_LONGEST_HOLD_BACK: Final = timedelta(seconds=5)


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardPolicy:
    """An immutable policy: registry.v1.GuardPolicy field by field, with all that it inherits."""

    noun: ClassVar[str] = "guard-policy"

    policy_version: str
    document: Mapping[str, Any]
    change: Change

    @classmethod
    def of(cls, document: Mapping[str, Any], change: Change) -> GuardPolicy:
        """Return the policy under its content's name."""
        version = version_of("gp-", document, without=frozenset({"policy_version", "description"}))
        return cls(policy_version=version, document=plain({**document, "policy_version": version}), change=change)

    @property
    def key(self) -> str:
        """Its version."""
        return self.policy_version


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    """The policy of a scope; an empty version says that it has none of its own."""

    noun: ClassVar[str] = "attachment"

    scope: str
    policy_version: str
    previous_version: str
    revision: int
    change: Change

    @property
    def key(self) -> str:
        """Its scope."""
        return self.scope


def is_policy_version(text: str) -> bool:
    """Could this be a policy's version?"""
    return _VERSION.fullmatch(text) is not None


def inherited(given: Mapping[str, Any], parent: Mapping[str, Any] | None) -> tuple[dict[str, Any], list[str]]:
    """Return a declaration with what it inherits, and what cannot be.

    The parent's rules come first; one with the same check and stage takes its place, one that is `disabled` takes it
    off. Allow lists are joined. Of everything else, what the declaration leaves out is the parent's.
    """
    document = dict(given)
    rules: dict[tuple[str, str], Any] = {}
    if parent is not None:
        kept = {key: value for key, value in parent.items() if key not in ("policy_version", "description", "inherits")}
        document = {**kept, **given}
        rules = {(rule["check"], rule["stage"]): rule for rule in parent.get("rules", ())}
        allow = [*parent.get("allow", ()), *given.get("allow", ())]
        document["allow"] = [entry for index, entry in enumerate(allow) if entry not in allow[:index]]
    faults: list[str] = []
    for index, rule in enumerate(given.get("rules", ())):
        place = rule.get("check", ""), rule.get("stage", "")
        if not rule.get("disabled"):
            rules[place] = rule
        elif rules.pop(place, None) is None:
            faults.append(f"rules[{index}].disabled: takes off nothing: no such rule is inherited")
    document["rules"] = list(rules.values())
    # What says "none" was needed to outdo the parent, and makes no difference by itself.
    return {key: value for key, value in document.items() if value not in ("", False, [])}, faults


def faults_of_guards(document: Mapping[str, Any], pattern: Pattern) -> list[str]:
    """Return all that is wrong with a declaration, a line each; `pattern` looks at RE2 patterns."""
    faults: list[str] = []
    if not _NAME.fullmatch(document.get("name", "")):
        faults.append(f"name: {document.get('name', '')!r} is not [A-Za-z0-9][A-Za-z0-9._-]{{0,127}}")
    for name, most in (("description", _MAX_DESCRIPTION), ("blocked_message", _MAX_MESSAGE)):
        _short(faults, name, document.get(name, ""), most)
    _few(faults, "rules", document.get("rules", ()), _MAX_RULES)
    _few(faults, "allow", document.get("allow", ()), _MAX_ALLOW)
    _few(faults, "anonymise", document.get("anonymise", ()), _MAX_KINDS)
    seen: set[tuple[str, str]] = set()
    for index, rule in enumerate(document.get("rules", ())[:_MAX_RULES]):
        faults += _faults_of_rule(rule, f"rules[{index}]", pattern)
        place = rule.get("check", ""), rule.get("stage", "")
        if place in seen:
            faults.append(f"rules[{index}]: {place[0]} at {_stage(rule)} is there twice")
        seen.add(place)
    for index, entry in enumerate(document.get("allow", ())[:_MAX_ALLOW]):
        faults += _faults_of_entry(entry, f"allow[{index}]", pattern)
    faults += [
        f"anonymise[{index}]: {kind!r} is no kind of personal data, as in EMAIL"
        for index, kind in enumerate(document.get("anonymise", ())[:_MAX_KINDS])
        if not _KIND.fullmatch(kind)
    ]
    _lasts(faults, "hold_back", document.get("hold_back"), _LONGEST_HOLD_BACK)
    return faults


def _faults_of_rule(rule: Mapping[str, Any], path: str, pattern: Pattern) -> list[str]:
    faults: list[str] = []
    check, stage = rule.get("check", ""), _stage(rule)
    stages: Any = CHECKS[check]["stages"] if check in CHECKS else _STAGES
    if check not in CHECKS:
        faults.append(f"{path}.check: there is no check {check!r}; there are {', '.join(CHECKS)}")
    if not stage:
        faults.append(f"{path}.stage: is missing; there are {', '.join(stages)}")
    elif stage not in stages:
        faults.append(f"{path}.stage: {check} cannot look at {stage}, but at {', '.join(stages)}")
    threshold = rule.get("threshold", 0)
    # Written so that NaN is out of range.
    if not (isinstance(threshold, (int, float)) and 0 <= threshold <= 1):
        faults.append(f"{path}.threshold: is {threshold}; allowed is 0 to 1")
    if not rule.get("disabled") and rule.get("action", "VERDICT_UNSPECIFIED") == "VERDICT_UNSPECIFIED":
        faults.append(f"{path}.action: is missing: what follows when the check finds something?")
    _lasts(faults, f"{path}.timeout", rule.get("timeout"), _LONGEST_TIMEOUT)
    if check in CHECKS:
        known: Any = CHECKS[check]["options"]
        faults += _faults_of_options(rule.get("options", {}), known, f"{path}.options", pattern)
    if check == "patterns" and not rule.get("disabled") and not rule.get("options", {}).get("patterns"):
        faults.append(f"{path}.options.patterns: is missing: there is nothing else to look for")
    return faults


def _faults_of_options(options: Mapping[str, Any], known: Mapping[str, str], path: str, pattern: Pattern) -> list[str]:
    faults: list[str] = []
    for name, value in options.items():
        here = f"{path}.{name}"
        if name not in known:
            faults.append(f"{here}: there is no such option; there are {', '.join(known) or 'none'}")
        elif known[name] == "patterns" and isinstance(value, Mapping):
            for word, one in value.items():
                faults += _faults_of_texts([one], f"{here}.{word}") or _faults_of_pattern(
                    one, f"{here}.{word}", pattern
                )
        elif known[name] == "patterns":
            faults += _faults_of_texts(value, here) or [
                fault
                for index, one in enumerate(value)
                for fault in _faults_of_pattern(one, f"{here}[{index}]", pattern)
            ]
        elif known[name] == "strings":
            faults += _faults_of_texts(value, here)
        elif known[name] == "examples" and isinstance(value, Mapping):
            for word, texts in value.items():
                faults += _faults_of_texts(texts, f"{here}.{word}")
        elif not _SHAPES[known[name]](value):
            faults.append(f"{here}: {value!r} is no {known[name]}"[:300])
    return faults


def _faults_of_texts(value: Any, path: str) -> list[str]:
    if not isinstance(value, (list, tuple)):
        return [f"{path}: is no list of texts"]
    if len(value) > _MAX_TEXTS:
        return [f"{path}: has {len(value):,} entries; the limit is {_MAX_TEXTS:,}"]
    if any(not isinstance(one, str) or not one.strip() or len(one) > _MAX_TEXT for one in value):
        return [f"{path}: is no list of texts of 1 to {_MAX_TEXT:,} characters"]
    return []


def _faults_of_entry(entry: Mapping[str, Any], path: str, pattern: Pattern) -> list[str]:
    faults: list[str] = []
    if (check := entry.get("check", "")) and check not in CHECKS:
        faults.append(f"{path}.check: there is no check {check!r}; there are {', '.join(CHECKS)}")
    if not entry.get("text") and not entry.get("pattern"):
        faults.append(f"{path}: allows nothing: give text or pattern")
    _short(faults, f"{path}.text", entry.get("text", ""), _MAX_TEXT)
    _short(faults, f"{path}.reason", entry.get("reason", ""), _MAX_TEXT)
    if entry.get("pattern"):
        faults += _faults_of_pattern(entry["pattern"], f"{path}.pattern", pattern)
    return faults


def _faults_of_pattern(text: str, path: str, pattern: Pattern) -> list[str]:
    if len(text) > _MAX_PATTERN:
        return [f"{path}: has {len(text):,} characters; the limit is {_MAX_PATTERN:,}"]
    problem = pattern(text)
    return [f"{path}: {text!r}: {problem}"] if problem else []


def _stage(rule: Mapping[str, Any]) -> str:
    return str(rule.get("stage", "")).removeprefix("STAGE_").replace("UNSPECIFIED", "").lower()


def _short(faults: list[str], path: str, text: str, most: int) -> None:
    if len(text) > most:
        faults.append(f"{path}: has {len(text):,} characters; the limit is {most:,}")


def _few(faults: list[str], path: str, entries: Sequence[Any], most: int) -> None:
    if len(entries) > most:
        faults.append(f"{path}: has {len(entries):,} entries; the limit is {most:,}")


def _lasts(faults: list[str], path: str, text: str | None, longest: timedelta) -> None:
    if text is not None and not timedelta(0) < timedelta(seconds=float(text.removesuffix("s"))) <= longest:
        faults.append(f"{path}: is {text}; allowed is more than 0 s, up to {longest.total_seconds():g} s")
