"""`make new-service name=x`: a service of the standard shape, wired into the workspace, its tests green.

Everything beside this file is copied to services/<name>, with `template` replaced by the name; then the workspace, the
type checker and the import contracts learn about it. Nothing is overwritten.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
from pathlib import Path

TEMPLATE = Path(__file__).resolve().parent
ROOT = TEMPLATE.parents[1]
NAME = re.compile(r"[a-z][a-z0-9]{1,30}")
RESERVED = {"bus", "cli", "client", "contracts", "faults", "local", "observability", "rpc", "runtime", "store"}

CONTRACTS = """
[importlinter:contract:layers-{name}]
name = Inside {name}, dependencies point inwards
type = layers
containers = anabranch_{name}
layers =
    __main__
    bootstrap
    (entrypoints) | (adapters)
    (application)
    (domain)

[importlinter:contract:pure-{name}]
name = The inside of {name} knows no transport
type = forbidden
source_modules =
    anabranch_{name}.domain
    anabranch_{name}.application
forbidden_modules =
    aiokafka
    anabranch_bus
    anabranch_rpc
    faststream
    google
    grpc
    pydantic
    structlog
"""


def filled(text: str, name: str) -> str:
    """The template's text with the service's name in every form it takes."""
    return text.replace("TEMPLATE", name.upper()).replace("Template", name.capitalize()).replace("template", name)


def copy(root: Path, name: str) -> list[Path]:
    """Copies the files, their suffix `.tmpl` left off. Returns what was written."""
    written = []
    for source in sorted(TEMPLATE.rglob("*.tmpl")):
        relative = filled(str(source.relative_to(TEMPLATE)).removesuffix(".tmpl"), name)
        target = root / "services" / name / relative
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(filled(source.read_text(), name))
        written.append(target)
    return written


def insert_sorted(text: str, line: str, pattern: str) -> str:
    """Inserts a line before the first one of its kind that sorts after it, or behind the last of them."""
    lines = text.splitlines(keepends=True)
    places = [index for index, each in enumerate(lines) if re.fullmatch(pattern, each.rstrip("\n"))]
    if not places:
        raise SystemExit(f"found no line like {pattern!r} to stand beside {line!r}")
    if line + "\n" in (lines[index] for index in places):
        return text
    place = next((index for index in places if lines[index] > line + "\n"), places[-1] + 1)
    return "".join([*lines[:place], line + "\n", *lines[place:]])


def register(root: Path, name: str) -> None:
    """Tells the workspace, the type checker, coverage and the import contracts."""
    pyproject = root / "pyproject.toml"
    text = pyproject.read_text()
    text = insert_sorted(text, f'    "anabranch-{name}",', r'    "anabranch-(?!testkit)[a-z0-9]+",')
    text = insert_sorted(text, f"anabranch-{name} = {{ workspace = true }}", r"anabranch-[a-z0-9]+ = .*")
    text = insert_sorted(text, f'    "services/{name}/src",', r'    "services/[a-z0-9]+/src",')
    text = text.replace('"anabranch_testkit"', f'"anabranch_testkit", "anabranch_{name}"', 1)
    pyproject.write_text(text)
    linter = root / ".importlinter"
    # Two lists name every service; what some contract forbids looks like a third, and is none.
    head, *sections = re.split(r"(?m)^(?=\[importlinter:)", linter.read_text())
    head = insert_sorted(head, f"    anabranch_{name}", r"    anabranch_[a-z0-9]+")
    apart = next(
        index for index, each in enumerate(sections) if each.startswith("[importlinter:contract:services-apart]")
    )
    sections[apart] = insert_sorted(sections[apart], f"    anabranch_{name}", r"    anabranch_[a-z0-9]+")
    linter.write_text("".join([head, *sections]).rstrip("\n") + "\n" + CONTRACTS.format(name=name))


def main() -> int:
    """Makes the service."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", help="one lower-case word")
    parser.add_argument("--root", type=Path, default=ROOT, help="checkout to work in")
    options = parser.parse_args()
    name: str = options.name
    if not NAME.fullmatch(name) or name in RESERVED:
        raise SystemExit(f"name: {name!r} must be one lower-case word of letters and digits, and not a library's name")
    if (options.root / "services" / name).exists():
        raise SystemExit(f"name: services/{name} exists already")
    written = copy(options.root, name)
    try:
        register(options.root, name)
    except BaseException:
        shutil.rmtree(options.root / "services" / name)
        raise
    # Where an import stands depends on the name it has now.
    ruff = str(Path(sys.executable).parent / "ruff")
    for command in (["check", "--quiet", "--select", "I", "--fix"], ["format", "--quiet"]):
        subprocess.run([ruff, *command, f"services/{name}"], check=True, cwd=options.root)
    for path in written:
        print(path.relative_to(options.root))
    print(
        f"\nservices/{name} is wired in. Its contract goes to protos/anabranch/{name}/v1; see services/{name}/README.md"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
