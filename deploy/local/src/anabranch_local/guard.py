"""Run a command that dies with its parent: `python -I -S guard.py PARENT_PID COMMAND...`.

A program of its own, so that no code runs between fork and exec in a parent that may have threads (gRPC forbids it).
The death signal survives exec; afterwards nothing of Python is left.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Bind this process's life to the parent's, then become the command."""
    parent = int(sys.argv[1])
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # the parent went away before the request was in force
        sys.exit(1)
    os.execvp(sys.argv[2], sys.argv[2:])  # noqa: S606 - the command is the caller's, and no shell is wanted


if __name__ == "__main__":
    main()
