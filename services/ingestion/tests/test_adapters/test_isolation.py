from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import time
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from anabranch_faults import Unreachable
from anabranch_ingestion.adapters.isolation.pool import WORKER, PoolLimits, WorkerPool
from anabranch_ingestion.adapters.isolation.sandbox import peak_bytes
from anabranch_ingestion.adapters.parsing.reading import ReadLimits
from anabranch_ingestion.adapters.reader import IsolatedReader
from anabranch_ingestion.application.ports import Body
from anabranch_ingestion.domain.chunking import Window
from anabranch_ingestion.domain.refusals import Refused
from anabranch_testkit import poll_until

pytestmark = pytest.mark.connected

# A worker that does what its document says: what a parser taken over by its input could try.
WORKER_UNDER_ORDERS = """
import ctypes, os, socket, subprocess, sys, threading, time
from anabranch_ingestion.adapters.isolation import worker
from anabranch_ingestion.domain.text import Composer

ordinary = worker.read

def attempt(what):
    try:
        what()
    except BaseException as error:
        return type(error).__name__
    return "done"

LIBC = ctypes.CDLL(None, use_errno=True)

def call(number, *arguments):
    if LIBC.syscall(number, *arguments) < 0:
        raise OSError(ctypes.get_errno(), "refused")

ORDERS = {
    "spin": lambda: all(n == 0 for n in iter(int, 1)),
    "sleep": lambda: time.sleep(600),
    "eat": lambda: [bytearray(1 << 20) for _ in iter(int, 1)],
    "segv": lambda: ctypes.string_at(0),
    "abort": lambda: os.abort(),
    "exit": lambda: os._exit(3),
    "killed": lambda: signal_self(),
    "bug": lambda: 1 / 0,
    "recurse": lambda: recurse(0),
    "nonsense": lambda: (os.write(1, b"x"), os.write(FRAMES, b"\\x00\\x00\\x00\\x02no")),
}
FRAMES = 4

def recurse(n): return recurse(n + 1)

def signal_self():
    import signal
    signal.raise_signal(signal.SIGKILL)

TRIES = {
    "connect": lambda: socket.create_connection(("127.0.0.1", 9), timeout=1),
    "raw socket": lambda: call(41, 2, 1, 0),
    "subprocess": lambda: subprocess.run(["true"]),
    "fork": lambda: os.fork(),
    "raw fork": lambda: call(57),
    "raw exec": lambda: call(59, b"/bin/true", None, None),
    "write file": lambda: open("/tmp/from-a-worker", "w"),
    "raw write file": lambda: os.close(os.open("/tmp/from-a-worker", os.O_CREAT | os.O_WRONLY)),
    "read secret": lambda: open(SECRET).read(),
    "kill parent": lambda: os.kill(os.getppid(), 0),
    "remove": lambda: os.unlink(SECRET),
    "thread": lambda: threading.Thread(target=int).start(),
}
SECRET = sys.argv[2]

def read(body, limits):
    text = body.text or ""
    if text in ORDERS:
        ORDERS[text]()
    if text == "tries":
        out = Composer(limit=10_000)
        for name, what in TRIES.items():
            out.prose(f"{name}: {attempt(what)}.")
        return out.build(parser="orders", content_type="text/plain")
    return ordinary(body, limits)

worker.read = read
worker.main()
"""

Parse = Callable[[str], Awaitable[str]]


@asynccontextmanager
async def pool(
    program: tuple[str, ...] = WORKER, told: list[tuple[str, dict[str, Any]]] | None = None, **limits: Any
) -> AsyncIterator[WorkerPool]:
    heard = told if told is not None else []
    made = WorkerPool(
        PoolLimits(**limits), ReadLimits(), Window(), told=lambda e, f: heard.append((e, f)), program=program
    )
    await made.start()
    try:
        yield made
    finally:
        await made.close()


@pytest.fixture
def orders(tmp_path: Path) -> tuple[str, ...]:
    script, secret = tmp_path / "worker.py", tmp_path / "secret"
    script.write_text(WORKER_UNDER_ORDERS)
    secret.write_text("secret")
    # argv of the script: its limit on memory comes from the pool, after these.
    wrapper = tmp_path / "wrapper.py"
    wrapper.write_text(
        f"import sys, runpy; sys.argv = [{str(script)!r}, sys.argv[1], {str(secret)!r}]; "
        f"runpy.run_path({str(script)!r}, run_name='__main__')"
    )
    return ("-I", str(wrapper))


async def outcome(of: WorkerPool, text: str) -> str:
    try:
        return (await of.parse(Body(text=text), title="")).text
    except Refused as refused:
        return f"{refused.why.value}: {refused}"


async def test_an_ordinary_document_is_read_in_a_worker() -> None:
    async with pool(workers=1) as workers:
        parsed = await workers.parse(Body(text="# T\n\nSome words.", filename="a.md"), title="")
        assert parsed.text == "T\n\nSome words."
        assert [one.text for one in parsed.chunks] == ["T\n\nSome words."]
        assert len(workers.pids) == 1


@pytest.mark.parametrize(
    ("order", "answer"),
    [
        ("spin", "UNPARSEABLE: reading it takes more than 1 s"),
        ("sleep", "UNPARSEABLE: reading it takes more than 1 s"),
        ("eat", "UNPARSEABLE: it needs more memory"),
        ("segv", "UNPARSEABLE: the parser crashed on it (SIGSEGV)"),
        ("abort", "UNPARSEABLE: the parser crashed on it (SIGABRT)"),
        ("exit", "UNPARSEABLE: the parser crashed on it (exit code 3)"),
        ("killed", "UNPARSEABLE: the parser was killed while reading it, twice"),
        ("bug", "UNPARSEABLE: the parser failed on it"),
        ("recurse", "UNPARSEABLE: it is nested too deeply"),
        ("nonsense", "UNPARSEABLE: the parser answered nonsense"),
    ],
)
async def test_whatever_a_document_does_to_its_worker_costs_that_document_alone(
    orders: tuple[str, ...], order: str, answer: str
) -> None:
    allowed = timedelta(seconds=1 if "1 s" in answer else 10)
    async with pool(orders, workers=1, spare=0, time=allowed, memory_bytes=256 << 20) as workers:
        began = time.monotonic()
        assert (await outcome(workers, order)).startswith(answer)
        assert time.monotonic() - began < 15
        assert await outcome(workers, "An ordinary one.") == "An ordinary one."


async def test_a_worker_has_nothing_to_reach_and_nothing_to_break(orders: tuple[str, ...]) -> None:
    told: list[tuple[str, dict[str, Any]]] = []
    async with pool(orders, told, workers=1) as workers:
        (started,) = [facts for event, facts in told if event == "started"]
        if not {"seccomp", "landlock"} <= set(started["held"]):
            pytest.skip("this kernel has no seccomp or Landlock for processes without privileges")
        tried = dict(line.strip(".").split(": ") for line in (await outcome(workers, "tries")).split("\n\n"))
        assert tried.pop("thread") == "done"
        assert "done" not in tried.values(), tried


async def test_a_worker_never_holds_more_than_its_memory(orders: tuple[str, ...]) -> None:
    async with pool(orders, workers=1, spare=0, memory_bytes=256 << 20) as workers:
        (pid,) = workers.pids
        answer = asyncio.ensure_future(outcome(workers, "eat"))
        peak = 0
        while not answer.done():
            peak = max(peak, peak_bytes(pid))
            await asyncio.sleep(0.01)
        assert (await answer).startswith("UNPARSEABLE")
        assert peak <= 256 << 20


async def test_stuck_documents_do_not_slow_their_neighbours(orders: tuple[str, ...]) -> None:
    async with pool(orders, workers=2, spare=2, time=timedelta(seconds=20)) as workers:
        stuck = [asyncio.ensure_future(outcome(workers, "sleep")) for _ in range(2)]
        await asyncio.sleep(0)
        began = time.monotonic()
        assert await outcome(workers, "A neighbour.") == "A neighbour."
        # A spare worker had to start; the next one finds it idle.
        assert time.monotonic() - began < 15
        began = time.monotonic()
        assert await outcome(workers, "Another.") == "Another."
        assert time.monotonic() - began < 1
        reader = IsolatedReader(workers, limits=ReadLimits(), window=Window())
        began = time.monotonic()
        assert (await reader.read(Body(text="Short text waits for nobody."), title="")).chunks
        assert time.monotonic() - began < 1
        for one in stuck:
            one.cancel()
        await asyncio.gather(*stuck, return_exceptions=True)


async def test_a_worker_that_dies_while_idle_is_replaced() -> None:
    async with pool(workers=1, spare=0) as workers:
        (pid,) = workers.pids
        os.kill(pid, signal.SIGKILL)
        assert await outcome(workers, "Words after a death.") == "Words after a death."
        assert workers.pids != [pid]


async def test_a_worker_is_replaced_after_its_share_of_documents() -> None:
    told: list[tuple[str, dict[str, Any]]] = []
    async with pool(workers=1, spare=0, documents=2, told=told) as workers:
        (first,) = workers.pids
        for n in range(3):
            assert await outcome(workers, f"Document {n}.") == f"Document {n}."
        assert first not in workers.pids
        assert [event for event, _ in told] == ["started", "retired", "started"]


async def test_workers_go_when_the_pool_is_closed() -> None:
    async with pool(workers=2) as workers:
        pids = workers.pids
    await poll_until(lambda: all(not Path(f"/proc/{pid}").exists() for pid in pids))


async def test_a_pool_whose_workers_cannot_start_says_so() -> None:
    made = WorkerPool(
        PoolLimits(workers=1), ReadLimits(), Window(), told=lambda e, f: None, program=("-c", "raise SystemExit(7)")
    )
    with pytest.raises(Unreachable, match="no parser process starts"):
        await made.start()
    assert made.ready() is not None
    await made.close()


def endless_pdf() -> bytes:
    """A small file whose page stream unpacks to 300 MiB of drawing instructions."""
    packer = zlib.compressobj(9)
    stream = b"".join([*(packer.compress(b"BT (x) Tj ET\n" * 80_000) for _ in range(300)), packer.flush()])
    return (
        b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj\n"
        b"3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 9 9]/Contents 4 0 R>>endobj\n"
        b"4 0 obj<</Filter/FlateDecode/Length "
        + str(len(stream)).encode()
        + b">>stream\n"
        + stream
        + b"\nendstream endobj\ntrailer<</Root 1 0 R>>"
    )


@pytest.mark.slow
async def test_real_hostile_bytes_end_cleanly_within_their_limits() -> None:
    noise = random.Random(7)  # noqa: S311  the same bytes every time
    blob = noise.randbytes(200_000)
    bodies = {
        "pdf bomb": endless_pdf(),
        "pdf noise": b"%PDF-1.7\n" + blob,
        "zip noise": b"PK\x03\x04" + blob,
        "docx noise": b"PK\x03\x04" + b"word/document.xml" + blob,
        "ole noise": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + "WordDocument".encode("utf-16-le") + blob,
        "xls noise": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + "Workbook".encode("utf-16-le") + blob,
        "rtf depth": b"{\\rtf1 " + b"{" * 300_000,
        "html depth": b"<html><body>" + b"<div>" * 60_000 + b"deep",
        "xml depth": b"<?xml version='1.0'?>" + b"<a>" * 300_000,
        "json depth": b"[" * 300_000,
        "one line": b"# " + b"a" * 3_000_000,
        "mbox": b"From a Mon Jan 1 2024\nSubject: x\n\n" * 60_000,
        "csv": b'a,"' + b"x" * 3_000_000,
    }
    async with pool(workers=2, spare=0, time=timedelta(seconds=20)) as workers:
        peak = 0
        for name, body in bodies.items():
            began = time.monotonic()
            with contextlib.suppress(Refused):
                await workers.parse(Body(data=body, filename=name), title="")
            assert time.monotonic() - began < 30, name
            peak = max([peak, *(peak_bytes(pid) for pid in workers.pids)])
            assert await outcome(workers, "Still here.") == "Still here."
        assert peak <= 512 << 20
