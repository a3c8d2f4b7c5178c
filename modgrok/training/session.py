"""A process's stay with a run folder: the lock it holds, the signals it heeds, and what it says of the machine."""

import contextlib
import os
import platform
import signal
import subprocess
from pathlib import Path

import accelerate
import numpy as np
import torch
from accelerate import Accelerator
from filelock import FileLock, Timeout

from modgrok.config import Config
from modgrok.storage.files import read_bytes, write_atomically
from modgrok.storage.find import collision, find_run, same_result
from modgrok.storage.runs import Run

ASK_EVERY = 10
"""Seconds between two words among processes that wait for another trainer; a group that is silent is given up."""


def is_finished(path: Path, config: Config) -> bool:
    """Whether a folder holds the finished run of a config.

    Raises:
        ValueError: it holds a run of another config, or something else.
    """
    if not os.path.lexists(path / "config.json"):
        return False
    run = Run(path)
    if not same_result(run.config, config):
        raise ValueError(collision(config, run))
    return run.finished


def finished_elsewhere(config: Config, root: str | Path) -> Path | None:
    """The folder of the finished run of a config in a subfolder of a root."""
    with contextlib.suppress(FileNotFoundError):
        return find_run(config, root).path


def finished_run(path: Path) -> Run:
    """A finished run, whose resume point is still there if the process that finished it was killed right then.

    Raises:
        ValueError: something is missing from it or damaged; the message says what helps.
    """
    resume = path / "resume.safetensors"
    if resume.exists():
        resume.unlink(missing_ok=True)
    run = Run(path)
    run.check()
    return run


@contextlib.contextmanager
def held(path: Path, accelerator: Accelerator):
    """Hold a run's folder against other trainers; the system lets go of a dead process's lock."""
    if not accelerator.is_main_process:
        while not _together(True, accelerator):
            pass
        yield
        return
    holder = path / "holder"
    path.mkdir(parents=True, exist_ok=True)
    lock, said = FileLock(path / "lock"), False
    while not _together(_acquired(lock, ASK_EVERY if said else 0), accelerator):
        if not said:
            who = "another process"
            with contextlib.suppress(OSError, ValueError):  # it has only just come, or is about to go
                who = read_bytes(holder, 1000).decode()
            print(f"{path.name} is being trained by {who}; waiting for it.", flush=True)
        said = True
    try:
        write_atomically(holder, f"process {os.getpid()} on {platform.node()}")
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


def _acquired(lock: FileLock, seconds: float) -> bool:
    try:
        lock.acquire(timeout=seconds)
        return True
    except Timeout:
        return False


def _together(ready: bool, accelerator: Accelerator) -> bool:
    """Whether all processes are ready; asked again and again, since no process may be silent for long."""
    return bool(accelerator.gather(torch.tensor([int(ready)], device=accelerator.device)).all())


@contextlib.contextmanager
def signals():
    """Collect SIGINT and SIGTERM instead of dying of them, so that a step ends before we stop."""
    received: list[int] = []
    kinds = (signal.SIGINT, signal.SIGTERM)
    old = [signal.signal(kind, lambda number, frame: received.append(number)) for kind in kinds]
    try:
        yield received
    finally:
        for kind, handler in zip(kinds, old, strict=True):
            signal.signal(kind, handler)


def environment() -> dict[str, str | int | None]:
    """What a measurement depends on besides its config: device, threads, versions and commit."""
    return {
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU",
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "accelerate": accelerate.__version__,
        "commit": commit(),
    }


def commit() -> str | None:
    """The commit of this source tree, marked where files differ from it; None outside a checkout."""
    try:
        command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
