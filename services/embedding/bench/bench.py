"""Documents a second and milliseconds a query; against sentence-transformers in the same run, when it is there.

    python services/embedding/bench/bench.py --texts corpus.jsonl [--reference VENV/bin/python] [--json]

`corpus.jsonl` has an object a line with `text` and perhaps `title`. See README.md on how to make the environment of
the reference; nothing of it enters the project's own.
"""

# ruff: noqa: INP001  a program, not part of a package
from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from anabranch_embedding.adapters.minilm import MiniLmEncoder, PackagedModel
from anabranch_embedding.adapters.minilm.cache import GraphCache
from anabranch_embedding.adapters.minilm.lanes import Turns
from anabranch_embedding.domain import Text

QUESTIONS = (
    "who discovered that the heart pumps blood",
    "which river flows through the most countries of europe",
    "what is the default value of the setting for retries",
    "when was the bridge over the bay opened to traffic",
)


class Reference:
    """sentence-transformers in a process of another environment."""

    def __init__(self, python: str, model: Path, threads: int) -> None:
        """Starts it and waits for its model."""
        command = [python, str(Path(__file__).with_name("reference.py")), str(model), str(threads)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)  # noqa: S603  the operator's own
        self.about = self._read()

    def encode(self, texts: Sequence[str]) -> dict[str, float]:
        """Return the seconds it took."""
        if self._process.stdin is None:
            raise RuntimeError("the reference has no input")
        self._process.stdin.write(json.dumps(list(texts)) + "\n")
        self._process.stdin.flush()
        found: dict[str, float] = self._read()
        return found

    def close(self) -> None:
        """End it."""
        self._process.communicate()

    def _read(self) -> Any:
        line = self._process.stdout.readline() if self._process.stdout else ""
        if not line:
            raise RuntimeError("the reference ended: see its words above")
        return json.loads(line)


@contextmanager
def reference(python: str | None, model: Path, threads: int) -> Iterator[Reference | None]:
    """The reference, where there is one."""
    if python is None:
        yield None
        return
    process = Reference(python, model, threads)
    try:
        yield process
    finally:
        process.close()


async def documents(encoder: MiniLmEncoder, texts: Sequence[Text]) -> tuple[dict[str, float], int]:
    """Return the seconds that one pass takes, and the tokens read."""
    wall, processor = time.perf_counter(), time.process_time()
    encodings = await encoder.encode(texts, urgent=False)
    spent = {"wall": time.perf_counter() - wall, "processor": time.process_time() - processor}
    return spent, sum(encoding.tokens for encoding in encodings)


async def one_query(encoder: MiniLmEncoder, number: int) -> float:
    """Milliseconds of one query."""
    started = time.perf_counter()
    await encoder.encode([Text(body=f"{QUESTIONS[number % len(QUESTIONS)]} {number}?")], urgent=True)
    return (time.perf_counter() - started) * 1000


async def queries(encoder: MiniLmEncoder, texts: Sequence[Text]) -> dict[str, Any]:
    """Latencies alone, while documents are embedded, and sixteen at a time."""
    alone = [await one_query(encoder, number) for number in range(200)]
    bulk = asyncio.create_task(encoder.encode(texts, urgent=False))
    loaded: list[float] = []
    while not bulk.done():
        loaded.append(await one_query(encoder, len(loaded)))
        await asyncio.sleep(0.02)
    started = time.perf_counter()
    crowded: list[float] = []

    async def ask() -> None:
        crowded.extend([await one_query(encoder, number) for number in range(50)])

    await asyncio.gather(*(ask() for _ in range(16)))
    rate = len(crowded) / (time.perf_counter() - started)
    return {
        "alone": percentiles(alone),
        "while_documents": percentiles(loaded),
        "sixteen_at_once": {**percentiles(crowded), "queries_per_second": round(rate, 1)},
    }


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """Return p50 and p95, in milliseconds."""
    cuts = statistics.quantiles(values, n=20)
    return {"p50_ms": round(statistics.median(values), 2), "p95_ms": round(cuts[18], 2), "n": len(values)}


def rates(spent: Sequence[dict[str, float]], count: int) -> dict[str, float]:
    """Return documents a second: by the clock (median and best pass), and for a second of one core."""
    walls = [count / one["wall"] for one in spent]
    return {
        "documents_per_second": round(statistics.median(walls), 1),
        "best": round(max(walls), 1),
        "documents_per_core_second": round(count / min(one["processor"] for one in spent), 1),
    }


def read(path: Path, limit: int) -> list[Text]:
    """Return the first texts of a file of JSON lines."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()[:limit]]
    return [Text(body=row["text"], prefix=row.get("title", "")) for row in rows]


async def measure(arguments: argparse.Namespace, texts: Sequence[Text]) -> dict[str, Any]:
    """Return all figures. Passes of both sides take turns, so that what else the machine does hits both."""
    model = PackagedModel.installed()
    threads = arguments.threads or len(os.sched_getaffinity(0))
    turns = Turns(threads=threads, limit=1_000_000)
    with tempfile.TemporaryDirectory() as folder, reference(arguments.reference, model.folder, threads) as other:
        encoder = MiniLmEncoder(
            model=model, quantisation=arguments.quantisation, cache=GraphCache(Path(folder)), turns=turns
        )
        await encoder.load()
        ours: list[dict[str, float]] = []
        theirs: list[dict[str, float]] = []
        tokens = 0
        for _ in range(arguments.passes):
            if other is not None:
                theirs.append(await asyncio.to_thread(other.encode, [text.whole for text in texts]))
            spent, tokens = await documents(encoder, texts)
            ours.append(spent)
        found: dict[str, Any] = {
            "texts": len(texts),
            "tokens_per_text": round(tokens / len(texts), 1),
            "version": encoder.identity.version,
            "anabranch": rates(ours, len(texts)),
        }
        if other is not None:
            found["sentence_transformers"] = {**rates(theirs, len(texts)), **other.about}
            for figure in ("documents_per_second", "documents_per_core_second"):
                found[f"times_{figure}"] = round(found["anabranch"][figure] / found["sentence_transformers"][figure], 2)
        found["queries"] = await queries(encoder, texts)
        await encoder.close()
    turns.close()
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", required=True, help="JSON lines with text and title")
    parser.add_argument("--reference", help="a Python in whose environment sentence-transformers is installed")
    parser.add_argument("--quantisation", choices=("int8", "fp32"), default="int8")
    parser.add_argument("--limit", type=int, default=300, help="texts a pass")
    parser.add_argument("--passes", type=int, default=3)
    parser.add_argument("--threads", type=int, default=0, help="of both sides; 0: one a core")
    parser.add_argument("--json", action="store_true", help="one line, for programs")
    arguments = parser.parse_args()
    found = asyncio.run(measure(arguments, read(Path(arguments.texts), arguments.limit)))
    sys.stdout.write(json.dumps(found, indent=None if arguments.json else 2) + "\n")


if __name__ == "__main__":
    main()
