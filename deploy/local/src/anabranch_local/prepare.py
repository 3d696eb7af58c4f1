"""Fetch and build ahead of time: `python -m anabranch_local.prepare [kafka] [weaviate]` (both when none is named)."""

from __future__ import annotations

import sys

from anabranch_local.jars import kafka_classpath
from anabranch_local.weaviate import weaviate_program

_PARTS = {"kafka": kafka_classpath, "weaviate": weaviate_program}


def _say(phrase: str) -> None:
    sys.stderr.write(phrase + "\n")


def main(names: list[str]) -> int:
    """Exit status: 0, or 2 for a name that is neither."""
    if unknown := set(names) - set(_PARTS):
        sys.stderr.write(f"unknown: {', '.join(sorted(unknown))}; there are {' and '.join(_PARTS)}\n")
        return 2
    for name in names or _PARTS:
        _PARTS[name](progress=_say)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
