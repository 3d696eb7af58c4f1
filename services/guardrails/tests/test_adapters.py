"""The record of what was blocked, the operator's own model, and the service on a real broker."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiokafka import AIOKafkaConsumer
from onnx import TensorProto, helper
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from anabranch import topics
from anabranch.guardrails.v1 import events_pb2 as events
from anabranch.guardrails.v1 import guardrails_service_pb2 as pb
from anabranch.guardrails.v1.guardrails_service_pb2_grpc import GuardrailsServiceStub
from anabranch.registry.v1 import guards_pb2 as guards
from anabranch_bus import BusSettings, Event, KafkaBus, MemoryBus
from anabranch_faults import Invalid, Overloaded, Unreachable
from anabranch_guardrails.adapters.blocked import BusBlockedRecord
from anabranch_guardrails.adapters.catalogue import catalogue
from anabranch_guardrails.adapters.moderation import ModerationEndpoint
from anabranch_guardrails.adapters.onnx_model import OnnxModel
from anabranch_guardrails.application.ports import Blocked
from anabranch_guardrails.domain import Stage, Status, Subject, Verdict
from anabranch_guardrails.domain.policies import Result
from anabranch_guardrails.testing import policy, rule
from anabranch_rpc import connect
from anabranch_testkit import poll_until


def blocked(number: int = 0, **more: Any) -> Blocked:
    result = Result(check="pii", version="1", verdict=Verdict.BLOCK, status=Status.OK, score=0.9, threshold=0.5)
    whole: dict[str, Any] = {
        "request_id": f"r-{number}",
        "tenant": "t",
        "corpus": "c",
        "stage": Stage.INPUT,
        "verdict": Verdict.BLOCK,
        "policy_version": "gp-1",
        "results": (result,),
        "at": datetime.now(UTC),
    }
    return Blocked(**(whole | more))


class TestRecords:
    async def test_records_wait_for_a_broker_that_is_away_and_are_told_once(self) -> None:
        bus = MemoryBus()
        bus.unreachable = True
        record = BusBlockedRecord(bus, capacity=3)
        running = asyncio.create_task(record.run())
        for number in range(5):
            record.add(blocked(number))
        assert record.waiting == 3
        bus.unreachable = False
        await record.flush(timedelta(seconds=10))
        told = bus.published(topics.GUARDRAILS_REQUEST_BLOCKED)
        assert [event.key for event in told] == ["t/r-0", "t/r-1", "t/r-2"]
        assert len({event.event_id for event in told}) == 3
        running.cancel()

    async def test_what_cannot_go_before_the_end_is_given_up(self) -> None:
        bus = MemoryBus()
        bus.unreachable = True
        record = BusBlockedRecord(bus)
        running = asyncio.create_task(record.run())
        record.add(blocked())
        await record.flush(timedelta(milliseconds=50))
        running.cancel()
        assert bus.published(topics.GUARDRAILS_REQUEST_BLOCKED) == []


def endpoint(answer: Callable[[httpx.Request], httpx.Response], url: str = "http://model") -> ModerationEndpoint:
    return ModerationEndpoint(url, model="m", key="k", transport=httpx.MockTransport(answer))


SUBJECT = Subject(stage=Stage.INPUT, text="a text")


class TestModeration:
    @pytest.mark.parametrize("url", ["http://model", "http://model/v1"])
    async def test_the_highest_score_counts_and_flagged_categories_are_named(self, url: str) -> None:
        asked = []

        def answer(request: httpx.Request) -> httpx.Response:
            asked.append((str(request.url), request.headers["authorization"], json.loads(request.content)))
            result = {
                "flagged": True,
                "categories": {"hate": True, "<b>": True},
                "category_scores": {"hate": 0.7, "x": 0.1},
            }
            return httpx.Response(200, json={"results": [result]})

        finding = await endpoint(answer, url).look(SUBJECT)
        assert (finding.score, finding.reason) == (0.7, "hate")
        assert asked == [("http://model/v1/moderations", "Bearer k", {"model": "m", "input": ["a text"]})]

    async def test_a_model_that_only_flags_is_sure(self) -> None:
        for flagged, score in ((True, 1.0), (False, 0.0)):
            found = await endpoint(
                lambda _, flagged=flagged: httpx.Response(200, json={"results": [{"flagged": flagged}]})  # type: ignore[misc] # a lambda's default has no type
            ).look(SUBJECT)
            assert found.score == score

    async def test_a_long_text_is_asked_about_in_windows_and_one_too_long_not_at_all(self) -> None:
        def answer(request: httpx.Request) -> httpx.Response:
            inputs = json.loads(request.content)["input"]
            assert all(len(text) <= 16_384 for text in inputs)
            results = [{"category_scores": {"x": 0.9 if "bad" in text else 0.1}} for text in inputs]
            return httpx.Response(200, json={"results": results})

        text = "good " * 10_000 + "bad \ud800"
        assert (await endpoint(answer).look(Subject(stage=Stage.INPUT, text=text))).score == 0.9
        with pytest.raises(Invalid):
            await endpoint(answer).look(Subject(stage=Stage.INPUT, text="x" * 1_000_000))

    @pytest.mark.parametrize(
        ("response", "fault"),
        [
            (httpx.Response(429), Overloaded),
            (httpx.Response(503), Unreachable),
            (httpx.Response(401), Invalid),
            (httpx.Response(302, headers={"location": "http://elsewhere"}), Invalid),
            (httpx.Response(200, text="<html>"), Invalid),
            (httpx.Response(200, json={"results": []}), Invalid),
            (httpx.Response(200, json={"results": [{}]}), Invalid),
            (httpx.Response(200, json=[1]), Invalid),
            (httpx.Response(200, content=b"[" * 5_000_000), Invalid),
        ],
    )
    async def test_what_is_no_answer_is_a_fault_of_its_kind(
        self, response: httpx.Response, fault: type[Exception]
    ) -> None:
        with pytest.raises(fault):
            await endpoint(lambda _: response).look(SUBJECT)

    async def test_a_server_that_is_away_is_unreachable(self, free_port: Callable[[], int]) -> None:
        model = ModerationEndpoint(f"http://127.0.0.1:{free_port()}", model="m")
        with pytest.raises(Unreachable):
            await model.look(SUBJECT)
        await model.close()


def stored(folder: Path, *outputs: float, text: bool = False) -> Path:
    """A model that says the same of every row: `outputs` added to nothing of what it takes."""
    column = helper.make_tensor("c", TensorProto.FLOAT, [1, len(outputs)], outputs)
    if text:
        taken = [helper.make_tensor_value_info("text", TensorProto.STRING, ["n"])]
        nodes = [helper.make_node("Identity", ["c"], ["y"])]
    else:
        names = ("input_ids", "attention_mask")
        taken = [helper.make_tensor_value_info(name, TensorProto.INT64, ["n", "s"]) for name in names]
        nodes = [
            helper.make_node("Mul", ["input_ids", "attention_mask"], ["m"]),
            helper.make_node("Cast", ["m"], ["f"], to=TensorProto.FLOAT),
            helper.make_node("ReduceMax", ["f"], ["r"], axes=[1], keepdims=1),
            helper.make_node("Add", ["r", "c"], ["y"]),
        ]
    given = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", len(outputs)])]
    graph = helper.make_graph(nodes, "g", taken, given, [column])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    vocabulary = {"[UNK]": 0, "fine": 0, "bad": 9}
    words = Tokenizer(WordLevel(vocabulary, unk_token="[UNK]"))
    words.pre_tokenizer = Whitespace()
    words.save(str(folder / "tokenizer.json"))
    return folder


class TestModelInAFile:
    def test_a_model_over_tokens_sees_a_long_text_in_windows(self, tmp_path: Path) -> None:
        model = OnnxModel(stored(tmp_path, -5.0))
        assert model.version.startswith("onnx-")
        looked = [model.look(Subject(stage=Stage.INPUT, text=text)).score for text in ("fine", "fine " * 2_000 + "bad")]
        assert [round(score, 2) for score in looked] == [0.01, 0.98]
        far = model.look(Subject(stage=Stage.INPUT, text="fine " * 20_000))
        assert far.reason.startswith("32 of ")

    @pytest.mark.parametrize(
        ("outputs", "score"), [((0.3,), 0.3), ((0.9, 0.1), 0.1), ((3.0, 3.0), 0.5), ((-2.0, 1.0, 1.0), 0.975)]
    )
    def test_a_model_over_text_gives_logits_or_probabilities(
        self, tmp_path: Path, outputs: tuple[float, ...], score: float
    ) -> None:
        model = OnnxModel(stored(tmp_path, *outputs, text=True))
        assert model.look(SUBJECT).score == pytest.approx(score, abs=0.001)

    def test_what_cannot_be_run_is_refused_in_a_sentence(self, tmp_path: Path) -> None:
        with pytest.raises(Invalid, match="cannot be read"):
            OnnxModel(tmp_path)
        (tmp_path / "model.onnx").write_bytes(b"nonsense")
        with pytest.raises(Invalid, match="no model"):
            OnnxModel(tmp_path)
        stored(tmp_path, 0.0)
        (tmp_path / "tokenizer.json").unlink()
        with pytest.raises(Invalid, match="no tokenizer"):
            OnnxModel(tmp_path)

    def test_numbers_that_are_none_are_a_fault(self, tmp_path: Path) -> None:
        with pytest.raises(Invalid, match="finite"):
            OnnxModel(stored(tmp_path, float("nan"), text=True)).look(SUBJECT)

    async def test_it_is_the_check_moderation_of_policies(self, tmp_path: Path) -> None:
        checks = catalogue(model=OnnxModel(stored(tmp_path, 0.9, text=True)), moderation_threshold=0.8)
        (kind,) = [kind for kind in checks.kinds if kind.name == "moderation"]
        plan = checks.plan(policy(rule("moderation")))
        assert (kind.threshold, plan.steps[Stage.INPUT][0].timeout) == (0.8, timedelta(seconds=2))


@asynccontextmanager
async def process(kafka: str, folder: Path, **more: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """The service as operators run it; its gRPC address."""
    environment = {
        **os.environ,
        "ANABRANCH_GUARDRAILS_KAFKA": kafka,
        "ANABRANCH_GUARDRAILS_DATA": str(folder),
        "ANABRANCH_GUARDRAILS_LISTEN": f"unix:{folder / 'g.sock'}",
        "ANABRANCH_GUARDRAILS_LOG_FORMAT": "json",
        **more,
    }
    with (folder / "log").open("ab") as log:
        running = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "anabranch_guardrails", env=environment, stdout=log, stderr=log
        )

    async def ready() -> bool:
        assert running.returncode is None, (folder / "log").read_text()[-2000:]
        return '"service.ready"' in (folder / "log").read_text()

    try:
        await poll_until(ready, deadline=timedelta(seconds=60))
        yield running, f"unix:{folder / 'g.sock'}"
    finally:
        if running.returncode is None:
            running.send_signal(signal.SIGTERM)
            await asyncio.wait_for(running.wait(), 30)


@pytest.mark.connected
class TestOnABroker:
    async def test_policies_come_from_the_topic_and_blocked_texts_go_to_theirs(
        self, kafka: str, short_dir: Path, unique: Any
    ) -> None:
        tenant, version = unique("t"), unique("gp")
        publisher = KafkaBus(BusSettings(bootstrap=kafka, client_id="test"))
        await publisher.start()

        async def tell(key: str, message: guards.PolicyChanged) -> None:
            await publisher.publish(Event(topic=topics.REGISTRY_POLICY_CHANGED, message=message, key=key))

        rule = guards.GuardRule(check="patterns", stage=events.STAGE_INPUT, action=events.VERDICT_BLOCK)
        rule.options.update({"patterns": ["forbidden"]})
        policy = guards.GuardPolicy(policy_version=version, name="p", rules=[rule])
        await tell(f"version/{version}", guards.PolicyChanged(policy=policy))
        attachment = guards.PolicyAttachment(scope=tenant, policy_version=version, revision=1)
        await tell(f"scope/{tenant}", guards.PolicyChanged(attachment=attachment))
        subject = pb.Subject(tenant=tenant, corpus="c", request_id="r-1")
        async with process(kafka, short_dir) as (running, target):
            channel = connect(target)
            stub = GuardrailsServiceStub(channel)

            async def check(text: str) -> pb.CheckResponse:
                request = pb.CheckRequest(subject=subject, stage=events.STAGE_INPUT, text=text)
                response: pb.CheckResponse = await stub.Check(request, timeout=20)
                return response

            assert (await check("a forbidden word")).policy_version == version
            response = await check("a fine word")
            assert response.verdict == events.VERDICT_ALLOW
            broken = guards.GuardPolicy(policy_version=f"{version}-2", rules=[guards.GuardRule(check="telepathy")])
            await tell(f"version/{version}-2", guards.PolicyChanged(policy=broken))
            attachment.policy_version = f"{version}-2"
            await tell(f"scope/{tenant}", guards.PolicyChanged(attachment=attachment))

            async def refused() -> bool:
                return "guardrails.attachment.delayed" in (short_dir / "log").read_text()

            await poll_until(refused)
            assert (await check("a forbidden word")).verdict == events.VERDICT_BLOCK
            detach = guards.PolicyAttachment(scope=tenant, revision=3)
            await tell(f"scope/{tenant}", guards.PolicyChanged(attachment=detach))

            async def built_in() -> bool:
                return (await check("a forbidden word")).policy_version == "built-in"

            await poll_until(built_in)
            await channel.close()
        assert running.returncode == 0
        await publisher.stop()
        told = await read_blocked(kafka, tenant, 2)
        assert {one.policy_version for one in told} == {version}
        assert all(not re.search("forbidden", str(one)) for one in told)


async def read_blocked(kafka: str, tenant: str, count: int) -> list[events.RequestBlocked]:
    consumer = AIOKafkaConsumer(
        topics.GUARDRAILS_REQUEST_BLOCKED.name, bootstrap_servers=kafka, auto_offset_reset="earliest"
    )
    await consumer.start()
    found: list[events.RequestBlocked] = []
    try:
        async with asyncio.timeout(30):
            async for record in consumer:
                message = events.RequestBlocked.FromString(record.value)
                if message.tenant == tenant:
                    found.append(message)
                if len(found) == count:
                    return found
    finally:
        await consumer.stop()
    return found
