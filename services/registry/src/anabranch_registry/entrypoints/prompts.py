"""Between the messages of prompts and the domain."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from google.protobuf.json_format import MessageToDict
from google.protobuf.struct_pb2 import Struct

from anabranch.registry.v1 import prompt_service_pb2 as pb
from anabranch.registry.v1 import prompts_pb2 as prompts
from anabranch_faults import Invalid
from anabranch_prompts import PromptTemplate, TestResult
from anabranch_prompts.messages import template_of
from anabranch_registry.domain.content import plain
from anabranch_registry.domain.prompts import PromptLabel

__all__ = ["label_message", "prompt_from", "prompt_message", "tried_message"]


def prompt_from(message: prompts.PromptTemplate) -> PromptTemplate:
    """Return the prompt as it came, unchecked; what is included is for the registry to say."""
    return replace(template_of(message, read=_values), included={})


def prompt_message(prompt: PromptTemplate, *, included: bool = True) -> prompts.PromptTemplate:
    """Return the prompt."""
    return prompts.PromptTemplate(
        name=prompt.name,
        prompt_version=prompt.prompt_version,
        description=prompt.description,
        system=prompt.system,
        template=prompt.template,
        variables=_struct(prompt.variables),
        temperature=prompt.temperature,
        max_tokens=prompt.max_tokens,
        stop=prompt.stop,
        models=[
            prompts.ModelPrompt(models=one.models, system=one.system, template=one.template) for one in prompt.models
        ],
        includes=prompt.includes,
        tests=[
            prompts.PromptTest(
                name=one.name,
                variables=_struct(one.variables),
                contains=one.contains,
                lacks=one.lacks,
                matches=one.matches,
                model=one.model,
            )
            for one in prompt.tests
        ],
        included=prompt.included if included else {},
    )


def label_message(label: PromptLabel) -> prompts.PromptLabel:
    """Return the label."""
    message = prompts.PromptLabel(
        name=label.name,
        label=label.label,
        prompt_version=label.prompt_version,
        revision=label.revision,
        author=label.change.author,
        reason=label.change.reason,
    )
    message.changed_at.FromDatetime(label.change.at)
    return message


def tried_message(tried: TestResult) -> pb.PromptTestResult:
    """Return how a case went."""
    return pb.PromptTestResult(name=tried.name, passed=tried.passed, problem=tried.problem, rendered=tried.rendered)


def _values(struct: Struct, field: str) -> dict[str, Any]:
    try:
        values: dict[str, Any] = plain(MessageToDict(struct))
    except (ValueError, RecursionError) as error:  # NaN and infinity are no values of JSON
        raise Invalid("has a number that JSON does not have, or is nested too deep", field=field) from error
    return values


def _struct(values: Any) -> Struct:
    struct = Struct()
    struct.update(values)
    return struct
