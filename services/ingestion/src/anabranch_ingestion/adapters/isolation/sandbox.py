"""What a worker gives up before it reads its first document: memory, files, network, processes.

Each measure is applied where the kernel has it; `confine` says which hold, and the pool logs it. None needs
privileges, and all of them are irreversible for the process.

- limits: address space, no core dumps, no file can grow, few descriptors;
- Landlock: files can be read only under the interpreter, its packages and the system's libraries;
- seccomp: no socket can be opened or connected, no process started, no file made, changed or removed;
- an audit hook says the same to Python code, on kernels without the two above.
"""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import signal
import struct
import sys
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38
_PR_SET_SECCOMP = 22
_SECCOMP_MODE_FILTER = 2
_SECCOMP_RET_ALLOW = 0x7FFF0000
_SECCOMP_RET_ERRNO = 0x00050000
_EPERM, _ENOSYS = 1, 38
_CLONE_THREAD = 0x00010000
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC

# AUDIT_ARCH, clone, clone3, (system call, index of its flags argument) of what opens files, and what is refused.
_X86_64 = (
    0xC000003E,
    56,
    435,
    ((2, 1), (257, 2)),
    # socket connect bind listen accept accept4; fork vfork execve execveat; kill ptrace process_vm_readv/writev;
    # truncate rename mkdir rmdir creat link unlink symlink chmod fchmod chown fchown lchown mknod; the *at forms;
    # mount umount2 pivot_root chroot unshare setns; bpf io_uring_setup keyctl add_key request_key pidfd_getfd
    (
        41, 42, 49, 50, 43, 288, 57, 58, 59, 322, 62, 101, 310, 311, 76, 82, 83, 84, 85, 86, 87, 88, 90, 91, 92, 93, 94,
        133, 258, 259, 260, 263, 264, 265, 266, 268, 316, 165, 166, 155, 161, 272, 308, 321, 425, 248, 249, 250, 438,
        437,
    ),
)  # fmt: skip
_AARCH64 = (
    0xC00000B7,
    220,
    435,
    ((56, 2),),
    (
        198, 203, 200, 201, 202, 242, 221, 281, 129, 117, 270, 271, 45, 38, 276, 34, 33, 35, 36, 37, 52, 53, 54, 55, 40,
        39, 41, 51, 97, 268, 280, 425, 217, 218, 219, 438, 437,
    ),
)  # fmt: skip
_ARCHITECTURES = {"x86_64": _X86_64, "aarch64": _AARCH64}
_LANDLOCK_CREATE, _LANDLOCK_ADD, _LANDLOCK_RESTRICT = 444, 445, 446
# The thirteen rights of the first version: execute, write, read file, read folder, remove, make.
_LANDLOCK_ALL = (1 << 13) - 1
_LANDLOCK_READ = (1 << 2) | (1 << 3)
_READABLE = (
    "/usr/lib",
    "/usr/lib64",
    "/lib",
    "/lib64",
    "/usr/share/zoneinfo",
    "/etc/ld.so.cache",
    "/dev/null",
    "/dev/urandom",
)
_FORBIDDEN_EVENTS = ("socket.connect", "socket.bind", "socket.getaddrinfo", "subprocess.Popen", "os.fork", "os.exec")


def confine(*, memory_bytes: int) -> list[str]:
    """Gives up what is listed above; the names of the measures that hold. Call when everything is imported."""
    libc = ctypes.CDLL(None, use_errno=True)
    held = ["limits", "audit"]
    _limits(memory_bytes)
    # A worker must not outlive its pool, whatever it is busy with.
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0:
        if _landlock(libc):
            held.append("landlock")
        if _seccomp(libc):
            held.append("seccomp")
    sys.addaudithook(_audit)
    return held


def resident_bytes(pid: int | str) -> int:
    """The process's memory in use; 0 when it is gone."""
    try:
        with Path(f"/proc/{pid}/statm").open("rb") as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError, ValueError):
        return 0


def peak_bytes(pid: int) -> int:
    """The most memory the process ever had in use; 0 when it is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return 0
    return next((int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("VmHWM:")), 0)


def _limits(memory_bytes: int) -> None:
    # Mapped libraries count as address space without being in use: the cap is on what is added from here on.
    with Path("/proc/self/statm").open("rb") as statm:
        size, resident = (int(n) * os.sysconf("SC_PAGE_SIZE") for n in statm.read().split()[:2])
    space = size + max(memory_bytes - resident, 64 << 20)
    for limit, value in (
        (resource.RLIMIT_AS, space),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, 64),
    ):
        resource.setrlimit(limit, (value, value))


def _audit(event: str, arguments: tuple[object, ...]) -> None:
    if event in _FORBIDDEN_EVENTS:
        raise PermissionError(f"{event} is not allowed while reading a document")
    if event == "open" and len(arguments) > 2 and isinstance(arguments[2], int) and arguments[2] & _WRITING:  # noqa: PLR2004  path, mode, flags
        raise PermissionError("writing files is not allowed while reading a document")


def _seccomp(libc: ctypes.CDLL) -> bool:
    architecture = _ARCHITECTURES.get(platform.machine())
    if architecture is None:
        return False
    audit, clone, clone3, opening, refused = architecture
    program = _program(audit, clone, clone3, opening, refused)
    buffer = ctypes.create_string_buffer(program)
    header = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(buffer))
    return bool(libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, header, 0, 0) == 0)


def _program(
    audit: int, clone: int, clone3: int, opening: tuple[tuple[int, int], ...], refused: tuple[int, ...]
) -> bytes:
    """BPF: refuse by number, opening for writing by flags, cloning by flags; allow the rest."""

    def load(offset: int) -> bytes:
        return struct.pack("HBBI", 0x20, 0, 0, offset)

    def jump(code: int, value: int, yes: int, no: int) -> bytes:
        return struct.pack("HBBI", code, yes, no, value)

    def answer(value: int) -> bytes:
        return struct.pack("HBBI", 0x06, 0, 0, value)

    equal, has_bits = 0x15, 0x45
    number, architecture, argument = load(0), load(4), [load(16 + 8 * i) for i in range(6)]
    denied = answer(_SECCOMP_RET_ERRNO | _EPERM)
    steps = [architecture, jump(equal, audit, 1, 0), denied, number]
    for call in refused:
        steps += [jump(equal, call, 0, 1), denied]
    # glibc falls back from clone3, whose flags a filter cannot see, to clone.
    steps += [jump(equal, clone3, 0, 1), answer(_SECCOMP_RET_ERRNO | _ENOSYS)]
    steps += [
        jump(equal, clone, 0, 4),
        argument[0],
        jump(has_bits, _CLONE_THREAD, 1, 0),
        denied,
        answer(_SECCOMP_RET_ALLOW),
    ]
    for call, index in opening:
        steps += [
            jump(equal, call, 0, 4),
            argument[index],
            jump(has_bits, _WRITING, 0, 1),
            denied,
            answer(_SECCOMP_RET_ALLOW),
        ]
    return b"".join([*steps, answer(_SECCOMP_RET_ALLOW)])


def _landlock(libc: ctypes.CDLL) -> bool:
    rules = struct.pack("Q", _LANDLOCK_ALL)
    ruleset = libc.syscall(_LANDLOCK_CREATE, rules, ctypes.c_size_t(len(rules)), 0)
    if ruleset < 0:
        return False
    try:
        for place in dict.fromkeys([sys.prefix, sys.base_prefix, *sys.path, *_READABLE]):
            _allow(libc, ruleset, place)
        return bool(libc.syscall(_LANDLOCK_RESTRICT, ruleset, 0) == 0)
    finally:
        os.close(ruleset)


def _allow(libc: ctypes.CDLL, ruleset: int, place: str) -> None:
    try:
        descriptor = os.open(place, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        rights = _LANDLOCK_READ if Path(place).is_dir() else 1 << 2
        rule = struct.pack("=Qi", rights, descriptor)
        libc.syscall(_LANDLOCK_ADD, ruleset, 1, rule, 0)
    finally:
        os.close(descriptor)
