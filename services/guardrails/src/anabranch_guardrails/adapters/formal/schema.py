"""The check `schema`: whether an answer is the JSON that was asked for."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final, NoReturn

import jsonschema_rs

from anabranch_faults import Invalid
from anabranch_guardrails.adapters.options import Options
from anabranch_guardrails.domain import Finding, Subject

__all__ = ["Schema", "configured", "schema_problem"]

VERSION: Final = "schema-1"
MOST_CHARACTERS: Final = 1_000_000
"""Of an answer; a longer one is not what was asked for."""
DEEPEST: Final = 64
"""Levels of an answer, and of a schema."""
LONGEST: Final = 64_000
"""Characters of a schema."""
_FENCE: Final = re.compile(
    r"\A\s{0,100}```(?:json)?[ \t]{0,10}\n(.*?)\n?[ \t]{0,10}```\s{0,100}\Z", re.DOTALL | re.IGNORECASE
)
_STRUCTURE: Final = re.compile(r'"(?:[^"\\]|\\.)*"?|[\[{]|[\]}]', re.DOTALL)


class Schema:
    """Finds answers that are no JSON, or not of the schema; the schema is the subject's, else the policy's."""

    name = "schema"
    version = VERSION

    def __init__(self, schema: str) -> None:
        """The policy's schema as JSON, empty for none."""
        self._schema = schema

    def look(self, subject: Subject) -> Finding:
        """1 and why, or 0. The reason names places in the schema, and nothing of the answer.

        Raises Invalid for a bad schema.
        """
        schema = subject.schema or self._schema
        if not schema:
            return Finding(score=0.0)
        validator = _validator(schema)
        text = subject.text
        if len(text) > MOST_CHARACTERS:
            return Finding(score=1.0, reason=f"longer than {MOST_CHARACTERS} characters")
        fenced = _FENCE.match(text)
        problem, value = _read(fenced.group(1) if fenced else text)
        if problem:
            return Finding(score=1.0, reason=problem)
        fault = next(iter(validator.iter_errors(value)), None)
        if fault is None:
            return Finding(score=0.0)
        place = "/".join(str(part) for part in fault.schema_path)[:200]
        return Finding(score=1.0, reason=f"is not of the schema, by {place}")


def configured(options: Mapping[str, object]) -> Schema:
    """`schema`: a JSON schema; by default only answers for which one was asked are looked at."""
    read = Options(options, known=("schema",))
    if not read.has("schema"):
        return Schema("")
    text = json.dumps(options["schema"], default=_unknown)
    problem = schema_problem(text)
    if problem:
        raise read.fault("schema", problem)
    return Schema(text)


def schema_problem(schema: str) -> str | None:
    """Why answers cannot be held against this schema (JSON), None where they can."""
    try:
        _validator(schema)
    except Invalid as fault:
        return fault.problem
    return None


def _read(text: str) -> tuple[str, Any]:
    """Why it is no JSON, or the value."""
    if _deep(text):
        return f"is nested deeper than {DEEPEST} levels", None
    try:
        return "", json.loads(text, parse_constant=_no_number)
    except json.JSONDecodeError as fault:
        if fault.pos >= len(text.rstrip()):
            return "is JSON that ends too early", None
        return f"is no JSON, from character {fault.pos}", None
    except (ValueError, RecursionError):
        return "is no JSON", None


def _deep(text: str) -> bool:
    level = 0
    if text.count("[") + text.count("{") <= DEEPEST:
        return False
    for match in _STRUCTURE.finditer(text):
        char = text[match.start()]
        if char in "[{":
            level += 1
            if level > DEEPEST:
                return True
        elif char in "]}":
            level -= 1
    return False


@lru_cache(maxsize=64)
def _validator(schema: str) -> Any:
    if len(schema) > LONGEST:
        raise _bad(f"must have at most {LONGEST} characters")
    problem, value = _read(schema)
    if problem:
        raise _bad(problem)
    if not isinstance(value, dict | bool):
        raise _bad("must be an object")
    try:
        return jsonschema_rs.validator_for(value, retriever=_nowhere, pattern_options=jsonschema_rs.RegexOptions())
    except (jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError, ValueError, TypeError) as fault:
        raise _bad(f"is no JSON schema: {str(fault).splitlines()[0][:200]}") from None


def _bad(problem: str) -> Invalid:
    return Invalid(problem, field="schema", reason="BAD_SCHEMA")


def _nowhere(uri: str, /) -> NoReturn:
    raise ValueError(f"{uri[:100]} is elsewhere, and nothing is fetched")


def _no_number(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number of JSON")


def _unknown(value: object) -> NoReturn:
    raise Invalid(f"{type(value).__name__} is nothing JSON has", field="options.schema", reason="BAD_OPTION")
