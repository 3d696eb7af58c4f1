"""From a question to passages."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from time import perf_counter

from anabranch_faults import Conflict, Invalid, NotFound
from anabranch_retrieval.application.indexing import require_same
from anabranch_retrieval.application.ports import Catalogue, Embedded, Embedder, Shown, VectorIndex
from anabranch_retrieval.application.ranking import Ranked, Ranking
from anabranch_retrieval.domain import (
    CANDIDATES,
    Corpus,
    CorpusKey,
    Edition,
    Hit,
    Model,
    Passage,
    Question,
    Reranker,
    Scored,
    Search,
    quantised,
    sentences_of,
    without_near_duplicates,
)

_SPARE = 15  # hits beyond top_k: some are of replaced versions, some repeat others
_WIDER = 4
_MAX_HITS = 2_000
_TRIES = 4
_KNOWN = 5_000  # passages kept in memory, all corpora together; about 5 KiB each


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Passages, best first, all of one moment: the corpus as of `generation`. Times in seconds.

    reranker_version: the one applied; empty when none was asked for, or when it could not be had.
    """

    passages: tuple[Passage, ...]
    generation: int
    embedding_version: str
    embed_seconds: float
    search_seconds: float  # reranking included
    reranker_version: str = ""
    rerank_seconds: float = 0.0
    query_vector: bytes = b""  # int8, where asked for


@dataclass(slots=True, kw_only=True)
class Retrieve:
    """Hybrid search as of one generation of the corpus.

    Passages once read are kept in memory for as long as the generation lasts.
    """

    index: VectorIndex
    catalogue: Catalogue
    embedder: Embedder
    ranking: Ranking
    _models: dict[CorpusKey, str] = field(default_factory=dict)
    _known: dict[CorpusKey, tuple[int, str, dict[str, Shown]]] = field(default_factory=dict)

    async def __call__(self, question: Question) -> Answer:
        """Return the best passages the reader may see.

        Raises NotFound when nothing was ever put into the corpus, Conflict when it is not indexed under the embedding
        version asked for or its model is not served, Unreachable and Overloaded when a dependency is.
        """
        began = perf_counter()
        embedded, corpus, model = await self._prepare(question)
        embed_seconds = perf_counter() - began
        wanted = question.settings.reranker_version
        reranker = await self.ranking.rerankers.get(wanted) if wanted else None
        for attempt in range(_TRIES):
            edition = corpus.edition(model)
            require_same(edition, embedded.model)
            settled = attempt == _TRIES - 1
            ranked = await self._ranked(question, corpus, edition, embedded, reranker, settled=settled)
            if ranked is not None:
                break
            # The corpus changed while it was searched, and a hit is of what was replaced: look again, as of now.
            corpus = await self._corpus(question.corpus)
            changed = await self._model(question, corpus)
            if changed != model:
                model, embedded = changed, await self._embed(question.text, corpus, changed.version)
        ranked = ranked or _plain(())
        return Answer(
            passages=_passages(ranked, question, embedded),
            generation=corpus.generation,
            embedding_version=model.version,
            embed_seconds=embed_seconds,
            search_seconds=perf_counter() - began - embed_seconds,
            reranker_version=ranked.applied,
            rerank_seconds=ranked.seconds,
            query_vector=quantised(embedded.vector) if question.with_query_vector else b"",
        )

    async def _prepare(self, question: Question) -> tuple[Embedded, Corpus, Model]:
        """Embed the query under the version last seen while the catalogue says whether it still holds."""
        guess = question.settings.embedding_version or self._models.get(question.corpus, "")
        if not guess:
            corpus = await self._corpus(question.corpus)
            model = await self._model(question, corpus)
            return await self._embed(question.text, corpus, model.version), corpus, model
        guessing = asyncio.ensure_future(self.embedder.embed_query(question.text, guess))
        try:
            corpus = await self._corpus(question.corpus)
            model = await self._model(question, corpus)
            if model.version != guess:
                return await self._embed(question.text, corpus, model.version), corpus, model
            try:
                return await guessing, corpus, model
            except Invalid as fault:
                raise _unserved(corpus, guess, fault) from fault
        finally:
            guessing.cancel()
            await asyncio.gather(guessing, return_exceptions=True)

    async def _embed(self, text: str, corpus: Corpus, version: str) -> Embedded:
        try:
            return await self.embedder.embed_query(text, version)
        except Invalid as fault:
            raise _unserved(corpus, version, fault) from fault

    async def _corpus(self, key: CorpusKey) -> Corpus:
        corpus = await self.catalogue.corpus(key)
        if corpus is None:
            raise NotFound(
                f"there is no corpus {key.corpus}: nothing was put there", field="corpus", reason="NO_CORPUS"
            )
        return corpus

    async def _model(self, question: Question, corpus: Corpus) -> Model:
        wanted = question.settings.embedding_version
        model = corpus.readable(wanted)
        if model is None:
            alias = await self.embedder.resolve(wanted)
            model = corpus.readable(alias.version)
        if model is None:
            raise Conflict(
                f"corpus {question.corpus.corpus} is indexed under {corpus.live.version}, not under {wanted}: "
                "reindex it, or ask without a version",
                field="settings.embedding_version",
                reason="NOT_INDEXED",
            )
        self._models[question.corpus] = model.version
        return model

    async def _ranked(
        self,
        question: Question,
        corpus: Corpus,
        edition: Edition,
        embedded: Embedded,
        reranker: Reranker | None,
        *,
        settled: bool,
    ) -> Ranked | None:
        """Search until enough is found; None when what was found is no longer, or not yet, what is to be seen."""
        ranking = question.with_features or reranker is not None
        # Features compare candidates with each other, so the candidates do not depend on how many are returned.
        wanted = max(question.settings.top_k, CANDIDATES) if ranking else question.settings.top_k
        # Of many hits for a reader, many repeat others; candidates that do are candidates all the same.
        limit = wanted + (_SPARE if ranking else max(_SPARE, wanted // 2))
        while True:
            search = Search(
                text=question.text,
                vector=embedded.vector,
                alpha=question.settings.alpha,
                limit=limit,
                filters=question.filters,
                acl=question.acl,
                document_ids=question.document_ids,
            )
            found = await self.index.search(edition, search)
            shown = await self._shown(corpus, edition, [one.chunk_id for one in found])
            if not settled and any(one.changed > corpus.generation for one in shown.values()):
                return None
            visible = _visible(found, shown, question)
            if ranking:
                pool = list(visible)
                ranked = self.ranking(pool, question, embedded.vector, reranker, lambda hits: _chosen(hits, question))
                enough = len(pool) >= CANDIDATES and len(ranked.hits) >= question.settings.top_k
            else:
                ranked = _plain(_chosen(visible, question))
                enough = len(ranked.hits) >= wanted
            if enough or len(found) < limit or limit >= _MAX_HITS:
                return ranked
            limit *= _WIDER

    async def _shown(self, corpus: Corpus, edition: Edition, chunk_ids: Sequence[str]) -> dict[str, Shown]:
        version = edition.model.version
        generation, under, known = self._known.get(corpus.key, (-1, "", {}))
        if (generation, under) != (corpus.generation, version):
            known = {}
        unknown = [chunk_id for chunk_id in chunk_ids if chunk_id not in known]
        if not unknown:
            return {chunk_id: known[chunk_id] for chunk_id in chunk_ids}
        read = await self.catalogue.shown(corpus.key, version, unknown)
        both = {chunk_id: known[chunk_id] for chunk_id in chunk_ids if chunk_id in known} | read
        if all(one.changed <= corpus.generation for one in read.values()):
            if len(known) + len(read) > _KNOWN // max(len(self._known), 1):
                known = {}
            # What the index has and the catalogue does not is not kept: it may be on its way in.
            known.update(read)
            self._known[corpus.key] = (corpus.generation, version, known)
        return both


def _visible(found: Sequence[Scored], shown: dict[str, Shown], question: Question) -> Iterator[Hit]:
    readers = set(question.acl)
    return (
        Hit(found=one, chunk=known.chunk, sentence_vectors=known.sentence_vectors)
        for one in found
        if (known := shown.get(one.chunk_id)) is not None
        and known.chunk is not None
        # The index has filtered by label already; what is secret is worth a second look.
        and (not known.chunk.acl or readers.intersection(known.chunk.acl))
    )


def _chosen(hits: Iterable[Hit], question: Question) -> list[Hit]:
    if not question.settings.keep_duplicates:
        hits = without_near_duplicates(hits, text=lambda hit: hit.chunk.text)
    return [hit for hit, _ in zip(hits, range(question.settings.top_k), strict=False)]


def _plain(hits: Sequence[Hit]) -> Ranked:
    return Ranked(hits=hits)


def _passages(ranked: Ranked, question: Question, embedded: Embedded) -> tuple[Passage, ...]:
    passages = []
    for hit in ranked.hits:
        sentences = sentences_of(hit, embedded.vector) if question.with_sentences else ()
        passages.append(
            Passage(hit=hit, sentences=sentences, rerank_score=ranked.score(hit), features=ranked.features(hit))
        )
    return tuple(passages)


def _unserved(corpus: Corpus, version: str, fault: Invalid) -> Conflict:
    return Conflict(
        f"corpus {corpus.key.corpus} is indexed under {version}, which the embedding service does not serve "
        f"({fault.problem}): serve that model, or reindex the corpus",
        reason="MODEL_MISMATCH",
    )
