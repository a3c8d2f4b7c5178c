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

from modgrok import runs
from modgrok.runs import Run


def is_finished(path: Path) -> bool:
    return (path / "config.json").exists() and Run(path).finished


def finished_run(path: Path) -> Run:
    """A finished run, whose resume point is still there if the process that finished it was killed right then."""
    resume = path / "resume.safetensors"
    if resume.exists():
        resume.unlink(missing_ok=True)
    return Run(path)


@contextlib.contextmanager
def held(path: Path, accelerator: Accelerator):
    """Hold a run's folder against other trainers; the system lets go of a dead process's lock."""
    if not accelerator.is_main_process:
        accelerator.wait_for_everyone()
        yield
        return
    holder = path / "holder"
    path.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path / "lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        who = "another process"
        with contextlib.suppress(FileNotFoundError):  # it has only just come, or is about to go
            who = holder.read_text()
        print(f"{path.name} is being trained by {who}; waiting for it.", flush=True)
        lock.acquire()
    try:
        runs.write_atomically(holder, f"process {os.getpid()} on {platform.node()}")
        accelerator.wait_for_everyone()
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


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
