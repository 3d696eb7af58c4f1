from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from anabranch_cli.__main__ import COMMANDS, HELP, anabranch, run
from anabranch_cli.benchmark import percentile
from anabranch_cli.output import NOT_RUNNING, USAGE

DATA_COMMANDS = [
    ["ask", "q", "--corpus", "c"],
    ["search", "q", "--corpus", "c"],
    ["delete", "d", "--corpus", "c"],
    ["reindex", "--corpus", "c", "--rollback"],
    ["dlq", "ls"],
    ["review", "ls"],
    ["status"],
]


def test_every_command_has_help_and_a_module() -> None:
    assert set(COMMANDS) == set(HELP)
    for name in COMMANDS:
        assert CliRunner().invoke(anabranch, [name, "--help"]).exit_code == 0


@pytest.mark.parametrize("command", DATA_COMMANDS, ids=lambda command: command[0])
def test_a_command_that_needs_the_platform_says_that_it_is_not_running(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("ANABRANCH_ENDPOINT", raising=False)
    assert run([*command, "--data", str(tmp_path)]) == NOT_RUNNING
    assert "anabranch up" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command",
    [
        ["nonsense"],
        ["ask"],
        ["reindex", "--corpus", "c"],
        ["dlq", "replay"],
        ["ask", "q", "--corpus"],
        ["review", "submit", "r"],
    ],
)
def test_wrong_usage_has_an_exit_code_of_its_own(command: list[str]) -> None:
    assert run(command) == USAGE


def test_status_of_nothing_is_json_all_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["status", "--json", "--data", str(tmp_path)]) == NOT_RUNNING
    assert json.loads(capsys.readouterr().out)["ready"] is False


def test_percentiles_are_by_nearest_rank() -> None:
    assert percentile([0.001 * number for number in range(1, 101)], 99) == 99.0
    assert percentile([0.5], 50) == 500.0
    assert percentile([], 50) == 0.0
