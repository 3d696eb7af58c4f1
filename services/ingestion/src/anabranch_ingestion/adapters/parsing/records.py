"""CSV, JSON and JSON lines to blocks."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from typing import Any

from anabranch_ingestion.domain.refusals import Reason, Refused
from anabranch_ingestion.domain.text import BlockKind, Composer, clean

_FIELD = 1 << 20
_PROSE = 200
_LEVELS = 6
# White space between values; more of it than this is no gap.
_GAP = 1_024
_TITLES = ("title", "name", "subject", "headline")


def compose_csv(text: str, out: Composer, *, delimiter: str = "") -> None:
    """Adds the rows as one table; the delimiter is found in the first rows when not given."""
    text = clean(text).lstrip("\n")
    csv.field_size_limit(_FIELD)
    if not delimiter:
        # The delimiter that the lines agree on; most columns win.
        lines = [line for line in text[:65_536].split("\n")[:50] if line.strip()]
        delimiter = max(",;\t|", key=lambda d: (min((line.count(d) for line in lines), default=0), lines[0].count(d)))
    try:
        out.table(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))
    except csv.Error as error:
        raise Refused(Reason.UNPARSEABLE, f"the rows cannot be read as CSV: {error}") from error


def compose_json(text: str, out: Composer) -> None:
    """Adds values: short ones as `path: value` lines, long strings as paragraphs under a heading."""
    decoder = json.JSONDecoder()
    position = len(text) - len(text.lstrip())
    while position < len(text):
        try:
            value, position = decoder.raw_decode(text, position)
        except ValueError as error:
            raise Refused(Reason.UNPARSEABLE, f"the body is not valid JSON: {error}") from error
        except RecursionError as error:
            raise Refused(Reason.UNPARSEABLE, "the JSON is nested too deeply to be a document") from error
        if isinstance(value, dict) and not out.title:
            out.title = _title(value)
        _value(value, out)
        # Values in a row, with or without line breaks between them, are read as well.
        position += len(text[position : position + _GAP]) - len(text[position : position + _GAP].lstrip())


def compose_jsonl(text: str, out: Composer) -> None:
    """Adds one value a line; lines that are not JSON are refused with their number."""
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except ValueError as error:
            raise Refused(Reason.UNPARSEABLE, f"line {number} is not valid JSON: {error}") from error
        except RecursionError as error:
            raise Refused(Reason.UNPARSEABLE, f"line {number} is nested too deeply to be a document") from error
        heading = _title(value) if isinstance(value, dict) else ""
        if heading:
            out.heading(heading, 2)
        _value(value, out)


def _title(value: dict[str, Any]) -> str:
    for key in _TITLES:
        found = value.get(key)
        if isinstance(found, str) and found.strip():
            return found
    return ""


def _value(value: Any, out: Composer) -> None:
    lines: list[str] = []
    for path, leaf in _leaves(value):
        shown = _shown(leaf)
        if not shown.strip():
            continue
        if len(shown) > _PROSE:
            if lines:
                out.add(BlockKind.TABLE, "\n".join(lines))
                lines = []
            if path:
                out.heading(path, _LEVELS)
            for paragraph in re.split(r"\n\s*\n", clean(shown)):
                out.prose(paragraph)
        else:
            flat = " ".join(shown.split())
            lines.append(f"{path}: {flat}" if path else flat)
    if lines:
        out.add(BlockKind.TABLE, "\n".join(lines))


def _leaves(value: Any) -> Iterator[tuple[str, Any]]:
    """Paths and values of the leaves, in order; its own stack, so depth is memory and not recursion."""
    stack: list[tuple[str, Any]] = [("", value)]
    while stack:
        path, item = stack.pop()
        if isinstance(item, dict):
            stack.extend((f"{path}.{key}" if path else str(key), inner) for key, inner in reversed(item.items()))
        elif isinstance(item, list):
            plain = all(not isinstance(inner, (dict, list)) for inner in item)
            if plain and sum(len(_shown(inner)) for inner in item) <= _PROSE:
                yield path, ", ".join(_shown(inner) for inner in item)
            elif plain:
                stack.extend((path, inner) for inner in reversed(item))
            else:
                stack.extend((f"{path}[{index}]", item[index]) for index in range(len(item) - 1, -1, -1))
        else:
            yield path, item


def _shown(leaf: Any) -> str:
    if leaf is None:
        return ""
    if isinstance(leaf, bool):
        return "true" if leaf else "false"
    return str(leaf)
