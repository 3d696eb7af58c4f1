"""The answer cache: exact, then normalised, then semantic within an error bound."""

from __future__ import annotations

import hashlib
import json
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from enum import StrEnum
from typing import Final, Protocol

from anabranch_gateway.domain.answers import Citation, FinishReason
from anabranch_gateway.domain.caching.agreement import agrees
from anabranch_gateway.domain.caching.bound import Reliability, Trust, Watch
from anabranch_gateway.domain.caching.features import DocumentKey, Source, features
from anabranch_gateway.domain.caching.fitness import Unfit, normalised, unfit_answer, unfit_question
from anabranch_gateway.domain.caching.shelf import Candidate, Shelf
from anabranch_gateway.domain.caching.verifier import Verifier
from anabranch_gateway.domain.caching.wording import Wording, worded

CANDIDATES: Final = 4
NEAREST: Final = 0.6  # of cosines; below it nothing was ever the same question
CONFIDENCE: Final = 0.9
LONGEST: Final = 48  # content words; comparing longer ones word by word takes too long
# An entry that nobody compared yet is compared sooner.
FIRST_PROBES: Final = 4


class Outcome(StrEnum):
    """How a lookup ended."""

    EXACT = "exact"
    NORMALISED = "normalised"
    SEMANTIC = "semantic"
    PROBE = "probe"
    MISS = "miss"
    UNFIT = "unfit"


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheQuestion:
    """A question with everything that its answer depends on, after retrieval.

    `question` is what was asked of the index. `vector` is its int8 unit vector, empty where there is none. `personal`
    says that a check found personal data in it; `fresh`, `history` and `explored`, that the answer is to be made anew,
    belongs to a conversation, or was drawn from passages in an order partly random.
    """

    tenant: str
    corpus: str
    question: str
    variant_id: str
    sources: Sequence[Source]
    acl: Sequence[str] = ()
    filters: Mapping[str, str] = field(default_factory=dict)
    variables: Mapping[str, object] = field(default_factory=dict)
    response_schema: Mapping[str, object] | None = None
    prompt_version: str = ""
    policy_version: str = ""
    embedding_version: str = ""
    reranker_version: str = ""
    language: str = ""
    max_tokens: int = 0
    vector: bytes = b""
    fresh: bool = False
    history: bool = False
    explored: bool = False
    personal: bool = False

    @property
    def unfit(self) -> Unfit | None:
        """Why it is not looked up."""
        if self.fresh:
            return Unfit.FRESH
        if self.history:
            return Unfit.HISTORY
        if self.explored:
            return Unfit.EXPLORED
        if self.personal:
            return Unfit.PERSONAL
        if not self.sources:
            return Unfit.NOTHING_FOUND
        return unfit_question(self.question, filters=self.filters)

    @property
    def scope(self) -> bytes:
        """Names everything but the question: two scopes never share an answer."""
        parts = (
            self.tenant,
            self.corpus,
            self.variant_id,
            sorted(set(self.acl)),
            sorted(self.filters.items()),
            self.variables,
            self.response_schema,
            self.prompt_version,
            self.policy_version,
            self.embedding_version,
            self.reranker_version,
            self.language,
            self.max_tokens,
        )
        return hashlib.sha256(json.dumps(parts, sort_keys=True, ensure_ascii=False).encode()).digest()

    @property
    def seen(self) -> bytes:
        """Names the passages found: the same as long as nothing that a reader sees has changed."""
        passages = [[each.document_id, each.version, each.chunk_id] for each in self.sources]
        return hashlib.sha256(json.dumps(passages, ensure_ascii=False).encode()).digest()


@dataclass(frozen=True, slots=True, kw_only=True)
class CachedAnswer:
    """An answer as it was given. `cited` are the chunks it cites, `quotes` the words it quotes of them.

    `plain` is False where a check had anything to say about it, or where text was put in place of other text.
    """

    answer_id: str
    text: str
    citations: Sequence[Citation]
    cited: Sequence[str]
    quotes: Sequence[str]
    reason: FinishReason
    abstained: bool
    backend: str
    model: str
    prompt_version: str = ""
    plain: bool = True


@dataclass(slots=True, kw_only=True)
class Entry:
    """An answer that is kept, with what is known of its reliability."""

    key: str
    tenant: str
    corpus: str
    question: str
    scope: bytes
    wording: Wording
    seen: bytes
    sources: Sequence[Source]
    answer: CachedAnswer
    vector: bytes
    documents: frozenset[DocumentKey]
    expires: float
    size: int
    reliability: Reliability = field(default_factory=Reliability)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lookup:
    """What a lookup found. Without an `answer` one has to be made, and `keep` be told of it.

    `error` is the probability, bounded from above, that a fresh answer would contradict a semantic hit.
    """

    outcome: Outcome
    question: CacheQuestion
    answer: CachedAnswer | None = None
    unfit: Unfit | None = None
    error: float = 0.0
    serial: int = 0
    rival: Entry | None = field(default=None, repr=False)
    logit: float = 0.0

    @property
    def probing(self) -> bool:
        """Whether the answer to be made is there to check the cache."""
        return self.outcome is Outcome.PROBE


class CacheWatcher(Protocol):
    """Who is told what happens in the cache."""

    def looked(self, lookup: Lookup, *, seconds: float) -> None:
        """A question was looked up."""
        ...

    def compared(self, *, probe: bool, agreed: bool) -> None:
        """A cached answer was compared with a fresh one."""
        ...

    def forgot(self, reason: str, number: int) -> None:
        """Answers were dropped; the cache's size follows from `holding`."""
        ...

    def holding(self, entries: int) -> None:
        """So many answers are held."""
        ...

    def tightened(self, *, share: float) -> None:
        """The part of the operator's bound that is worked with changed."""
        ...


@dataclass(slots=True, kw_only=True)
class AnswerCache:
    """Answers given before, in this process.

    `error_bound` is the operator's: the share of semantic hits that a fresh answer may contradict; 0 switches them off.
    `probe_share` of them are answered afresh to see. Everything is bounded: entries and bytes in all and of a tenant,
    an answer's characters, and its age. No call waits for anything.
    """

    shelf: Shelf[Entry]
    watcher: CacheWatcher
    verifier: Verifier | None
    error_bound: float = 0.02
    probe_share: float = 0.02
    lasts: timedelta = timedelta(hours=24)
    answer_characters: int = 32_768
    corpora: int = 1_000
    clock: Callable[[], float] = time.monotonic
    random: Callable[[], float] = random.random
    _everywhere: Trust = field(default_factory=Trust)
    _trusts: dict[tuple[str, str], tuple[Trust, Watch]] = field(default_factory=dict)

    async def find(self, question: CacheQuestion) -> Lookup:
        """An answer that may be given again, or none."""
        began = time.perf_counter()
        lookup = self._find(question)
        self.watcher.looked(lookup, seconds=time.perf_counter() - began)
        return lookup

    async def keep(self, lookup: Lookup, answer: CachedAnswer) -> Unfit | None:
        """Learns from the fresh answer, and keeps it; else says why not."""
        question = lookup.question
        if lookup.unfit is not None:
            return lookup.unfit
        whole = answer.reason is FinishReason.STOP and answer.plain and bool(answer.text.strip())
        # An abstention contradicts an answer, too; one that broke off says nothing.
        if lookup.rival is not None and (whole or answer.abstained):
            self._learn(lookup, answer)
        if answer.abstained:
            return Unfit.NEGATIVE
        if not whole:
            return Unfit.UNFINISHED
        if (unfit := unfit_answer(answer.text, characters=self.answer_characters)) is not None:
            return unfit
        documents = frozenset(
            DocumentKey(question.tenant, question.corpus, each.document_id) for each in question.sources
        )
        if self.shelf.changed_since(lookup.serial, documents):
            return Unfit.CHANGED
        self._put(question, answer, documents)
        return None

    def forget(self, document: DocumentKey) -> int:
        """Drops what was drawn from a document; how many answers."""
        return self._dropped("changed", self.shelf.forget(document))

    def clear(self, reason: str = "cleared") -> int:
        """Drops everything; how many answers."""
        return self._dropped(reason, self.shelf.clear())

    def teach(self, tenant: str, corpus: str, *, logit: float, wrong: bool) -> None:
        """Takes a comparison that was made elsewhere."""
        self._trust(tenant, corpus)[0].learn(logit, wrong=wrong)
        self._everywhere.learn(logit, wrong=wrong)

    def _find(self, question: CacheQuestion) -> Lookup:
        serial = self.shelf.serial
        if (unfit := question.unfit) is not None:
            return Lookup(outcome=Outcome.UNFIT, question=question, unfit=unfit, serial=serial)
        self._dropped("expired", self.shelf.expire(self.clock()))
        scope = question.scope
        entry = self.shelf.get(_key(scope, normalised(question.question)))
        if entry is not None and entry.seen == question.seen and not self._old(entry):
            outcome = Outcome.EXACT if entry.question == question.question else Outcome.NORMALISED
            return Lookup(outcome=outcome, question=question, answer=entry.answer, serial=serial)
        return self._semantic(question, scope, serial)

    def _old(self, entry: Entry) -> bool:
        if entry.expires > self.clock():
            return False
        self.shelf.drop(entry)
        self._dropped("expired", 1)
        return True

    def _semantic(self, question: CacheQuestion, scope: bytes, serial: int) -> Lookup:
        miss = Lookup(outcome=Outcome.MISS, question=question, serial=serial)
        if self.verifier is None or self.error_bound <= 0 or not question.vector:
            return miss
        asked = worded(question.question)
        if len(asked.content) > LONGEST:
            return miss
        trust, watch = self._trust(question.tenant, question.corpus)
        candidates = [
            near
            for near in self.shelf.nearest(scope, question.vector, limit=CANDIDATES, at_least=NEAREST)
            if len(near.entry.wording.content) <= LONGEST
            and not self._old(near.entry)
            and _still_holds(near.entry, question.sources)
        ]
        if not candidates:
            return miss
        logits = self.verifier.logits([_compared(asked, question, near) for near in candidates])
        errors = [
            near.entry.reliability.error(trust.error_logit(logit, confidence=CONFIDENCE))
            for near, logit in zip(candidates, logits, strict=True)
        ]
        at = min(range(len(errors)), key=errors.__getitem__)
        error, entry, logit = errors[at], candidates[at].entry, logits[at]
        found = replace(miss, rival=entry, logit=logit, error=error)
        if error > watch.effective:
            return found
        first = entry.reliability.compared == 0
        if self.random() < watch.rate(self.probe_share * (FIRST_PROBES if first else 1)):
            return replace(found, outcome=Outcome.PROBE)
        self.shelf.touch(entry)
        return replace(found, outcome=Outcome.SEMANTIC, answer=entry.answer)

    def _learn(self, lookup: Lookup, fresh: CachedAnswer) -> None:
        entry, question = lookup.rival, lookup.question
        assert entry is not None  # noqa: S101  the caller has looked
        cached = entry.answer
        agreed = not fresh.abstained and agrees(
            cached.text, fresh.text, cached_quotes=cached.quotes, fresh_quotes=fresh.quotes
        )
        trust, watch = self._trust(question.tenant, question.corpus)
        entry.reliability.learn(trust.error_logit(lookup.logit, confidence=0.5), wrong=not agreed)
        trust.learn(lookup.logit, wrong=not agreed)
        self._everywhere.learn(lookup.logit, wrong=not agreed)
        self.watcher.compared(probe=lookup.probing, agreed=agreed)
        if lookup.probing and watch.learn(wrong=not agreed) is not None:
            self.watcher.tightened(share=watch.share)

    def _put(self, question: CacheQuestion, answer: CachedAnswer, documents: frozenset[DocumentKey]) -> None:
        scope, wording = question.scope, worded(question.question)
        key = _key(scope, wording.text)
        old = self.shelf.get(key)
        entry = Entry(
            key=key,
            tenant=question.tenant,
            corpus=question.corpus,
            question=question.question,
            scope=scope,
            wording=wording,
            seen=question.seen,
            sources=tuple(replace(each, words=frozenset()) for each in question.sources),
            answer=answer,
            vector=question.vector,
            documents=documents,
            expires=self.clock() + self.lasts.total_seconds(),
            size=_size(question, answer),
            # What was learned of the same answer still holds.
            reliability=old.reliability if old is not None and old.answer.text == answer.text else Reliability(),
        )
        self._dropped("room", self.shelf.put(entry))

    def _trust(self, tenant: str, corpus: str) -> tuple[Trust, Watch]:
        key = (tenant, corpus)
        found = self._trusts.pop(key, None) or (self._everywhere.elsewhere(), Watch(bound=self.error_bound))
        self._trusts[key] = found
        while len(self._trusts) > self.corpora:
            self._trusts.pop(next(iter(self._trusts)))
        return found

    def _dropped(self, reason: str, number: int) -> int:
        if number:
            self.watcher.forgot(reason, number)
        self.watcher.holding(len(self.shelf))
        return number


def _key(scope: bytes, text: str) -> str:
    return hashlib.sha256(scope + text.encode(errors="surrogatepass")).hexdigest()


def _still_holds(entry: Entry, now: Sequence[Source]) -> bool:
    """Whether all that the answer cites is among what the question would see, unchanged."""
    if not entry.answer.cited:
        return False
    there = {(each.document_id, each.version, each.chunk_id) for each in now}
    cited = set(entry.answer.cited)
    return all(
        (each.document_id, each.version, each.chunk_id) in there for each in entry.sources if each.chunk_id in cited
    )


def _compared(asked: Wording, question: CacheQuestion, near: Candidate[Entry]) -> list[float]:
    entry = near.entry
    return features(
        asked,
        entry.wording,
        cosine=near.cosine,
        now=question.sources,
        then=entry.sources,
        cited=frozenset(entry.answer.cited),
    )


def _size(question: CacheQuestion, answer: CachedAnswer) -> int:
    texts = (question.question, answer.text, *answer.quotes)
    return 4_000 + 4 * sum(map(len, texts)) + 6 * len(question.vector) + 1_000 * len(answer.citations)
