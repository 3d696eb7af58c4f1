"""What pool and worker say to each other: length-prefixed JSON and bytes over pipes.

JSON, because the worker may have been taken over by what it read: nothing it sends is executed, everything is checked.
"""

from __future__ import annotations

import json
import struct
from typing import Any

from anabranch_ingestion.domain.chunking import Chunk, Window
from anabranch_ingestion.domain.documents import Parsed
from anabranch_ingestion.domain.refusals import Reason, Refused
from anabranch_ingestion.domain.text import BlockKind

REQUEST = struct.Struct(">II")
RESPONSE = struct.Struct(">I")
# A text of 20 MiB, escaped, and its chunks.
LARGEST_RESPONSE = 64 << 20


def request(head: dict[str, Any], body: bytes) -> bytes:
    """A request: its parameters, and the document."""
    encoded = json.dumps(head).encode()
    return REQUEST.pack(len(encoded), len(body)) + encoded + body


def response(answer: dict[str, Any]) -> bytes:
    """A response."""
    encoded = json.dumps(answer, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
    return RESPONSE.pack(len(encoded)) + encoded


def window_to_json(window: Window) -> dict[str, int]:
    """The window's numbers by name."""
    names = ("tokens", "specials", "prefix", "minimum", "characters")
    return {name: getattr(window, name) for name in names}


def parsed_to_json(parsed: Parsed) -> dict[str, Any]:
    """A document that was read; chunks carry offsets only, the text goes once."""
    paths: dict[tuple[str, ...], int] = {}
    chunks = [
        [
            c.start,
            c.end,
            c.kind.value,
            paths.setdefault(c.title_path, len(paths)),
            c.page,
            c.line,
            c.token_count,
            [offset for span in c.sentences for offset in span],
        ]
        for c in parsed.chunks
    ]
    return {
        "text": parsed.text,
        "title": parsed.title,
        "parser": parsed.parser,
        "content_type": parsed.content_type,
        "paths": [list(path) for path in paths],
        "chunks": chunks,
    }


def refused_to_json(refused: Refused) -> dict[str, str]:
    """A refusal."""
    return {"why": refused.why.value, "problem": refused.problem}


def answer_from(encoded: bytes, number: str) -> Parsed:
    """What a worker answered to that request. Raises Refused and Failed; ValueError for a dishonest answer."""
    answer = json.loads(encoded)
    try:
        if answer["number"] != number:
            raise ValueError("a worker answered another request than it was asked")
        if "refused" in answer:
            raise Refused(Reason(answer["refused"]["why"]), str(answer["refused"]["problem"])[:500])
        if "failed" in answer:
            raise Failed(str(answer["failed"])[:2000])
        return _parsed(answer["read"])
    except (KeyError, TypeError, IndexError) as error:
        raise ValueError(f"a worker answered nonsense: {type(error).__name__}") from error


class Failed(Exception):  # noqa: N818  it reads as what happened
    """The reader raised what it should not; the message is its traceback."""


def _parsed(read: dict[str, Any]) -> Parsed:
    text = str(read["text"])
    paths = [tuple(str(part) for part in path) for path in read["paths"]]
    chunks = []
    floor = 0
    for ordinal, (start, end, kind, path, page, line, tokens, flat) in enumerate(read["chunks"]):
        numbers = (start, end, path, page, line, tokens, *flat)
        if not all(type(n) is int and n >= 0 for n in numbers) or not floor <= start < end <= len(text):
            raise ValueError("a worker answered with spans outside its text")
        floor = end
        spans = tuple(zip(flat[::2], flat[1::2], strict=True))
        chunks.append(
            Chunk(
                ordinal=ordinal,
                start=start,
                end=end,
                text=text[start:end],
                title_path=paths[path],
                kind=BlockKind(kind),
                page=page,
                line=line,
                token_count=tokens,
                sentences=spans,
            )
        )
    return Parsed(
        text=text,
        title=str(read["title"]),
        parser=str(read["parser"]),
        content_type=str(read["content_type"]),
        chunks=tuple(chunks),
    )
