"""Policies between YAML, messages and the domain's documents."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import yaml
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.message import Message

from anabranch.registry.v1 import guards_pb2 as guards
from anabranch.registry.v1 import loop_pb2 as loops
from anabranch_faults import Invalid
from anabranch_registry.domain.guards import Attachment
from anabranch_registry.entrypoints.declared import read_fields, read_yaml

__all__ = [
    "attachment_message",
    "document_of",
    "guards_from_yaml",
    "guards_message",
    "message_of",
    "policy_from_yaml",
    "yaml_of",
]

_MAX_YAML: Final = 64 * 1024
_MAX_GUARDS: Final = 256 * 1024
_MAX_FAULTS: Final = 20
_NONE: Final[Mapping[str, Any]] = {"anonymise": [], "mark_passages": False, "canary": False, "blocked_message": ""}


def document_of(message: Message) -> dict[str, Any]:
    """Return a message as plain values: protobuf-JSON with the names of the contract, what is unset left out."""
    return MessageToDict(message, preserving_proto_field_name=True)


def message_of(document: Mapping[str, Any], message: type[Any]) -> Any:
    """Return the message that a document was made from."""
    return ParseDict(dict(document), message())


def yaml_of(document: Mapping[str, Any]) -> str:
    """Return a document as people write it."""
    return yaml.safe_dump(dict(document), sort_keys=False, allow_unicode=True) if document else ""


def policy_from_yaml(text: str) -> dict[str, Any]:
    """Return the document that is declared. Raises Invalid naming all unknown keys and bad values, TooLarge."""
    faults: list[str] = []
    content = read_fields(read_yaml(text, most=_MAX_YAML, what="NOT_A_POLICY"), loops.LoopPolicy, faults)
    if faults:
        raise Invalid("; ".join(faults[:_MAX_FAULTS]), field="yaml", reason="NOT_A_POLICY")
    return document_of(ParseDict(content, loops.LoopPolicy()))


def guards_from_yaml(text: str) -> tuple[dict[str, Any], list[str]]:
    """Return what is declared of a guardrail policy, and what cannot be read of it.

    What is said to be none (`canary: false`) stays in the document, so that it can outdo what is inherited. Raises
    Invalid for what is no mapping, TooLarge.
    """
    faults: list[str] = []
    content = read_fields(read_yaml(text, most=_MAX_GUARDS, what="NOT_A_POLICY"), guards.GuardPolicy, faults)
    for index, entry in enumerate(content.get("allow", ())):
        if "text" in entry and "pattern" in entry:
            faults.append(f"allow[{index}]: has text and pattern; give one")
            del entry["pattern"]
    document = document_of(ParseDict(content, guards.GuardPolicy()))
    return {key: _NONE[key] for key in content if key in _NONE} | document, faults[:_MAX_FAULTS]


def guards_message(document: Mapping[str, Any]) -> guards.GuardPolicy:
    """Return the policy that a document was made from."""
    message: guards.GuardPolicy = message_of(document, guards.GuardPolicy)
    return message


def attachment_message(attachment: Attachment) -> guards.PolicyAttachment:
    """Return the policy of a scope."""
    message = guards.PolicyAttachment(
        scope=attachment.scope,
        policy_version=attachment.policy_version,
        previous_version=attachment.previous_version,
        revision=attachment.revision,
        author=attachment.change.author,
        reason=attachment.change.reason,
    )
    message.changed_at.FromDatetime(attachment.change.at)
    return message
