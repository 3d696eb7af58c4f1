"""The commands about policies and money, against a registry that runs alone; and those of the guide, as written."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from anabranch import topics
from anabranch.gateway.v1 import usage_pb2 as usage
from anabranch_bus import MemoryBus
from anabranch_cli.__main__ import run
from anabranch_cli.output import DONE, FAILED, USAGE
from anabranch_local.state import ProcessId, State, save_state
from anabranch_registry.bootstrap import build
from anabranch_registry.settings import Settings
from anabranch_runtime import Process

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "guides" / "cost.md"
FENCE = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)
POLICY = """
name: strict
rules:
  - {check: injection, stage: input, threshold: %s, action: block}
"""


@dataclass(slots=True, kw_only=True)
class Alone:
    """A registry, and the folder by which commands find it."""

    folder: Path
    bus: MemoryBus
    capture: pytest.CaptureFixture[str]

    async def says(self, *arguments: str, code: int = DONE) -> Any:
        """What a command prints as JSON; what it says on stderr where it fails."""
        self.capture.readouterr()
        found = await asyncio.to_thread(run, [*arguments, "--json", "--data", str(self.folder)])
        out, err = self.capture.readouterr()
        assert found == code, err
        # The service's own log is on stdout here, too.
        return json.loads(out.splitlines()[-1]) if code == DONE else err

    async def meter(self, *calls: usage.UsageMetered) -> None:
        """Tell of calls of models, now."""
        for number, call in enumerate(calls):
            call.usage_id = call.usage_id or f"usage-{number}"
            call.metered_at.FromDatetime(datetime.now(UTC))
        await self.bus.deliver(topics.GATEWAY_USAGE_METERED, calls)


@pytest.fixture
async def alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> AsyncIterator[Alone]:
    settings, bus = Settings(data=tmp_path / "registry"), MemoryBus()
    process = Process(settings, name="registry")
    await process.start(build(settings, bus=bus))
    key = tmp_path / "key"
    key.write_text("none is needed here")
    save_state(
        State(
            data_dir=str(tmp_path),
            run="alone",
            supervisor=ProcessId.of(os.getpid()),
            ready=True,
            key_file=str(key),
            targets={"registry": process.addresses["rpc"]},
        )
    )
    yield Alone(folder=tmp_path, bus=bus, capture=capsys)
    await process.stop()


async def test_a_policy_is_created_attached_rolled_back_and_detached(alone: Alone, tmp_path: Path) -> None:
    versions = []
    for threshold in ("0.5", "0.6"):
        file = tmp_path / "policy.yaml"
        file.write_text(POLICY % threshold)
        made = await alone.says("policy", "create", str(file), "--reason", "first")
        versions.append(made["policy_version"])
    assert [each["policy_version"] for each in (await alone.says("policy", "ls"))["policies"]] == versions[::-1]
    for version in versions:
        held = await alone.says("policy", "attach", "acme/docs", version, "--reason", "try it")
    assert (held["policy_version"], held["previous_version"]) == (versions[1], versions[0])
    back = await alone.says("policy", "rollback", "acme/docs", "--reason", "too strict")
    assert back["policy_version"] == versions[0]
    shown = await alone.says("policy", "show", "acme/docs")
    assert shown["policy"]["rules"][0]["threshold"] == 0.5
    assert shown["attachment"]["revision"] == "3"
    off = await alone.says("policy", "detach", "acme/docs", "--reason", "none")
    assert off["policy_version"] == ""
    assert (await alone.says("policy", "show", "acme/docs"))["policy"] is None
    for wrong in (["detach", "acme/docs"], ["rollback", "other"], ["attach", "acme", "v-000000000000"]):
        await alone.says("policy", *wrong, "--reason", "x", code=FAILED)
    file.write_text("name: strict\nrules: [{check: injektion, stage: input}]")
    said = await alone.says("policy", "create", str(file), "--reason", "x", code=FAILED)
    assert "there is no check 'injektion'" in said


async def test_costs_are_told_apart_and_what_nobody_knows_is_null(alone: Alone) -> None:
    answer = usage.USAGE_PURPOSE_ANSWER
    await alone.meter(
        usage.UsageMetered(tenant="acme", model="large", purpose=answer, prompt_tokens=1_200, cost_micros=228),
        usage.UsageMetered(tenant="acme", model="large", purpose=answer, completion_tokens=80),
        usage.UsageMetered(tenant="other", model="ours", purpose=answer),
    )
    found = await alone.says("cost", "--by", "tenant", "--by", "purpose", "--since", "1h")
    assert found["rows"] == [
        {
            "tenant": "acme",
            "purpose": "answer",
            "calls": 2,
            "unpriced_calls": 1,
            "prompt_tokens": 1_200,
            "completion_tokens": 80,
            "cost_micros": 228,
            "cost_usd": 0.000228,
        },
        {
            "tenant": "other",
            "purpose": "answer",
            "calls": 1,
            "unpriced_calls": 1,
            "prompt_tokens": 0,
            "completion_tokens": 0,
            "cost_micros": None,
            "cost_usd": None,
        },
    ]
    assert (found["total"]["calls"], found["total"]["unpriced_calls"], found["left_out"]) == (3, 2, 0)
    assert [row["model"] for row in (await alone.says("cost", "--by", "model", "--tenant", "acme"))["rows"]] == [
        "large"
    ]
    assert await asyncio.to_thread(run, ["cost", "--by", "tenant", "--data", str(alone.folder)]) == DONE
    out, err = alone.capture.readouterr()
    assert "$0.000228+" in out
    assert "unknown" in out
    assert "2 of 3 calls have no known price" in err


@pytest.mark.parametrize(
    "wrong",
    [
        ["cost"],
        ["cost", "--by", "colour"],
        ["cost", "--by", "day", "--since", "soon"],
        ["quota", "set", "acme", "--hard", "5", "--reason", "x"],
        ["quota", "set", "acme", "--hard", "1d=5.1234567", "--reason", "x"],
        ["quota", "set", "acme", "--hard", "1y=5", "--reason", "x"],
        ["price", "set", "m", "--prompt", "-1", "--completion", "1", "--reason", "x"],
        ["price", "set", "m", "--prompt", "1e3", "--completion", "1", "--reason", "x"],
    ],
)
async def test_money_and_time_that_cannot_be_read_are_wrong_usage(alone: Alone, wrong: list[str]) -> None:
    await alone.says(*wrong, code=USAGE)


async def test_quotas_and_prices_are_set_listed_and_taken_back(alone: Alone) -> None:
    words = ["--reason", "because"]
    await alone.says("quota", "set", "acme", "--hard", "1d=0", "--soft", "2h=1.5", "--in-flight", "0", *words)
    (found,) = (await alone.says("quota", "ls"))["quotas"]
    assert found["budgets"] == [
        {"window": "2h", "soft_micros": 1_500_000, "hard_micros": None},
        {"window": "1d", "soft_micros": None, "hard_micros": 0},
    ]
    assert found["limits"] == {"requests_per_minute": None, "tokens_per_minute": None, "in_flight": 0}
    again = await alone.says("quota", "set", "acme", *words)
    assert (again["revision"], again["budgets"]) == (2, [])
    await alone.says("quota", "set", "acme/docs", *words, code=FAILED)
    await alone.says("price", "set", "large", "--prompt", "0.15", "--completion", "0.6", *words)
    gone = await alone.says("price", "withdraw", "large", *words)
    assert (gone["revision"], gone["withdrawn"], gone["prompt_micros"]) == (2, True, 0)
    assert (await alone.says("price", "ls"))["prices"] == [gone]


@pytest.mark.slow
async def test_every_command_of_the_cost_guide_works(alone: Alone) -> None:
    await alone.meter(usage.UsageMetered(tenant="default", model="large", cost_micros=7))
    environment = os.environ | {
        "ANABRANCH_DATA_DIR": str(alone.folder),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    script = "\n".join(FENCE.findall(GUIDE.read_text()))
    done = await asyncio.to_thread(
        subprocess.run,
        ["bash", "-euo", "pipefail", "-c", script],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
        env=environment,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "$0.000007" in done.stdout
    assert "openai/our-own-model  $0.15 / $0.60 for a million tokens" in done.stdout
    assert "1d: $50.00 hard, $40.00 soft" in done.stdout
