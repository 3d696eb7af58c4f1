"""What is wrong with a prompt, before it is kept."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import re2  # type: ignore[import-untyped]  # it carries no types

from anabranch_faults import Invalid
from anabranch_prompts.plain import plain
from anabranch_prompts.program import Program, read
from anabranch_prompts.running import MAX_INCLUDED, Broken
from anabranch_prompts.values import (
    MAX_INCLUDES,
    MAX_MODELS,
    MAX_PROMPT,
    MAX_STOPS,
    MAX_TEMPERATURE,
    MAX_TESTS,
    MAX_TOKENS,
    NAME,
    PLATFORM,
    WORD,
    PromptTemplate,
    reference,
)
from anabranch_prompts.variables import declared, schema_problem

_MAX_TEXT: Final = 4_096


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong, and where."""

    field: str
    problem: str


def check(prompt: PromptTemplate) -> list[Problem]:
    """All that is wrong with the prompt itself; its tests are run by `run_tests`. Empty: it can be kept."""
    return [
        *_named(prompt),
        *_bounds(prompt),
        *_sizes(prompt),
        *_templates(prompt),
        *_included(prompt),
        *_tests(prompt),
    ]


def _named(prompt: PromptTemplate) -> Iterator[Problem]:
    if not NAME.fullmatch(prompt.name):
        yield Problem("name", "must be lower-case letters, digits, dots and hyphens, up to 128, as in support.answer")
    if len(prompt.description) > _MAX_TEXT:
        yield Problem("description", f"has {len(prompt.description)} characters; the limit is {_MAX_TEXT}")
    if problem := schema_problem(prompt.variables):
        yield Problem("variables", problem)


def _bounds(prompt: PromptTemplate) -> Iterator[Problem]:
    if not 0 <= prompt.temperature <= MAX_TEMPERATURE:  # a NaN fails this too
        yield Problem("temperature", f"must be 0 to {MAX_TEMPERATURE:g}")
    if not 0 <= prompt.max_tokens <= MAX_TOKENS:
        yield Problem("max_tokens", f"must be 0 to {MAX_TOKENS}")
    if len(prompt.stop) > MAX_STOPS or not all(prompt.stop):
        yield Problem("stop", f"takes up to {MAX_STOPS} texts, none of them empty")
    if len(prompt.models) > MAX_MODELS:
        yield Problem("models", f"holds {len(prompt.models)} variants; the limit is {MAX_MODELS}")
    if len(prompt.includes) > MAX_INCLUDES:
        yield Problem("includes", f"holds {len(prompt.includes)} pieces; the limit is {MAX_INCLUDES}")


def _sizes(prompt: PromptTemplate) -> Iterator[Problem]:
    texts = [prompt.system, prompt.template, *prompt.included.values()]
    texts += [text for variant in prompt.models for text in (variant.system, variant.template)]
    if sum(map(len, texts)) > MAX_PROMPT:
        yield Problem("template", f"with all variants and pieces has over {MAX_PROMPT} characters")
    if not (prompt.system or prompt.template):
        yield Problem("template", "is empty, and so is system")
    for at, variant in enumerate(prompt.models):
        if not variant.models or len(variant.models) > _MAX_TEXT:
            yield Problem(f"models[{at}].models", "must name models, with * for any run of characters")
        if not (variant.system or variant.template):
            yield Problem(f"models[{at}].template", "is empty, and so is system")


def _templates(prompt: PromptTemplate) -> Iterator[Problem]:
    known = PLATFORM | declared(prompt.variables).keys()
    sources = [("system", prompt.system), ("template", prompt.template)]
    for at, variant in enumerate(prompt.models):
        sources += [(f"models[{at}].system", variant.system), (f"models[{at}].template", variant.template)]
    sources += [(f"included.{alias}", text) for alias, text in prompt.included.items()]
    for field, source in sources:
        try:
            program = read(source)
        except Broken as broken:
            yield Problem(field, f"{broken.problem} (line {broken.line})" if broken.line else broken.problem)
            continue
        yield from _free(program, field, known, prompt)


def _free(program: Program, field: str, known: frozenset[str], prompt: PromptTemplate) -> Iterator[Problem]:
    # A piece may use what the template around it has set.
    for name, line in program.free.items():
        if name not in known and not field.startswith("included."):
            yield Problem(field, f"uses {name[:64]!r} (line {line}), which is neither declared in variables nor given")
    for alias, line in program.includes.items():
        if alias not in prompt.includes and alias not in prompt.included:
            yield Problem(field, f"includes {alias!r} (line {line}), which is not in includes")


def _included(prompt: PromptTemplate) -> Iterator[Problem]:
    for alias, where in prompt.includes.items():
        if not WORD.fullmatch(alias):
            yield Problem(
                f"includes.{alias[:64]}", "is no alias: a letter and up to 63 letters, digits and underscores"
            )
        try:
            reference(where, field=f"includes.{alias[:64]}")
        except Invalid as fault:
            yield Problem(f"includes.{alias[:64]}", fault.problem)
    pieces: dict[str, tuple[str, ...]] = {}
    for alias, text in prompt.included.items():
        try:
            pieces[alias] = tuple(read(text).includes)
        except Broken:
            continue  # told already
    for alias in pieces:
        if problem := _depth(alias, pieces, ()):
            yield Problem(f"included.{alias}", problem)


def _depth(alias: str, pieces: dict[str, tuple[str, ...]], above: tuple[str, ...]) -> str:
    if alias in above:
        return f"includes itself: {' > '.join((*above, alias))}"
    if len(above) >= MAX_INCLUDED:
        return f"is included over {MAX_INCLUDED} deep"
    return next((found for inner in pieces.get(alias, ()) if (found := _depth(inner, pieces, (*above, alias)))), "")


def _tests(prompt: PromptTemplate) -> Iterator[Problem]:
    if len(prompt.tests) > MAX_TESTS:
        yield Problem("tests", f"holds {len(prompt.tests)} cases; the limit is {MAX_TESTS}")
    names: set[str] = set()
    for at, test in enumerate(prompt.tests[:MAX_TESTS]):
        if not test.name or test.name in names or len(test.name) > _MAX_TEXT:
            yield Problem(f"tests[{at}].name", "must be there, and another than those before it")
        names.add(test.name)
        for text in (*test.contains, *test.lacks, *test.matches):
            if not text or len(text) > _MAX_TEXT:
                yield Problem(f"tests[{at}]", f"asks for an empty text, or for one of over {_MAX_TEXT} characters")
        for pattern in test.matches:
            try:
                re2.compile(pattern)
            except re2.error as error:
                yield Problem(f"tests[{at}].matches", f"{pattern[:100]!r} is no RE2 pattern: {error}")
        try:
            plain(test.variables, field=f"tests[{at}].variables")
        except Invalid as fault:
            yield Problem(fault.field or f"tests[{at}].variables", fault.problem)
