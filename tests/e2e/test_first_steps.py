"""What the README tells a newcomer to type."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from anabranch_testkit.platform import RunningPlatform

pytestmark = [pytest.mark.connected, pytest.mark.slow]

ROOT = Path(__file__).resolve().parents[2]
COMMAND = re.compile(r"^    \.venv/bin/anabranch (.+)$", re.MULTILINE)


def test_the_commands_of_the_readme_work_in_their_order(embedded: RunningPlatform) -> None:
    commands = [shlex.split(line) for line in COMMAND.findall((ROOT / "README.md").read_text())]
    assert [command[0] for command in commands] == ["up", "put", "ask", "down"]
    for command in commands[1:-1]:
        done = subprocess.run(
            [str(Path(sys.executable).parent / "anabranch"), *command],
            check=False,
            capture_output=True,
            text=True,
            timeout=120,
            cwd=ROOT,
            env=embedded.environment,
        )
        assert done.returncode == 0, done.stderr[-2000:]
    assert "read back" in done.stdout


@pytest.mark.timeout(600)
def test_the_demo_shows_what_it_promises_and_stops_what_it_started() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "deploy" / "demo" / "demo.py")],
        check=False,
        capture_output=True,
        text=True,
        timeout=590,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    assert "Done. To go on" in done.stdout
    # The loop closed by itself: feedback, a candidate, its gate, traffic, a decision.
    result = dict(re.findall(r"^  (baseline|after|model|reason|state) +(.*)$", done.stdout, re.MULTILINE))
    assert result["model"].startswith("rr-"), result["reason"]
    assert result["state"] == "promoted", result["reason"]
    assert float(result["after"]) > float(result["baseline"])
    for step in ("TRAINED -> GATED", "GATED -> CANARY", "CANARY -> EXPERIMENT", "EXPERIMENT -> PROMOTED"):
        assert step in done.stdout
