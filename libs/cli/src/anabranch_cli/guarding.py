"""`anabranch guard`: texts and suites against a guardrail policy, with or without a platform."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import click
import grpc

from anabranch.guardrails.v1 import events_pb2, guardrails_service_pb2, guardrails_service_pb2_grpc
from anabranch_cli.connection import Platform, data_option, platform
from anabranch_cli.internal import calls, document
from anabranch_cli.output import DONE, FAILED, USAGE, NotRunning, console, emit, json_option
from anabranch_faults import Invalid

__all__ = ["guard"]

_STAGES: Final = ("input", "context", "output", "ingestion")
_PROGRAM: Final = "anabranch_guardrails"


@click.group()
def guard() -> None:
    """Try guardrails on texts and suites."""


@guard.command("check")
@click.argument("text")
@click.option("--stage", type=click.Choice(_STAGES), default="input", show_default=True, help="Where on its way it is.")
@click.option("--question", default="", help="What was asked, where the text was retrieved or answered.")
@click.option("--turn", "turns", multiple=True, help="The person's turn before, oldest first; may be repeated.")
@click.option("--corpus", default="", help="Corpus whose policy holds.")
@click.option(
    "--policy",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="YAML of a policy to try. Default: the running platform's; where none runs, the built-in one.",
)
@data_option
@json_option
def check(
    *,
    text: str,
    stage: str,
    question: str,
    turns: tuple[str, ...],
    corpus: str,
    policy: Path | None,
    data: Path | None,
    as_json: bool,
) -> int:
    """Check TEXT (- reads it from stdin) and say what each check makes of it."""
    if text == "-":
        text = sys.stdin.read()
    where = _running(data) if policy is None else None
    if where is None:
        told = ["check", "-", "--stage", stage, "--question", question]
        told += [part for turn in turns for part in ("--turn", turn)]
        found = _alone(told, policy, text=text)
    else:
        found = _asked(where, text, stage=stage, question=question, turns=turns, corpus=corpus)
    emit(found, as_json=as_json, human=lambda: _show(found))
    return DONE


@guard.command("test")
@click.argument("suite", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option(
    "--policy",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="YAML of a policy to test. Default: the built-in one.",
)
@click.option(
    "--at-least", multiple=True, metavar="FIGURE=VALUE", help="Fail where a figure is lower; may be repeated."
)
@json_option
def test(*, suite: Path, policy: Path | None, at_least: tuple[str, ...], as_json: bool) -> int:
    """Run SUITE, JSON lines of labelled texts, in this machine's own processes: no platform is needed.

    Rows {text, label, channel, question} give recall and specificity of attacks; {text, spans} those of personal data;
    {claim, evidence, label} how well groundedness tells.
    """
    told = ["test", str(suite), *(["--json"] if as_json else [])]
    told += [part for demand in at_least for part in ("--at-least", demand)]
    done = _program(told, policy, stdin="", quiet=False)
    return done.returncode if done.returncode in (DONE, FAILED, USAGE) else FAILED


def _program(told: list[str], policy: Path | None, *, stdin: str, quiet: bool) -> subprocess.CompletedProcess[str]:
    """Guardrails' own program, by this interpreter."""
    command = [sys.executable, "-m", _PROGRAM, *told, *(["--policy", str(policy)] if policy else [])]
    return subprocess.run(  # noqa: S603  this interpreter, and arguments that no shell reads
        command, input=stdin, text=True, encoding="utf-8", errors="surrogateescape", check=False, capture_output=quiet
    )


def _alone(told: list[str], policy: Path | None, *, text: str) -> dict[str, Any]:
    """What the program says, as a document. Raises Invalid with what it complains of."""
    done = _program([*told, "--json"], policy, stdin=text, quiet=True)
    if done.returncode != DONE:
        raise Invalid(done.stderr.strip().split("\n")[-1] or f"{_PROGRAM} ended with {done.returncode}")
    found: dict[str, Any] = json.loads(done.stdout)
    return {**found, "policy": "file" if policy else "built-in"}


def _running(data: Path | None) -> Platform | None:
    """The platform on this machine, if it runs with guardrails."""
    try:
        where = platform(data)
    except NotRunning:
        return None
    return where if where.state is not None and "guardrails" in where.state.targets else None


def _asked(
    where: Platform, text: str, *, stage: str, question: str, turns: tuple[str, ...], corpus: str
) -> dict[str, Any]:
    """What the running service says."""
    request = guardrails_service_pb2.CheckRequest(
        subject=guardrails_service_pb2.Subject(tenant=where.tenant, corpus=corpus),
        stage=events_pb2.Stage.Value(f"STAGE_{stage.upper()}"),
        question=question,
        turns=turns,
    )
    if stage == "context":
        request.passages.add(text=text)
    else:
        request.text = text
    with calls(where, "guardrails", _stub) as service:
        answer = service.Check(request)
    found = document(answer)
    return {
        "verdict": _plain(found["verdict"]),
        "results": [
            {
                **{
                    name: result[name]
                    for name in ("check", "version", "score", "threshold", "spans", "reason", "shadow")
                },
                "verdict": _plain(result["verdict"]),
                "status": _plain(result["status"]),
            }
            for result in found["results"]
        ],
        "policy": found["policy_version"],
    }


def _stub(channel: grpc.Channel) -> object:
    return guardrails_service_pb2_grpc.GuardrailsServiceStub(channel)


def _plain(name: str) -> str:
    return name.removeprefix("VERDICT_").removeprefix("CHECK_STATUS_").lower()


def _show(found: dict[str, Any]) -> None:
    console.print(f"{found['verdict']} (policy: {found['policy']})", markup=False)
    for result in found["results"]:
        if result["verdict"] != "allow" or result["status"] != "ok":
            said = f": {result['reason']}" if result["reason"] else ""
            shadow = " (shadow)" if result["shadow"] else ""
            scored = f"{result['score']:.2f} of {result['threshold']:.2f}"
            console.print(f"  {result['check']}: {result['verdict']}{shadow}, {scored}{said}", markup=False)
