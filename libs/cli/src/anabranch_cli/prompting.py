"""`anabranch prompt`: prompts, what they differ in, and which one a label means."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import click
import yaml
from google.protobuf.json_format import MessageToDict, ParseDict, ParseError

from anabranch.registry.v1 import prompt_service_pb2 as pb
from anabranch.registry.v1 import prompt_service_pb2_grpc as pb_grpc
from anabranch.registry.v1 import prompts_pb2 as prompts
from anabranch_cli.connection import data_option, platform
from anabranch_cli.internal import author, calls, document, moment
from anabranch_cli.optimising import optimise
from anabranch_cli.output import DONE, FAILED, console, emit, json_option
from anabranch_cli.replaying import replay
from anabranch_faults import Invalid
from anabranch_prompts import check
from anabranch_prompts.messages import template_of

_PAGE: Final = 100
_MEASURED_ELSEWHERE: Final = ("prompt_version", "description")


@click.group()
def prompt() -> None:
    """Prompts: immutable, typed, named by their content, and moved by labels.

    A REF is NAME@LABEL or NAME@VERSION, as in support@production or support@p-0123456789ab.
    """


prompt.add_command(replay)
prompt.add_command(optimise)


@prompt.command()
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--reason", default="", help="Kept in the audit.")
@data_option
@json_option
def create(*, file: Path, reason: str, data: Path | None, as_json: bool) -> int:
    """Keep the prompt in FILE (YAML) under its content's name. No label means it until one is moved."""
    written = read_prompt(file)
    where = platform(data)
    with calls(where, "registry", pb_grpc.PromptServiceStub) as service:
        made = service.CreatePrompt(
            pb.CreatePromptRequest(prompt=written, author=author(), reason=reason or f"created from {file.name}")
        ).prompt
    emit(document(made), as_json=as_json, human=lambda: listed([made]))
    return DONE


def read_prompt(file: Path) -> prompts.PromptTemplate:
    """The file's prompt. Raises Invalid with everything that is wrong with it."""
    try:
        written = ParseDict(yaml.safe_load(file.read_text(encoding="utf-8")) or {}, prompts.PromptTemplate())
    except (yaml.YAMLError, ParseError, UnicodeDecodeError) as error:
        raise Invalid(f"{file.name} is no prompt: {error}", field="file") from error
    problems = [f"{one.field}: {one.problem}" for one in check(template_of(written))]
    if problems:
        raise Invalid(f"{file.name}: " + "; ".join(problems), field="prompt")
    return written


@prompt.command()
@click.argument("ref")
@data_option
@json_option
def show(*, ref: str, data: Path | None, as_json: bool) -> int:
    """Show the prompt that REF means."""
    with calls(platform(data), "registry", pb_grpc.PromptServiceStub) as service:
        found = service.GetPrompt(pb.GetPromptRequest(prompt=ref)).prompt
    emit(document(found), as_json=as_json, human=lambda: console.print(as_yaml(found), markup=False, highlight=False))
    return DONE


@prompt.command()
@click.argument("name", default="")
@data_option
@json_option
def ls(*, name: str, data: Path | None, as_json: bool) -> int:
    """List versions, newest first, and labels: of NAME, or of all prompts."""
    found: list[Any] = []
    token = ""
    with calls(platform(data), "registry", pb_grpc.PromptServiceStub) as service:
        while True:
            page = service.ListPrompts(pb.ListPromptsRequest(name=name, page_size=_PAGE, page_token=token))
            found += page.prompts
            token = page.next_page_token
            if not token:
                break
        labels = service.ListPromptLabels(pb.ListPromptLabelsRequest(name=name)).labels
    report = {"prompts": [document(each) for each in found], "labels": [document(each) for each in labels]}

    def human() -> None:
        listed(found)
        for each in labels:
            labelled(each)
        if not found:
            console.print("  no prompt yet")

    emit(report, as_json=as_json, human=human)
    return DONE


@prompt.command()
@click.argument("before")
@click.argument("after")
@data_option
@json_option
def diff(*, before: str, after: str, data: Path | None, as_json: bool) -> int:
    """Show what differs between the prompts that two REFs mean, field by field."""
    with calls(platform(data), "registry", pb_grpc.PromptServiceStub) as service:
        one, other = (service.GetPrompt(pb.GetPromptRequest(prompt=ref)).prompt for ref in (before, after))
    lines = differences(one, other, before, after)
    report = {
        "before": f"{one.name}@{one.prompt_version}",
        "after": f"{other.name}@{other.prompt_version}",
        "fields": changed_fields(one, other),
        "diff": "\n".join(lines),
    }

    def human() -> None:
        for line in lines:
            style = {"+": "green", "-": "red"}.get(line[:1])
            console.print(line, style=style, markup=False, highlight=False)
        if not lines:
            console.print("  no difference")

    emit(report, as_json=as_json, human=human)
    return DONE


def differences(one: prompts.PromptTemplate, other: prompts.PromptTemplate, before: str, after: str) -> list[str]:
    """A unified diff of two prompts as YAML."""
    left, right = as_yaml(one).splitlines(), as_yaml(other).splitlines()
    return list(difflib.unified_diff(left, right, fromfile=before, tofile=after, lineterm=""))


def changed_fields(one: prompts.PromptTemplate, other: prompts.PromptTemplate) -> list[str]:
    """Names of the fields in which two prompts differ."""
    left, right = document(one), document(other)
    return [name for name in left if name not in _MEASURED_ELSEWHERE and left[name] != right[name]]


@prompt.command()
@click.argument("ref")
@data_option
@json_option
def test(*, ref: str, data: Path | None, as_json: bool) -> int:
    """Render the cases beside the prompt that REF means. Exit code 1: one fails."""
    with calls(platform(data), "registry", pb_grpc.PromptServiceStub) as service:
        results = service.TestPrompt(pb.TestPromptRequest(prompt=ref)).results
    failed = sum(not each.passed for each in results)
    report = {"results": [document(each) for each in results], "passed": len(results) - failed, "failed": failed}

    def human() -> None:
        for each in results:
            console.print(f"  {'ok  ' if each.passed else 'FAIL'} {each.name}  {each.problem}".rstrip(), markup=False)
        console.print(f"  {len(results) - failed} of {len(results)} pass")

    emit(report, as_json=as_json, human=human)
    return FAILED if failed else DONE


@prompt.command()
@click.argument("name")
@click.argument("version")
@click.option("--label", required=True, help="Label to move, such as production.")
@click.option("--reason", required=True, help="Kept in the audit.")
@data_option
@json_option
def promote(*, name: str, version: str, label: str, reason: str, data: Path | None, as_json: bool) -> int:
    """Let a label of NAME mean VERSION (p-...), once it passes its own tests and those of the present version."""
    with calls(platform(data), "registry", pb_grpc.PromptServiceStub) as service:
        labels = service.ListPromptLabels(pb.ListPromptLabelsRequest(name=name)).labels
        moved = service.SetPromptLabel(
            pb.SetPromptLabelRequest(
                name=name,
                label=label,
                prompt_version=version,
                expected_revision=next((each.revision for each in labels if each.label == label), 0),
                author=author(),
                reason=reason,
            )
        ).label
    emit(document(moved), as_json=as_json, human=lambda: labelled(moved))
    return DONE


@prompt.command()
@click.argument("name")
@click.option("--label", required=True, help="Label to move back.")
@click.option(
    "--to", "revision", type=click.IntRange(min=0), default=0, help="Revision whose version is to hold again."
)
@click.option("--reason", default="rolled back by hand", show_default=True, help="Kept in the audit.")
@data_option
@json_option
def rollback(*, name: str, label: str, revision: int, reason: str, data: Path | None, as_json: bool) -> int:
    """Let a label of NAME mean what it meant before, on every replica. No test is run: it served before."""
    with calls(platform(data), "registry", pb_grpc.PromptServiceStub) as service:
        moved = service.RollbackPromptLabel(
            pb.RollbackPromptLabelRequest(name=name, label=label, to_revision=revision, author=author(), reason=reason)
        ).label
    emit(document(moved), as_json=as_json, human=lambda: labelled(moved))
    return DONE


def as_yaml(one: prompts.PromptTemplate) -> str:
    """A prompt as YAML, texts of several lines as blocks."""
    written = MessageToDict(one, preserving_proto_field_name=True)
    return yaml.dump(written, Dumper=_Blocks, sort_keys=False, allow_unicode=True, width=120).rstrip()


class _Blocks(yaml.SafeDumper):
    """Writes texts of several lines as they stand."""


def _block(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Blocks.add_representer(str, _block)


def listed(found: Iterable[prompts.PromptTemplate]) -> None:
    """One line a version."""
    for each in found:
        console.print(f"  {each.name}@{each.prompt_version}  {each.description}".rstrip(), markup=False)


def labelled(label: prompts.PromptLabel) -> None:
    """A label in a line."""
    console.print(
        f"  {label.name}@{label.label} is {label.prompt_version}, revision {label.revision}, "
        f"{moment(label.changed_at)}, {label.author}: {label.reason}",
        markup=False,
    )
