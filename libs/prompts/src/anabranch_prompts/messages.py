"""The contract's prompts as values. Apart from the rest of this library, which knows no transport."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from google.protobuf.json_format import MessageToDict
from google.protobuf.struct_pb2 import Struct

from anabranch.registry.v1 import prompts_pb2 as prompts
from anabranch_prompts.values import ModelPrompt, PromptTemplate, PromptTest

__all__ = ["template_of"]

Read: TypeAlias = Callable[[Struct, str], dict[str, Any]]


def _plain(values: Struct, field: str) -> dict[str, Any]:
    del field
    found: dict[str, Any] = MessageToDict(values)
    return found


def template_of(message: prompts.PromptTemplate, *, read: Read = _plain) -> PromptTemplate:
    """A prompt as it came, unchecked. `read` makes JSON values of a struct, and is told the field that it is."""
    return PromptTemplate(
        name=message.name,
        prompt_version=message.prompt_version,
        description=message.description,
        system=message.system,
        template=message.template,
        variables=read(message.variables, "prompt.variables"),
        temperature=message.temperature,
        max_tokens=message.max_tokens,
        stop=tuple(message.stop),
        models=tuple(
            ModelPrompt(models=one.models, system=one.system, template=one.template) for one in message.models
        ),
        includes=dict(message.includes),
        tests=tuple(
            PromptTest(
                name=one.name,
                variables=read(one.variables, f"prompt.tests[{index}].variables"),
                contains=tuple(one.contains),
                lacks=tuple(one.lacks),
                matches=tuple(one.matches),
                model=one.model,
            )
            for index, one in enumerate(message.tests)
        ),
        included=dict(message.included),
    )
