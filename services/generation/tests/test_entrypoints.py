from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import grpc
import pytest

from anabranch.generation.v1 import generation_service_pb2 as pb
from anabranch.generation.v1 import generation_service_pb2_grpc as stubs
from anabranch.ingestion.v1.events_pb2 import DocumentRef, Span
from anabranch.retrieval.v1.retrieval_service_pb2 import Passage, Sentence
from anabranch_faults import Invalid, Overloaded
from anabranch_generation.application import Backend
from anabranch_generation.bootstrap import build
from anabranch_generation.domain import MAX_QUESTION
from anabranch_generation.settings import Settings
from anabranch_generation.testing import FakeBackend
from anabranch_rpc import Server, connect, fault_from
from anabranch_runtime import WrongSettings, load
from anabranch_testkit import poll_until

TEXT = "Hoosick is a town in Rensselaer County. The population was 6,924 at the 2010 census. It was named from a river."
SPANS = ((0, 39), (40, 84), (85, 111))


@asynccontextmanager
async def serving(
    settings: Settings | None = None, **loaded: Backend
) -> AsyncIterator[stubs.GenerationServiceAsyncStub]:
    service = await build(settings or Settings(), loaded=loaded or None)
    server = Server(service.rpc)
    await server.start()
    channel = connect(server.address)
    try:
        yield stubs.GenerationServiceStub(channel)
    finally:
        await channel.close()
        await server.stop(timedelta(0))
        for close in service.closing:
            await close()


def passage(start: int = 0) -> Passage:
    return Passage(
        document=DocumentRef(tenant="t", corpus="c", document_id="hoosick", version=3),
        chunk_id="chunk",
        text=TEXT,
        span=Span(start=start, end=start + len(TEXT)),
        title="Hoosick, New York",
        source_uri="file:///hoosick",
        page=2,
        sentences=[
            Sentence(span=Span(start=a, end=b), similarity=s, has_similarity=True)
            for (a, b), s in zip(SPANS, (0.5, 0.7, 0.3), strict=True)
        ],
    )


def ask(question: str, **more: Any) -> pb.GenerateRequest:
    return pb.GenerateRequest(question=question, passages=[passage()], **more)


async def refused(call: Any) -> Any:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        async for _ in call:
            pass
    return fault_from(caught.value)


async def test_an_answer_streams_text_and_citations_and_ends_with_generated() -> None:
    async with serving() as stub:
        request = pb.GenerateRequest(
            question="What was the population of Hoosick in 2010?", passages=[passage(start=1000)]
        )
        events = [event async for event in stub.Generate(request, timeout=5)]
    kinds = [event.WhichOneof("event") for event in events]
    assert kinds[-1] == "generated"
    assert kinds.count("generated") == 1
    text = "".join(event.delta for event in events)
    assert "The population was 6,924 at the 2010 census. [" in text
    citations = [event.citation for event in events if event.HasField("citation")]
    for citation in citations:
        assert TEXT[citation.span.start - 1000 : citation.span.end - 1000] == citation.text
        assert text[citation.answer_span.start : citation.answer_span.end] == citation.text
        assert f"[{citation.number}]" in text
        assert (citation.document.document_id, citation.document.version) == ("hoosick", 3)
        assert (citation.title, citation.source_uri, citation.page) == ("Hoosick, New York", "file:///hoosick", 2)
        assert 0 < citation.support <= 1
    generated = events[-1].generated
    assert generated.reason == pb.FINISH_REASON_STOP
    assert (generated.abstained, generated.backend) == (False, "extractive")
    assert generated.model.startswith("extractive-")
    assert generated.usage.prompt_tokens > 0
    assert generated.usage.completion_tokens > 0
    assert generated.HasField("time_to_first_token")


async def test_a_question_that_nothing_answers_is_an_abstention_that_says_so() -> None:
    async with serving() as stub:
        events = [event async for event in stub.Generate(pb.GenerateRequest(question="Who?"), timeout=5)]
    assert events[0].delta == "The documents found do not answer this question."
    assert events[-1].generated.abstained
    assert events[-1].generated.reason == pb.FINISH_REASON_ABSTAINED


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (ask("x" * (MAX_QUESTION + 1)), "question"),
        (ask(" "), "question"),
        (ask("What?", settings=pb.GenerationSettings(backend="oracle")), "settings.backend"),
        (ask("What?", settings=pb.GenerationSettings(temperature=-1)), "settings.temperature"),
        (ask("What?", settings=pb.GenerationSettings(adapter="mine")), "settings.adapter"),
        (ask("What?", settings=pb.GenerationSettings(model="gpt")), "settings.model"),
        (pb.GenerateRequest(question="What?", passages=[Passage(text="x")] * 101), "passages"),
        (ask("What?", history=[pb.Turn(text="x")] * 65), "history"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_a_request_that_breaks_the_contract_is_invalid_and_names_the_field(
    request_: pb.GenerateRequest, field: str
) -> None:
    async with serving() as stub:
        fault = await refused(stub.Generate(request_, timeout=5))
        assert isinstance(fault, Invalid)
        assert fault.field == field
        assert [event async for event in stub.Generate(ask("What is Hoosick?"), timeout=5)]


async def test_cancelling_the_call_stops_the_backend() -> None:
    backend = FakeBackend(forever=True)
    async with serving(fake=backend) as stub:
        call = stub.Generate(ask("What?"), timeout=30)
        assert await call.read() == pb.GenerateResponse(delta="An answer.")
        call.cancel()
        await poll_until(lambda: backend.closed or None)


async def test_an_answer_cut_by_the_deadline_still_arrives_and_says_so() -> None:
    async with serving(fake=FakeBackend(forever=True)) as stub:
        events = [event async for event in stub.Generate(ask("What?"), timeout=1.0)]
    assert events[0].delta == "An answer."
    assert events[-1].generated.reason == pb.FINISH_REASON_TIMEOUT


async def test_one_answer_too_many_is_told_to_come_back() -> None:
    settings = Settings(max_concurrent=1)
    async with serving(settings, fake=FakeBackend(forever=True)) as stub:
        running = stub.Generate(ask("What?"), timeout=30)
        await running.read()
        fault = await refused(stub.Generate(ask("What?"), timeout=5))
        assert isinstance(fault, Overloaded)
        assert fault.retry_after == timedelta(seconds=1)
        running.cancel()


async def test_a_follow_up_is_condensed_and_a_complete_question_is_not() -> None:
    history = [
        pb.Turn(role=pb.ROLE_USER, text="Who wrote Hamlet?"),
        pb.Turn(role=pb.ROLE_ASSISTANT, text="William Shakespeare wrote it. [1]"),
    ]
    async with serving() as stub:
        reply = await stub.Condense(pb.CondenseRequest(question="When was he born?", history=history), timeout=5)
        assert (reply.question, reply.changed) == ("When was William Shakespeare born?", True)
        reply = await stub.Condense(pb.CondenseRequest(question="What is Kafka?", history=history), timeout=5)
        assert (reply.question, reply.changed) == ("What is Kafka?", False)


async def test_backends_are_listed_with_the_default_first() -> None:
    async with serving(second=FakeBackend(name="second"), first=FakeBackend(name="first")) as stub:
        reply = await stub.ListBackends(pb.ListBackendsRequest(), timeout=5)
    assert [(b.name, list(b.models)) for b in reply.backends] == [
        ("second", ["second-model"]),
        ("first", ["first-model"]),
    ]


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        (
            {"BACKENDS": "extractiv"},
            "there is no backend 'extractiv'; the backends are extractive, openai, tensorrt_llm",
        ),
        ({"BACKENDS": "extractive,extractive"}, "names a backend twice"),
        ({"BACKENDS": "openai"}, "the backend openai needs ANABRANCH_GENERATION_OPENAI_URL"),
        ({"BACKENDS": "openai", "OPENAI_URL": "localhost:8000"}, "is not an http or https url"),
        ({"BACKENDS": "tensorrt_llm"}, "the backend tensorrt_llm needs ANABRANCH_GENERATION_TENSORRT_MODEL"),
        ({"TENSORRT_ADAPTERS": "mine"}, "'mine' is neither name=folder nor an artifact"),
        ({"MAX_CONCURENT": "3"}, "did you mean ANABRANCH_GENERATION_MAX_CONCURRENT"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_wrong_settings_stop_the_start_with_a_sentence(
    variables: dict[str, str], sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(f"ANABRANCH_GENERATION_{name}", value)
    with pytest.raises(WrongSettings) as caught:
        load(Settings)
    assert sentence in str(caught.value)


async def test_a_backend_whose_package_is_missing_stops_the_start_with_a_sentence() -> None:
    settings = Settings(backends="tensorrt_llm", tensorrt_model="some/model")
    with pytest.raises(Invalid, match="needs the package tensorrt-llm, which is not installed here"):
        await build(settings)


def test_the_program_checks_its_settings() -> None:
    command = [sys.executable, "-m", "anabranch_generation", "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "generation: settings are in order\n")
