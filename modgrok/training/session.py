"""One process at work on a run folder: the lock it holds, and the signals it handles."""

import contextlib
import os
import platform
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import torch
from accelerate import Accelerator
from filelock import FileLock, Timeout

from modgrok.config import Config
from modgrok.storage.files import make_folder, read_bytes, write_atomically
from modgrok.storage.find import collision, find_run, same_result
from modgrok.storage.runs import Run
from modgrok.storage.verify import check
from modgrok.training.process import terminate_with_parent

WAITING_INTERVAL = 10
"""Seconds between two exchanges of processes that wait for another trainer; a group that is silent is given up."""


def is_finished(path: Path, config: Config) -> bool:
    """Whether a folder holds the finished run of a config.

    Raises:
        ValueError: the folder holds a run of another config, or something else.
    """
    if not os.path.lexists(path / "config.json"):
        return False
    run = Run(path)
    if not same_result(run.config, config):
        raise ValueError(collision(config, run))
    return run.finished


def finished_elsewhere(config: Config, root: str | Path) -> Path | None:
    """The folder of the finished run of a config in a subfolder of a root, or None."""
    with contextlib.suppress(FileNotFoundError):
        return find_run(config, root).path


def finished_run(path: Path) -> Run:
    """A finished run, verified; a resume point is removed if the process that finished the run left one.

    Raises:
        ValueError: a file is missing or damaged; the message says what helps.
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

    SIGTERM raises KeyboardInterrupt in the body, as SIGINT does, so that the folder is let go. The system releases the
    lock of a process that is killed.

    Raises:
        KeyboardInterrupt: SIGINT or SIGTERM came.
        OSError: the folder cannot be made or written.
    """
    if not accelerator.is_main_process:
        while not _all_ready(True, accelerator):
            pass
        yield
        return
    holder = path / "holder"
    make_folder(path)
    lock, was_announced = FileLock(path / "lock"), False
    with _raising_on_sigterm():
        while not _all_ready(_acquire(lock, WAITING_INTERVAL if was_announced else 0), accelerator):
            if not was_announced:
                print(f"{path.name} is being trained by {_holder_name(holder)}; waiting for it.", flush=True)
            was_announced = True
        try:
            write_atomically(holder, f"process {os.getpid()} on {platform.node()}")
            yield
        finally:
            holder.unlink(missing_ok=True)
            lock.release()


def _holder_name(holder: Path) -> str:
    with contextlib.suppress(OSError, ValueError):  # the other process has just come or is about to go
        return read_bytes(holder, 1000).decode()
    return "another process"


def _acquire(lock: FileLock, seconds: float) -> bool:
    try:
        lock.acquire(timeout=seconds)
        return True
    except Timeout:
        return False


def _all_ready(is_ready: bool, accelerator: Accelerator) -> bool:
    """Whether all processes are ready; asked repeatedly, since no process may be silent for long."""
    return bool(accelerator.gather(torch.tensor([int(is_ready)], device=accelerator.device)).all())


def _is_main_thread() -> bool:
    """Python allows signal handlers in the main thread only."""
    return threading.current_thread() is threading.main_thread()


@contextlib.contextmanager
def _raising_on_sigterm() -> Iterator[None]:
    """Raise KeyboardInterrupt on SIGTERM, so that what is held is let go.

    Raises:
        KeyboardInterrupt: SIGTERM came.
    """

    def stop(signal_number: int, frame: object) -> None:
        raise KeyboardInterrupt("stopped by SIGTERM before the first step; the same command starts again.")

    if not _is_main_thread():
        yield
        return
    handler = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, handler)


@contextlib.contextmanager
def signals() -> Iterator[list[int]]:
    """Collect SIGINT and SIGTERM in a list instead of dying of them, so that a step can end before the stop.

    In a notebook's kernel the end of the process that started it counts as SIGTERM, too.
    """
    received: list[int] = []
    if not _is_main_thread():
        yield received
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    handlers = [signal.signal(number, lambda number, frame: received.append(number)) for number in numbers]
    try:
        with terminate_with_parent():
            yield received
    finally:
        for number, handler in zip(numbers, handlers, strict=True):
            signal.signal(number, handler)
