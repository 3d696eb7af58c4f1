"""Questions with known answers over given passages, as a retriever would find them: for training and measuring."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from anabranch_gateway.domain.caching.features import Source
from anabranch_gateway.domain.caching.wording import stems, worded

Vectors = Mapping[str, NDArray[np.float32]]
Embed = Callable[[Sequence[str]], Vectors]

_TOP: Final = 5
_POOL: Final = 50
_SENTENCE: Final = re.compile(r"(?<=[.?!])\s+(?=[A-Z\"'`(])")


@dataclass(frozen=True, slots=True)
class Asked:
    """A question of the data. `group`: what must stay together when questions are split."""

    text: str
    group: str
    source: str


@dataclass(frozen=True, slots=True)
class Text:
    """A passage with its sentences."""

    name: str
    document: str
    sentences: tuple[str, ...]


def load(data: Path) -> tuple[list[Asked], list[Text]]:
    """Questions that have an answer, and all passages."""
    asked: list[Asked] = []
    texts: list[Text] = []
    for name in ("qa_beerqa", "qa_clapnq"):
        rows = _rows(data / name / "queries.jsonl")
        asked += [Asked(row["text"].strip(), row["_id"], name) for row in rows if row.get("answerable", True)]
        for row in _rows(data / name / "corpus.jsonl"):
            sentences = row.get("sentences") or _SENTENCE.split(row["text"])
            texts.append(Text(row["_id"], row["doc_id"], tuple(each for each in sentences if each.strip())))
    facts: defaultdict[str, list[str]] = defaultdict(list)
    for file in ("pep_header_questions.jsonl", "kafka_config_questions.jsonl"):
        for row in _rows(data / "docs_qa" / file):
            setting = row.get("setting")
            group = f"setting {setting}" if setting else "PEP " + row["_id"].split("-")[1]
            subject = row["_id"].rpartition("-")[0] if setting else group
            asked.append(Asked(row["text"], group, "docs_qa"))
            field = "default" if setting else row["field"]
            facts[subject + ("-" + setting if setting else "")].append(f"{group} {field}: {', '.join(row['answers'])}.")
            if setting:
                facts[f"{subject}-{setting}"].append(f"{group} type: {row['type']}, importance: {row['importance']}.")
    texts += [Text(subject, subject, tuple(lines)) for subject, lines in facts.items()]
    return asked, texts


def part_of(group: str) -> str:
    """`train`, `validation` or `test`: decided by the group's name alone."""
    number = hashlib.sha256(group.encode()).digest()[0]
    return "train" if number < 140 else "validation" if number < 175 else "test"  # noqa: PLR2004  55, 14 and 31 %


class Finder:
    """Hybrid search over the passages: half cosine, half BM25, each scaled over what it found."""

    def __init__(self, texts: Sequence[Text], embed: Embed) -> None:
        """Embeds everything."""
        self._texts = list(texts)
        sentences = sorted({sentence for text in texts for sentence in text.sentences})
        vectors = embed(sentences)
        self._sentences = [np.stack([vectors[each] for each in text.sentences]) for text in texts]
        means = np.stack([each.mean(axis=0) for each in self._sentences])
        self._matrix = means / np.linalg.norm(means, axis=1, keepdims=True)
        self._words = [worded(" ".join(text.sentences)[:4_000]).content for text in texts]
        self._stems = [stems(" ".join(text.sentences)[:2_000]) for text in texts]
        self._postings: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)
        for at, words in enumerate(self._words):
            for word, count in Counter(words).items():
                self._postings[word].append((at, count))
        self._mean = sum(map(len, self._words)) / len(self._words)

    def find(self, question: str, vector: NDArray[np.float32]) -> list[Source]:
        """The best passages, as the gateway would get them."""
        cosines = self._matrix @ vector
        scores: defaultdict[int, float] = defaultdict(float)
        for word in set(worded(question).content):
            postings = self._postings.get(word, [])
            weight = math.log(1 + (len(self._texts) - len(postings) + 0.5) / (len(postings) + 0.5))
            for at, count in postings:
                length = 0.6 + 0.4 * len(self._words[at]) / self._mean
                scores[at] += weight * count * 1.9 / (count + 0.9 * length)
        dense = np.argsort(-cosines)[:_POOL]
        sparse = sorted(scores, key=lambda at: -scores[at])[:_POOL]
        pool = sorted({int(at) for at in dense} | set(sparse))
        low, high = float(cosines[pool].min()), float(cosines[pool].max())
        most = max(scores.values(), default=1.0)
        fused = {at: (float(cosines[at]) - low) / (high - low + 1e-9) + scores.get(at, 0.0) / most for at in pool}
        found = []
        for at in sorted(pool, key=lambda each: -fused[each])[:_TOP]:
            near = self._sentences[at] @ vector
            found.append(
                Source(
                    document_id=self._texts[at].document,
                    version=1,
                    chunk_id=self._texts[at].name,
                    similarity=float(near.max()),
                    sentence=int(near.argmax()),
                    words=self._stems[at],
                )
            )
        return found


def cited_of(sources: Sequence[Source]) -> str:
    """The chunk that an answer quoting the best sentence would cite."""
    return max(sources, key=lambda each: each.similarity).chunk_id


def quantised(vector: NDArray[np.float32]) -> bytes:
    """As retrieval sends it."""
    return np.rint(vector * 127).clip(-127, 127).astype(np.int8).tobytes()


def _rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
