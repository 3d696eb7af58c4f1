"""Answers in OpenAI's form, with citations where its clients look for them and where nothing is lost."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

from anabranch.generation.v1 import generation_service_pb2 as generation
from anabranch_gateway.domain.answers import Finished, FinishReason, Timings
from anabranch_gateway.domain.answers import Usage as Tokens
from anabranch_gateway.domain.guards import Guard
from anabranch_gateway.entrypoints.messages import citations_of

REASONS: Final = {
    FinishReason.LENGTH: "length",
    FinishReason.TIMEOUT: "length",
    FinishReason.BLOCKED: "content_filter",
}


@dataclass(slots=True, kw_only=True)
class Completion:
    """One answer on its way out. `ignored` names what was sent and had no effect."""

    model: str
    ignored: Sequence[str]
    answer_id: str = ""
    variant_id: str = ""
    search_query: str = ""
    guards: list[Guard] = field(default_factory=list)
    created: int = field(default_factory=lambda: int(time.time()))

    def whole(self, text: str, finished: Finished) -> dict[str, Any]:
        """A `chat.completion`."""
        message = {
            "role": "assistant",
            "content": text,
            "refusal": None,
            "annotations": url_citations(citations_of(finished)),
        }
        choice = {"index": 0, "message": message, "finish_reason": reason(finished), "logprobs": None}
        return {
            **self._head("chat.completion"),
            "choices": [choice],
            "usage": usage(finished.usage),
            "citations": citations(citations_of(finished)),
            "anabranch": self._about(finished),
        }

    def chunk(self, text: str, *, first: bool = False) -> dict[str, Any]:
        """A `chat.completion.chunk` with the next text."""
        delta = {"role": "assistant", "content": text} if first else {"content": text}
        choice = {"index": 0, "delta": delta, "finish_reason": None, "logprobs": None}
        return {**self._head("chat.completion.chunk"), "choices": [choice]}

    def last(self, finished: Finished) -> dict[str, Any]:
        """The chunk that ends the text, with the citations."""
        delta = {"annotations": url_citations(citations_of(finished))}
        choice = {"index": 0, "delta": delta, "finish_reason": reason(finished), "logprobs": None}
        return {
            **self._head("chat.completion.chunk"),
            "choices": [choice],
            "citations": citations(citations_of(finished)),
            "anabranch": self._about(finished),
        }

    def usage(self, finished: Finished) -> dict[str, Any]:
        """The chunk that `stream_options.include_usage` asks for."""
        return {**self._head("chat.completion.chunk"), "choices": [], "usage": usage(finished.usage)}

    def _head(self, kind: str) -> dict[str, Any]:
        return {
            "id": f"chatcmpl-{self.answer_id}",
            "object": kind,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": self.variant_id,
        }

    def _about(self, finished: Finished) -> dict[str, Any]:
        return {
            "answer_id": self.answer_id,
            "variant_id": self.variant_id,
            "search_query": self.search_query,
            "abstained": finished.abstained,
            "finish_reason": finished.reason.name.lower(),
            "timings_ms": timings(finished.timings),
            "guards": [guard(each) for each in self.guards],
            "ignored": list(self.ignored),
        }


def guard(verdict: Guard) -> dict[str, str]:
    """A guardrail's verdict."""
    return {
        "verdict": verdict.verdict.name.lower(),
        "stage": verdict.stage.name.lower(),
        "check": verdict.check,
        "reason": verdict.reason,
    }


def reason(finished: Finished) -> str:
    """Why it ended, in OpenAI's words: an abstention is a whole answer."""
    return REASONS.get(finished.reason, "stop")


def usage(tokens: Tokens) -> dict[str, int]:
    """Tokens."""
    return {
        "prompt_tokens": tokens.prompt_tokens,
        "completion_tokens": tokens.completion_tokens,
        "total_tokens": tokens.prompt_tokens + tokens.completion_tokens,
    }


def timings(parts: Timings) -> dict[str, float]:
    """Milliseconds."""

    def ms(value: timedelta) -> float:
        return round(value.total_seconds() * 1_000, 3)

    return {
        "condense": ms(parts.condense),
        "embed": ms(parts.embed),
        "search": ms(parts.search),
        "generate": ms(parts.generate),
        "first_token": ms(parts.first_token),
        "total": ms(parts.total),
        "guard_input": ms(parts.guard_input),
        "guard_output": ms(parts.guard_output),
    }


def url_citations(cited: Sequence[generation.Citation]) -> list[dict[str, Any]]:
    """OpenAI's `url_citation`: spans of the answer, and where they come from."""
    return [
        {
            "type": "url_citation",
            "url_citation": {
                "start_index": each.answer_span.start,
                "end_index": each.answer_span.end,
                "url": each.source_uri or f"anabranch:{each.document.corpus}/{each.document.document_id}",
                "title": each.title or each.document.document_id,
            },
        }
        for each in cited
    ]


def citations(cited: Sequence[generation.Citation]) -> list[dict[str, Any]]:
    """Everything a citation says."""
    return [
        {
            "number": each.number,
            "document_id": each.document.document_id,
            "version": each.document.version,
            "chunk_id": each.chunk_id,
            "text": each.text,
            "start": each.span.start,
            "end": each.span.end,
            "answer_start": each.answer_span.start,
            "answer_end": each.answer_span.end,
            "title": each.title,
            "source_uri": each.source_uri,
            "page": each.page,
            "support": each.support,
        }
        for each in cited
    ]


def line(event: dict[str, Any]) -> bytes:
    """A server-sent event."""
    return b"data: " + encoded(event) + b"\n\n"


def encoded(body: dict[str, Any]) -> bytes:
    """JSON without blanks."""
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
