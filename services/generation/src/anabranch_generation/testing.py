"""Public test doubles: a backend and a chat model that say what they are told to, and watch how they are treated."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field

from anabranch_faults import Invalid
from anabranch_generation.adapters.chat import End, Piece
from anabranch_generation.adapters.prompting import Message
from anabranch_generation.domain import (
    BackendInfo,
    Delta,
    DocumentRef,
    Event,
    Finished,
    FinishReason,
    Passage,
    Request,
    Sentence,
    Settings,
    Usage,
)


@dataclass(slots=True)
class FakeBackend:
    """Says `says`, piece by piece; with `forever`, then waits until it is closed. `closed` counts early ends."""

    says: Sequence[str] = ("An answer.",)
    name: str = "fake"
    forever: bool = False
    raises: Exception | None = None
    support: float = 0.0
    prompted: bool = False
    requests: list[Request] = field(default_factory=list)
    closed: int = 0

    @property
    def info(self) -> BackendInfo:
        """One model."""
        return BackendInfo(self.name, (f"{self.name}-model",), prompted=self.prompted)

    async def answer(self, request: Request) -> AsyncGenerator[Event, None]:
        """See `Backend`."""
        self.requests.append(request)
        _check_model(request.settings, self.info.models)
        finished = False
        try:
            if self.raises is not None:
                raise self.raises
            for piece in self.says:
                yield Delta(piece)
            if self.forever:
                await asyncio.Event().wait()
            finished = True
            yield Finished(reason=FinishReason.STOP, usage=Usage(7, len(self.says)), support=self.support)
        finally:
            self.closed += not finished

    async def close(self) -> None:
        """Holds nothing."""


@dataclass(slots=True)
class FakeChatModel:
    """Says `says` in pieces and ends; remembers what it was told."""

    says: Sequence[str] = ("It flows back [1].",)
    name: str = "fake_chat"
    models: tuple[str, ...] = ("small", "large")
    usage: Usage | None = None
    reason: FinishReason = FinishReason.STOP
    raises: Exception | None = None
    told: list[tuple[Sequence[Message], Settings, int]] = field(default_factory=list)
    stopped: int = 0

    async def chat(
        self, messages: Sequence[Message], settings: Settings, *, max_tokens: int
    ) -> AsyncGenerator[Piece, None]:
        """See `ChatModel`."""
        self.told.append((messages, settings, max_tokens))
        _check_model(settings, self.models)
        ended = False
        try:
            if self.raises is not None:
                raise self.raises
            for piece in self.says:
                yield piece
            ended = True
            yield End(self.reason, self.usage, settings.model or self.models[0])
        finally:
            self.stopped += not ended

    async def close(self) -> None:
        """Holds nothing."""


def _check_model(settings: Settings, models: Sequence[str]) -> None:
    if settings.model and settings.model not in models:
        raise Invalid(f"is {settings.model!r}; the double has {', '.join(models)}", field="settings.model")


def passage(text: str, *similarities: float, document_id: str = "doc", start: int = 0, title: str = "") -> Passage:
    """A passage whose sentences end with ". "; with similarities, one for each."""
    sentences: list[Sentence] = []
    at = 0
    for part in text.split(". "):
        end = min(len(text), at + len(part) + 1)
        known = similarities[len(sentences)] if len(sentences) < len(similarities) else None
        sentences.append(Sentence(at, end if text[end - 1 : end] != " " else end - 1, known))
        at = end + 1
    return Passage(
        text=text,
        document=DocumentRef(tenant="t", corpus="c", document_id=document_id, version=1),
        chunk_id=f"{document_id}-0",
        start=start,
        title=title,
        sentences=tuple(sentences),
    )
