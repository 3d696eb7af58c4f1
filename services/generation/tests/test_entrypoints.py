from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import grpc
import pytest
from google.protobuf.json_format import ParseDict
from google.protobuf.struct_pb2 import Struct

from anabranch import topics
from anabranch.generation.v1 import generation_service_pb2 as pb
from anabranch.generation.v1 import generation_service_pb2_grpc as stubs
from anabranch.ingestion.v1.events_pb2 import DocumentRef, Span
from anabranch.registry.v1 import prompts_pb2 as registry
from anabranch.retrieval.v1.retrieval_service_pb2 import Passage, Sentence
from anabranch_bus import Event, MemoryBus
from anabranch_faults import Invalid, Overloaded
from anabranch_generation.adapters.chat import ChatBackend
from anabranch_generation.application import Backend
from anabranch_generation.bootstrap import build
from anabranch_generation.domain import MAX_QUESTION, Usage
from anabranch_generation.settings import Settings
from anabranch_generation.testing import FakeBackend, FakeChatModel
from anabranch_prompts.marking import MARKERS
from anabranch_rpc import Server, connect, fault_from
from anabranch_runtime import WrongSettings, load
from anabranch_testkit import poll_until

TEXT = "Hoosick is a town in Rensselaer County. The population was 6,924 at the 2010 census. It was named from a river."
SPANS = ((0, 39), (40, 84), (85, 111))


@asynccontextmanager
async def serving(
    settings: Settings | None = None, bus: MemoryBus | None = None, **loaded: Backend
) -> AsyncIterator[stubs.GenerationServiceAsyncStub]:
    service = await build(settings or Settings(), bus=bus, loaded=loaded or None)
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


def version(number: int, text: str, **more: Any) -> Event:
    prompt = registry.PromptTemplate(
        name="support", prompt_version=f"p-{number:012x}", system=text, template="{{ question }}", **more
    )
    message = registry.PromptChanged(prompt=prompt)
    return Event(topic=topics.REGISTRY_PROMPT_CHANGED, message=message, key=f"prompt/support/{prompt.prompt_version}")


def label(number: int, revision: int) -> Event:
    moved = registry.PromptLabel(
        name="support", label="production", prompt_version=f"p-{number:012x}", revision=revision
    )
    message = registry.PromptChanged(label=moved)
    return Event(topic=topics.REGISTRY_PROMPT_CHANGED, message=message, key="label/support/production")


def prompted(reference: str = "support@production", **more: Any) -> pb.GenerateRequest:
    return ask("What was the population?", settings=pb.GenerationSettings(prompt_ref=reference), **more)


async def told_by(bus: MemoryBus, *events: Event) -> None:
    await bus.deliver(topics.REGISTRY_PROMPT_CHANGED, events)


async def test_a_labels_move_holds_from_the_next_answer_on() -> None:
    bus, model = MemoryBus(), FakeChatModel()
    async with serving(bus=bus, chat=ChatBackend(model)) as stub:
        await told_by(bus, version(1, "One."), version(2, "Two."), label(1, 1))
        events = [event async for event in stub.Generate(prompted(), timeout=5)]
        assert events[-1].generated.prompt_version == "p-000000000001"
        await told_by(bus, label(2, 2))
        events = [event async for event in stub.Generate(prompted(), timeout=5)]
        assert events[-1].generated.prompt_version == "p-000000000002"
        await told_by(bus, label(1, 1))  # told again, late
        events = [event async for event in stub.Generate(prompted(), timeout=5)]
    assert events[-1].generated.prompt_version == "p-000000000002"
    assert [told[0][0].text.split("\n")[0] for told in model.told] == ["One.", "Two.", "Two."]


async def test_what_was_once_known_goes_on_when_the_registry_drops_it() -> None:
    bus = MemoryBus()
    async with serving(bus=bus, chat=ChatBackend(FakeChatModel())) as stub:
        await told_by(bus, version(1, "One."), label(1, 1))
        for key in ("prompt/support/p-000000000001", "label/support/production"):
            await bus.deliver_bytes(topics.REGISTRY_PROMPT_CHANGED, None, key=key.encode())
        events = [event async for event in stub.Generate(prompted(), timeout=5)]
        assert events[-1].generated.prompt_version == "p-000000000001"
        by_version = stub.Generate(prompted("support@p-000000000001"), timeout=5)
        assert [event async for event in by_version][-1].generated.prompt_version == "p-000000000001"


async def test_a_label_whose_version_is_not_known_yet_goes_on_meaning_what_it_did() -> None:
    bus = MemoryBus()
    async with serving(bus=bus, chat=ChatBackend(FakeChatModel())) as stub:
        await told_by(bus, version(1, "One."), label(1, 1), label(2, 2))
        events = [event async for event in stub.Generate(prompted(), timeout=5)]
        assert events[-1].generated.prompt_version == "p-000000000001"
        await told_by(bus, version(2, "Two."))
        events = [event async for event in stub.Generate(prompted(), timeout=5)]
    assert events[-1].generated.prompt_version == "p-000000000002"


@pytest.mark.parametrize("reference", ["support@production", "other@production", "support@p-ffffffffffff", "support"])
@pytest.mark.parametrize("backend", [FakeBackend(), ChatBackend(FakeChatModel())], ids=["extractive", "chat"])
async def test_a_prompt_never_heard_of_is_invalid_whatever_the_backend(reference: str, backend: Backend) -> None:
    async with serving(bus=MemoryBus(), one=backend) as stub:
        fault = await refused(stub.Generate(prompted(reference), timeout=5))
    assert isinstance(fault, Invalid)
    assert fault.field == "settings.prompt_ref"


async def test_what_a_prompt_fixes_holds_unless_the_variant_says_otherwise() -> None:
    bus, model = MemoryBus(), FakeChatModel()
    async with serving(bus=bus, chat=ChatBackend(model)) as stub:
        await told_by(bus, version(1, "One.", temperature=0.5, max_tokens=100, stop=["END"]), label(1, 1))
        await anext(aiter(stub.Generate(prompted(), timeout=5)))
        own = pb.GenerationSettings(prompt_ref="support@production", temperature=0.1, max_tokens=7)
        await anext(aiter(stub.Generate(ask("What?", settings=own), timeout=5)))
    used = [(settings.temperature, tokens, settings.stop) for _, settings, tokens in model.told]
    assert used == [(0.5, 100, ("END",)), (0.1, 7, ("END",))]


async def test_variables_come_as_json_and_a_missing_one_is_named() -> None:
    bus, model = MemoryBus(), FakeChatModel()
    schema = ParseDict({"type": "object", "properties": {"days": {"type": "integer"}}, "required": ["days"]}, Struct())
    async with serving(bus=bus, chat=ChatBackend(model)) as stub:
        await told_by(bus, version(1, "Within {{ days }} days.", variables=schema), label(1, 1))
        fault = await refused(stub.Generate(prompted(), timeout=5))
        assert isinstance(fault, Invalid)
        assert fault.field == "variables.days"
        await anext(aiter(stub.Generate(prompted(variables=ParseDict({"days": 3}, Struct())), timeout=5)))
    assert model.told[0][0][0].text.startswith("Within 3 days.")


async def test_a_canary_and_marked_passages_reach_the_model() -> None:
    model = FakeChatModel()
    async with serving(chat=ChatBackend(model)) as stub:
        await anext(aiter(stub.Generate(ask("What?", canary="c-1", mark_passages=True), timeout=5)))
    system, user = model.told[0][0]
    assert "c-1" in system.text
    assert any(f"Hoosick{mark}is{mark}a" in user.text for mark in MARKERS)


async def test_a_cascade_of_the_settings_asks_the_cheap_backend_first() -> None:
    settings = pb.GenerationSettings(backend="strong", cascade=pb.Cascade(backend="cheap", escalate_below=0.5))
    cheap, strong = FakeBackend(name="cheap", says=("Dragons.",)), FakeBackend(name="strong")
    async with serving(cheap=cheap, strong=strong) as stub:
        events = [event async for event in stub.Generate(ask("What?", settings=settings), timeout=5)]
    assert "".join(event.delta for event in events) == "An answer."
    calls = [(call.backend, call.model, call.draft) for call in events[-1].generated.calls]
    assert calls == [("cheap", "cheap-model", True), ("strong", "strong-model", False)]
    trace = events[-1].generated.cascade
    assert (trace.strong, trace.explored, trace.draft_support) == (True, False, 0.0)
    assert 0 < trace.difficulty < 1


async def test_a_model_that_rewrote_a_follow_up_is_told_with_its_usage() -> None:
    model = FakeChatModel(says=("When was Shakespeare born?",), usage=Usage(11, 5))
    async with serving(fake_chat=ChatBackend(model)) as stub:
        history = [pb.Turn(role=pb.ROLE_USER, text="Who wrote Hamlet?")]
        reply = await stub.Condense(pb.CondenseRequest(question="When was he born?", history=history), timeout=5)
    assert reply.question == "When was Shakespeare born?"
    assert (reply.call.backend, reply.call.model) == ("fake_chat", "small")
    assert (reply.call.usage.prompt_tokens, reply.call.usage.completion_tokens) == (11, 5)


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
