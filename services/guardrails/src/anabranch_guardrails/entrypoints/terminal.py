"""`python -m anabranch_guardrails check|test`: a policy tried in this process, without a platform."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from anabranch_faults import Invalid
from anabranch_guardrails.application.catalogue import Catalogue, Plan
from anabranch_guardrails.application.ports import Check
from anabranch_guardrails.application.suites import Tools, look, read_suite, run_suite
from anabranch_guardrails.domain import Stage, Subject, Verdict
from anabranch_guardrails.domain.policies import Result, decide
from anabranch_guardrails.entrypoints.policies import built_in, message_from_yaml, plan_of

__all__ = ["COMMANDS", "run"]

COMMANDS: Final = ("check", "test")
_DONE: Final = 0
_FAILED: Final = 1
_USAGE: Final = 2
_FIGURES: Final = ("recall", "specificity", "mean", "auroc", "recall@1%fpr", "precision", "f2")


def run(
    arguments: Sequence[str],
    *,
    catalogue: Callable[[], Catalogue],
    pii: Callable[[], tuple[Check, Mapping[str, str]]],
    groundedness: Callable[[], Check],
) -> int:
    """Runs a command and prints what it found; returns the exit code."""
    options = _parser().parse_args(arguments)
    try:
        plan = _plan(options.policy, catalogue())
        if options.command == "check":
            return _check(options, plan)
        check, names = pii()
        return _test(options, Tools(plan=plan, pii=check, pii_names=names, groundedness=groundedness()))
    except (Invalid, OSError, UnicodeDecodeError) as fault:
        sys.stderr.write(f"{fault}\n")
        return _USAGE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m anabranch_guardrails", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    check = commands.add_parser("check", help="Check one text.")
    check.add_argument("text", help="The text; - reads it from stdin.")
    check.add_argument("--stage", choices=[stage.name.lower() for stage in Stage if stage], default="input")
    check.add_argument("--question", default="", help="What was asked, where the text was retrieved for it.")
    check.add_argument("--turn", action="append", default=[], help="A turn before, oldest first; may be repeated.")
    test = commands.add_parser("test", help="Run a suite of labelled rows (JSON lines).")
    test.add_argument("suite", type=Path)
    test.add_argument(
        "--at-least",
        action="append",
        default=[],
        type=_demand,
        metavar="FIGURE=VALUE",
        help="Exit with 1 where a figure is lower, such as recall=0.85; may be repeated.",
    )
    for command in (check, test):
        command.add_argument("--policy", type=Path, help="YAML of a policy. Default: the built-in one.")
        command.add_argument("--json", action="store_true", dest="as_json", help="Print one JSON document.")
    return parser


def _demand(text: str) -> tuple[str, float]:
    name, _, value = text.partition("=")
    if name not in _FIGURES:
        raise argparse.ArgumentTypeError(f"{name} is none of {', '.join(_FIGURES)}")
    return name, float(value)


def _plan(file: Path | None, catalogue: Catalogue) -> Plan:
    if file is None:
        return built_in(catalogue)[0]
    return plan_of(message_from_yaml(file.read_text("utf-8")), catalogue)


def _check(options: argparse.Namespace, plan: Plan) -> int:
    text = sys.stdin.read() if options.text == "-" else options.text
    subject = Subject(
        stage=Stage[options.stage.upper()], text=text, question=options.question, turns=tuple(options.turn)
    )
    results = look(plan, subject)
    verdict = decide(results)
    document = {"verdict": verdict.name.lower(), "results": [_shown(result) for result in results]}
    if options.as_json:
        _print(document)
        return _DONE
    sys.stdout.write(f"{document['verdict']}\n")
    for result in results:
        if result.verdict is not Verdict.ALLOW:
            sys.stdout.write(
                f"  {result.check}: {result.verdict.name.lower()}, {result.score:.2f} of {result.threshold:.2f}"
                f"{': ' + result.reason if result.reason else ''}\n"
            )
    return _DONE


def _shown(result: Result) -> dict[str, Any]:
    return {
        "check": result.check,
        "version": result.version,
        "verdict": result.verdict.name.lower(),
        "status": result.status.name.lower(),
        "score": round(result.score, 4),
        "threshold": result.threshold,
        "spans": [
            {"start": span.start, "end": span.end, "kind": span.kind, "score": round(span.score, 4)}
            for span in result.spans
        ],
        "reason": result.reason,
        "shadow": result.shadow,
    }


def _test(options: argparse.Namespace, tools: Tools) -> int:
    with options.suite.open(encoding="utf-8", newline="\n") as lines:
        suite = read_suite(lines)
    figures = run_suite(suite, tools)
    if options.as_json:
        _print(figures)
    else:
        for name, value in figures.items():
            sys.stdout.write(f"{name}: {json.dumps(value) if isinstance(value, dict) else value}\n")
    short = [
        f"{name} is {figures.get(name)}, not {value} or more"
        for name, value in options.at_least
        if figures.get(name) is None or figures[name] < value
    ]
    for line in short:
        sys.stderr.write(f"{line}\n")
    return _FAILED if short else _DONE


def _print(document: Mapping[str, Any]) -> None:
    sys.stdout.write(json.dumps(document, ensure_ascii=False) + "\n")
