"""Changes elsewhere that make answers given before wrong."""

from __future__ import annotations

from anabranch import topics
from anabranch.registry.v1 import guards_pb2 as guards
from anabranch.registry.v1 import prompts_pb2 as prompts
from anabranch.retrieval.v1 import events_pb2 as retrieval
from anabranch_bus import Bus
from anabranch_gateway.application.caching import AnswerCache
from anabranch_gateway.domain.caching.features import DocumentKey


def register(bus: Bus, cache: AnswerCache) -> None:
    """Has the cache forget what rests on something that changed.

    Every replica hears every event, for each has a cache of its own. A document's change drops what was drawn from it;
    a prompt's label or a policy that moves drops everything, for answers do not say which of them they hang on. When
    events may have been missed, everything goes.
    """

    async def gap() -> None:
        cache.clear("missed")

    @bus.news(topics.RETRIEVAL_DOCUMENT_INDEXED, gap=gap)
    async def on_document_indexed(key: str, message: retrieval.DocumentIndexed | None) -> None:
        del key
        if message is not None:
            document = message.document
            cache.forget(DocumentKey(document.tenant, document.corpus, document.document_id))

    @bus.news(topics.REGISTRY_PROMPT_CHANGED, gap=gap)
    async def on_prompt_changed(key: str, message: prompts.PromptChanged | None) -> None:
        del key
        if message is None or message.HasField("label"):
            cache.clear("prompt")

    @bus.news(topics.REGISTRY_POLICY_CHANGED, gap=gap)
    async def on_policy_changed(key: str, message: guards.PolicyChanged | None) -> None:
        del message
        if key.startswith("scope/"):
            cache.clear("policy")
