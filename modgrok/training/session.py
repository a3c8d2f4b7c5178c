"""One process at work on a run folder: the lock it holds, and the signals it handles."""

import contextlib
import os
import platform
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from accelerate import Accelerator
from filelock import FileLock, Timeout

from modgrok.config import Config
from modgrok.storage.files import make_folder, read_bytes, write_atomically
from modgrok.storage.find import find_run
from modgrok.storage.runs import Run
from modgrok.storage.verify import check
from modgrok.training.process import terminate_with_parent

WAITING_INTERVAL = 10
"""Seconds between two exchanges of processes that wait for another trainer; a group that is silent is given up."""


def finished_folder(config: Config, root: str | Path, anew: bool = False) -> Path | None:
    """The folder of a config's finished run, or None if there is none.

    It is root/NAME, where a training would put it, or one deeper below the root unless the run is wanted `anew`. Raises
    ValueError if root/NAME holds something else than this run.
    """
    path = Path(root, config.name)
    if os.path.lexists(path / "config.json") and Run(path).finished:
        return path
    with contextlib.suppress(FileNotFoundError):
        return None if anew else find_run(config, root).path


def finished_run(path: Path) -> Run:
    """A finished run, verified; a resume point is removed if the process that finished the run left one.

    Raises ValueError, which says what helps, if a file is missing or damaged.
    """
    resume = path / "resume.safetensors"
    if resume.exists():
        resume.unlink(missing_ok=True)
    run = Run(path)
    check(run)
    return run


@contextlib.contextmanager
def held(path: Path, accelerator: Accelerator) -> Iterator[None]:
    """Hold a run's folder, so that no other process trains it; wait while another one does.

    SIGTERM raises KeyboardInterrupt in the body, as SIGINT does, so that the folder is let go; it is removed if
    nothing is in it. The system releases the lock of a process that is killed.

    Raises:
        KeyboardInterrupt: SIGINT or SIGTERM came.
        OSError: the folder cannot be made or written.
    """
    if not accelerator.is_main_process:
        while not _all_ready(True, accelerator):
            pass
        yield
        return
    holder, lock = path / "holder", FileLock(path / "lock")

    def stop(signal_number: int, frame: object) -> None:
        raise KeyboardInterrupt("stopped by SIGTERM before the first step; the same command starts again.")

    with terminate_with_parent(), handling((signal.SIGTERM,), stop):  # an orphaned kernel tidies up, too
        try:
            make_folder(path)
            seconds = 0
            while not _all_ready(_acquire(lock, seconds), accelerator):
                if not seconds:
                    print(
                        f"{path.name} is being trained by {_holder_name(holder)}; waiting for it.", flush=True
                    )
                seconds = WAITING_INTERVAL
            write_atomically(holder, f"process {os.getpid()} on {platform.node()}")
            yield
        finally:
            if lock.is_locked:
                holder.unlink(missing_ok=True)
                if os.listdir(path) == ["lock"]:
                    (path / "lock").unlink()
                lock.release()
            with contextlib.suppress(OSError):  # it is not empty
                path.rmdir()


def _holder_name(holder: Path) -> str:
    with contextlib.suppress(OSError, ValueError):  # the other process has just come or is about to go
        return read_bytes(holder, 1000).decode()
    return "another process"


def _acquire(lock: FileLock, seconds: float) -> bool:
    with contextlib.suppress(Timeout):
        lock.acquire(timeout=seconds)
    return lock.is_locked


def _all_ready(is_ready: bool, accelerator: Accelerator) -> bool:
    """Whether all processes are ready; asked repeatedly, since no process may be silent for long."""
    return bool(accelerator.gather(torch.tensor([int(is_ready)], device=accelerator.device)).all())


@contextlib.contextmanager
def handling(numbers: tuple[int, ...], handler: Callable[[int, object], None]) -> Iterator[None]:
    """Handle some signals in the body; nothing outside the main thread, where Python allows no handlers."""
    is_main_thread = threading.current_thread() is threading.main_thread()
    handlers = {number: signal.signal(number, handler) for number in numbers if is_main_thread}
    try:
        yield
    finally:
        for number, former_handler in handlers.items():
            signal.signal(number, former_handler)


@contextlib.contextmanager
def signals() -> Iterator[list[int]]:
    """Collect SIGINT and SIGTERM in a list instead of dying of them, so that a step can end before the stop.

    In a notebook's kernel the end of the process that started it counts as SIGTERM, too.
    """
    received: list[int] = []
    numbers = signal.SIGINT, signal.SIGTERM
    with handling(numbers, lambda number, frame: received.append(number)), terminate_with_parent():
        yield received
