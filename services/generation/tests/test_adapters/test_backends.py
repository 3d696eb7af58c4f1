"""What every backend promises, run over all of them."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from anabranch_faults import Invalid
from anabranch_generation.adapters.chat import ChatBackend
from anabranch_generation.adapters.extractive.backend import ExtractiveBackend
from anabranch_generation.adapters.extractive.text import sentences
from anabranch_generation.adapters.openai.model import OpenAIModel
from anabranch_generation.application import Backend
from anabranch_generation.domain import Citation, Delta, Finished, Passage, Request, Settings
from anabranch_generation.testing import FakeBackend, FakeChatModel, passage

QUESTION = "Where does the river flow?"
PASSAGES = (
    passage("It rains. Then the river flows back to the sea. Fish sing.", start=50, document_id="river"),
    passage("The tower is tall. It was built in 1889.", document_id="tower"),
)


@pytest.fixture(
    params=[
        "fake",
        "extractive",
        "chat",
        pytest.param("openai", marks=[pytest.mark.connected, pytest.mark.slow]),
    ]
)
async def backend(request: pytest.FixtureRequest) -> AsyncIterator[Backend]:
    made: Backend
    match request.param:
        case "fake":
            made = FakeBackend(says=("The river ", "flows back."))
        case "extractive":
            made = ExtractiveBackend()
        case "chat":
            made = ChatBackend(FakeChatModel(says=("The river flows back [1]", ". Yes [2].")))
        case _:
            url = request.getfixturevalue("llama_server")
            made = ChatBackend(OpenAIModel(url=f"{url}/v1", models=("m",), key="sesame"), default_tokens=30)
    yield made
    await made.close()


class TestEveryBackend:
    async def test_an_answer_is_text_and_citations_and_then_one_finished(self, backend: Backend) -> None:
        events = [event async for event in backend.answer(Request(question=QUESTION, passages=PASSAGES))]
        assert isinstance(events[0], Delta)
        assert [i for i, event in enumerate(events) if isinstance(event, Finished)] == [len(events) - 1]
        assert all(event.text for event in events if isinstance(event, Delta))

    async def test_every_citation_quotes_its_document_to_the_letter(self, backend: Backend) -> None:
        text = ""
        async for event in backend.answer(Request(question=QUESTION, passages=PASSAGES)):
            if isinstance(event, Delta):
                text += event.text
            if isinstance(event, Citation):
                (source,) = (p for p in PASSAGES if p.document == event.passage.document)
                assert source.text[event.span.start - source.start : event.span.end - source.start] == event.text
                assert 0 <= event.answer_span.start < event.answer_span.end <= len(text)
                assert f"[{event.number}]" in text
                assert 0 <= event.support <= 1

    async def test_the_first_event_comes_before_the_last_is_made_and_closing_is_clean(self, backend: Backend) -> None:
        stream = backend.answer(Request(question=QUESTION, passages=PASSAGES))
        assert isinstance(await anext(stream), Delta)
        await stream.aclose()

    async def test_it_tells_its_name_and_at_least_one_model(self, backend: Backend) -> None:
        assert backend.info.name
        assert backend.info.models

    async def test_a_model_it_does_not_have_is_invalid(self, backend: Backend) -> None:
        request = Request(question=QUESTION, passages=PASSAGES, settings=Settings(model="no such"))
        with pytest.raises(Invalid) as caught:
            _ = [event async for event in backend.answer(request)]
        assert caught.value.field == "settings.model"

    async def test_a_passage_without_sentences_is_cited_all_the_same(self, backend: Backend) -> None:
        whole = Passage(text="Then the river flows back to the sea. Fish sing.")
        events = [event async for event in backend.answer(Request(question=QUESTION, passages=(whole,)))]
        for event in events:
            if isinstance(event, Citation):
                assert event.text in [whole.text[a:b] for a, b in sentences(whole.text)]
