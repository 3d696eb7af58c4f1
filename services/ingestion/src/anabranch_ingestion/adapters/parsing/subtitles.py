"""WebVTT and SubRip to blocks: what is said, by whom; times and cue settings go."""

from __future__ import annotations

import re

from anabranch_ingestion.adapters.parsing.inline import plain
from anabranch_ingestion.domain.text import Composer, clean

_TIME = re.compile(r"^(?:\d{1,4}:)?\d\d:\d\d[.,]\d{3}\s+-->")
_VOICE = re.compile(r"<v(?:\.[\w.-]+)?[ \t]+([^<>]+)>")


def compose(text: str, out: Composer) -> None:
    """Adds a paragraph for each stretch of one speaker."""
    speaker = ""
    said: list[str] = []
    for cue in re.split(r"\n[ \t]*\n", clean(text)):
        lines = cue.strip().split("\n")
        times = next((i for i, line in enumerate(lines[:2]) if _TIME.match(line.strip())), None)
        if times is None:
            if lines[0].startswith("WEBVTT"):
                out.title = lines[0].removeprefix("WEBVTT").strip(" -")
            continue
        body = "\n".join(lines[times + 1 :])
        voice = _VOICE.search(body)
        name = voice.group(1).strip() if voice else ""
        if said and (name != speaker or sum(len(one) for one in said) > 1000):  # noqa: PLR2004  a paragraph to read
            _add(speaker, said, out)
            said = []
        speaker = name
        said.append(plain(_VOICE.sub("", body)))
    if said:
        _add(speaker, said, out)


def _add(speaker: str, said: list[str], out: Composer) -> None:
    text = "\n".join(said)
    out.prose(f"{speaker}: {text}" if speaker else text)
