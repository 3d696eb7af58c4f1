"""The check `patterns`: what the operator looks for, by RE2: no pattern takes longer than the text is long."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import re2  # type: ignore[import-untyped] # it carries no types

from anabranch_guardrails.adapters.options import Options
from anabranch_guardrails.domain import Finding, Span, Subject

__all__ = ["Patterns", "configured", "pattern_problem"]

VERSION: Final = "patterns-1"
KIND: Final = "PATTERN"
LONGEST: Final = 1_000
"""Characters of a pattern."""
MOST_CHARACTERS: Final = 2_000_000
"""Of a text that are looked at; the finding says so where there are more."""
_MOST_SPANS: Final = 1_000
_MOST_MEMORY: Final = 1 << 20
_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")


def pattern_problem(pattern: str) -> str | None:
    """Why guardrails cannot use a pattern, None where it can."""
    if not pattern:
        return "a pattern must not be empty"
    if len(pattern) > LONGEST:
        return f"a pattern must have at most {LONGEST} characters"
    try:
        compiled = _compiled(pattern, sensitive=True)
    except re2.error as fault:
        said = fault.args[0] if fault.args else ""
        return f"is no RE2 pattern: {said.decode('utf-8', 'replace') if isinstance(said, bytes) else said}"
    if compiled.search("") is not None:
        return "matches the empty text, so it would find something everywhere"
    return None


class Patterns:
    """Finds what an operator's patterns match."""

    name = "patterns"
    version = VERSION

    def __init__(self, patterns: Sequence[tuple[str, Any]]) -> None:
        """Kinds and compiled patterns."""
        self._patterns = patterns

    def look(self, subject: Subject) -> Finding:
        """Every match is a span; the score is 1 where there is one."""
        cut = len(subject.text) > MOST_CHARACTERS
        text = subject.text[:MOST_CHARACTERS]
        if not text.isascii():
            text = text.encode("utf-8", "replace").decode()
        spans: list[Span] = []
        for kind, pattern in self._patterns:
            if len(spans) >= _MOST_SPANS:
                break
            if pattern.search(text) is None:
                continue
            for match in pattern.finditer(text):
                if match.start() < match.end():
                    spans.append(Span(start=match.start(), end=match.end(), kind=kind))
                if len(spans) >= _MOST_SPANS:
                    break
        reasons = [f"{len(spans)} found"] if spans else []
        if cut:
            reasons.append(f"only the first {MOST_CHARACTERS} characters were looked at")
        spans.sort(key=lambda span: (span.start, -span.end))
        return Finding(score=1.0 if spans else 0.0, spans=tuple(spans), reason="; ".join(reasons))


def configured(options: Mapping[str, object]) -> Patterns:
    """`patterns`: a list, or lists by the kind that their spans are to have; `case_sensitive`: false."""
    read = Options(options, known=("patterns", "case_sensitive"))
    if not read.has("patterns"):
        raise read.fault("patterns", "is missing")
    sensitive = read.flag("case_sensitive", default=False)
    groups = read.groups("patterns") if isinstance(options["patterns"], Mapping) else {KIND: read.texts("patterns")}
    compiled: list[tuple[str, Any]] = []
    for kind, patterns in groups.items():
        if not _NAME.fullmatch(kind):
            raise read.fault(f"patterns.{kind}", "is no name for a kind: letters, digits and _")
        for pattern in patterns:
            problem = pattern_problem(pattern)
            if problem is not None:
                raise read.fault("patterns", problem)
            compiled.append((kind.upper(), _compiled(pattern, sensitive=sensitive)))
    return Patterns(compiled)


def _compiled(pattern: str, *, sensitive: bool) -> Any:
    options = re2.Options()
    options.log_errors = False
    options.max_mem = _MOST_MEMORY
    options.case_sensitive = sensitive
    return re2.compile(pattern, options)
