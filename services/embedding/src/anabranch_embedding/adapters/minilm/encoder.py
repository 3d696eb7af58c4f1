"""The encoder port over the packaged model."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from time import perf_counter
from typing import Final

from anabranch_embedding.adapters.minilm.cache import GraphCache
from anabranch_embedding.adapters.minilm.lanes import Express, Turns
from anabranch_embedding.adapters.minilm.plan import plan
from anabranch_embedding.adapters.minilm.runner import Runner
from anabranch_embedding.adapters.minilm.tokens import Tokenised, Vocabulary
from anabranch_embedding.adapters.minilm.weights import WINDOW, PackagedModel, Quantisation
from anabranch_embedding.domain import Encoding, ModelIdentity, Text
from anabranch_observability import counter, gauge, get_logger, histogram
from anabranch_observability.names import embedding as names

__all__ = ["MiniLmEncoder"]

log = get_logger()

_SLICE: Final = 64
"""Texts tokenised in one piece: 10 ms."""
_ROUND: Final = 1_024
"""Tokens of one round of queries: 60 ms, which is the most that a query waits for those before it."""


class _Loaded:
    """Vocabulary and graph in memory."""

    def __init__(self, model: PackagedModel, quantisation: Quantisation, cache: GraphCache) -> None:
        self.vocabulary = Vocabulary(model.tokenizer)
        self.runner = Runner(cache.graph(model, quantisation))

    def tokenise(self, texts: Sequence[Text]) -> list[Tokenised]:
        return [self.vocabulary.tokenise(text) for text in texts]

    def round(self, texts: Sequence[Text]) -> list[Encoding]:
        """One round of the express lane: all at once, in this thread."""
        tokenised = self.tokenise(texts)
        found: dict[int, Encoding] = {}
        groups = plan([len(text.ids) for text in tokenised])
        for group in groups:
            found.update(zip(group, self.runner.run([tokenised[index] for index in group]), strict=True))
        histogram(names.ROUND_TEXTS).observe(len(texts))
        return [found[index] for index in range(len(texts))]


class MiniLmEncoder:
    """all-MiniLM-L6-v2 under one quantisation. Loads itself on first use, or when `load` is called.

    Urgent texts have a thread of their own; the others take turns on `turns`, which encoders may share.
    """

    def __init__(
        self,
        *,
        model: PackagedModel,
        quantisation: Quantisation,
        cache: GraphCache,
        turns: Turns,
        waiting_queries: int = 256,
    ) -> None:
        """Reads the weights once for their digest (0.1 s); everything else waits until it is needed."""
        self._identity = model.identity(quantisation)
        self._model = model
        self._quantisation = quantisation
        self._cache = cache
        self._turns = turns
        self._waiting_queries = waiting_queries
        self._loading: asyncio.Task[tuple[_Loaded, Express[Text, Encoding]]] | None = None

    @property
    def identity(self) -> ModelIdentity:
        """As in the port."""
        return self._identity

    async def load(self) -> None:
        """Load the model and run it once, if nobody did before. Concurrent calls load it once."""
        await self._ready()

    async def encode(self, texts: Sequence[Text], *, urgent: bool) -> list[Encoding]:
        """As in the port."""
        started = perf_counter()
        loaded, express = await self._ready()
        lane = "express" if urgent else "turns"
        encodings = await (express.run(texts) if urgent else self._in_turns(loaded, texts))
        counter(names.TEXTS).labels(lane=lane, version=self._identity.version).inc(len(texts))
        counter(names.TOKENS).labels(lane=lane, version=self._identity.version).inc(
            sum(encoding.tokens for encoding in encodings)
        )
        histogram(names.ENCODE_SECONDS).labels(lane=lane).observe(perf_counter() - started)
        return encodings

    async def close(self) -> None:
        """End the express lane's thread; the turns belong to whoever made them."""
        if self._loading is not None and self._loading.done() and not self._loading.exception():
            await asyncio.to_thread(self._loading.result()[1].close)

    async def _in_turns(self, loaded: _Loaded, texts: Sequence[Text]) -> list[Encoding]:
        with self._turns.admission(len(texts)):
            gauge(names.WAITING_TEXTS).set(self._turns.admitted)
            try:
                slices = [texts[start : start + _SLICE] for start in range(0, len(texts), _SLICE)]
                done = await self._turns.run([partial(loaded.tokenise, part) for part in slices])
                tokenised = [text for part in done for text in part]
                groups = plan([len(text.ids) for text in tokenised])
                runs = await self._turns.run(
                    [partial(loaded.runner.run, [tokenised[index] for index in group]) for group in groups]
                )
            finally:
                gauge(names.WAITING_TEXTS).set(self._turns.admitted - len(texts))
        found = {
            index: encoding
            for group, run in zip(groups, runs, strict=True)
            for index, encoding in zip(group, run, strict=True)
        }
        return [found[index] for index in range(len(texts))]

    async def _ready(self) -> tuple[_Loaded, Express[Text, Encoding]]:
        # A load that failed (a full disk, say) is tried again by the next caller.
        if self._loading is None or (self._loading.done() and self._loading.exception() is not None):
            self._loading = asyncio.create_task(self._load())
        # Shielded: one caller's cancellation must not cancel what the others wait for.
        return await asyncio.shield(self._loading)

    async def _load(self) -> tuple[_Loaded, Express[Text, Encoding]]:
        started = perf_counter()
        loaded = await asyncio.to_thread(_Loaded, self._model, self._quantisation, self._cache)
        express = Express[Text, Encoding](loaded.round, limit=self._waiting_queries, most=_ROUND, weigh=_tokens_at_most)
        await express.run([Text(body="The first run of a graph allocates; a caller need not wait for that.")])
        log.info(names.Log.MODEL_LOADED, version=self._identity.version, seconds=round(perf_counter() - started, 3))
        return loaded, express


def _tokens_at_most(text: Text) -> int:
    """What a text takes of a round, without reading it: few tokens are shorter than three characters."""
    return min(WINDOW, 2 + len(text.body) // 3 + len(text.prefix) // 3)
