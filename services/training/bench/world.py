"""The offline world: questions, their fifty best passages under hybrid search, the features of rf-1, and the truth."""

# ruff: noqa: INP001  a program, not part of a package
from __future__ import annotations

import asyncio
import itertools
import json
import math
import os
import re
import tempfile
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import Stemmer  # type: ignore[import-not-found, unused-ignore]  # ships no types

from anabranch_embedding.adapters.minilm import MiniLmEncoder, PackagedModel
from anabranch_embedding.adapters.minilm.cache import GraphCache
from anabranch_embedding.adapters.minilm.lanes import Turns
from anabranch_embedding.domain import Text
from anabranch_training.domain import RF1

DEPTH = 50
_WORD = re.compile(r"\w+")
_SENTENCE = re.compile(r"[^.!?]+(?:[.!?]+(?=\s|$)|$)")
_STOP = frozenset(
    """
    a an and are as at be been by did do does for from had has have he how i in is it its of on or that the their they
    this to was were what when where which who whom whose why will with you your
    """.split()  # noqa: SIM905  a list of quoted words would be harder to read
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """The candidates of one question, in the order of the search."""

    question: str
    chunks: tuple[str, ...]
    documents: tuple[str, ...]
    features: np.ndarray[Any, Any]
    gold: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Chunk:
    name: str
    document: str
    title: str
    text: str
    sentences: tuple[tuple[int, int], ...]


def _rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines() if line.strip()]


def _chunks(rows: Sequence[Mapping[str, Any]], room: int = 900) -> list[_Chunk]:
    found = []
    for row in rows:
        text, start, number = str(row["text"]), 0, 0
        ends = [match.end() for match in _SENTENCE.finditer(text)] or [len(text)]
        while start < len(text):
            end = max((e for e in ends if start < e <= start + room), default=min(len(text), start + room))
            piece = text[start:end]
            spans = tuple((m.start(), m.end()) for m in _SENTENCE.finditer(piece) if m.group().strip())
            if piece.strip():
                name = f"{row['_id']}#{number}"
                found.append(
                    _Chunk(name=name, document=str(row["_id"]), title=str(row["title"]), text=piece, sentences=spans)
                )
            start, number = end, number + 1
    return found


async def _encode(texts: Sequence[Text], folder: Path) -> list[tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]]:
    threads = len(os.sched_getaffinity(0))
    turns = Turns(threads=threads, limit=1_000_000)
    encoder = MiniLmEncoder(
        model=PackagedModel.installed(), quantisation="int8", cache=GraphCache(folder / "graph"), turns=turns
    )
    await encoder.load()
    encodings = await encoder.encode(texts, urgent=False)
    await encoder.close()
    return [(one.vector, one.sentences.astype(np.float32) / 127) for one in encodings]


class _Keywords:
    """BM25 as the search has it: k1 1.2, b 0.75, over title and text."""

    def __init__(self, chunks: Sequence[_Chunk]) -> None:
        self._stem = lru_cache(maxsize=None)(Stemmer.Stemmer("english").stemWord)
        self.terms = [self(f"{chunk.title} {chunk.text}") for chunk in chunks]
        self._lengths = np.array([len(terms) for terms in self.terms], dtype=float)
        self._postings: dict[str, list[tuple[int, int]]] = defaultdict(list)
        for index, terms in enumerate(self.terms):
            for term, count in Counter(terms).items():
                self._postings[term].append((index, count))

    def __call__(self, text: str) -> list[str]:
        words = [word.lower() for word in _WORD.findall(text)]
        return [self._stem(word) for word in words if word not in _STOP] or words

    def scores(self, question: Sequence[str]) -> np.ndarray[Any, Any]:
        scores = np.zeros(len(self.terms))
        norm = 1.2 * (0.25 + 0.75 * self._lengths / self._lengths.mean())
        for term in set(question):
            postings = self._postings.get(term, [])
            idf = math.log(1 + (len(self.terms) - len(postings) + 0.5) / (len(postings) + 0.5))
            for index, count in postings:
                scores[index] += idf * count * 2.2 / (count + norm[index])
        return scores


def _minmax(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    low, high = values.min(), values.max()
    return np.ones_like(values) if high <= low else (values - low) / (high - low)


class World:
    """One data set, read and encoded; `pools` searches it at any alpha."""

    def __init__(self, data: Path, cache: Path) -> None:
        """Encodes what the cache does not hold."""
        self._chunks = _chunks(_rows(data / "corpus.jsonl"))
        gold: dict[str, set[str]] = defaultdict(set)
        for line in (data / "qrels.tsv").read_text().splitlines()[1:]:
            query, document, score = line.split("\t")
            if int(score) > 0:
                gold[query].add(document)
        self._questions = [(row["_id"], row["text"]) for row in _rows(data / "queries.jsonl") if row["_id"] in gold]
        self._gold = {query: frozenset(documents) for query, documents in gold.items()}
        texts = [Text(body=c.text, prefix=c.title, sentences=c.sentences) for c in self._chunks]
        asked = [Text(body=text) for _, text in self._questions]
        file = cache / f"{data.name}-vectors.npz"
        if not file.exists():
            cache.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory() as folder:
                encodings = asyncio.run(_encode([*texts, *asked], Path(folder)))
            counts = np.array([len(sentences) for _, sentences in encodings])
            stacked = np.concatenate([sentences.reshape(-1, 384) for _, sentences in encodings])
            np.savez(file, vectors=np.stack([vector for vector, _ in encodings]), sentences=stacked, counts=counts)
        held = dict(np.load(file))  # the file itself would be read again at each look
        self._vectors, self._asked = held["vectors"][: len(texts)], held["vectors"][len(texts) :]
        ends = np.cumsum(held["counts"])
        self._sentences = [held["sentences"][end - n : end] for end, n in zip(ends, held["counts"], strict=True)]
        self._keywords = _Keywords(self._chunks)
        self._bodies = [self._keywords(chunk.text) for chunk in self._chunks]
        self._spoken = [[set(self._keywords(c.text[a:b])) for a, b in c.sentences] for c in self._chunks]

    def pools(self, *, alpha: float) -> list[Pool]:
        """Every question's candidates."""
        return [self._pool(index, alpha) for index in range(len(self._questions))]

    def halves(self, seed: int) -> tuple[set[str], set[str]]:
        """Questions in two halves that share no document."""
        parent: dict[str, str] = {}

        def root(name: str) -> str:
            while parent.setdefault(name, name) != name:
                name = parent[name]
            return name

        for query, _ in self._questions:
            first, *others = sorted(self._gold[query])
            for other in others:
                parent[root(other)] = root(first)
            root(first)
        groups = sorted({root(name) for name in parent})
        chosen = set(np.random.default_rng(seed).permutation(groups)[: len(groups) // 2].tolist())
        left = {query for query, _ in self._questions if root(min(self._gold[query])) in chosen}
        return left, {query for query, _ in self._questions} - left

    def _pool(self, number: int, alpha: float) -> Pool:
        query, text = self._questions[number]
        stems = self._keywords(text)
        cosine, bm25 = self._vectors @ self._asked[number], self._keywords.scores(stems)
        by_dense = np.argsort(-cosine, kind="stable")[:DEPTH] if alpha > 0 else np.array([], dtype=int)
        by_bm25 = np.argsort(-bm25, kind="stable")[:DEPTH] if alpha < 1 else np.array([], dtype=int)
        by_bm25 = by_bm25[bm25[by_bm25] > 0]
        fused: dict[int, float] = defaultdict(float)
        for weight, found, scores in ((alpha, by_dense, cosine), (1 - alpha, by_bm25, bm25)):
            for index, score in zip(found, _minmax(scores[found]) if len(found) else [], strict=True):
                fused[int(index)] += weight * float(score)
        order = sorted(fused, key=lambda index: (-fused[index], index))[:DEPTH]
        features = self._features(number, order, fused, (set(by_dense.tolist()), set(by_bm25.tolist())))
        return Pool(
            question=query,
            chunks=tuple(self._chunks[index].name for index in order),
            documents=tuple(self._chunks[index].document for index in order),
            features=features,
            gold=self._gold[query],
        )

    def _features(
        self, number: int, order: Sequence[int], fused: Mapping[int, float], halves: tuple[set[int], set[int]]
    ) -> np.ndarray[Any, Any]:
        by_dense, by_bm25 = halves
        asked, stems = self._asked[number], self._keywords(self._questions[number][1])
        cosine = self._vectors @ asked
        bm25 = self._keywords.scores(stems)
        columns: dict[str, np.ndarray[Any, Any]] = {name: np.zeros(len(order)) for name in RF1}
        columns["dense"] = np.array([cosine[i] if i in by_dense else 0.0 for i in order])
        columns["bm25"] = np.array([bm25[i] if i in by_bm25 else 0.0 for i in order])
        columns["fused"] = np.array([fused[i] for i in order])
        columns["dense_minmax"] = _minmax(columns["dense"]) if by_dense else columns["dense"]
        columns["bm25_minmax"] = _minmax(columns["bm25"]) if by_bm25 else columns["bm25"]
        columns["reciprocal_rank"] = 1 / np.arange(1, len(order) + 1)
        for rank, found, scores in (("dense_rank", by_dense, "dense"), ("bm25_rank", by_bm25, "bm25")):
            if found:
                places = np.argsort(np.argsort(-columns[scores], kind="stable"))
                columns[rank] = np.where(columns[scores] != 0, 1 / (places + 1), 0)
        held = [set(self._keywords.terms[i]) for i in order]
        wanted = set(stems)
        idf = {t: math.log(1 + (len(order) + 0.5) / (sum(t in terms for terms in held) + 0.5)) for t in wanted}
        whole = sum(idf.values()) or 1.0
        bigrams = set(itertools.pairwise(stems))
        for row, index in enumerate(order):
            chunk = self._chunks[index]
            best = sorted((self._sentences[index] @ asked).tolist(), reverse=True) or [0.0]
            columns["best_sentence"][row] = best[0]
            columns["second_sentence"][row] = best[1] if len(best) > 1 else 0.0
            body = self._bodies[index]
            columns["overlap"][row] = sum(idf[t] for t in wanted & set(body)) / whole
            columns["best_sentence_overlap"][row] = max(
                (
                    sum(idf[t] for t in wanted & set(self._keywords(chunk.text[a:b]))) / whole
                    for a, b in chunk.sentences
                ),
                default=0.0,
            )
            inside = set(itertools.pairwise(body))
            columns["bigram_overlap"][row] = len(bigrams & inside) / len(bigrams) if bigrams else 0.0
            columns["title_overlap"][row] = len(wanted & set(self._keywords(chunk.title))) / max(1, len(wanted))
            columns["length"][row] = math.log1p(len(_WORD.findall(chunk.text)))
        return np.column_stack([columns[name] for name in RF1])


def ndcg(pool: Pool, order: Sequence[int], at: int = 10) -> float:
    """nDCG@at by document: a document counts where its first chunk stands."""
    seen = list(dict.fromkeys(pool.documents[index] for index in order))[:at]
    gain = sum(1 / math.log2(place + 2) for place, document in enumerate(seen) if document in pool.gold)
    return gain / sum(1 / math.log2(place + 2) for place in range(min(at, len(pool.gold))))
