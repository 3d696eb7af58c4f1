"""The registry's prompts, as it tells them."""

from __future__ import annotations

from anabranch import topics
from anabranch.registry.v1 import prompts_pb2 as pb
from anabranch_bus import Bus
from anabranch_generation.application import PromptTable
from anabranch_generation.entrypoints.messages import struct_from
from anabranch_observability import gauge, get_logger
from anabranch_observability.names import generation as names
from anabranch_prompts import ModelPrompt, PromptTemplate, PromptTest, check

log = get_logger()


def register(bus: Bus, prompts: PromptTable) -> None:
    """Keeps `prompts` as the registry last told them. What it deletes goes on: answers may still ask for it."""

    @bus.table(topics.REGISTRY_PROMPT_CHANGED)
    async def on_prompt_changed(key: str, message: pb.PromptChanged | None) -> None:
        if message is None:
            log.info(names.Log.PROMPT_DROPPED, key=key)
        elif message.HasField("prompt"):
            prompt = prompt_from(message.prompt)
            problems = [f"{one.field}: {one.problem}" for one in check(prompt)]
            if problems:
                # Kept all the same: an answer that asks for it says what is wrong, and others are not touched.
                log.warning(names.Log.PROMPT_DOUBTED, key=key, problems=problems[:10])
            prompts.put(prompt)
            gauge(names.PROMPTS).set(len(prompts))
        elif message.HasField("label"):
            label = message.label
            moved = prompts.move(
                name=label.name, label=label.label, version=label.prompt_version, revision=label.revision
            )
            if moved:
                log.info(names.Log.PROMPT_MOVED, key=key, version=label.prompt_version, revision=label.revision)


def prompt_from(message: pb.PromptTemplate) -> PromptTemplate:
    """A prompt of the registry."""
    return PromptTemplate(
        name=message.name,
        prompt_version=message.prompt_version,
        description=message.description,
        system=message.system,
        template=message.template,
        variables=struct_from(message.variables),
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
                variables=struct_from(one.variables),
                contains=tuple(one.contains),
                lacks=tuple(one.lacks),
                matches=tuple(one.matches),
                model=one.model,
            )
            for one in message.tests
        ),
        included=dict(message.included),
    )
