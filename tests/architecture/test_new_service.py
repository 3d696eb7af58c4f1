"""`make new-service` makes a service that passes everything the others pass."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MAKER = ROOT / "services" / "_template" / "new_service.py"
IGNORED = shutil.ignore_patterns(".git", ".venv", ".uv", "__pycache__", ".*_cache", ".anabranch", ".hypothesis")
BIN = Path(sys.executable).parent


def made(checkout: Path, name: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(MAKER), name, "--root", str(checkout)]
    return subprocess.run(command, check=False, capture_output=True, text=True)


@pytest.mark.slow
def test_a_new_service_passes_lint_types_imports_its_own_tests_and_the_architecture(tmp_path: Path) -> None:
    checkout = tmp_path / "checkout"
    shutil.copytree(ROOT, checkout, ignore=IGNORED)
    assert made(checkout, "auditing").returncode == 0
    inside = {**os.environ, "PYTHONPATH": str(checkout / "services" / "auditing" / "src")}
    checks: list[list[Path | str]] = [
        [BIN / "ruff", "check", "services/auditing"],
        [BIN / "ruff", "format", "--check", "services/auditing"],
        [BIN / "lint-imports"],
        [BIN / "mypy", "services/auditing"],
        [BIN / "pytest", "-q", "-p", "no:cacheprovider", "services/auditing"],
        [BIN / "pytest", "-q", "-p", "no:cacheprovider", "tests/architecture/test_shape.py", "-k", "auditing"],
    ]
    for check in checks:
        done = subprocess.run(
            [str(part) for part in check], check=False, capture_output=True, text=True, cwd=checkout, env=inside
        )
        assert done.returncode == 0, f"{check}\n{done.stdout[-3000:]}{done.stderr[-2000:]}"


@pytest.mark.parametrize("name", ["Bus", "a b", "../x", "bus", "gateway", ""])
def test_a_name_that_will_not_do_is_refused_and_nothing_is_written(tmp_path: Path, name: str) -> None:
    (tmp_path / "services" / "gateway").mkdir(parents=True)
    done = made(tmp_path, name)
    assert done.returncode != 0
    assert [path.name for path in (tmp_path / "services").iterdir()] == ["gateway"]
