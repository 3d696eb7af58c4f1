"""Declarations in YAML, read with care: small, plain, and every fault of them named."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import yaml
from google.protobuf.json_format import Error, MessageToDict, ParseDict
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from anabranch_faults import Invalid, TooLarge

__all__ = ["read_fields", "read_yaml"]

_MAX_DEPTH: Final = 24


def read_yaml(text: str, *, most: int, what: str) -> dict[Any, Any]:
    """Return a mapping. Raises Invalid for what is none, TooLarge past `most` bytes.

    Aliases are refused, since a few lines of them unfold to gigabytes; so are tags, and a key that is there twice, of
    which the first would be lost unseen.
    """
    if (size := len(text.encode(errors="surrogatepass"))) > most:
        raise TooLarge(f"has {size:,} bytes; the limit is {most:,}", field="yaml")
    try:
        _check_shape(text)
        content = yaml.load(text, Loader=yaml.CSafeLoader)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise Invalid(f"is not YAML: {' '.join(str(error).split())[:300]}", field="yaml", reason="NOT_YAML") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise Invalid("is no mapping of settings", field="yaml", reason=what)
    return content


def _check_shape(text: str) -> None:
    """Look at it event by event, before anything is built of it."""
    open_: list[set[str] | None] = []  # for each mapping its keys so far, for each list None
    at_key: list[bool] = []
    for event in yaml.parse(text, Loader=yaml.CSafeLoader):
        if isinstance(event, yaml.AliasEvent):
            raise Invalid("aliases are not allowed", field="yaml", reason="NOT_YAML")
        if isinstance(event, yaml.CollectionEndEvent):
            open_.pop()
            at_key.pop()
        if isinstance(event, (yaml.ScalarEvent, yaml.CollectionStartEvent)) and open_ and open_[-1] is not None:
            if at_key[-1] and isinstance(event, yaml.ScalarEvent):
                if event.value in open_[-1]:
                    raise Invalid(f"the key {event.value!r} is there twice", field="yaml", reason="NOT_YAML")
                open_[-1].add(event.value)
            at_key[-1] = not at_key[-1]
        if isinstance(event, yaml.CollectionStartEvent):
            open_.append(set() if isinstance(event, yaml.MappingStartEvent) else None)
            at_key.append(True)
            if len(open_) > _MAX_DEPTH:
                raise Invalid(f"is nested deeper than {_MAX_DEPTH}", field="yaml", reason="NOT_YAML")


def read_fields(
    content: Mapping[Any, Any], message: type[Message], faults: list[str], path: str = ""
) -> dict[str, Any]:
    """Return what of the content a message can hold, and add what it cannot to `faults`, a line each.

    By hand: the parser stops at its first fault, and people want to hear of all of them. Enumerations may be written
    short (`block` for VERDICT_BLOCK).
    """
    read: dict[str, Any] = {}
    fields = message.DESCRIPTOR.fields_by_name
    for key, value in content.items():
        field = fields.get(key) if isinstance(key, str) else None
        here = f"{path}{key}"
        if field is None:
            faults.append(f"{here}: there is no such setting; there are {', '.join(fields)}")
        elif value is None:
            continue
        elif field.message_type is not None and field.message_type.file.name.startswith("anabranch/"):
            _read_inside(value, field, faults, here, read)
        else:
            long = _long(value, field)
            try:
                # And back: what JSON has no words for (NaN, infinity) is taken on the way in only.
                MessageToDict(ParseDict({key: long}, message()))
            except (Error, ValueError, TypeError, AttributeError, RecursionError) as error:
                said = str(error).rpartition("error: ")[2].rpartition(": ")[2].strip() or "not understood"
                faults.append(f"{here}: {value!r}: {said}"[:300])
            else:
                read[key] = long
    return read


def _read_inside(value: Any, field: Any, faults: list[str], path: str, read: dict[str, Any]) -> None:
    message: type[Message] = GetMessageClass(field.message_type)
    if not field.is_repeated:
        if isinstance(value, dict):
            read[field.name] = read_fields(value, message, faults, f"{path}.")
        else:
            faults.append(f"{path}: is no mapping")
    elif not isinstance(value, list):
        faults.append(f"{path}: is no list")
    else:
        read[field.name] = inside = []
        for index, one in enumerate(value):
            if isinstance(one, dict):
                inside.append(read_fields(one, message, faults, f"{path}[{index}]."))
            else:
                faults.append(f"{path}[{index}]: is no mapping")
                inside.append({})


def _long(value: Any, field: Any) -> Any:
    if field.enum_type is None or not isinstance(value, str):
        return value
    names = field.enum_type.values_by_name
    prefix = next(iter(names)).removesuffix("UNSPECIFIED")
    long = f"{prefix}{value.upper()}"
    return long if long in names else value
