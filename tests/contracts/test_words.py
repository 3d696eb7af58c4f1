"""From feedback with its words to a data set: the two services as they are, and the prompt as generation sends it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from anabranch import topics
from anabranch.feedback.v1 import feedback_service_pb2 as feedback_pb
from anabranch.feedback.v1.feedback_service_pb2_grpc import FeedbackServiceStub
from anabranch.registry.v1 import lineage_pb2 as lineage
from anabranch.training.v1 import training_service_pb2 as pb
from anabranch.training.v1.training_service_pb2_grpc import TrainingServiceStub
from anabranch.upstream.v1 import feedback_pb2 as upstream
from anabranch_artifacts import ArtifactStore
from anabranch_bus import MemoryBus
from anabranch_feedback.bootstrap import build as build_feedback
from anabranch_feedback.settings import Settings as FeedbackSettings
from anabranch_feedback.testing import feedback, new_answer_id, served
from anabranch_generation.adapters.prompting import answer_messages
from anabranch_generation.domain import DocumentRef, Passage, Request
from anabranch_rpc import connect
from anabranch_runtime import Process
from anabranch_training.bootstrap import build as build_training
from anabranch_training.domain.opinions import ShownPassage
from anabranch_training.domain.prompts import prompt_of
from anabranch_training.settings import Settings as TrainingSettings


@pytest.mark.connected
async def test_corrections_and_preferences_given_to_feedback_become_rows_and_an_erased_persons_do_not(
    tmp_path: Path, short_dir: Path
) -> None:
    target = f"unix:{short_dir / 'f.sock'}"
    bus = MemoryBus()
    listening = FeedbackSettings(data=tmp_path / "f", listen=target)
    first = Process(listening, name="feedback")
    await first.start(build_feedback(listening, bus=bus))
    settings = TrainingSettings(
        data=tmp_path / "t", retrieval="127.0.0.1:1", registry="127.0.0.1:1", feedback=target, artifacts=str(tmp_path)
    )
    second = Process(settings, name="training")
    await second.start(build_training(settings, bus=MemoryBus()))
    channel = connect(second.addresses["rpc"])
    try:
        for number in range(14):
            answer, other = new_answer_id(), new_answer_id()
            question = f"Who was number {number}?"
            words: dict[str, Any] = {"question": question, "search_query": question}
            answers = [served(answer, **words), served(other, answer=f"Somebody {number}.", **words)]
            await bus.deliver(topics.GATEWAY_ANSWER_SERVED, answers)
            person = f"u{number}"
            text = f"Number {number} was a poet; write to ada@example.org. [1]"
            given = [
                feedback(answer, user_id=person, correction=upstream.Correction(text=text)),
                feedback(
                    answer,
                    user_id=person,
                    preference=upstream.Preference(other_answer_id=other, prefers_other=True),
                    consent=upstream.CONSENT_DENIED if number == 13 else upstream.CONSENT_GRANTED,
                ),
            ]
            await bus.deliver(topics.UPSTREAM_FEEDBACK_GIVEN, given)
        stub = TrainingServiceStub(channel)
        asked: dict[str, Any] = {"tenant": "acme", "corpus": "wiki", "author": "ada"}
        request = pb.BuildDatasetRequest(**asked, kind=lineage.DATASET_KIND_PREFERENCE)
        made = (await stub.BuildDataset(request, timeout=60)).dataset
        assert (made.counts["rows"] + made.counts["dropped_as_leak"], made.counts["consent_denied"]) == (27, 1)
        store = ArtifactStore(str(tmp_path), public_key=None)
        lines = [
            json.loads(line)
            for part in ("train", "held_out")
            for line in (store.fetch(made.dataset_version, into=tmp_path / "i").folder / f"{part}.jsonl")
            .read_text()
            .splitlines()
        ]
        assert {"A mathematician [1]."} == {row["rejected"][0]["content"] for row in lines}
        assert "ada@example.org" not in json.dumps(lines)
        await erase(target, "u3")
        made = (await stub.BuildDataset(request, timeout=60)).dataset
        assert made.counts["rows"] + made.counts["dropped_as_leak"] == 25
    finally:
        await channel.close()
        await second.stop()
        await first.stop()


async def erase(target: str, person: str) -> None:
    channel = connect(target)
    request = feedback_pb.EraseUserRequest(tenant="acme", user_id=person)
    assert (await FeedbackServiceStub(channel).EraseUser(request, timeout=5)).feedbacks == 2
    await channel.close()


def test_adapters_learn_on_the_prompt_that_generation_sends() -> None:
    text, title, question = "One.\n</passage> Two.", 'A "title"', "What < passage > is it?"
    passage = Passage(
        text=text,
        document=DocumentRef(tenant="t", corpus="c", document_id="d", version=1),
        chunk_id="k",
        start=0,
        title=title,
        title_path=("Part", "Section"),
    )
    sent = answer_messages(Request(question=question), [passage, passage], (), model="m").messages
    shown = ShownPassage(document="d", title=f"{title} > Part > Section", text=text)
    learned = prompt_of(question, [shown, shown])
    # The envelope of data is another with every request, and with every row that is learned from.
    assert [alike(one["content"]) for one in learned] == [alike(one.text) for one in sent]
    assert [one["role"] for one in learned] == [one.role for one in sent]
    assert learned == prompt_of(question, [shown, shown]) != prompt_of(question, [shown])


def alike(text: str) -> str:
    return re.sub(r"data-[0-9a-f]{8}\b", "data-", text)
