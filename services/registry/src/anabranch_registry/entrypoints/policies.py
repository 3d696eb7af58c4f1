"""Policies between YAML, messages and the domain's documents."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import yaml
from google.protobuf.json_format import MessageToDict, ParseDict, ParseError
from google.protobuf.message import Message

from anabranch.registry.v1 import loop_pb2 as loops
from anabranch_faults import Invalid, TooLarge

__all__ = ["document_of", "message_of", "policy_from_yaml", "yaml_of"]

_MAX_YAML: Final = 64 * 1024
_MAX_FAULTS: Final = 20


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
    if len(text.encode()) > _MAX_YAML:
        raise TooLarge(f"has {len(text.encode()):,} bytes; the limit is {_MAX_YAML:,}", field="yaml")
    try:
        # No aliases: a few lines of them unfold to gigabytes.
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=yaml.SafeLoader)):
            raise Invalid("aliases are not allowed", field="yaml", reason="NOT_YAML")
        content = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise Invalid(f"is not YAML: {' '.join(str(error).split())[:300]}", field="yaml", reason="NOT_YAML") from error
    if content is None:
        content = {}
    if not isinstance(content, dict):
        raise Invalid("is no mapping of settings", field="yaml", reason="NOT_A_POLICY")
    faults = _faults(content, loops.LoopPolicy, "")
    if faults:
        raise Invalid("; ".join(faults[:_MAX_FAULTS]), field="yaml", reason="NOT_A_POLICY")
    return document_of(ParseDict(content, loops.LoopPolicy()))


def _faults(content: Mapping[Any, Any], message: type[Message], path: str) -> list[str]:
    """Walk by hand: the parser stops at its first fault, and people want to hear of all of them."""
    faults: list[str] = []
    fields = message.DESCRIPTOR.fields_by_name
    for key, value in content.items():
        field = fields.get(key) if isinstance(key, str) else None
        here = f"{path}{key}"
        if field is None:
            faults.append(f"{here}: there is no such setting; there are {', '.join(fields)}")
        elif _nested(field):
            faults += _faults_inside(value, field, here)
        else:
            try:
                ParseDict({key: value}, message())
            except (ParseError, ValueError, TypeError, AttributeError) as error:
                said = str(error).rpartition("error: ")[2].rpartition(": ")[2].strip() or "not understood"
                faults.append(f"{here}: {value!r}: {said}"[:300])
    return faults


def _faults_inside(value: Any, field: Any, path: str) -> list[str]:
    message: type[Message] = getattr(loops, field.message_type.name)
    if not field.is_repeated:
        return _faults(value, message, f"{path}.") if isinstance(value, dict) else [f"{path}: is no mapping"]
    if not isinstance(value, list):
        return [f"{path}: is no list"]
    faults: list[str] = []
    for index, one in enumerate(value):
        here = f"{path}[{index}]"
        faults += _faults(one, message, f"{here}.") if isinstance(one, dict) else [f"{here}: is no mapping"]
    return faults


def _nested(field: Any) -> bool:
    return field.message_type is not None and field.message_type.file.name.startswith("anabranch/")
