"""How long until all replicas render the old prompt again: `python services/generation/bench/prompts.py`.

The registry and several replicas of generation as processes on a real broker, a small model server behind the replicas.
Each way back is timed from before the registry's RollbackPromptLabel is called until the last of the replicas, each
asked every 10 ms, has told the model server the prompt before: the registry's transaction, its outbox, the broker, and
the replicas' reading of it are all in. `render` is one rendering of the service's own prompt with five passages, and of
a prompt with typed variables and marked data; `payloads` is the slowest of the templates that the sandbox refuses, in
processor time, each read anew. One JSON object is printed. With `--kafka host:port` a broker that is there already is
used, else one is started; `--data DIR` keeps what the processes write.
"""

# ruff: noqa: INP001  a program, not part of a package
from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final

import grpc

from anabranch.generation.v1 import generation_service_pb2 as pb
from anabranch.generation.v1 import generation_service_pb2_grpc as stubs
from anabranch.registry.v1 import prompt_service_pb2 as prompts
from anabranch.registry.v1 import prompt_service_pb2_grpc as prompts_grpc
from anabranch.registry.v1 import prompts_pb2 as values
from anabranch.retrieval.v1.retrieval_service_pb2 import Passage
from anabranch_faults import Invalid
from anabranch_local.kafka import KafkaServer
from anabranch_local.provisioning import provision
from anabranch_prompts import ANSWER, PromptTemplate, check, render
from anabranch_prompts.payloads import PAYLOADS
from anabranch_prompts.program import forget

NAME: Final = "bench.answer"
LABEL: Final = "production"
WHO: Final[dict[str, Any]] = {"author": "bench", "reason": "to see how fast it follows"}
AGAIN_AFTER: Final = 0.01
READY_WITHIN: Final = 60.0
CALL: Final = 10.0
CONTEXTS: Final = [
    {"title": f"Document {n}", "text": "An anabranch leaves the main stream and flows back into it. " * 12}
    for n in range(5)
]
TYPED: Final = PromptTemplate(
    name="typed",
    system="Answer {{ person }} in a {{ tone }} tone, within {{ days }} days."
    "{% if notes %} Notes: {{ notes|join('; ') }}{% endif %}",
    template=ANSWER.template,
    variables={
        "type": "object",
        "properties": {
            "person": {"type": "string", "x-untrusted": True},
            "tone": {"enum": ["kind", "brief"]},
            "days": {"type": "integer", "default": 30},
            "notes": {"type": "array", "items": {"type": "string"}, "x-untrusted": True},
        },
        "required": ["person", "tone"],
    },
)
GIVEN: Final = {"person": "Ada", "tone": "kind", "notes": ["came back twice", "likes short answers"]}


@asynccontextmanager
async def model_server() -> AsyncIterator[str]:
    """The least there is to an OpenAI-compatible server; gives its base url."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            head = await reader.readuntil(b"\r\n\r\n")
            size = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            await reader.readexactly(size)
            pieces = ({"choices": [{"delta": {"content": "Yes [1]."}}]}, {"choices": [{"finish_reason": "stop"}]})
            body = b"".join(b"data: " + json.dumps(piece).encode() + b"\n\n" for piece in pieces) + b"data: [DONE]\n\n"
            kind = b"content-type: text/event-stream\r\nconnection: close\r\n"
            writer.write(b"HTTP/1.1 200 OK\r\n" + kind + b"content-length: %d\r\n\r\n" % len(body) + body)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"


@asynccontextmanager
async def process(service: str, name: str, data: Path, **settings: str) -> AsyncIterator[str]:
    """A service as a process of its own; gives where it serves."""
    folder = data / name
    await asyncio.to_thread(folder.mkdir, parents=True)
    addresses = folder / "addresses"
    own = {"DATA": str(folder), "ADDRESS_FILE": str(addresses), "LISTEN": "127.0.0.1:0", "LOG_LEVEL": "warning"}
    environment = {f"ANABRANCH_{service.upper()}_{key}": value for key, value in (own | settings).items()}
    with (folder / "log").open("ab") as log:
        started = await asyncio.create_subprocess_exec(
            sys.executable, "-m", f"anabranch_{service}", env={**os.environ, **environment}, stderr=log, stdout=log
        )
    try:
        async with asyncio.timeout(READY_WITHIN):
            while not addresses.exists():
                if started.returncode is not None:
                    raise RuntimeError((folder / "log").read_text(encoding="utf-8")[-3_000:])
                await asyncio.sleep(0.05)
        yield json.loads(addresses.read_text(encoding="utf-8"))["rpc"]
    finally:
        if started.returncode is None:
            started.kill()
            await started.wait()


class Replicas:
    """Several replicas of generation."""

    def __init__(self, channels: Sequence[grpc.aio.Channel]) -> None:
        """Takes a channel to each."""
        self._stubs = [stubs.GenerationServiceStub(channel) for channel in channels]

    async def follow(self, change: Callable[[], Any], version: str) -> list[float]:
        """Seconds until each rendered the version, from before `change` was called."""
        asking = [asyncio.create_task(self._until(stub, version)) for stub in self._stubs]
        try:
            async with asyncio.timeout(READY_WITHIN):
                began = time.perf_counter()
                await change()
                return [at - began for at in await asyncio.gather(*asking)]
        finally:
            for task in asking:
                task.cancel()

    @staticmethod
    async def _until(stub: stubs.GenerationServiceAsyncStub, version: str) -> float:
        request = pb.GenerateRequest(
            question="Does it flow back?",
            passages=[Passage(text="An anabranch flows back into the main stream.")],
            settings=pb.GenerationSettings(prompt_ref=f"{NAME}@{LABEL}"),
        )
        while True:
            try:
                events = [event async for event in stub.Generate(request, timeout=CALL, wait_for_ready=True)]
            except grpc.aio.AioRpcError as error:
                # One that has only begun has no prompt yet.
                if error.code() not in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INVALID_ARGUMENT}:
                    raise
            else:
                if events[-1].generated.prompt_version == version:
                    return time.perf_counter()
            await asyncio.sleep(AGAIN_AFTER)


async def rollbacks(kafka: str, data: Path, *, replicas: int, changes: int) -> dict[str, Any]:
    """Moves the label on, and back, time and again."""
    back: list[float] = []
    command: list[float] = []
    channels: list[grpc.aio.Channel] = []
    async with model_server() as url, process("registry", "registry", data, KAFKA=kafka) as registry:
        model = {"BACKENDS": "openai", "OPENAI_URL": url, "OPENAI_MODELS": "small", "KAFKA": kafka}
        several = [process("generation", f"generation-{place}", data, **model) for place in range(replicas)]
        addresses = [await one.__aenter__() for one in several]
        try:
            channels += [grpc.aio.insecure_channel(address) for address in (registry, *addresses)]
            stub = prompts_grpc.PromptServiceStub(channels[0])
            group = Replicas(channels[1:])
            old, new = [await kept(stub, f"Answer in version {n}.") for n in (1, 2)]
            revision = await moved(stub, old, revision=0)
            await group.follow(nothing, old)
            for _ in range(changes):
                revision = await moved(stub, new, revision=revision)
                await group.follow(nothing, new)

                async def roll_back() -> None:
                    began = time.perf_counter()
                    asked = prompts.RollbackPromptLabelRequest(name=NAME, label=LABEL, **WHO)
                    await stub.RollbackPromptLabel(asked, timeout=CALL)
                    command.append((time.perf_counter() - began) * 1_000)

                back.append(max(await group.follow(roll_back, old)) * 1_000)
                revision += 1
        finally:
            for channel in channels:
                await channel.close()
            for one in several:
                await one.__aexit__(None, None, None)
    return {"replicas": replicas, "changes": changes, **spread(back, "ms"), "command": spread(command, "ms")}


async def kept(stub: Any, system: str) -> str:
    """A version of the prompt; its name."""
    asked = prompts.CreatePromptRequest(
        prompt=values.PromptTemplate(name=NAME, system=system, template="{{ question }}"), **WHO
    )
    version: str = (await stub.CreatePrompt(asked, timeout=CALL, wait_for_ready=True)).prompt.prompt_version
    return version


async def moved(stub: Any, version: str, *, revision: int) -> int:
    """Lets the label mean a version; its revision."""
    asked = prompts.SetPromptLabelRequest(
        name=NAME, label=LABEL, prompt_version=version, expected_revision=revision, **WHO
    )
    now: int = (await stub.SetPromptLabel(asked, timeout=CALL)).label.revision
    return now


async def nothing() -> None:
    """The change was made already."""


def renders(times: int) -> dict[str, Any]:
    """What rendering takes."""
    found: dict[str, Any] = {}
    for name, prompt, given, mark in (
        ("built_in", ANSWER, {}, False),
        ("typed_and_marked", TYPED, GIVEN, True),
    ):
        took: list[float] = []
        for _ in range(times):
            began = time.perf_counter()
            render(prompt, variables=given, question="Does it flow back?", contexts=CONTEXTS, mark=mark)
            took.append((time.perf_counter() - began) * 1_000)
        found[name] = spread(took, "ms")
    return found


def payloads() -> dict[str, Any]:
    """What the sandbox makes of templates that want out or too much."""
    took: dict[str, float] = {}
    refused = 0
    for name, template in PAYLOADS.items():
        forget()
        schema = {"type": "object", "properties": {"text": {"type": "string"}, "items": {"type": "array"}}}
        prompt = PromptTemplate(name="attack", template=template, variables=schema, included={"self": template})
        began = time.thread_time()
        if check(prompt):
            refused += 1
        else:
            try:
                render(prompt, variables={"text": "abc " * 20, "items": ["one", {"name": "two"}]}, question="q")
            except Invalid:
                refused += 1
        took[name] = (time.thread_time() - began) * 1_000
    slowest = max(took, key=lambda name: took[name])
    return {
        "payloads": len(PAYLOADS),
        "refused": refused,
        "slowest": slowest,
        "within_100_ms": sum(each <= 100 for each in took.values()),  # noqa: PLR2004  the bar
        **spread(list(took.values()), "cpu_ms"),
    }


def spread(values_: list[float], unit: str) -> dict[str, float]:
    """Median, 99th percentile and the most."""
    return {
        f"p50_{unit}": round(statistics.median(values_), 3),
        f"p99_{unit}": round(statistics.quantiles(values_, n=100, method="inclusive")[98], 3),
        f"max_{unit}": round(max(values_), 3),
    }


async def run(kafka: str, data: Path, *, own: bool, replicas: int, changes: int) -> dict[str, Any]:
    """Provisions a broker of our own, and measures."""
    if own:
        await provision(kafka)
    async with asyncio.timeout(600):
        return await rollbacks(kafka, data, replicas=replicas, changes=changes)


def main() -> None:
    """Starts what is needed, measures, and ends it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kafka", default="", help="host:port; empty: one of its own")
    parser.add_argument("--data", type=Path, help="folder for what the processes write")
    parser.add_argument("--replicas", type=int, default=3)
    parser.add_argument("--changes", type=int, default=50)
    parser.add_argument("--renders", type=int, default=3_000)
    arguments = parser.parse_args()
    with ExitStack() as stack:
        data = arguments.data or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        kafka = arguments.kafka
        if not kafka:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            kafka = stack.enter_context(KafkaServer(Path(folder))).bootstrap
        report = {
            "what": "prompts",
            "rollback": asyncio.run(
                run(
                    kafka,
                    data,
                    own=not arguments.kafka,
                    replicas=arguments.replicas,
                    changes=max(arguments.changes, 2),
                )
            ),
            "render": renders(arguments.renders),
            "payloads": payloads(),
            "load_average": round(os.getloadavg()[0], 2),
        }
    sys.stdout.write(json.dumps(report) + "\n")


if __name__ == "__main__":
    main()
