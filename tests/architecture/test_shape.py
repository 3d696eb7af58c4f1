"""The same anatomy in every service, proved by looking."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SERVICES = sorted(path.parent for path in (ROOT / "services").glob("*/pyproject.toml"))
MEMBERS = [
    *SERVICES,
    *sorted(path.parent for path in (ROOT / "libs").glob("*/pyproject.toml")),
    ROOT / "deploy" / "local",
]
MODULES = ("settings", "bootstrap", "domain", "application", "entrypoints", "adapters")
TESTS = ("test_domain", "test_application", "test_entrypoints", "test_adapters")
README_WORDS = ("consumes", "publishes", "serves", "owns")
FORBIDDEN_NAMES = {"common", "core", "utils", "helpers", "manager"}
LONGEST = 450  # lines; about 300 is the aim, generated and template files aside


def package(service: Path) -> Path:
    return service / "src" / f"anabranch_{service.name}"


def sources(member: Path) -> list[Path]:
    return [path for path in (member / "src").rglob("*.py") if member.name != "contracts"]


def names(members: list[Path]) -> list[str]:
    return [member.name for member in members]


@pytest.mark.parametrize("service", SERVICES, ids=names(SERVICES))
def test_every_service_has_the_same_rooms(service: Path) -> None:
    inside = package(service)
    missing = [name for name in MODULES if not ((inside / f"{name}.py").is_file() or (inside / name).is_dir())]
    assert not missing
    for name in ("__init__.py", "__main__.py", "py.typed"):
        assert (inside / name).is_file(), name
    for name in TESTS:
        assert (service / "tests" / f"{name}.py").is_file() or (service / "tests" / name).is_dir(), name


@pytest.mark.parametrize("service", SERVICES, ids=names(SERVICES))
def test_every_service_says_what_it_consumes_publishes_serves_and_owns(service: Path) -> None:
    text = (service / "README.md").read_text().lower()
    assert [word for word in README_WORDS if word not in text] == []


@pytest.mark.parametrize("member", MEMBERS, ids=names(MEMBERS))
def test_no_module_has_a_name_that_says_nothing(member: Path) -> None:
    assert [path.name for path in sources(member) if path.stem in FORBIDDEN_NAMES] == []


@pytest.mark.parametrize("member", MEMBERS, ids=names(MEMBERS))
def test_no_file_outgrows_a_sitting(member: Path) -> None:
    assert [path.name for path in sources(member) if len(path.read_text().splitlines()) > LONGEST] == []


@pytest.mark.parametrize("member", MEMBERS, ids=names(MEMBERS))
def test_a_member_declares_what_it_imports_of_the_workspace(member: Path) -> None:
    declared = {
        re.split(r"[\[<>=~! ]", line)[0]
        for line in tomllib.loads((member / "pyproject.toml").read_text())["project"]["dependencies"]
    }
    imported = set()
    for path in sources(member):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                imported.add(node.module.split(".")[0])
            elif isinstance(node, ast.Import):
                imported.update(alias.name.split(".")[0] for alias in node.names)
    wanted = {
        "anabranch-contracts" if name == "anabranch" else name.replace("_", "-")
        for name in imported
        if name.split("_")[0] == "anabranch"
    }
    own = tomllib.loads((member / "pyproject.toml").read_text())["project"]["name"]
    assert wanted - declared - {own} == set()


def test_every_service_is_under_the_import_contracts() -> None:
    contracts = (ROOT / ".importlinter").read_text()
    for service in SERVICES:
        for contract in ("layers", "pure"):
            assert f"[importlinter:contract:{contract}-{service.name}]" in contracts


@pytest.mark.parametrize("service", SERVICES, ids=names(SERVICES))
def test_importing_a_service_opens_nothing_and_reads_no_environment(service: Path) -> None:
    program = """
import importlib, os, pkgutil, socket, sys

class Watched(dict):
    def __getitem__(self, key): note(key); return super().__getitem__(key)
    def get(self, key, default=None): note(key); return super().get(key, default)
    def __contains__(self, key): note(key); return super().__contains__(key)

def note(key):
    if str(key).startswith("ANABRANCH_"):
        sys.exit(f"importing read {key}")

def refuse(*args, **kwargs):
    sys.exit("importing opened a socket")

socket.socket.connect = refuse
socket.socket.bind = refuse
socket.has_ipv6 = False  # urllib3 would try a bind to find out
os.environ = Watched(os.environ)
package = importlib.import_module(sys.argv[1])
for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
    if not module.name.endswith("__main__") and ".migrations" not in module.name:
        importlib.import_module(module.name)
"""
    done = subprocess.run(
        [sys.executable, "-c", program, f"anabranch_{service.name}"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
