"""Runs that take a fraction of a second, and what several tests ask of them."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from modgrok.config import SETS, Config, preset
from modgrok.storage.files import load_tensors
from modgrok.storage.runs import Run

ROOT = Path(__file__).resolve().parent.parent

ENV = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
"""For child processes: one thread each, for the same rounding and no contention."""

FIELDS = dict(
    p=3, n_tasks=4, task_rule="random", alpha=0.7, n_examples=3, depth=2, n_embd=8, n_head=2, rope_base=100.0,
    lr=3e-3, weight_decay=0.3, warmup_steps=2, steps=12, batch_size=12, mixed_precision="no", eval_every=5,
    eval_sequences=48, n_checkpoints=3, checkpoint_every=3,
)  # fmt: skip


def tiny(**overrides) -> Config:
    return Config(**FIELDS | overrides)


SHORT = dict(steps=4, warmup_steps=0, eval_every=2, n_checkpoints=1, checkpoint_every=2)


def short(**overrides) -> Config:
    """The preset "smoke", cut short."""
    return preset("smoke", **SHORT | overrides)


def command(config: Config, root: Path, *launcher: str | Path) -> list[str]:
    """The command line that trains a config, by default in one process of this interpreter."""
    flags = []
    for name, value in config.to_dict().items():
        if isinstance(value, bool):
            flags += [f"--{name}" if value else f"--no-{name}"]
        else:
            flags += [f"--{name}", *map(str, value if isinstance(value, list) else [value])]
    launcher = launcher or (sys.executable,)
    return [*map(str, launcher), "-m", "modgrok", "train", "smoke", *flags, "--root", str(root)]


def start(argv: list[str]) -> subprocess.Popen:
    """A real process."""
    return subprocess.Popen(
        argv, env=ENV, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def finish(argv: list[str], env: dict[str, str] = ENV) -> subprocess.CompletedProcess:
    """Run a command that starts further processes; if it hangs, none of them outlives the test."""
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process = subprocess.Popen(argv, env=env, cwd=ROOT, start_new_session=True, **pipes)
    try:
        out, errors = process.communicate(timeout=300)  # long, for a busy machine
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    return subprocess.CompletedProcess(argv, process.returncode, out, errors)


def processes(text: str) -> list[int]:
    """The processes whose command line has a text in it."""
    pids = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if text in (folder / "cmdline").read_text():
                pids.append(int(folder.name))
    return pids


def evaluations(path: Path) -> int:
    """How many evaluations of a run, perhaps not yet begun, are on the disk."""
    table = path / "metrics.csv"
    return len(table.read_text().splitlines()) - 1 if table.exists() else 0


def wait_for(condition: Callable[[], bool], process: subprocess.Popen) -> None:
    """Wait for something that a process is to do, in vain at most five minutes, for a busy machine."""
    deadline = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < deadline, "it never came"
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)


def assert_identical(run: Run, reference: Run) -> None:
    """Bit for bit the same metrics, shots and weights."""
    assert run.finished and reference.finished
    assert (run.path / "metrics.csv").read_bytes() == (reference.path / "metrics.csv").read_bytes()
    assert run.steps == reference.steps
    files = ["scores.safetensors", *(run.checkpoint_file(step).relative_to(run.path) for step in run.steps)]
    for file in files:
        ours, theirs = (load_tensors(folder / file, run.name) for folder in (run.path, reference.path))
        assert ours.keys() == theirs.keys()
        for name in ours:
            assert torch.equal(ours[name].view(torch.uint8), theirs[name].view(torch.uint8)), (file, name)
    assert not list(run.path.rglob(".part-*")) and not (run.path / "resume.safetensors").exists()


def assert_same_metrics(run: Run, reference: Run, atol: float = 1e-5) -> None:
    """The same metrics but for rounding. An accuracy may move by one answer in a near tie."""
    assert run.metrics.keys() == reference.metrics.keys()
    for name, values in run.metrics.items():
        if not name.endswith("_acc"):
            np.testing.assert_allclose(values, reference.metrics[name], atol=atol, rtol=0, err_msg=name)
    for name in SETS:
        np.testing.assert_allclose(
            run.accuracy_by_shot[name], reference.accuracy_by_shot[name], atol=0.02, err_msg=name
        )


def sentence(error) -> str:
    """The message of an error, checked to be one line that ends like a sentence."""
    text = str(getattr(error, "value", error))
    assert "\n" not in text and text.endswith("."), text
    return text
