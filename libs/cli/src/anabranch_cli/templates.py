"""The contract's prompts as values that can be checked and rendered here."""

from __future__ import annotations

from google.protobuf.json_format import MessageToDict

from anabranch.registry.v1 import prompts_pb2 as prompts
from anabranch_prompts import ModelPrompt, PromptTemplate, PromptTest

__all__ = ["template_of"]


def template_of(message: prompts.PromptTemplate) -> PromptTemplate:
    """A prompt of the contract."""
    return PromptTemplate(
        name=message.name,
        prompt_version=message.prompt_version,
        description=message.description,
        system=message.system,
        template=message.template,
        variables=MessageToDict(message.variables),
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
                variables=MessageToDict(one.variables),
                contains=tuple(one.contains),
                lacks=tuple(one.lacks),
                matches=tuple(one.matches),
                model=one.model,
            )
            for one in message.tests
        ),
        included=dict(message.included),
    )
