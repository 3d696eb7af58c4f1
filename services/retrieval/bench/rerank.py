# ruff: noqa: INP001  a program, not a package
"""What features and reranking add to a search over 50 candidates, inside the service (its own clock, rerank_time).

    .venv/bin/python services/retrieval/bench/rerank.py [--data BEIR_FOLDER] [--queries 500] [--out FILE]

The whole service over gRPC in this process, with an index and an embedder in memory, so that what is measured is not
the index. Signed artifacts: a linear model and 200 trees of LightGBM. Passages are those of the folder, else made up
(120 words in 6 sentences). Prints one JSON object, milliseconds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

from anabranch.retrieval.v1 import retrieval_service_pb2 as pb
from anabranch.retrieval.v1 import retrieval_service_pb2_grpc as stubs
from anabranch_artifacts import Signer, make_keys
from anabranch_bus import MemoryBus
from anabranch_observability import configure
from anabranch_retrieval.bootstrap import wire
from anabranch_retrieval.settings import Settings
from anabranch_retrieval.testing import HashEmbedder, MemoryIndex, document_of, model, part_of
from anabranch_retrieval.testing.models import put, write_linear, write_trees
from anabranch_rpc import connect
from anabranch_runtime import Process

_MODEL = model("hash-one", dimension=384)
_WEIGHTS = {"dense": 1.0, "bm25_minmax": 0.5, "best_sentence": 2.0, "overlap": 1.5, "bigram_overlap": 1.0}
_DOCUMENTS = 200


def main() -> None:
    """Reads the arguments, measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with corpus.jsonl and queries.jsonl")
    parser.add_argument("--queries", type=int, default=500)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="anabranch-rerank-") as folder:
        result = asyncio.run(measure(arguments, Path(folder)))
    text = json.dumps(result, indent=1)
    sys.stdout.write(text + "\n")
    if arguments.out:
        arguments.out.write_text(text + "\n", encoding="utf-8")


async def measure(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Starts the service, fills it, asks."""
    make_keys(folder / "key.pem", folder / "key.pub")
    signer, root = Signer(folder / "key.pem"), str(folder / "artifacts")
    configure(service="retrieval", level="warning")
    settings = Settings(data=folder, public_key=folder / "key.pub", reader_grace=timedelta(0))
    parts = wire(settings, bus=MemoryBus(), index=MemoryIndex(), embedder=HashEmbedder([_MODEL]))
    process = Process(settings, name="retrieval")
    await process.start(parts.service)
    texts, queries = read(arguments)
    changes = [
        part_of(document_of(f"d{n}"), 1, [text], of=_MODEL, title="A title of it", sentences=tuple(sentences(text)))
        for n, text in enumerate(texts)
    ]
    faults = await parts.indexing(changes)
    if faults:
        raise RuntimeError(str(next(iter(faults.values()))))
    rerankers = {
        "linear": put(root, write_linear(folder / "linear", _WEIGHTS), signer),
        "lightgbm": put(root, write_trees(folder / "trees", "overlap", trees=200), signer),
    }
    result: dict[str, Any] = {"documents": len(texts), "queries": len(queries), "candidates": 50}
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
            return await stub.Retrieve(asked, timeout=60)

        for name, version in rerankers.items():
            began = time.perf_counter()
            answer = await ask(queries[0], version, features=True)
            if answer.reranker_version != version:
                raise RuntimeError(f"{name}: was not applied")
            result[f"{name}_first_ms"] = round((time.perf_counter() - began) * 1e3, 1)
        kinds = {"plain": ("", False), "features": ("", True)}
        kinds |= {name: (version, True) for name, version in rerankers.items()}
        whole: dict[str, list[float]] = {name: [] for name in kinds}
        added: dict[str, list[float]] = {name: [] for name in kinds}
        for query in queries:  # the kinds take turns, so that what disturbs one disturbs all
            for name, (version, features) in kinds.items():
                answer = await ask(query, version, features=features)
                whole[name].append(answer.search_time.ToTimedelta().total_seconds())
                added[name].append(answer.rerank_time.ToTimedelta().total_seconds())
    await process.stop()
    for name in kinds:
        result[name] = {"search_ms": spread(whole[name]), "rerank_ms": spread(added[name])}
    return result


def read(arguments: argparse.Namespace) -> tuple[list[str], list[str]]:
    """Passages and queries, of the folder or made up."""
    if arguments.data is not None:
        with (arguments.data / "corpus.jsonl").open(encoding="utf-8") as lines:
            texts = [json.loads(line)["text"] for line, _ in zip(lines, range(_DOCUMENTS), strict=False)]
        with (arguments.data / "queries.jsonl").open(encoding="utf-8") as lines:
            queries = [json.loads(line)["text"] for line, _ in zip(lines, range(arguments.queries), strict=False)]
        return [text for text in texts if text.strip()], queries
    dice = random.Random(7)  # noqa: S311  words, not secrets
    words = [f"word{number}" for number in range(3_000)]
    texts = [
        " ".join(" ".join(dice.choices(words, k=20)).capitalize() + "." for _ in range(6)) for _ in range(_DOCUMENTS)
    ]
    return texts, [" ".join(dice.choices(words, k=9)) for _ in range(arguments.queries)]


def sentences(text: str) -> Iterator[tuple[int, int]]:
    """Where sentences begin and end, roughly."""
    return ((found.start(), found.end()) for found in re.finditer(r"\S.*?(?:[.!?](?=\s)|$)", text, re.DOTALL))


def spread(seconds: list[float]) -> dict[str, float]:
    """p50, p95 and p99 in milliseconds."""
    ordered = sorted(seconds)
    return {
        f"p{share}": round(ordered[min(len(ordered) * share // 100, len(ordered) - 1)] * 1e3, 3)
        for share in (50, 95, 99)
    }


if __name__ == "__main__":
    main()
