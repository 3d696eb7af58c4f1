"""A worker process: `python -I -m anabranch_ingestion.adapters.isolation.worker MEMORY_BYTES`.

Imports what it needs, gives up its rights, then reads documents from standard input until that closes.
"""

from __future__ import annotations

import json
import mimetypes
import os
import sys
import traceback
from typing import Any, BinaryIO

from anabranch_ingestion.adapters.isolation import frames
from anabranch_ingestion.adapters.isolation.sandbox import confine
from anabranch_ingestion.adapters.parsing.archives import ArchiveLimits
from anabranch_ingestion.adapters.parsing.reading import ReadLimits, read
from anabranch_ingestion.adapters.tokens import MiniLmTokens
from anabranch_ingestion.application.ports import Body
from anabranch_ingestion.domain.chunking import Window, chunk
from anabranch_ingestion.domain.documents import Parsed
from anabranch_ingestion.domain.refusals import Reason, Refused

_OUT_OF_MEMORY = "it needs more memory than a document may; split it"


def main() -> None:
    """Serves until standard input closes."""
    memory = int(sys.argv[1])
    source, sink = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    # What libraries print must not end up between the frames.
    os.dup2(2, 1)
    _preload()
    held = confine(memory_bytes=memory)
    _send(sink, {"ready": held})
    while (head := source.read(frames.REQUEST.size)) and len(head) == frames.REQUEST.size:
        json_size, body_size = frames.REQUEST.unpack(head)
        wanted = json.loads(source.read(json_size))
        _send(sink, {"number": wanted["number"], **_answer(wanted, source.read(body_size))})
    # xberg's threads do not survive an orderly shutdown of the interpreter.
    os._exit(0)


def _preload() -> None:
    """Imports the readers most documents need and starts their threads, while that is still allowed."""
    from anabranch_ingestion.adapters.parsing import (  # noqa: F401, PLC0415  for the import's effect, inside the process meant for it
        hypertext,
        mail,
        markup,
        native,
        pdf,
        slides,
    )

    # Libraries that ask for media types later would look for a file that can no longer be read.
    mimetypes.init(files=())
    MiniLmTokens.load().count(["warm"])
    native.extract(b"{\\rtf1 warm}", content_type="application/rtf", filename="", limit=1024)


def _answer(wanted: dict[str, Any], data: bytes) -> dict[str, Any]:
    try:
        return {"read": frames.parsed_to_json(_read(wanted, data))}
    except Refused as refused:
        return {"refused": frames.refused_to_json(refused)}
    except MemoryError:
        return {"refused": frames.refused_to_json(Refused(Reason.UNPARSEABLE, _OUT_OF_MEMORY))}
    except RecursionError:
        problem = "it is nested too deeply to be a document"
        return {"refused": frames.refused_to_json(Refused(Reason.UNPARSEABLE, problem))}
    except Exception:  # noqa: BLE001  readers fail in any way on hostile bytes; the pool decides what that means
        return {"failed": traceback.format_exc(limit=-4)}


def _read(wanted: dict[str, Any], data: bytes) -> Parsed:
    body = Body(
        data=b"" if wanted["is_text"] else data,
        text=data.decode("utf-8") if wanted["is_text"] else None,
        content_type=wanted["content_type"],
        filename=wanted["filename"],
    )
    limits = ReadLimits(text_bytes=wanted["text_bytes"], archive=ArchiveLimits(members=wanted["members"]))
    extracted = read(body, limits)
    title = wanted["title"] or extracted.title
    chunks = chunk(extracted, title=title, tokens=MiniLmTokens.load(), window=Window(**wanted["window"]))
    return Parsed(
        text=extracted.text,
        title=title,
        parser=extracted.parser,
        content_type=extracted.content_type,
        chunks=tuple(chunks),
    )


def _send(sink: BinaryIO, answer: dict[str, Any]) -> None:
    sink.write(frames.response(answer))
    sink.flush()


if __name__ == "__main__":
    main()
