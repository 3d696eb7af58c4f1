# ruff: noqa: INP001  a program, not a package
"""What features and reranking of 50 candidates add to a search, inside the service (its own clock, rerank_time).

    .venv/bin/python services/retrieval/bench/rerank.py [--data BEIR_FOLDER] [--queries 2000] [--out FILE]

The whole service over gRPC in this process, with an index and an embedder in memory, so that what is measured is not
the index. Every query is asked in turn plainly, with features, and with signed rerankers: a linear model, and 200 trees
of LightGBM. Passages are those of the folder, else made up; queries are the folder's, and after those the beginnings of
sentences of its passages. Prints one JSON object, milliseconds:

- `rerank_ms`: what the bar is about, every query counted. The service was started anew, and is through its warm-up.
- `interrupted`: share of queries in which the operating system gave the processor to somebody else meanwhile, and
  `uninterrupted_rerank_ms`: the others. On a quiet machine these are the same.
- `cold_rerank_ms`: of a service that knows no passage, which is what a start would be without the warm-up.
- `collected`: share of queries during which Python collected garbage, and the longest such pause.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import math
import os
import random
import re
import resource
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from anabranch.retrieval.v1 import retrieval_service_pb2 as pb
from anabranch.retrieval.v1 import retrieval_service_pb2_grpc as stubs
from anabranch_artifacts import Signer, make_keys
from anabranch_bus import MemoryBus
from anabranch_observability import configure
from anabranch_retrieval import bootstrap
from anabranch_retrieval.application import Ranking
from anabranch_retrieval.application.ranking import Ranked
from anabranch_retrieval.domain import Edition, Entry, Hit, Question, Reranker, Scored, Search, fuse
from anabranch_retrieval.settings import Settings
from anabranch_retrieval.testing import HashEmbedder, MemoryIndex, document_of, model, part_of
from anabranch_retrieval.testing.models import put, write_linear, write_trees
from anabranch_rpc import connect
from anabranch_runtime import Process

_MODEL = model("hash-one", dimension=384)
_WEIGHTS = {"dense": 1.0, "bm25_minmax": 0.5, "best_sentence": 2.0, "overlap": 1.5, "bigram_overlap": 1.0}
_DOCUMENTS = 2_000
_WORD = re.compile(r"\w+")


def main() -> None:
    """Reads the arguments, measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with corpus.jsonl and queries.jsonl")
    parser.add_argument("--queries", type=int, default=2_000)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="anabranch-rerank-") as folder:
        result = asyncio.run(measure(arguments, Path(folder)))
    text = json.dumps(result, indent=1)
    sys.stdout.write(text + "\n")
    if arguments.out:
        arguments.out.write_text(text + "\n", encoding="utf-8")


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One ranking as it went, in seconds. new: candidates not met before; away: times the processor was taken away."""

    wall: float
    processor: float
    new: int
    away: int
    collecting: float


@dataclass(slots=True, kw_only=True)
class Watched(Ranking):
    """The service's ranking, watched from outside."""

    calls: ClassVar[list[Call]] = []
    collected: ClassVar[list[float]] = []
    instance: ClassVar[Watched]

    def __post_init__(self) -> None:
        """There is one in a service."""
        Watched.instance = self

    def __call__(
        self,
        hits: Sequence[Hit],
        question: Question,
        vector: NDArray[np.float32],
        reranker: Reranker | None,
        choose: Callable[[Sequence[Hit]], Sequence[Hit]] = tuple,
    ) -> Ranked:
        """As the service does it."""
        before, collected = self.known, len(self.collected)
        away, processor = resource.getrusage(resource.RUSAGE_THREAD).ru_nivcsw, time.thread_time()
        ranked = Ranking.__call__(self, hits, question, vector, reranker, choose)
        processor, away = time.thread_time() - processor, resource.getrusage(resource.RUSAGE_THREAD).ru_nivcsw - away
        new, pause = self.known - before, sum(self.collected[collected:])
        self.calls.append(Call(wall=ranked.seconds, processor=processor, new=new, away=away, collecting=pause))
        return ranked

    @property
    def known(self) -> int:
        """Passages whose terms are kept."""
        return len(self._known)

    def forget(self) -> None:
        """As before the warm-up."""
        self._known.clear()


@dataclass(slots=True)
class QuickIndex(MemoryIndex):
    """Finds as MemoryIndex does, and quickly: postings are made once, and a query asked again is remembered."""

    postings: dict[str, list[tuple[str, float]]] = field(default_factory=lambda: defaultdict(list))
    matrix: NDArray[np.float32] | None = None
    asked: dict[str, list[Scored]] = field(default_factory=dict)

    async def search(self, edition: Edition, search: Search) -> list[Scored]:
        """As the port says, without filters."""
        if search.text not in self.asked:
            self.asked.clear()
            self.asked[search.text] = self._found(self.editions[edition], search)
        return self.asked[search.text][: search.limit]

    def _found(self, entries: dict[str, Entry], search: Search) -> list[Scored]:
        if self.matrix is None:
            self.matrix = np.stack([entry.vector for entry in entries.values()])
            for name, entry in entries.items():
                counts = Counter(_WORD.findall(entry.chunk.searchable.lower()))
                for word, count in counts.items():
                    self.postings[word].append((name, count * 1.9 / (count + 0.9)))
        keyword: dict[str, float] = defaultdict(float)
        for word in set(_WORD.findall(search.text.lower())):
            held = self.postings.get(word, [])
            weight = math.log(1 + (len(entries) - len(held) + 0.5) / (len(held) + 0.5))
            for name, gain in held:
                keyword[name] += weight * gain
        best = sorted(keyword, key=keyword.__getitem__, reverse=True)[:100]
        cosines = self.matrix @ search.vector
        names = list(entries)
        near = {names[place]: float(cosines[place]) for place in np.argsort(-cosines)[:100]}
        return fuse(near, {name: keyword[name] for name in best}, alpha=search.alpha)


async def measure(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Starts the service, fills it, asks."""
    make_keys(folder / "key.pem", folder / "key.pub")
    signer, root = Signer(folder / "key.pem"), str(folder / "artifacts")
    configure(service="retrieval", level="error")
    settings = Settings(data=folder, public_key=folder / "key.pub", reader_grace=timedelta(0))
    vars(bootstrap)["Ranking"] = Watched  # the same, with a watch in its hand
    index, embedder = QuickIndex(), HashEmbedder([_MODEL])
    passages, queries = read(arguments)
    filling = Process(settings, name="retrieval")
    parts = bootstrap.wire(settings, bus=MemoryBus(), index=index, embedder=embedder)
    await filling.start(parts.service)
    for start in range(0, len(passages), 100):
        changes = [
            part_of(document_of(f"d{start + n}"), 1, [text], of=_MODEL, title=title, sentences=tuple(sentences(text)))
            for n, (title, text) in enumerate(passages[start : start + 100])
        ]
        faults = await parts.indexing(changes)
        if faults:
            raise RuntimeError(str(next(iter(faults.values()))))
    await filling.stop()
    process = Process(settings, name="retrieval")
    began = time.perf_counter()
    await process.start(bootstrap.build(settings, bus=MemoryBus(), index=index, embedder=embedder))
    while Watched.instance.known < len(passages):  # noqa: ASYNC110  the service tells nobody
        await asyncio.sleep(0.05)
    warm_up = time.perf_counter() - began
    gc.collect()
    gc.freeze()  # as serve() does
    rerankers = {
        "linear": put(root, write_linear(folder / "linear", _WEIGHTS), signer),
        "lightgbm": put(root, write_trees(folder / "trees", "overlap", trees=200), signer),
    }
    words = [len(text.split()) for _, text in passages]
    result: dict[str, Any] = {
        "what": "reranking_50_candidates",
        "load_average": round(os.getloadavg()[0], 2),
        "passages": len(passages),
        "words_of_a_passage": {"mean": round(float(np.mean(words))), "p99": round(float(np.percentile(words, 99)))},
        "queries": len(queries),
        "candidates": 50,
        "warm_up_s": round(warm_up, 2),
    }
    async with connect(process.addresses["rpc"]) as channel:
        stub: stubs.RetrievalServiceAsyncStub = stubs.RetrievalServiceStub(channel)

        async def ask(query: str, version: str, *, features: bool) -> pb.RetrieveResponse:
            asked = pb.RetrieveRequest(
                tenant="acme",
                corpus="docs",
                query=query,
                settings=pb.RetrievalSettings(alpha=0.5, top_k=5, reranker_version=version),
                with_features=features,
            )
            answer: pb.RetrieveResponse = await stub.Retrieve(asked, timeout=60)
            if answer.reranker_version != version:
                raise RuntimeError(f"{version}: was not applied")
            return answer

        for name, version in rerankers.items():
            began = time.perf_counter()
            await ask(queries[0], version, features=True)
            result[f"{name}_first_ms"] = round((time.perf_counter() - began) * 1e3, 1)
        kinds = {"plain": ("", False), "features": ("", True)}
        kinds |= {name: (version, True) for name, version in rerankers.items()}
        _start_counting_pauses()
        result |= await rounds(ask, kinds, queries)
        Watched.calls.clear()
        for query in queries[:: max(len(queries) // 200, 1)]:
            Watched.instance.forget()
            await ask(query, rerankers["linear"], features=True)
        cold = [call for call in Watched.calls if call.new]
        result["cold_rerank_ms"] = spread(call.wall for call in cold)
        result["cold_processor_ms"] = spread(call.processor for call in cold)
    await process.stop()
    return result


async def rounds(ask: Any, kinds: dict[str, tuple[str, bool]], queries: list[str]) -> dict[str, Any]:
    """Asks all queries in all ways; the ways take turns at being first, so that what disturbs one disturbs all."""
    whole: dict[str, list[float]] = {name: [] for name in kinds}
    calls: dict[str, list[Call]] = {name: [] for name in kinds}
    Watched.calls.clear()
    for number, query in enumerate(queries):
        names = list(kinds)
        for name in names[number % len(names) :] + names[: number % len(names)]:
            version, features = kinds[name]
            answer = await ask(query, version, features=features)
            whole[name].append(answer.search_time.ToTimedelta().total_seconds())
            calls[name] += Watched.calls
            Watched.calls.clear()
    found: dict[str, Any] = {}
    for name, held in calls.items():
        found[name] = {"search_ms": spread(whole[name])}
        if held:
            found[name] |= {
                "rerank_ms": spread(call.wall for call in held),
                "processor_ms": spread(call.processor for call in held),
                "interrupted": round(sum(call.away > 0 for call in held) / len(held), 4),
                "uninterrupted_rerank_ms": spread(call.wall for call in held if not call.away),
                "collected": round(sum(call.collecting > 0 for call in held) / len(held), 4),
                "longest_collection_ms": round(max(call.collecting for call in held) * 1e3, 3),
            }
    return found


def _start_counting_pauses() -> None:
    began = [0.0]

    def watch(phase: str, _: dict[str, int]) -> None:
        if phase == "start":
            began[0] = time.perf_counter()
        else:
            Watched.collected.append(time.perf_counter() - began[0])

    gc.callbacks.append(watch)


def read(arguments: argparse.Namespace) -> tuple[list[tuple[str, str]], list[str]]:
    """Titles with passages, and queries: of the folder, or made up."""
    if arguments.data is not None:
        with (arguments.data / "corpus.jsonl").open(encoding="utf-8") as lines:
            rows = [json.loads(line) for line, _ in zip(lines, range(_DOCUMENTS), strict=False)]
        passages = [(row.get("title", ""), row["text"]) for row in rows if row["text"].strip()]
        with (arguments.data / "queries.jsonl").open(encoding="utf-8") as lines:
            queries = [json.loads(line)["text"] for line in lines]
    else:
        dice = random.Random(7)  # noqa: S311  words, not secrets
        words = [f"word{number}" for number in range(3_000)]
        texts = [" ".join(" ".join(dice.choices(words, k=20)).capitalize() + "." for _ in range(6)) for _ in range(200)]
        passages = [("A title of it", text) for text in texts]
        queries = [" ".join(dice.choices(words, k=9)) for _ in range(arguments.queries)]
    queries += list(beginnings(passages))[: max(arguments.queries - len(queries), 0)]
    random.Random(7).shuffle(queries)  # noqa: S311  an order, not a secret
    return passages, queries[: arguments.queries]


def beginnings(passages: Iterable[tuple[str, str]]) -> Iterator[str]:
    """The first words of the last sentence of each passage; as many as a question has."""
    for number, (_, text) in enumerate(passages):
        *_, (start, end) = sentences(text)
        yield " ".join(text[start:end].split()[: 6 + number % 10])


def sentences(text: str) -> Iterator[tuple[int, int]]:
    """Where sentences begin and end, roughly."""
    return ((found.start(), found.end()) for found in re.finditer(r"\S.*?(?:[.!?](?=\s)|$)", text, re.DOTALL))


def spread(seconds: Iterable[float]) -> dict[str, float]:
    """p50, p95, p99 and the most, in milliseconds."""
    ordered = sorted(seconds) or [math.nan]
    places = {f"p{share}": ordered[min(len(ordered) * share // 100, len(ordered) - 1)] for share in (50, 95, 99)}
    return {name: round(value * 1e3, 3) for name, value in (places | {"max": ordered[-1]}).items()}


if __name__ == "__main__":
    main()
