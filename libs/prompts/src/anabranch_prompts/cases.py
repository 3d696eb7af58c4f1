"""The cases beside a prompt, rendered and looked at."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import re2  # type: ignore[import-untyped]  # it carries no types

from anabranch_faults import Invalid
from anabranch_prompts.rendering import render
from anabranch_prompts.values import PromptTemplate, PromptTest

SAMPLE_QUESTION: Final = "What is an anabranch?"
SAMPLE_CONTEXTS: Final = (
    {"title": "Rivers", "text": "An anabranch leaves the main stream of a river and flows back into it."},
)
_BOUNDARY: Final = "sample"


@dataclass(frozen=True, slots=True, kw_only=True)
class TestResult:
    """How a case went. `rendered` is system and template with a newline between; empty where nothing was rendered."""

    __test__ = False

    name: str
    passed: bool
    problem: str = ""
    rendered: str = ""


def run_tests(prompt: PromptTemplate, tests: Iterable[PromptTest] | None = None) -> list[TestResult]:
    """The result of each case: the prompt's own, or those of another version. Raises nothing."""
    return [_result(prompt, test) for test in (prompt.tests if tests is None else tests)]


def _result(prompt: PromptTemplate, test: PromptTest) -> TestResult:
    given = dict(test.variables)
    question: Any = given.pop("question", SAMPLE_QUESTION)
    contexts: Any = given.pop("contexts", SAMPLE_CONTEXTS)
    history: Any = given.pop("history", ())
    if not isinstance(question, str) or not all(isinstance(one, list | tuple) for one in (contexts, history)):
        problem = "gives a question that is no text, or contexts or history that are no lists"
        return TestResult(name=test.name, passed=False, problem=problem)
    try:
        rendered = render(
            prompt,
            model=test.model,
            variables=given,
            question=question,
            contexts=contexts,
            history=history,
            boundary=_BOUNDARY,
        )
    except Invalid as fault:
        return TestResult(name=test.name, passed=False, problem=str(fault))
    text = f"{rendered.system}\n{rendered.user}"
    problems = [f"does not contain {wanted!r}" for wanted in test.contains if wanted not in text]
    problems += [f"contains {unwanted!r}" for unwanted in test.lacks if unwanted in text]
    problems += [f"does not match {pattern!r}" for pattern in test.matches if not _found(pattern, text)]
    return TestResult(name=test.name, passed=not problems, problem="; ".join(problems), rendered=text)


def _found(pattern: str, text: str) -> bool:
    try:
        return re2.search(pattern, text) is not None
    except re2.error:
        return False
