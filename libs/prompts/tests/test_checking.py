from __future__ import annotations

from dataclasses import replace
from time import thread_time
from typing import Any

import pytest

from anabranch_prompts import ModelPrompt, PromptTemplate, PromptTest, check, run_tests

GOOD = PromptTemplate(
    name="support.answer",
    system="Answer in a {{ tone }} tone. {% include 'rules' %}",
    template="{% for c in contexts %}[{{ c.number }}] {{ c.text }}\n{% endfor %}{{ question }}",
    variables={"type": "object", "properties": {"tone": {"type": "string"}}, "required": ["tone"]},
    includes={"rules": "rules@p-0123456789ab"},
    included={"rules": "Be brief."},
    models=(ModelPrompt(models="llama*", template="{{ question }}"),),
    tests=(
        PromptTest(
            name="kind",
            variables={"tone": "kind"},
            contains=("kind tone", "Be brief"),
            lacks=("rude",),
            matches=(r"\[1\] .*river",),
        ),
    ),
)


def problems(**changed: Any) -> dict[str, str]:
    return {one.field: one.problem for one in check(replace(GOOD, **changed))}


def test_a_prompt_that_is_in_order_has_no_problem_and_passes_its_tests() -> None:
    assert check(GOOD) == []
    (result,) = run_tests(GOOD)
    assert (result.passed, result.problem) == (True, "")
    assert "Answer in a kind tone." in result.rendered


@pytest.mark.parametrize(
    ("changed", "field", "sentence"),
    [
        ({"name": "Support Answer"}, "name", "lower-case"),
        ({"template": "{% for %}"}, "template", "is not a template"),
        ({"template": "{{ who }}"}, "template", "'who' (line 1), which is neither declared"),
        ({"system": "\n{% include 'other' %}"}, "system", "includes 'other' (line 2)"),
        ({"models": (ModelPrompt(models="x", template="{{ who }}"),)}, "models[0].template", "'who'"),
        ({"models": (ModelPrompt(models="", template="x"),)}, "models[0].models", "must name models"),
        ({"models": (ModelPrompt(models="x"),)}, "models[0].template", "is empty"),
        ({"system": "", "template": ""}, "template", "is empty"),
        ({"variables": {"type": "array"}}, "variables", "not the schema of an object"),
        ({"variables": {"type": "object", "properties": {"tone": {"type": "txt"}}}}, "variables", "no JSON schema"),
        ({"variables": {"properties": {"tone": {"pattern": "("}}}}, "variables", "no JSON schema"),
        ({"variables": {"properties": {"tone": {"$ref": "http://127.0.0.1/x"}}}}, "variables", "refers to"),
        ({"variables": {"properties": {"tone": {"$ref": "file:///etc/passwd"}}}}, "variables", "refers to"),
        ({"variables": {"properties": {"tone": {}, "question": {}}}}, "variables", "the platform gives itself"),
        ({"variables": {"properties": {"tone": {}, "a b": {}}}}, "variables", "declares 'a b'"),
        ({"temperature": 3.0}, "temperature", "0 to 2"),
        ({"temperature": float("nan")}, "temperature", "0 to 2"),
        ({"max_tokens": -1}, "max_tokens", "0 to 32768"),
        ({"stop": ("",)}, "stop", "none of them empty"),
        ({"includes": {"rules": "rules"}}, "includes.rules", "name@label"),
        ({"includes": {"../x": "a@b", "rules": "a@b"}}, "includes.../x", "no alias"),
        ({"included": {"rules": "{% include 'rules' %}"}}, "included.rules", "includes itself"),
        ({"included": {"rules": "{{ ''.__class__ }}"}}, "included.rules", "unsafe"),
        ({"tests": (PromptTest(name="a", matches=("(",)),)}, "tests[0].matches", "no RE2 pattern"),
        ({"tests": (PromptTest(name="a"), PromptTest(name="a"))}, "tests[1].name", "another"),
        ({"tests": (PromptTest(name="a", contains=("",)),)}, "tests[0]", "empty text"),
        ({"tests": (PromptTest(name="a", variables={"x": object()}),)}, "tests[0].variables.x", "JSON"),
        ({"template": "x" * 40_000}, "template", "the limit is 32768"),
        ({"included": {f"a{n}": "x" * 32_000 for n in range(9)}}, "template", "over 262144"),
    ],
)
def test_each_thing_that_is_wrong_is_told_with_its_field(changed: dict[str, Any], field: str, sentence: str) -> None:
    found = problems(**changed)
    assert sentence in found[field]


def test_all_problems_are_told_at_once() -> None:
    assert len(problems(name="!", template="{{ who }}", temperature=9.0)) == 3


def test_a_schemas_pattern_cannot_explode() -> None:
    prompt = replace(GOOD, variables={"properties": {"tone": {"type": "string", "pattern": "^(a+)+$"}}}, tests=())
    begun = thread_time()
    assert check(prompt) == []
    (result,) = run_tests(prompt, [PromptTest(name="boom", variables={"tone": "a" * 40 + "!"})])
    assert not result.passed
    assert thread_time() - begun < 0.1


@pytest.mark.parametrize(
    ("test", "problem"),
    [
        (PromptTest(name="t", variables={"tone": "kind"}, contains=("rude",)), "does not contain 'rude'"),
        (PromptTest(name="t", variables={"tone": "kind"}, lacks=("kind",)), "contains 'kind'"),
        (PromptTest(name="t", variables={"tone": "kind"}, matches=("^nothing$",)), "does not match"),
        (PromptTest(name="t"), "variables.tone: is missing"),
        (PromptTest(name="t", variables={"tone": "kind", "contexts": "x"}), "no lists"),
    ],
)
def test_a_case_that_fails_says_why(test: PromptTest, problem: str) -> None:
    (result,) = run_tests(GOOD, [test])
    assert not result.passed
    assert problem in result.problem


def test_a_case_may_give_its_own_question_passages_and_model() -> None:
    given = {"tone": "kind", "question": "Where to?", "contexts": [{"text": "North."}]}
    plain, llama = run_tests(
        GOOD,
        [
            PromptTest(name="p", variables=given, contains=("North.", "Where to?")),
            PromptTest(name="l", variables=given, model="llama-3", lacks=("North.",)),
        ],
    )
    assert plain.passed, plain.problem
    assert llama.passed, llama.problem
