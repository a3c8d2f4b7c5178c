"""Kernels of the book's build: each has the Python of the build, nothing of the user's start-up, and ends with it.

On Linux a chapter's kernel is a fork of a process that has loaded the library, which takes seconds of a new one.
"""

import contextlib
import ctypes
import functools
import gc
import json
import os
import signal
import subprocess
import sys
from typing import Any

from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from jupyter_client.provisioning import LocalProvisioner

PR_SET_PDEATHSIG = 1
"""Option of Linux's prctl: the signal that a process gets when its parent ends."""

ENVIRONMENT = {
    "IPYTHONDIR": "_build/ipython", "MPLBACKEND": "module://matplotlib_inline.backend_inline",  # not the user's
    "PYDEVD_DISABLE_FILE_VALIDATION": "1",  # else the debugger warns on every page
    "MODGROK_BOOK": "1",  # what `modgrok.live.in_book` asks
}  # fmt: skip
"""What a kernel's environment has besides that of the build."""


class ThisPython(AsyncKernelManager):
    """Starts kernels with the Python that runs the build, whichever kernels are installed elsewhere."""

    @property
    def kernel_spec(self) -> KernelSpec:
        # the kernel has a session of its own, so that it must be told to end with us
        start = (
            "import ctypes, os, sys\n"
            "if sys.platform == 'linux':\n"
            f"    ctypes.CDLL(None).prctl({PR_SET_PDEATHSIG}, {int(signal.SIGKILL)})\n"
            f"    if os.getppid() != {os.getpid()}: sys.exit()\n"
            "from ipykernel.kernelapp import launch_new_instance\n"
            "launch_new_instance()"
        )
        command = [sys.executable, "-c", start, "-f", "{connection_file}", "--log-level=50"]
        command += ["--IPKernelApp.exec_PYTHONSTARTUP=False"]
        return KernelSpec(argv=command, display_name="Python 3", language="python", env=ENVIRONMENT)


class ForkedPython(ThisPython):
    """Starts the same kernels as forks of a process that has loaded the library (Linux only)."""

    def __init__(self, **options) -> None:
        super().__init__(**options)
        self.provisioner = Forks(kernel_spec=self.kernel_spec, parent=self)


class Forks(LocalProvisioner):
    """Has kernels forked, where its base class starts their command."""

    async def launch_kernel(self, cmd: list[str], **options) -> dict[str, Any]:
        """Start the kernel that `cmd`, a command of `ThisPython`, would start; return how to connect to it."""
        folder = os.path.abspath(options.get("cwd") or ".")
        server = _server(folder)
        arguments = [*cmd[3:], f"--IPKernelApp.parent_handle={server.pid}"]
        print(json.dumps([arguments, folder, options["env"]]), file=server.stdin, flush=True)
        self.process = Fork(int(server.stdout.readline()))
        self.pid = self.pgid = self.process.pid
        return self.connection_info


class Fork:
    """A forked kernel, with what `jupyter_client` uses of the interface of `subprocess.Popen`."""

    stdin = stdout = stderr = None

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def poll(self) -> int | None:
        """None while the process lives, else 1: its status is not known."""
        with contextlib.suppress(ProcessLookupError):
            return os.kill(self.pid, 0)
        return 1

    wait = poll

    def send_signal(self, number: int) -> None:
        """Send a signal; a ProcessLookupError says that the process has ended."""
        os.kill(self.pid, number)

    kill = terminate = functools.partialmethod(send_signal, signal.SIGKILL)


@functools.cache
def _server(folder: str) -> subprocess.Popen:
    """A process at work on `serve` in a folder; it ends when this one does."""
    command = [sys.executable, "-c", f"import runpy; runpy.run_path({__file__!r})['serve']()"]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=folder, env=os.environ | ENVIRONMENT,
        start_new_session=True,
    )  # fmt: skip


def serve() -> None:
    """Load the library; fork a kernel for each line of the input, and print its process id.

    A line is JSON: the kernel's arguments, folder and environment. The end of the input ends this process and its
    kernels.
    """
    from ipykernel.kernelapp import launch_new_instance

    with contextlib.suppress(ImportError):
        import scipy.stats  # noqa: F401

        import modgrok.book.findings
        import modgrok.live
        import modgrok.plots  # noqa: F401
        from modgrok.training.engine import keep_memory

        keep_memory()  # in a chapter with large arrays, new pages from the system take a third of the time
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the kernels
    gc.freeze()
    server = os.getpid()
    while request := sys.stdin.readline():
        if pid := os.fork():
            print(pid, flush=True)
            continue
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != server:
            sys.exit()
        os.setsid()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(2, 1)  # no longer the pipe
        sys.argv[1:], folder, environment = json.loads(request)
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        return launch_new_instance()
