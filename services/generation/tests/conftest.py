from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from anabranch_local.cache import locked

# llama.cpp with its HTTP server in a wheel (34 MB), and the writer of its model files. Kept apart from the workspace:
# they are heavy, and nothing but one test needs them.
PACKAGES = ("xllamacpp==2026.10.11549", "gguf==0.19.0")
KEY = "generation-llama-cpp-1"


def _environment() -> Path:
    """The interpreter of the environment, made once a machine: about 20 s cold."""
    with locked(KEY) as cache:
        folder = cache / KEY
        if not (folder / "ready").exists():
            subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
            pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            subprocess.run([*pip, "--only-binary", ":all:", *PACKAGES], check=True)
            (folder / "ready").touch()
    return folder / "bin" / "python"


@pytest.fixture(scope="session")
def llama_server() -> Iterator[str]:
    """Base url of a llama.cpp server that says one sentence over and over; its key is `sesame`."""
    serve = Path(__file__).parent / "llama_server" / "serve.py"
    with tempfile.TemporaryDirectory() as folder, (Path(folder) / "log").open("wb") as log:
        process = subprocess.Popen(
            [str(_environment()), str(serve), f"{folder}/model.gguf"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            text=True,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            url = next((line.strip() for line in process.stdout if line.startswith("http")), "")
            assert url, (Path(folder) / "log").read_text()[-2000:]
            yield url
        finally:
            process.stdin.close()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
