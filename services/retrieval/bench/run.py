# ruff: noqa: INP001  a program, not a package
"""Ranking quality, latency and processor time of retrieval on a BEIR folder (corpus.jsonl, queries.jsonl, qrels.tsv).

    .venv/bin/python services/retrieval/bench/run.py DATA_FOLDER [--index lancedb|weaviate] [--out FILE]

Starts what it needs (the embedding service, Weaviate, the retrieval service as a process of its own), writes the
corpus through the indexing use case, asks every query over gRPC, and prints one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import ir_measures
import psutil
from ir_measures import RR, R, nDCG

from anabranch.retrieval.v1 import retrieval_service_pb2 as pb
from anabranch.retrieval.v1 import retrieval_service_pb2_grpc as stubs
from anabranch_bus import MemoryBus
from anabranch_local.weaviate import WeaviateServer
from anabranch_retrieval.adapters.embedder import GrpcEmbedder
from anabranch_retrieval.application import Embedder, IndexDocuments
from anabranch_retrieval.bootstrap import wire
from anabranch_retrieval.domain import Chunk, CorpusKey, DocumentKey, Part
from anabranch_retrieval.settings import Settings
from anabranch_rpc import connect

_KEY = CorpusKey(tenant="bench", corpus="bench")
_BATCH = 64
_SERVE = "from {module}.bootstrap import build; from {module}.settings import Settings; \
from anabranch_bus import MemoryBus; from anabranch_runtime import serve; \
serve(build, Settings, bus=lambda _: MemoryBus())"


def main() -> None:
    """Reads the arguments, measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--index", choices=("lancedb", "weaviate"), default="lancedb")
    parser.add_argument("--model", default="int8", help="embedding version or alias")
    parser.add_argument("--alpha", type=float, default=0.5)
    parser.add_argument("--limit", type=int, default=0, help="queries; 0: all")
    parser.add_argument("--concurrency", type=int, default=16)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ab-") as folder:
        result = measure(arguments, Path(folder))
    text = json.dumps(result, indent=2)
    print(text)  # noqa: T201  a program's output
    if arguments.out is not None:
        arguments.out.write_text(text + "\n", encoding="utf-8")


def measure(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Starts the parts, measures, stops them."""
    with contextlib.ExitStack() as stack:
        environment = {"ANABRANCH_RETRIEVAL_INDEX": arguments.index, "ANABRANCH_RETRIEVAL_DATA": str(folder)}
        watched: dict[str, psutil.Process] = {}
        if arguments.index == "weaviate":
            server = stack.enter_context(WeaviateServer(folder / "weaviate"))
            environment["ANABRANCH_RETRIEVAL_WEAVIATE_HTTP"] = server.http
            environment["ANABRANCH_RETRIEVAL_WEAVIATE_GRPC"] = server.grpc
            watched["weaviate"] = psutil.Process(server.process.pid)
        embedding, target = stack.enter_context(serving("embedding", folder, {}))
        watched["embedding"] = psutil.Process(embedding)
        environment["ANABRANCH_RETRIEVAL_EMBEDDING"] = target
        os.environ.update(environment)
        settings = Settings()
        written = asyncio.run(write(settings, arguments, watched))
        retrieval, target = stack.enter_context(serving("retrieval", folder, environment))
        watched["retrieval"] = psutil.Process(retrieval)
        return written | asyncio.run(ask(target, arguments, watched))


@contextlib.contextmanager
def serving(service: str, folder: Path, environment: dict[str, str]) -> Iterator[tuple[int, str]]:
    """A service as a process with a bus in memory; gives its pid and target once it serves."""
    socket, addresses = folder / f"{service}.sock", folder / f"{service}.json"
    prefix = f"ANABRANCH_{service.upper()}"
    own = {
        f"{prefix}_LISTEN": f"unix:{socket}",
        f"{prefix}_ADDRESS_FILE": str(addresses),
        f"{prefix}_DATA": str(folder),
    }
    code = _SERVE.format(module=f"anabranch_{service}")
    with (folder / f"{service}.log").open("w", encoding="utf-8") as log:
        process = subprocess.Popen(  # noqa: S603  the project's own code
            [sys.executable, "-c", code],
            env={**os.environ, "OMP_NUM_THREADS": "1", **environment, **own},
            stdout=log,
            stderr=log,
        )
    try:
        deadline = time.monotonic() + 120
        while not (socket.exists() and addresses.exists()):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError((folder / f"{service}.log").read_text(encoding="utf-8")[-2000:])
            time.sleep(0.05)
        yield process.pid, f"unix:{socket}"
    finally:
        process.terminate()
        process.wait(30)


async def write(
    settings: Settings, arguments: argparse.Namespace, watched: dict[str, psutil.Process]
) -> dict[str, Any]:
    """Embed the corpus, then write it through the indexing use case, timing only the latter."""
    parts = wire(settings, bus=MemoryBus())
    for start in parts.service.starting:
        await start()
    embedder = GrpcEmbedder(
        settings.embedding,
        query_timeout=settings.embedding_query_timeout,
        batch_timeout=settings.embedding_batch_timeout,
    )
    began = time.perf_counter()
    changes = await embedded(arguments.data, embedder, arguments.model)
    embedding_seconds = time.perf_counter() - began
    before, own, began = used(watched), _own(), time.perf_counter()
    indexing: IndexDocuments = parts.indexing
    for start_at in range(0, len(changes), _BATCH):
        faults = await indexing(changes[start_at : start_at + _BATCH])
        if faults:
            raise RuntimeError(str(next(iter(faults.values()))))
    seconds, count = time.perf_counter() - began, len(changes)
    spent = {name: (after - before[name]) * 1e3 / count for name, after in used(watched).items()}
    spent["retrieval"] = (_own() - own) * 1e3 / count
    await embedder.close()
    for close in reversed(parts.service.closing):
        await close()
    return {
        "index": arguments.index,
        "documents": count,
        "embedding_documents_per_second": round(count / embedding_seconds, 1),
        "indexing_documents_per_second": round(count / seconds, 1),
        "indexing_cpu_ms_per_document": {name: round(value, 3) for name, value in spent.items() if name != "embedding"},
    }


async def embedded(data: Path, embedder: Embedder, model: str) -> list[Part]:
    """One chunk a document, cut by the model's window."""
    identity = await embedder.resolve(model)
    chunks = []
    with (data / "corpus.jsonl").open(encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            text = row["text"].strip() or row["title"]
            chunks.append(
                Chunk(
                    id=str(uuid.uuid5(uuid.NAMESPACE_URL, row["_id"])),
                    document=DocumentKey(corpus=_KEY, document_id=row["_id"]),
                    version=1,
                    ordinal=0,
                    text=text,
                    end=len(text),
                    title=row.get("title", ""),
                    sentences=tuple(
                        (found.start(), found.end()) for found in re.finditer(r"\S.*?(?:[.!?](?=\s)|$)", text)
                    ),
                    metadata={},
                )
            )
    ordered = sorted(chunks, key=lambda chunk: len(chunk.searchable))
    entries = await embedder.embed_chunks(ordered, identity.version)
    return [
        Part(
            event_id=entry.chunk.id,
            document=entry.chunk.document,
            version=1,
            caused_by="bench",
            part=0,
            parts=1,
            chunk_count=1,
            entries=(entry,),
            model=identity,
        )
        for entry in entries
    ]


async def ask(target: str, arguments: argparse.Namespace, watched: dict[str, psutil.Process]) -> dict[str, Any]:
    """Quality over all queries with 100 passages each; latency and processor time with 5, one and many at a time."""
    queries = [json.loads(line) for line in (arguments.data / "queries.jsonl").read_text(encoding="utf-8").splitlines()]
    qrels = list(_qrels(arguments.data / "qrels.tsv"))
    judged = {qrel.query_id for qrel in qrels}
    queries = [query for query in queries if query["_id"] in judged][: arguments.limit or None]
    asked = {query["_id"] for query in queries}
    async with connect(target) as channel:
        stub: stubs.RetrievalServiceAsyncStub = stubs.RetrievalServiceStub(channel)

        async def retrieve(query: str, top_k: int, *, with_features: bool = False) -> pb.RetrieveResponse:
            settings = pb.RetrievalSettings(alpha=arguments.alpha, top_k=top_k)
            request = pb.RetrieveRequest(
                tenant="bench", corpus="bench", query=query, settings=settings, with_features=with_features
            )
            return await stub.Retrieve(request, timeout=30, wait_for_ready=True)

        run = []
        for query in queries:
            passages = (await retrieve(query["text"], 100)).passages
            run += [ir_measures.ScoredDoc(query["_id"], one.document.document_id, one.score) for one in passages]
        judgments = [qrel for qrel in qrels if qrel.query_id in asked]
        scores = ir_measures.calc_aggregate([nDCG @ 10, RR @ 10, R @ 100], judgments, run)
        alone = await _timed([query["text"] for query in queries], retrieve, 1, watched)
        crowd = await _timed([query["text"] for query in queries], retrieve, arguments.concurrency, watched)
        features = await _compared([query["text"] for query in queries], retrieve)
    return {
        "alpha": arguments.alpha,
        "queries": len(queries),
        "ndcg@10": round(scores[nDCG @ 10], 4),
        "mrr@10": round(scores[RR @ 10], 4),
        "recall@100": round(scores[R @ 100], 4),
        "one_at_a_time": alone,
        f"{arguments.concurrency}_at_a_time": crowd,
        "with_features": features,
    }


async def _timed(
    texts: Sequence[str], retrieve: Any, concurrency: int, watched: dict[str, psutil.Process]
) -> dict[str, Any]:
    before, began, taken, left = used(watched), time.perf_counter(), [], iter(texts)

    async def work() -> None:
        for text in left:
            start = time.perf_counter()
            await retrieve(text, 5)
            taken.append(time.perf_counter() - start)

    await asyncio.gather(*(work() for _ in range(concurrency)))
    seconds = time.perf_counter() - began
    taken.sort()
    spent = {name: round((after - before[name]) * 1e3 / len(taken), 2) for name, after in used(watched).items()}
    return {
        "p50_ms": round(taken[len(taken) // 2] * 1e3, 2),
        "p95_ms": round(taken[int(len(taken) * 0.95)] * 1e3, 2),
        "per_second": round(len(taken) / seconds, 1),
        "cpu_ms_per_query": spent | {"all": round(sum(spent.values()), 2)},
    }


async def _compared(texts: Sequence[str], retrieve: Any) -> dict[str, float]:
    """What features add to a query, as a caller sees it: each is asked with and without, by turns first and second."""
    for text in texts:  # so that neither way has to read passages that nobody has read before
        await retrieve(text, 5, with_features=True)
    taken: dict[bool, list[float]] = {False: [], True: []}
    inside: dict[bool, list[float]] = {False: [], True: []}
    ranking = []
    for number, text in enumerate(texts):
        for with_features in (False, True) if number % 2 else (True, False):
            start = time.perf_counter()
            answer = await retrieve(text, 5, with_features=with_features)
            taken[with_features].append((time.perf_counter() - start) * 1e3)
            inside[with_features].append(answer.search_time.ToTimedelta().total_seconds() * 1e3)
            if with_features:
                ranking.append(answer.rerank_time.ToTimedelta().total_seconds() * 1e3)
    added = sorted(late - early for early, late in zip(taken[False], taken[True], strict=True))
    return {
        "without_p50_ms": round(sorted(taken[False])[len(texts) // 2], 2),
        "with_p50_ms": round(sorted(taken[True])[len(texts) // 2], 2),
        "added_p50_ms": round(added[len(added) // 2], 2),
        "search_without_p50_ms": round(sorted(inside[False])[len(texts) // 2], 2),
        "search_with_p50_ms": round(sorted(inside[True])[len(texts) // 2], 2),
        "features_p50_ms": round(sorted(ranking)[len(texts) // 2], 2),
    }


def used(watched: dict[str, psutil.Process]) -> dict[str, float]:
    """Processor seconds of each process so far."""
    return {name: sum(process.cpu_times()[:2]) for name, process in watched.items()}


def _own() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _qrels(file: Path) -> Iterator[ir_measures.Qrel]:
    for line in file.read_text(encoding="utf-8").splitlines()[1:]:
        query, document, score = line.split("\t")
        yield ir_measures.Qrel(query, document, int(score))


if __name__ == "__main__":
    main()
