"""Processes that end with the process that started them, even if that is killed."""

import contextlib
import ctypes
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

PR_SET_PDEATHSIG, PR_GET_PDEATHSIG = 1, 2
"""Options of Linux's prctl: the signal that a process gets when its parent ends."""

SAVING_TIMEOUT = 60
"""Seconds that an orphaned kernel waits for a training to save."""


def die_with_parent(parent: int | None = None) -> None:
    """Have the system kill this process as soon as the one that started it ends, however it ends (Linux only).

    That one may have ended before this call. It shows in its process id, `parent`, or, where this is not known, in
    the machine's first process being the parent (in a container that may itself be the launcher).
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        is_adopted = os.getppid() == 1 and b"python" not in Path("/proc/1/cmdline").read_bytes()
        if is_adopted if parent is None else os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)


@contextlib.contextmanager
def terminate_with_parent() -> Iterator[None]:
    """In a Jupyter kernel, get SIGTERM as soon as the process that started the kernel ends (Linux only).

    A kernel whose parent is gone exits within a second. It waits here until the body has ended.
    """
    module = sys.modules.get("ipykernel.kernelapp")
    if sys.platform != "linux" or module is None or not module.IPKernelApp.initialized():
        yield
        return
    libc, former_signal, has_ended = ctypes.CDLL(None), ctypes.c_int(), threading.Event()

    def wait(record: logging.LogRecord) -> bool:
        """Hold up the thread that is about to end the kernel, which logs a warning before it does."""
        is_poller = type(threading.current_thread()).__name__ == "ParentPollerUnix"
        return not (is_poller and has_ended.wait(SAVING_TIMEOUT))

    log = logging.getLogger(module.IPKernelApp.instance().log.name)
    level = log.level
    log.setLevel(logging.WARNING)
    log.addFilter(wait)
    libc.prctl(PR_GET_PDEATHSIG, ctypes.byref(former_signal))
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    try:
        yield
    finally:
        libc.prctl(PR_SET_PDEATHSIG, former_signal.value)
        log.removeFilter(wait)
        log.setLevel(level)
        has_ended.set()
