"""`anabranch policy`: guardrail policies, and where they hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import yaml
from google.protobuf.json_format import MessageToDict

from anabranch.registry.v1 import policy_service_pb2 as pb
from anabranch.registry.v1 import policy_service_pb2_grpc as pb_grpc
from anabranch_cli.connection import data_option, platform
from anabranch_cli.internal import author, calls, document, moment
from anabranch_cli.output import DONE, console, emit, json_option
from anabranch_faults import Invalid, NotFound

VERSION = "gp-"
"""What a policy's version begins with."""


@click.group()
def policy() -> None:
    """Guardrail policies: what is checked, and what follows.

    A SCOPE is `*`, a tenant or `tenant/corpus`; the most specific one that has a policy holds.
    """


@policy.command()
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--reason", required=True, help="Kept in the audit.")
@data_option
@json_option
def create(*, file: Path, reason: str, data: Path | None, as_json: bool) -> int:
    """Keep the policy in FILE (YAML) under its content's name. It holds nowhere until it is attached."""
    request = pb.CreatePolicyRequest(yaml=file.read_text(encoding="utf-8"), author=author(), reason=reason)
    with calls(platform(data), "registry", pb_grpc.PolicyServiceStub) as policies:
        made = policies.CreatePolicy(request).policy
    emit(document(made), as_json=as_json, human=lambda: listed(made))
    return DONE


@policy.command()
@click.argument("what", metavar="VERSION|SCOPE")
@data_option
@json_option
def show(*, what: str, data: Path | None, as_json: bool) -> int:
    """Show a policy, or a scope's own."""
    with calls(platform(data), "registry", pb_grpc.PolicyServiceStub) as policies:
        version, attachment = what, None
        if not what.startswith(VERSION):
            attachment = policies.GetAttachment(pb.GetAttachmentRequest(scope=what)).attachment
            version = attachment.policy_version
        found = policies.GetPolicy(pb.GetPolicyRequest(policy_version=version)).policy if version else None
    report = {
        "attachment": document(attachment) if attachment is not None else None,
        "policy": document(found) if found is not None else None,
    }

    def human() -> None:
        if attachment is not None:
            attached(attachment)
        if found is not None:
            written = MessageToDict(found, preserving_proto_field_name=True)
            console.print(yaml.safe_dump(written, sort_keys=False, allow_unicode=True), markup=False)

    emit(report, as_json=as_json, human=human)
    return DONE


@policy.command()
@data_option
@json_option
def ls(*, data: Path | None, as_json: bool) -> int:
    """List policies, newest first."""
    found: list[Any] = []
    token = ""
    with calls(platform(data), "registry", pb_grpc.PolicyServiceStub) as policies:
        while token or not found:
            page = policies.ListPolicies(pb.ListPoliciesRequest(page_token=token))
            found += page.policies
            token = page.next_page_token
            if not token:
                break

    def human() -> None:
        for each in found:
            listed(each)

    emit({"policies": [document(each) for each in found]}, as_json=as_json, human=human)
    return DONE


@policy.command()
@click.argument("scope")
@click.argument("version")
@click.option("--reason", required=True, help="Kept in the audit.")
@data_option
@json_option
def attach(*, scope: str, version: str, reason: str, data: Path | None, as_json: bool) -> int:
    """Let VERSION hold in SCOPE, in the place of what holds there now."""
    return moved(scope, lambda _: version, reason=reason, data=data, as_json=as_json)


@policy.command()
@click.argument("scope")
@click.option("--reason", required=True, help="Kept in the audit.")
@data_option
@json_option
def detach(*, scope: str, reason: str, data: Path | None, as_json: bool) -> int:
    """Take SCOPE's own policy off: the next wider scope's holds."""

    def nothing(present: Any) -> str:
        if not present.policy_version:
            raise NotFound(f"{scope} has no policy of its own", field="scope")
        return ""

    return moved(scope, nothing, reason=reason, data=data, as_json=as_json)


@policy.command()
@click.argument("scope")
@click.option("--reason", required=True, help="Kept in the audit.")
@data_option
@json_option
def rollback(*, scope: str, reason: str, data: Path | None, as_json: bool) -> int:
    """Go back to what held in SCOPE before the last change."""

    def previous(present: Any) -> str:
        if not present.revision:
            raise NotFound(f"{scope} never had a policy of its own", field="scope")
        return str(present.previous_version)

    return moved(scope, previous, reason=reason, data=data, as_json=as_json)


def moved(scope: str, to: Any, *, reason: str, data: Path | None, as_json: bool) -> int:
    """Attaches what `to` makes of the present attachment (all unset where there is none)."""
    with calls(platform(data), "registry", pb_grpc.PolicyServiceStub) as policies:
        try:
            present = policies.GetAttachment(pb.GetAttachmentRequest(scope=scope)).attachment
        except NotFound:
            present = pb.GetAttachmentResponse().attachment
        version = to(present)
        if version and not version.startswith(VERSION):
            raise Invalid(f"{version!r} is no policy's version, as in gp-0123456789ab", field="version")
        request = pb.AttachPolicyRequest(
            scope=scope,
            policy_version=version,
            expected_revision=present.revision,
            author=author(),
            reason=reason,
        )
        now = policies.AttachPolicy(request).attachment
    emit(document(now), as_json=as_json, human=lambda: attached(now))
    return DONE


def listed(found: Any) -> None:
    """One line about a policy."""
    shadow = sum(rule.shadow for rule in found.rules)
    extra = f", {shadow} in shadow" if shadow else ""
    console.print(
        f"  {found.policy_version}  {found.name:<24} {len(found.rules)} rules{extra}  {found.description}".rstrip(),
        markup=False,
    )


def attached(attachment: Any) -> None:
    """One line about a scope."""
    console.print(
        f"  {attachment.scope}  revision {attachment.revision}: {attachment.policy_version or 'none of its own'}  "
        f"(before: {attachment.previous_version or 'none'}; {attachment.author}, {moment(attachment.changed_at)}: "
        f"{attachment.reason})",
        markup=False,
    )
