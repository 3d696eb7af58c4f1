"""The registry's prompts, as it tells them."""

from __future__ import annotations

from anabranch import topics
from anabranch.registry.v1 import prompts_pb2 as pb
from anabranch_bus import Bus
from anabranch_generation.application import PromptTable
from anabranch_observability import gauge, get_logger
from anabranch_observability.names import generation as names
from anabranch_prompts import check
from anabranch_prompts.messages import template_of

log = get_logger()


def register(bus: Bus, prompts: PromptTable) -> None:
    """Keeps `prompts` as the registry last told them. What it deletes goes on: answers may still ask for it."""

    @bus.table(topics.REGISTRY_PROMPT_CHANGED)
    async def on_prompt_changed(key: str, message: pb.PromptChanged | None) -> None:
        if message is None:
            log.info(names.Log.PROMPT_DROPPED, key=key)
        elif message.HasField("prompt"):
            prompt = template_of(message.prompt)
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
