"""A service as a real process: settings, signals, drain, crashes and exit codes."""

import asyncio
import json
import os
import resource
import sys
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from time import monotonic
from typing import Any

import grpc
import pytest

from anabranch import topics
from anabranch.embedding.v1.embedding_service_pb2 import EmbedTextsRequest
from anabranch.embedding.v1.embedding_service_pb2_grpc import EmbeddingServiceStub
from anabranch.ingestion.v1.events_pb2 import DocumentChunked
from anabranch_bus import Event, KafkaBus
from anabranch_bus.kafka.settings import BusSettings
from anabranch_rpc import connect
from anabranch_testkit import poll_until

pytestmark = pytest.mark.connected

# What the service under test does is chosen by variables of its own.
PROGRAM = """
import asyncio, os, sys, time
from typing import Any, ClassVar

if os.environ.get("SEE_SOCKETS"):
    sys.addaudithook(lambda event, args: event in ("socket.bind", "socket.connect") and print("SOCKET", flush=True))

from anabranch import topics
from anabranch.embedding.v1 import embedding_service_pb2 as pb
from anabranch.embedding.v1 import embedding_service_pb2_grpc as pb_grpc
from anabranch_bus import MemoryBus
from anabranch_faults import Invalid
from anabranch_rpc import Servicer
from anabranch_runtime import Service, ServiceSettings, serve
from pydantic import Field
from pydantic_settings import SettingsConfigDict


class Settings(ServiceSettings):
    model_config: ClassVar[SettingsConfigDict] = SettingsConfigDict(env_prefix="ANABRANCH_THING_")
    mode: str = Field(default="", description="what to do")
    group: str = Field(default="", description="consumer group")


class Embedding(pb_grpc.EmbeddingServiceServicer):
    async def EmbedTexts(self, request, context):
        print("entered", flush=True)
        await asyncio.sleep(float(request.texts[0]))
        return pb.EmbedTextsResponse()

    async def ListModels(self, request, context):
        return pb.ListModelsResponse()


def build(settings, *, bus):
    background, starting = [], []
    if settings.mode == "refuse":
        raise Invalid("there is no backend 'x'; there are extractive and openai", field="backend")
    if settings.mode == "crash":
        async def crash():
            await asyncio.sleep(0.2)
            raise ZeroDivisionError("oops")
        background.append(crash)
    if settings.mode == "slow start":
        async def load():
            print("loading", flush=True)
            await asyncio.sleep(60)
        starting.append(load)
    if settings.mode == "block":
        async def block():
            await asyncio.sleep(0.5)
            print("blocking", flush=True)
            time.sleep(60)
        background.append(block)
    if settings.group:
        @bus.subscriber(topics.INGESTION_DOCUMENT_CHUNKED, group=settings.group)
        async def on_chunked(records):
            print("handling", *[record.event_id for record in records], flush=True)
            await asyncio.sleep(1)
            print("handled", *[record.event_id for record in records], flush=True)
            return records.outcome()
    add = pb_grpc.add_EmbeddingServiceServicer_to_server
    rpc = Servicer(Embedding(), add, "anabranch.embedding.v1.EmbeddingService")
    return Service(name="thing", bus=bus, rpc=[rpc], background=background, starting=starting)


if __name__ == "__main__":
    settings_of_kafka = {} if os.environ.get("ANABRANCH_THING_GROUP") else {"bus": lambda settings: MemoryBus()}
    serve(build, Settings, **settings_of_kafka)
"""


class Running:
    """A service process."""

    def __init__(self, process: asyncio.subprocess.Process, address_file: Path) -> None:
        self.process = process
        self._address_file = address_file

    async def addresses(self) -> dict[str, str]:
        await poll_until(self._address_file.exists, deadline=20, what="addresses")
        addresses: dict[str, str] = json.loads(self._address_file.read_text())
        return addresses

    async def line(self) -> str:
        assert self.process.stdout is not None
        return (await asyncio.wait_for(self.process.stdout.readline(), 30)).decode().strip()

    async def ended(self) -> tuple[int, str, str]:
        """Exit code, standard output and error."""
        out, err = await asyncio.wait_for(self.process.communicate(), 40)
        assert self.process.returncode is not None
        return self.process.returncode, out.decode(), err.decode()


Launch = Callable[..., Awaitable[Running]]


@pytest.fixture
async def launch(tmp_path: Path) -> AsyncIterator[Launch]:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    async with AsyncExitStack() as stack:

        async def start(*arguments: str, **settings: str) -> Running:
            address_file = tmp_path / f"addresses-{uuid.uuid4().hex}.json"
            own = {f"ANABRANCH_THING_{name.upper()}": value for name, value in settings.items() if name.islower()}
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, str(program), *arguments),
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env={
                    **os.environ,
                    **own,
                    **{name: value for name, value in settings.items() if name.isupper()},
                    "ANABRANCH_THING_ADDRESS_FILE": str(address_file),
                    "ANABRANCH_THING_DATA": str(tmp_path / "data"),
                    "ANABRANCH_THING_LOG_FORMAT": "json",
                },
            )

            async def stop() -> None:
                if process.returncode is None:
                    process.kill()
                    await process.communicate()

            stack.push_async_callback(stop)
            return Running(process, address_file)

        yield start


def events(err: str) -> dict[str, dict[str, Any]]:
    return {
        line["event"]: line for line in map(json.loads, filter(lambda text: text.startswith("{"), err.splitlines()))
    }


async def test_sigterm_finishes_what_runs_takes_nothing_new_and_exits_0(launch: Launch) -> None:
    running = await launch()
    target = (await running.addresses())["rpc"]
    async with connect(target) as channel:
        stub = EmbeddingServiceStub(channel)
        call = asyncio.ensure_future(stub.EmbedTexts(EmbedTextsRequest(texts=["1"])))
        assert await running.line() == "entered"
        began = monotonic()
        running.process.terminate()
        await call
    async with connect(target) as channel:
        with pytest.raises(grpc.aio.AioRpcError):
            await EmbeddingServiceStub(channel).EmbedTexts(EmbedTextsRequest(texts=["0"]), timeout=0.5)
    code, _, err = await running.ended()
    assert code == 0
    assert monotonic() - began < 5
    assert list(events(err))[-1] == "service.stopped"


async def test_sigterm_cuts_off_what_does_not_finish(launch: Launch) -> None:
    running = await launch()
    async with connect((await running.addresses())["rpc"]) as channel:
        call = asyncio.ensure_future(
            EmbeddingServiceStub(channel).EmbedTexts(EmbedTextsRequest(texts=["60"]), timeout=60)
        )
        assert await running.line() == "entered"
        began = monotonic()
        running.process.terminate()
        with pytest.raises(grpc.aio.AioRpcError):
            await call
    assert (await running.ended())[0] == 0
    assert monotonic() - began < 12


async def test_sigterm_while_starting_ends_the_start(launch: Launch) -> None:
    running = await launch(mode="slow start")
    assert await running.line() == "loading"
    running.process.terminate()
    code, _, err = await running.ended()
    assert code == 0
    assert "Traceback" not in err


async def test_a_background_task_that_crashes_ends_the_process_with_1_and_the_reason(launch: Launch) -> None:
    running = await launch(mode="crash")
    code, _, err = await running.ended()
    assert code == 1
    assert "ZeroDivisionError: oops" in events(err)["service.failed"]["reason"]
    assert "Traceback" in events(err)["task.failed"]["exception"]


async def test_wrong_settings_end_the_process_with_2_in_two_seconds_before_any_socket(launch: Launch) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    running = await launch(mode="", listen="nowhere", colour="red", SEE_SOCKETS="1")
    code, out, err = await running.ended()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    # In time of the processor, which does not depend on what else the machine does.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 2
    assert code == 2
    assert "2 settings are wrong" in err
    assert "SOCKET" not in out


async def test_check_looks_at_the_settings_and_starts_nothing(launch: Launch) -> None:
    right = await (await launch("--check", SEE_SOCKETS="1")).ended()
    assert (right[0], right[1].strip()) == (0, "thing: settings are in order")
    assert (await (await launch("--check", mode="x", nonsense="1")).ended())[0] == 2


async def test_what_the_composition_root_refuses_ends_the_process_with_2_and_a_sentence(launch: Launch) -> None:
    code, _, err = await (await launch(mode="refuse")).ended()
    assert code == 2
    failed = events(err)["service.failed"]
    assert failed["reason"] == "backend: there is no backend 'x'; there are extractive and openai"
    assert "Traceback" not in err


async def test_an_address_that_is_taken_ends_the_process_with_1_and_a_sentence(launch: Launch) -> None:
    first = await launch()
    taken = (await first.addresses())["rpc"]
    code, _, err = await (await launch(listen=taken)).ended()
    assert code == 1
    assert taken in events(err)["service.failed"]["reason"]


@pytest.mark.slow
async def test_a_blocked_event_loop_does_not_keep_the_process_alive(launch: Launch) -> None:
    running = await launch(mode="block")
    assert await running.line() == "blocking"
    await asyncio.sleep(7)
    running.process.terminate()
    began = monotonic()
    code, _, err = await running.ended()
    assert monotonic() - began < 26
    assert code == 1
    assert "time.sleep(60)" in events(err)["loop.stalled"]["stack"]


async def test_sigterm_lets_a_kafka_handler_finish_and_commits(launch: Launch, kafka: str, unique: Any) -> None:
    group = unique("thing")
    bus = KafkaBus(BusSettings(bootstrap=kafka))
    await bus.start()
    try:
        first = await launch(kafka=kafka, group=group)
        ops = await first.addresses()
        await poll_until(lambda: ready(ops["ops"]), deadline=30, what="ready")
        one = Event(topic=topics.INGESTION_DOCUMENT_CHUNKED, message=DocumentChunked(), key="t/c/d")
        await bus.publish(one)
        assert await first.line() == f"handling {one.event_id}"
        first.process.terminate()
        code, out, err = await first.ended()
        assert code == 0, err
        assert f"handled {one.event_id}" in out
        second = await launch(kafka=kafka, group=group)
        two = Event(topic=topics.INGESTION_DOCUMENT_CHUNKED, message=DocumentChunked(), key="t/c/d")
        await bus.publish(two)
        assert await second.line() == f"handling {two.event_id}"
    finally:
        await bus.stop()


async def ready(address: str) -> bool:
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    answer = await reader.read()
    writer.close()
    return answer.startswith(b"HTTP/1.1 200")
