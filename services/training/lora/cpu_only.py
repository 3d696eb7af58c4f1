"""Lets a CUDA build of torch run where there is no CUDA: `PYTHON cpu_only.py`, by the interpreter that has the torch.

The package index has no build of torch for Linux without CUDA, and the libraries that its build is linked with take
gigabytes. They are not installed; an empty library takes the place of each that is missing, with the functions torch
asks of it, all of which answer that there is no device. Nothing of torch is changed. Needs a C compiler and binutils.
On a machine with a GPU install requirements.in instead of requirements.lock, and leave this out.
"""

from __future__ import annotations

import re
import subprocess
import sys
import sysconfig
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

NO_DEVICE = 100
"""cudaErrorNoDevice; to the other libraries, some failure."""
OF_CUDA = re.compile(r"lib(?:cu|nv|nccl)")
LOOSE = {"libnccl.so": "nccl", "libcufile.so": "cuFile", "libcusparseLt.so": "cusparseLt", "libcuda.so": "cu"}
"""Libraries whose functions carry no version, and what their names begin with."""
TEXTS = re.compile(r".*(?:String|Name|GetLastError)|__cudaRegisterFatBinary")
"""Functions that return a pointer."""


def main() -> int:
    """Writes what is missing into torch's own folder of libraries."""
    folder = Path(sysconfig.get_path("platlib")) / "torch" / "lib"
    objects = sorted(path for path in folder.glob("*.so*") if path.is_file())
    if sys.platform != "linux" or not any("cuda" in path.name for path in objects):
        print("this torch was not built for CUDA; nothing to do")
        return 0
    there = {path.name for path in objects}
    missing = {name for path in objects for name in _needed(path) if OF_CUDA.match(name) and name not in there}
    if not missing or list(folder.parents[1].glob("nvidia/**/libcudart.so*")):
        print("CUDA's libraries are there; nothing to do")
        return 0
    wanted: dict[tuple[str, str], set[str]] = defaultdict(set)
    for path in objects:
        libraries = _versions(path)
        for line in _said("nm", "--dynamic", "--undefined-only", "--with-symbol-versions", str(path)):
            name, _, version = line.split()[-1].partition("@")
            version = version.strip("@")
            wanted[libraries.get(version, ""), version].add(name)
    for library in sorted(missing):
        versions = {version: names for (of, version), names in wanted.items() if of == library}
        prefix = next((start for name, start in LOOSE.items() if library.startswith(name)), None)
        loose = {name for name in wanted["", ""] if prefix and name.startswith(prefix)}
        _write(folder / library, loose, versions)
    print(f"{len(missing)} libraries of CUDA stood in for: {', '.join(sorted(missing))}")
    return 0


def _needed(path: Path) -> Iterable[str]:
    return re.findall(r"\(NEEDED\).*\[(.+)\]", "\n".join(_said("readelf", "--dynamic", str(path))))


def _versions(path: Path) -> Mapping[str, str]:
    """Version of a symbol -> the library that defines it."""
    found: dict[str, str] = {}
    library = ""
    for line in _said("readelf", "--version-info", "--wide", str(path)):
        if of := re.search(r"File: (\S+)", line):
            library = of[1]
        elif version := re.search(r"Name: (\S+)\s+Flags", line):
            found[version[1]] = library
    return found


def _write(path: Path, loose: set[str], versions: Mapping[str, set[str]]) -> None:
    names = sorted(loose.union(*versions.values()))
    lines = ['static const char text[] = "there is no CUDA here";']
    for name in names:
        kind, value = ("const char *", "text") if TEXTS.fullmatch(name) else ("long ", str(NO_DEVICE))
        lines.append(f"{kind}{name}(void) {{ return {value}; }}")
    with tempfile.TemporaryDirectory() as apart:
        source, script = Path(apart) / "stub.c", Path(apart) / "versions"
        source.write_text("\n".join(lines) + "\n", encoding="utf-8")
        script.write_text(
            "".join(f"{version} {{ global: {'; '.join(sorted(held))}; }};\n" for version, held in versions.items()),
            encoding="utf-8",
        )
        options = [f"-Wl,--version-script,{script}"] if versions else []
        flags = ["-shared", "-fPIC", "-w", "-fno-builtin", f"-Wl,-soname,{path.name}"]
        _said("cc", *flags, *options, "-o", str(path), str(source))


def _said(*command: str) -> list[str]:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    except FileNotFoundError:
        sys.exit(f"{command[0]} is missing: install a C compiler and binutils, or torch with all it asks for")
    except subprocess.CalledProcessError as error:
        sys.exit(f"{' '.join(command[:4])} failed: {error.stderr[-500:]}")


if __name__ == "__main__":
    sys.exit(main())
