"""Child processes that end with the process that started them, even if that is killed."""

import ctypes
import os
import signal
import sys
from pathlib import Path


def die_with_parent(parent: int | None = None) -> None:
    """Have the system kill this process as soon as the one that started it ends, however it ends (Linux only).

    Args:
        parent: its process id, if known. It may have ended before this call; where it is not known, that is told by the
            first process of the machine having taken its place (which in a container may itself be the launcher).
    """
    if sys.platform == "linux":
        PR_SET_PDEATHSIG = 1
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        adopted = os.getppid() == 1 and b"python" not in Path("/proc/1/cmdline").read_bytes()
        if adopted if parent is None else os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)
