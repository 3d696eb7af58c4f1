"""The table of risks names tests that are there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ROWS = [line for line in (ROOT / "docs" / "owasp.md").read_text().splitlines() if line.startswith("| LLM")]
NAMED = re.compile(r"`((?:services|libs|tests|deploy)/[\w/.-]+)(?:::(\w+))?`")


def test_every_risk_has_its_row() -> None:
    assert [row[2:7] for row in ROWS] == [f"LLM{number:02}" for number in range(1, 11)]


def test_every_row_names_a_control_and_tests_that_exist() -> None:
    missing = []
    for row in ROWS:
        _, _, control, tests, _ = (part.strip() for part in row.split("|"))
        named = NAMED.findall(tests)
        assert control, row[:20]
        assert named, row[:20]
        missing += [
            f"{path}::{name}"
            for path, name in named
            if not (ROOT / path).exists() or (name and f"def {name}(" not in (ROOT / path).read_text())
        ]
    assert missing == []
