"""Programs that other people wrote, against the two contracts: grpcurl, kcat, the openai package. And every command of
the guides, run as it is written."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from openai import OpenAI

from anabranch_client.results import DocumentState
from anabranch_local.golang import installed
from anabranch_testkit.platform import RunningPlatform

pytestmark = [pytest.mark.connected, pytest.mark.slow]

GUIDES = Path(__file__).resolve().parents[2] / "docs" / "guides"
STATUSES = """
KAFKA=$(anabranch status --json | python3 -c 'import json, sys; print(json.load(sys.stdin)["endpoints"]["kafka"])')
kcat -b "$KAFKA" -C -t ingestion.document.status.v1 -o beginning -e -q -f '%k\\n'
"""
FENCE = re.compile(r"^```(sh|python)\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="session")
def grpcurl() -> Path:
    return installed("github.com/fullstorydev/grpcurl/cmd/grpcurl", "v1.9.3", go_version=(1, 24))


def blocks(page: str, language: str) -> str:
    return "\n".join(code for kind, code in FENCE.findall((GUIDES / page).read_text()) if kind == language)


def shell(script: str, platform: RunningPlatform, *, extra_path: Path | None = None) -> str:
    environment = platform.environment
    if extra_path is not None:
        environment["PATH"] = f"{extra_path}{os.pathsep}{environment['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        check=False,
        capture_output=True,
        text=True,
        timeout=90,
        env=environment,
    )
    assert done.returncode == 0, done.stderr[-3000:] + done.stdout[-1000:]
    return done.stdout


def test_every_command_of_the_grpcurl_guide_works(embedded: RunningPlatform, grpcurl: Path) -> None:
    said = shell(blocks("grpcurl.md", "sh"), embedded, extra_path=grpcurl.parent)
    assert "anabranch.gateway.v1.AnswerService" in said
    assert "two minutes" in said
    assert '"finished"' in said


@pytest.mark.skipif(shutil.which("kcat") is None, reason="kcat is not installed (Debian package kcat)")
def test_every_command_of_the_kcat_guide_works(embedded: RunningPlatform) -> None:
    shell(blocks("kcat.md", "sh"), embedded)
    with embedded.client() as client, closing(client.watch_document("coffee", corpus="guide")) as statuses:
        # The guide puts it in and removes it: both changes came through, the second one last.
        last = next(status for status in statuses if status.state is DocumentState.DELETED)
    assert last.caused_by == "coffee-2"
    said = shell(STATUSES, embedded)
    assert "default/guide/coffee" in said


def test_every_command_of_the_guardrails_guide_works(embedded: RunningPlatform, tmp_path: Path) -> None:
    said = shell(f"cd {tmp_path}\n{blocks('guardrails.md', 'sh')}", embedded)
    assert "injection: block" in said
    assert "patterns: block (shadow)" in said
    assert "house-rules" in said


def test_every_command_of_the_prompts_guide_works(embedded: RunningPlatform, tmp_path: Path) -> None:
    said = shell(f"cd {tmp_path}\n{blocks('prompts.md', 'sh')}", embedded)
    assert "2 of 2 pass" in said
    assert "briefly and in" in said
    assert "revision 3" in said


@pytest.mark.parametrize("page", ["python.md", "openai.md"])
def test_the_python_of_a_guide_runs_as_it_stands(embedded: RunningPlatform, page: str) -> None:
    with embedded.client() as client:
        accepted = client.put_document("tea", corpus="guide", text="Green tea is steeped for two minutes.", title="Tea")
        client.wait_until_queryable("tea", corpus="guide", event_id=accepted.event_id)
    done = subprocess.run(
        [sys.executable, "-c", blocks(page, "python")],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        env=embedded.environment,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "two minutes" in done.stdout


def test_the_openai_package_gets_a_stream_with_the_answer_in_pieces(embedded: RunningPlatform) -> None:
    with embedded.client() as client:
        accepted = client.put_document("oolong", corpus="tea", text="Oolong is steeped for three minutes.")
        client.wait_until_queryable("oolong", corpus="tea", event_id=accepted.event_id)
    openai = OpenAI(base_url=f"{embedded.http}/v1", api_key=embedded.key)
    stream = openai.chat.completions.create(
        model="tea", messages=[{"role": "user", "content": "How long is oolong steeped?"}], stream=True
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)
    assert "three minutes" in text
