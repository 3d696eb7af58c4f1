"""Writes src/anabranch from protos/: messages, services and their types, and the topics as Python values.

`make gen` runs it; `make check-gen` compares instead and fails on a difference. Nothing it writes is edited by hand.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
PROTOS = ROOT / "protos"
TARGET = Path(__file__).resolve().parent / "src"
OUTSIDE = "(outside)"
FIELDS = {
    "name",
    "description",
    "owner",
    "producers",
    "consumers",
    "message",
    "key",
    "partitions",
    "cleanup",
    "retention",
    "max_message_bytes",
    "dead_letter_retention",
}


def messages_and_services(out: Path) -> None:
    """Runs buf with the typed plugins of buf.gen.yaml over every proto file."""
    programs = Path(sys.executable).parent
    subprocess.run(
        [str(programs / "buf"), "generate", "--output", str(out)],
        check=True,
        cwd=ROOT,
        env={**os.environ, "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"},
    )
    # The plugins write a service module for files without a service, too; those say nothing.
    for path in out.glob("anabranch/**/events_pb2_grpc.py*"):
        path.unlink()


def days(text: str) -> str:
    """`7d` as a timedelta expression, `-` as None."""
    if text == "-":
        return "None"
    match = re.fullmatch(r"(\d+)d", text)
    if match is None:
        raise SystemExit(f"retention must be <days>d or -, not {text!r}")
    return f"timedelta(days={match[1]})"


def load_manifests() -> list[dict[str, Any]]:
    """Reads every manifest, refusing what a reader of the file would be surprised by."""
    manifests = []
    for path in sorted((PROTOS / "topics").glob("*.yaml")):
        manifest = yaml.safe_load(path.read_text())
        unknown, missing = set(manifest) - FIELDS, FIELDS - set(manifest)
        if unknown or missing:
            raise SystemExit(f"{path.name}: unknown fields {sorted(unknown)}, missing fields {sorted(missing)}")
        if manifest["name"] != path.stem:
            raise SystemExit(f"{path.name}: name is {manifest['name']!r}, the file is {path.stem!r}")
        if not re.fullmatch(r"[a-z]+(\.[a-z-]+)+\.v\d+", manifest["name"]):
            raise SystemExit(f"{path.name}: names are <owner>.<noun>.<past participle>.v<N>")
        manifests.append(manifest)
    return manifests


def declared_in(message: str) -> str:
    """`anabranch.x.v1.Thing` -> `anabranch.x.v1.<file>` of the proto file that declares it."""
    package, name = message.rsplit(".", 1)
    for path in sorted((PROTOS / package.replace(".", "/")).glob("*.proto")):
        if re.search(rf"^message {name} \{{", path.read_text(), re.MULTILINE):
            return f"{package}.{path.stem}"
    raise SystemExit(f"no proto file of {package} declares {name}")


def split(modules: list[str]) -> list[tuple[str, str, str]]:
    """Each module with its package and its file."""
    return [(module, *module.rsplit(".", 1)) for module in modules]  # type: ignore[misc]  # two parts, always


def topics(out: Path) -> None:
    """Writes anabranch/topics.py from the manifests."""
    manifests = load_manifests()
    home = {manifest["message"]: declared_in(manifest["message"]) for manifest in manifests}
    modules = sorted(set(home.values()))
    alias = {module: module.removeprefix("anabranch.").removesuffix(".events").replace(".", "_") for module in modules}
    lines = [
        '"""The topics of Anabranch. Generated from protos/topics by `make gen`; do not edit."""',
        "",
        "from __future__ import annotations",
        "",
        "from dataclasses import dataclass",
        "from datetime import timedelta",
        "from typing import Final, Generic, TypeVar",
        "",
        "from google.protobuf.message import Message",
        "",
        *(f"from {package} import {file}_pb2 as {alias[module]}" for module, package, file in split(modules)),
        "",
        'M = TypeVar("M", bound=Message)',
        "",
        "",
        "@dataclass(frozen=True, slots=True, kw_only=True)",
        "class Topic(Generic[M]):",
        '    """A topic as its manifest declares it. `consumers` are consumer groups inside the project."""',
        "",
        "    name: str",
        "    description: str",
        "    owner: str",
        "    producers: tuple[str, ...]",
        "    consumers: tuple[str, ...]",
        "    message: type[M]",
        "    key: str",
        "    partitions: int",
        "    compacted: bool",
        "    retention: timedelta | None",
        "    max_message_bytes: int",
        "    dead_letter_retention: timedelta | None",
        "",
        "    def dead_letters(self, group: str) -> str:",
        '        """Name of the topic where a group of consumers puts what it could not handle."""',
        '        return f"{self.name}.{group}.dlq"',
        "",
    ]
    names = []
    for manifest in manifests:
        constant = manifest["name"].rsplit(".v", 1)[0].replace(".", "_").replace("-", "_").upper()
        if not manifest["name"].endswith(".v1"):
            constant += "_V" + manifest["name"].rsplit(".v", 1)[1]
        names.append(constant)
        module, message = home[manifest["message"]], manifest["message"].rsplit(".", 1)[1]
        producers = tuple(name for name in manifest["producers"] if name != OUTSIDE)
        consumers = tuple(name for name in manifest["consumers"] if name != OUTSIDE)
        lines += [
            "",
            f"{constant}: Final[Topic[{alias[module]}.{message}]] = Topic(",
            f"    name={manifest['name']!r},",
            f"    description={manifest['description']!r},",
            f"    owner={manifest['owner']!r},",
            f"    producers={producers!r},",
            f"    consumers={consumers!r},",
            f"    message={alias[module]}.{message},",
            f"    key={manifest['key']!r},",
            f"    partitions={int(manifest['partitions'])},",
            f"    compacted={manifest['cleanup'] == 'compact'},",
            f"    retention={days(manifest['retention'])},",
            f"    max_message_bytes={int(manifest['max_message_bytes'])},",
            f"    dead_letter_retention={days(manifest['dead_letter_retention'])},",
            ")",
        ]
    lines += ["", "ALL: Final[tuple[Topic[Message], ...]] = (", *(f"    {name}," for name in names), ")", ""]
    text = "\n".join(lines)
    (out / "anabranch" / "topics.py").write_text(text)


def main() -> int:
    """Writes, or compares with what is committed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    check = parser.parse_args().check
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch)
        (out / "anabranch").mkdir()
        messages_and_services(out)
        topics(out)
        (out / "anabranch" / "py.typed").touch()
        fresh = {path.relative_to(out): path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}
    kept = {
        path.relative_to(TARGET): path.read_bytes()
        for path in sorted((TARGET / "anabranch").rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }
    if check:
        differing = sorted(str(path) for path in fresh.keys() | kept.keys() if fresh.get(path) != kept.get(path))
        if differing:
            print("generated code differs from protos/; run `make gen`:", *differing, sep="\n  ")
            return 1
        print(f"generated code is up to date ({len(fresh)} files)")
        return 0
    for path in kept.keys() - fresh.keys():
        (TARGET / path).unlink()
    for path, content in fresh.items():
        (TARGET / path).parent.mkdir(parents=True, exist_ok=True)
        (TARGET / path).write_bytes(content)
    print(f"wrote {len(fresh)} files")
    return 0


if __name__ == "__main__":
    sys.exit(main())
