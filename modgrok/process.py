"""Child processes that end with the process that started them, even if that is killed."""

import ctypes
import os
import signal
import sys


def die_with_parent(parent: int | None = None) -> None:
    """Have the system kill this process as soon as the one that started it ends, however it ends (Linux only).

    Args:
        parent: its process id, if known; it may have ended before this call.
    """
    if sys.platform == "linux":
        PR_SET_PDEATHSIG = 1
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if parent is not None and os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)
