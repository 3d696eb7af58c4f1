"""Prompts as values: typed variables, composition, and rendering in a sandbox with limits."""

from anabranch_prompts.builtin import ANSWER, UNANSWERED
from anabranch_prompts.cases import TestResult, run_tests
from anabranch_prompts.checking import Problem, check
from anabranch_prompts.marking import Marking, harmless
from anabranch_prompts.plain import Data, Label, plain
from anabranch_prompts.rendering import Rendered, render
from anabranch_prompts.values import (
    MAX_RENDERED,
    MAX_TEMPLATE,
    ModelPrompt,
    PromptTemplate,
    PromptTest,
    Reference,
    content_address,
    fits,
    reference,
)
from anabranch_prompts.variables import declared, required

__all__ = [
    "ANSWER",
    "MAX_RENDERED",
    "MAX_TEMPLATE",
    "UNANSWERED",
    "Data",
    "Label",
    "Marking",
    "ModelPrompt",
    "Problem",
    "PromptTemplate",
    "PromptTest",
    "Reference",
    "Rendered",
    "TestResult",
    "check",
    "content_address",
    "declared",
    "fits",
    "harmless",
    "plain",
    "reference",
    "render",
    "required",
    "run_tests",
]
