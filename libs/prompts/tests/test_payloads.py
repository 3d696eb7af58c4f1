"""Templates that want out, or want too much: each is refused, or comes to nothing, within 100 ms."""

from __future__ import annotations

from time import perf_counter, thread_time

import pytest

from anabranch_faults import Invalid
from anabranch_prompts import PromptTemplate, check, render
from anabranch_prompts.payloads import HARMLESS, PAYLOADS, SECRET

SCHEMA = {"type": "object", "properties": {"text": {"type": "string"}, "items": {"type": "array"}}}
VALUES = {"text": "abc " * 20, "items": ["one", "two", {"name": "three"}]}


def attempt(template: str, piece: str = "") -> str | None:
    """What it rendered to; None where it was refused."""
    prompt = PromptTemplate(
        name="attack",
        template=template,
        variables=SCHEMA,
        includes={"self": "attack@p-000000000000"},
        included={"self": piece or template},
    )
    if check(prompt):
        return None
    try:
        return render(prompt, variables=VALUES, question="q", contexts=[{"text": "c"}], history=[]).user
    except Invalid:
        return None


def test_there_are_at_least_fifty_and_no_two_are_the_same() -> None:
    assert len(PAYLOADS) >= 50
    assert len(set(PAYLOADS.values())) == len(PAYLOADS)


@pytest.mark.parametrize("name", PAYLOADS)
def test_a_payload_is_refused_within_a_tenth_of_a_second_of_work(name: str) -> None:
    begun = thread_time()
    assert attempt(PAYLOADS[name]) is None
    assert thread_time() - begun < 0.1


@pytest.mark.parametrize("name", HARMLESS)
def test_what_is_not_refused_reveals_nothing_and_ends_soon(name: str) -> None:
    begun = perf_counter()
    said = attempt(HARMLESS[name])
    assert said is None or not any(word in said for word in SECRET)
    assert perf_counter() - begun < 1


def test_data_is_never_read_as_a_template() -> None:
    prompt = PromptTemplate(
        name="plain", template="{{ question }} {{ contexts[0].text }} {{ variables.text }}", variables=SCHEMA
    )
    said = render(
        prompt, variables={"text": "{{ 7 * 7 }}"}, question="{{ 6 * 6 }}", contexts=[{"text": "{% raw %}"}]
    ).user
    assert "{{ 7 * 7 }}" in said
    assert "{{ 6 * 6 }}" in said
    assert "{% raw %}" in said
