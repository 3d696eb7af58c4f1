"""Writes docs/reference from protos/: the gRPC reference, the Kafka reference and an AsyncAPI 3 document.

`make docs` runs it; `--check` compares instead and fails on a difference.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    ServiceDescriptorProto,
)

ROOT = Path(__file__).resolve().parents[1]
REFERENCE = ROOT / "docs" / "reference"
MESSAGE_TYPE, ENUM_TYPE, SERVICE = 4, 5, 6  # field numbers in FileDescriptorProto, for source locations
FIELD, METHOD, VALUE, NESTED = 2, 2, 2, 3
KAFKA_INTRODUCTION = (
    "Values are bare protobuf (`content-type: application/protobuf`) or protobuf-JSON "
    "(`content-type: application/json`). Headers follow CloudEvents binary mode: `ce_id`, `ce_type`, `ce_source`, "
    "`ce_time`; trace context travels as `traceparent`. Auto-creation is off: the manifests in "
    "`protos/topics` are the topics.\n"
)
NOTE = "Generated from protos/ by `make docs`; do not edit."


def files() -> list[FileDescriptorProto]:
    """Every proto file of the project, with comments."""
    buf = Path(sys.executable).parent / "buf"
    image = subprocess.run(
        [str(buf), "build", "--output", "-#format=binpb"], check=True, capture_output=True, cwd=ROOT
    ).stdout
    return [file for file in FileDescriptorSet.FromString(image).file if file.package.startswith("anabranch.")]


def comments(file: FileDescriptorProto) -> dict[tuple[int, ...], str]:
    """Leading comments by path."""
    return {
        tuple(location.path): " ".join(location.leading_comments.split())
        for location in file.source_code_info.location
        if location.leading_comments.strip()
    }


def short(type_name: str) -> str:
    """`.anabranch.x.v1.Y` as `x.v1.Y`."""
    return type_name.removeprefix(".").removeprefix("anabranch.")


def type_of(field: FieldDescriptorProto, message: DescriptorProto) -> str:
    """The field's type as a reader of the .proto would write it."""
    for nested in message.nested_type:
        if nested.options.map_entry and field.type_name.endswith(f".{nested.name}"):
            key, value = nested.field
            return f"map<{type_of(key, nested)}, {type_of(value, nested)}>"
    name = short(field.type_name) or FieldDescriptorProto.Type.Name(field.type).removeprefix("TYPE_").lower()
    return f"repeated {name}" if field.label == FieldDescriptorProto.LABEL_REPEATED else name


def message_section(
    message: DescriptorProto, path: tuple[int, ...], said: dict[tuple[int, ...], str], package: str
) -> Iterator[str]:
    """One message as a table of fields."""
    yield f"### `{short(package)}.{message.name}`\n"
    yield f"{said.get(path, '')}\n"
    if not message.field:
        return
    yield "| field | type | meaning |\n| --- | --- | --- |"
    for index, field in enumerate(message.field):
        meaning = said.get((*path, FIELD, index), "").replace("|", "\\|")
        oneof = f"one of `{message.oneof_decl[field.oneof_index].name}`. " if field.HasField("oneof_index") else ""
        yield f"| `{field.name}` = {field.number} | `{type_of(field, message)}` | {oneof}{meaning} |"
    yield ""


def enum_section(
    enum: EnumDescriptorProto, path: tuple[int, ...], said: dict[tuple[int, ...], str], package: str
) -> Iterator[str]:
    """One enum as a table of values."""
    yield f"### `{short(package)}.{enum.name}`\n"
    yield f"{said.get(path, '')}\n"
    yield "| value | meaning |\n| --- | --- |"
    for index, value in enumerate(enum.value):
        yield f"| `{value.name}` = {value.number} | {said.get((*path, VALUE, index), '')} |"
    yield ""


def service_section(
    service: ServiceDescriptorProto, path: tuple[int, ...], said: dict[tuple[int, ...], str], package: str
) -> Iterator[str]:
    """One service with its calls."""
    yield f"## `{package}.{service.name}`\n"
    yield f"{said.get(path, '')}\n"
    yield "| call | request | response | |\n| --- | --- | --- | --- |"
    for index, method in enumerate(service.method):
        answer = f"{'stream ' if method.server_streaming else ''}{short(method.output_type)}"
        meaning = said.get((*path, METHOD, index), "")
        yield f"| `{method.name}` | `{short(method.input_type)}` | `{answer}` | {meaning} |"
    yield ""


def grpc_reference(protos: list[FileDescriptorProto]) -> str:
    """docs/reference/grpc.md: services first, then every message and enum."""
    lines = ["# gRPC reference\n", f"{NOTE}\n"]
    lines.append(
        "The public contract is `anabranch.gateway.v1`; the other services are internal. "
        "Unless a comment says otherwise, calls answer with the status codes of "
        "[google.rpc.Code](https://grpc.io/docs/guides/status-codes/) and carry `google.rpc` details.\n"
    )
    ordered = sorted(protos, key=lambda file: (file.package != "anabranch.gateway.v1", file.package, file.name))
    for file in ordered:
        said = comments(file)
        for index, service in enumerate(file.service):
            lines += service_section(service, (SERVICE, index), said, file.package)
    lines.append("## Messages\n")
    for file in ordered:
        said = comments(file)
        for index, message in enumerate(file.message_type):
            lines += message_section(message, (MESSAGE_TYPE, index), said, file.package)
        for index, enum in enumerate(file.enum_type):
            lines += enum_section(enum, (ENUM_TYPE, index), said, file.package)
    return "\n".join(lines).rstrip() + "\n"


def manifests() -> list[dict[str, Any]]:
    """The topic manifests, by name."""
    return [yaml.safe_load(path.read_text()) for path in sorted((ROOT / "protos" / "topics").glob("*.yaml"))]


def kafka_reference() -> str:
    """docs/reference/kafka.md."""
    lines = [
        "# Kafka reference\n",
        f"{NOTE}\n",
        KAFKA_INTRODUCTION,
    ]
    for topic in manifests():
        groups = [name for name in topic["consumers"] if not name.startswith("(")]
        dead = ", ".join(f"`{topic['name']}.{group}.dlq`" for group in groups) or "none"
        examples = sorted(path.name for path in (ROOT / "protos" / "examples" / topic["name"]).glob("*.textproto"))
        kept = "compacted" if topic["cleanup"] == "compact" else f"kept {topic['retention']}"
        lines += [
            f"## `{topic['name']}`\n",
            f"{topic['description']}\n",
            f"- message: `{topic['message']}`",
            f"- key: `{topic['key']}`",
            f"- written by: {', '.join(topic['producers'])}; read by: {', '.join(topic['consumers']) or 'nobody yet'}",
            f"- {topic['partitions']} partitions, {kept}, records up to {topic['max_message_bytes']:,} bytes",
            f"- dead letters: {dead}",
            "- examples: " + ", ".join(f"[{name}](../../protos/examples/{topic['name']}/{name})" for name in examples),
            "",
        ]
    return "\n".join(lines).rstrip() + "\n"


def asyncapi() -> str:
    """docs/reference/asyncapi.yaml."""
    channels: dict[str, Any] = {}
    operations: dict[str, Any] = {}
    messages: dict[str, Any] = {}
    for topic in manifests():
        package, name = topic["message"].rsplit(".", 1)
        source = ROOT / "protos" / Path(*package.split(".")) / "events.proto"
        messages[name] = {
            "name": topic["message"],
            "contentType": "application/protobuf",
            "headers": {"$ref": "#/components/schemas/CloudEventHeaders"},
            "payload": {"schemaFormat": "application/vnd.google.protobuf;version=3", "schema": source.read_text()},
        }
        channels[topic["name"]] = {
            "address": topic["name"],
            "description": topic["description"],
            "messages": {name: {"$ref": f"#/components/messages/{name}"}},
            "bindings": {
                "kafka": {
                    "partitions": topic["partitions"],
                    "topicConfiguration": {
                        "cleanup.policy": [topic["cleanup"]],
                        "max.message.bytes": topic["max_message_bytes"],
                    },
                    "bindingVersion": "0.5.0",
                }
            },
            "x-owner": topic["owner"],
            "x-key": topic["key"],
        }
        reference = {"$ref": f"#/channels/{topic['name']}"}
        for action, parties in (("send", topic["producers"]), ("receive", topic["consumers"])):
            for party in parties:
                title = "outside" if party.startswith("(") else party
                operations[f"{title}.{action}.{topic['name']}"] = {"action": action, "channel": reference}
    header = {"type": "string"}
    document = {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Anabranch",
            "version": "1.0.0",
            "description": NOTE,
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/protobuf",
        "channels": channels,
        "operations": operations,
        "components": {
            "messages": messages,
            "schemas": {
                "CloudEventHeaders": {
                    "type": "object",
                    "properties": {
                        "ce_id": {**header, "description": "Fixed at birth; the same id is the same event."},
                        "ce_type": {**header, "description": "Full name of the message."},
                        "ce_source": {**header, "description": "Who published it."},
                        "ce_time": {**header, "format": "date-time"},
                        "content-type": {**header, "enum": ["application/protobuf", "application/json"]},
                        "traceparent": {**header, "description": "W3C trace context."},
                    },
                }
            },
        },
    }
    return yaml.safe_dump(document, sort_keys=False, width=120, allow_unicode=True)


def main() -> int:
    """Writes, or compares with what is committed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    check = parser.parse_args().check
    pages = {"grpc.md": grpc_reference(files()), "kafka.md": kafka_reference(), "asyncapi.yaml": asyncapi()}
    REFERENCE.mkdir(parents=True, exist_ok=True)
    stale = [
        name
        for name, text in pages.items()
        if not (REFERENCE / name).is_file() or (REFERENCE / name).read_text() != text
    ]
    if check:
        if stale:
            print("docs/reference differs from protos/; run `make docs`:", *stale, sep="\n  ")
        return 1 if stale else 0
    for name, text in pages.items():
        (REFERENCE / name).write_text(text)
    print(f"wrote {', '.join(stale) or 'nothing: up to date'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
