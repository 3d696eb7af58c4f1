"""Answers given again, by a whole gateway."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from anabranch import topics
from anabranch.gateway.v1 import gateway_service_pb2 as pb
from anabranch.gateway.v1 import gateway_service_pb2_grpc as stubs
from anabranch.ingestion.v1.events_pb2 import DocumentRef
from anabranch.registry.v1.prompts_pb2 import PromptChanged, PromptLabel
from anabranch.retrieval.v1.events_pb2 import DocumentIndexed
from anabranch_gateway.testing import Gateway, running
from anabranch_rpc import connect
from anabranch_testkit import poll_until

QUESTION = "Which room is the meeting in?"


async def ask(gateway: Gateway, question: str = QUESTION, **more: Any) -> pb.AskResponse:
    async with connect(gateway.grpc) as channel:
        stub: Any = stubs.AnswerServiceStub(channel)
        reply: pb.AskResponse = await stub.Ask(
            pb.AskRequest(corpus="handbook", question=question, **more),
            metadata=[("authorization", f"Bearer {gateway.key}")],
            timeout=10,
        )
        return reply


async def test_a_question_asked_twice_is_answered_once(tmp_path: Path) -> None:
    async with running(tmp_path, cache_entries=100) as gateway:
        first, again = await ask(gateway), await ask(gateway, "which room is the  meeting in")
        assert (first.cached, again.cached) == (False, True)
        assert again.text == first.text
        assert again.citations == first.citations
        assert (again.usage.prompt_tokens, again.cost_micros) == (0, 0)
        assert again.HasField("cost_micros")
        fresh = await ask(gateway, fresh=True)
        assert not fresh.cached
        follow_up = await ask(gateway, session_id="s")
        assert follow_up.cached
        assert not (await ask(gateway, session_id="s")).cached
        assert not (await ask(gateway, "Which room is my meeting in?")).cached
        assert not (await ask(gateway, "Which room is my meeting in?")).cached
        await poll_until(lambda: len(gateway.published(topics.GATEWAY_ANSWER_SERVED)) == 7)
        records = [event.message for event in gateway.published(topics.GATEWAY_ANSWER_SERVED)]
        assert [record.cached_from for record in records if record.cached_from] == [first.answer_id] * 2


@pytest.mark.parametrize("change", ["document", "prompt"])
async def test_a_change_that_is_heard_of_makes_the_answer_fresh(tmp_path: Path, change: str) -> None:
    async with running(tmp_path, cache_entries=100) as gateway:
        await ask(gateway)
        assert (await ask(gateway)).cached
        if change == "document":
            passage = gateway.downstream.retrieval.corpora["default", "handbook"][0]
            document = DocumentRef(
                tenant="default", corpus="handbook", document_id=passage.document.document_id, version=9
            )
            await gateway.bus.deliver(topics.RETRIEVAL_DOCUMENT_INDEXED, [DocumentIndexed(document=document)])
        else:
            label = PromptChanged(label=PromptLabel(name="p", label="live"))
            await gateway.bus.deliver(topics.REGISTRY_PROMPT_CHANGED, [label], key="label/p/live")
        assert not (await ask(gateway)).cached
        assert (await ask(gateway)).cached


async def test_a_gateway_without_a_cache_makes_every_answer(tmp_path: Path) -> None:
    async with running(tmp_path, cache_entries=0) as gateway:
        assert not (await ask(gateway)).cached
        assert not (await ask(gateway)).cached
