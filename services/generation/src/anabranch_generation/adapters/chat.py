"""A language model as a backend: packs, renders, streams, cites, abstains. The model itself is behind a small port."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Final, Protocol, TypeAlias

from anabranch_generation.adapters.citing import CitationStream
from anabranch_generation.adapters.extractive import picker
from anabranch_generation.adapters.extractive.question import read
from anabranch_generation.adapters.prompting import UNANSWERED, Message, answer_messages, rewrite_messages
from anabranch_generation.domain import (
    BackendInfo,
    Delta,
    Event,
    Finished,
    FinishReason,
    Request,
    Rewritten,
    Settings,
    Turn,
    Usage,
    estimate_tokens,
    recent,
    shared,
)

# What the default template says around a passage: its tags, number, title and envelope.
_OVERHEAD: Final = 32
_REWRITE_TOKENS: Final = 128
_REWRITE_HISTORY: Final = 2_048
_NOT_WORDS: Final = re.compile(r"\W+")


@dataclass(frozen=True, slots=True)
class End:
    """The end of what a model says. `usage` is None where the model does not count."""

    reason: FinishReason
    usage: Usage | None = None
    model: str = ""


Piece: TypeAlias = str | End


class ChatModel(Protocol):
    """A model that continues a chat.

    chat: pieces of text, not empty, then exactly one End. `max_tokens` is at least 1. Closing the generator stops the
    model. Raises Invalid with the field for what it cannot serve (`settings.model`, `settings.adapter`, ...), TooLarge
    for a prompt over its window, Overloaded, Unreachable, and Transient when it broke off.
    """

    @property
    def name(self) -> str:
        """The backend's name."""

    @property
    def models(self) -> tuple[str, ...]:
        """Its models, the default first; never empty."""

    def chat(self, messages: Sequence[Message], settings: Settings, *, max_tokens: int) -> AsyncGenerator[Piece, None]:
        """Streams the continuation."""

    async def close(self) -> None:
        """Lets go of connections and devices."""


@dataclass(frozen=True, slots=True, kw_only=False)
class ChatBackend:
    """Implements `Backend` and `Rewriter` on any ChatModel.

    Nothing found, or support below `abstain_below` where the request sets it, is an abstention without asking the
    model; and so is an answer in which the model says that the passages do not answer.
    """

    model: ChatModel
    default_tokens: int = field(default=512, kw_only=True)
    context_tokens: int = field(default=3000, kw_only=True)

    @property
    def info(self) -> BackendInfo:
        """The model's."""
        return BackendInfo(self.model.name, self.model.models, prompted=True)

    async def answer(self, request: Request) -> AsyncGenerator[Event, None]:
        """See the port."""
        settings = request.settings
        budget = settings.context_tokens or self.context_tokens
        passages, history = shared(request.passages, request.history, budget, overhead=_OVERHEAD)
        support = picker.choose(read(request.question), passages, most=1).support
        if not passages or support < settings.abstain_below:
            yield Delta(UNANSWERED)
            yield Finished(reason=FinishReason.ABSTAINED, abstained=True, support=support, asked=False)
            return
        told = answer_messages(request, passages, history, model=settings.model or self.model.models[0])
        stream = CitationStream(passages)
        said = ""
        async with aclosing(
            self.model.chat(told.messages, settings, max_tokens=settings.max_tokens or self.default_tokens)
        ) as pieces:
            async for piece in pieces:
                if isinstance(piece, End):
                    end = piece
                    break
                said += piece
                # A model that quotes marked data may write the mark too.
                for event in stream.feed(piece.replace(told.marker, " ") if told.marker else piece):
                    yield event
            else:
                raise RuntimeError(f"{self.model.name} ended without End")
        for event in stream.end():
            yield event
        abstained = _says_unanswered(stream.text)
        yield Finished(
            reason=FinishReason.ABSTAINED if abstained else end.reason,
            usage=end.usage or _estimated(told.messages, said),
            abstained=abstained,
            support=0.0 if abstained or not stream.supports else sum(stream.supports) / len(stream.supports),
            model=end.model,
            prompt_version=told.version,
        )

    async def rewrite(self, question: str, history: Sequence[Turn], settings: Settings) -> Rewritten:
        """See the `Rewriter` port."""
        written = ""
        turns, _ = recent(history, _REWRITE_HISTORY)
        messages = rewrite_messages(question, turns)
        end: End | None = None
        plain = Settings(model=settings.model, adapter=settings.adapter, seed=settings.seed)
        async with aclosing(self.model.chat(messages, plain, max_tokens=_REWRITE_TOKENS)) as pieces:
            async for piece in pieces:
                if isinstance(piece, End):
                    end = piece
                    break
                written += piece
        usage = end.usage if end is not None else None
        model = end.model if end is not None else ""
        return Rewritten(
            text=written.strip().strip('"'),
            model=model or settings.model or self.model.models[0],
            usage=usage or _estimated(messages, written),
        )

    async def close(self) -> None:
        """Closes the model."""
        await self.model.close()


def _estimated(messages: Sequence[Message], said: str) -> Usage:
    return Usage(sum(estimate_tokens(message.text) for message in messages), estimate_tokens(said))


def _says_unanswered(text: str) -> bool:
    return _NOT_WORDS.sub(" ", text.lower()).strip().startswith(_NOT_WORDS.sub(" ", UNANSWERED.lower()).strip())
