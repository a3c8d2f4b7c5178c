"""Kill trainings, sweeps and builds at random moments, look for processes that are left, and go on.

    python scripts/kill_trees.py 100 --seed 3

A kill is SIGKILL, SIGTERM or SIGINT, sent to the process that was started and to no other: a training, a launcher of
two training processes, a sweep, or a build of the book whose chapter trains. Then all that it started must end, and
the same command must go on, until its runs are bit for bit those of one that was left in peace. Exits with 0 if so.
See kill_resume.py for kills in the middle of a write.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from tiny import ROOT, assert_identical

from modgrok.config import preset
from modgrok.storage.find import run_folders
from modgrok.storage.runs import Run
from modgrok.train import train

FIELDS = {"steps": 200, "eval_every": 40, "checkpoint_every": 4, "n_checkpoints": 3}
FLAGS = [word for name, value in FIELDS.items() for word in (f"--{name}", str(value))]
VARY = [word for name, value in FIELDS.items() for word in ("--vary", f"{name}={value}")]
BUILD = "from pathlib import Path; from modgrok.book.build import build; build(Path('.'), Path('book'))"
CHAPTER = f"""
from modgrok.config import preset
from modgrok.train import train
train(preset("smoke", **{FIELDS}), "runs")
"""
PYTHON = {"name": "python3", "display_name": "Python 3", "language": "python"}
TRAIN = ["-m", "modgrok", "train", "smoke", *FLAGS]
KINDS = {
    "train": TRAIN,
    "two processes": ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", *TRAIN],
    "sweep": ["-m", "modgrok", "sweep", "smoke", *VARY, "--seeds", "1,2"],
    "build": ["-c", BUILD],
}
"""What is started, with the folder that it works in as its current one."""

SEEDS = {"train": (0,), "two processes": (0,), "sweep": (1, 2), "build": (0,)}
"""Of the runs that it makes."""

PATIENCE = 90
"""Seconds after which what should have ended is taken for left; long, for a busy machine, and for torchrun: it loses a
SIGINT that comes while torch loads numpy, and the training goes on to its end."""


def start(kind: str, folder: Path, mark: str) -> subprocess.Popen:
    """A process whose descendants can be told by a mark in their environment."""
    if kind == "build" and not folder.exists():
        for name in ("book", "notebooks", "modgrok"):
            (folder / name).mkdir(parents=True)
        parameters = new_code_cell("seed = 0", metadata={"tags": ["parameters"]})
        cells = [new_markdown_cell("# A chapter"), parameters, new_code_cell(CHAPTER)]
        nbformat.write(
            new_notebook(cells=cells, metadata={"kernelspec": PYTHON}), folder / "notebooks/chapter.ipynb"
        )
    folder.mkdir(parents=True, exist_ok=True)
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "MODGROK_MARK": mark}
    heed = signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # where ours is ignored a child's would be
    try:
        with open(folder / "log", "a") as log:
            # -P: the folder's empty modgrok/ is what the build hashes, not what it imports
            return subprocess.Popen(
                [sys.executable, "-P", *KINDS[kind]], cwd=folder, env=environment, stdout=log, stderr=log
            )
    finally:
        signal.signal(signal.SIGINT, heed)


def living(mark: str) -> list[str]:
    """The command lines of living processes with a mark."""
    commands = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if f"MODGROK_MARK={mark}".encode() in (process / "environ").read_bytes():
                commands.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode()[:200])
        except OSError:  # ended, or another user's
            continue
    return commands


def until(condition, process: subprocess.Popen | None = None) -> None:
    """Wait, at most as long as a busy machine needs, or until a process ends."""
    end = time.monotonic() + PATIENCE
    while not condition() and time.monotonic() < end and (process is None or process.poll() is None):
        time.sleep(0.05)


def kill(kind: str, folder: Path, number: int, chance: random.Random, seconds: float) -> str:
    """Start, kill, and see that all is gone; in words what happened."""
    mark = uuid.uuid4().hex
    process = start(kind, folder, mark)
    if chance.random() < 0.8:  # most of the time goes by before the first step
        until(lambda: list(folder.rglob("resume.safetensors")), process)
        seconds *= 0.4
    time.sleep(chance.uniform(0, seconds))
    met, sent = process.poll() is None, time.monotonic()
    process.send_signal(number)
    until(lambda: process.poll() is not None and not living(mark))
    if survivors := living(mark):
        process.kill()
        log = (folder / "log").read_text()[-3000:]
        raise SystemExit(f"{log}\n{signal.Signals(number).name} to {kind} left {survivors}")
    outcome = f"all gone after {time.monotonic() - sent:.1f} s" if met else "it had ended"
    return f"{kind}, {signal.Signals(number).name} ({outcome})"


def finish(kind: str, folder: Path) -> float:
    """Let the command come to its end; the seconds that took."""
    started, process = time.monotonic(), start(kind, folder, uuid.uuid4().hex)
    if process.wait(600):
        raise SystemExit(f"{(folder / 'log').read_text()[-3000:]}\n{kind} failed instead of going on")
    return time.monotonic() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kills", type=int, nargs="?", default=8)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    chance = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as name:
        top = Path(name)
        # in peace: two processes by themselves, since sums over them round in their own way, the others here
        seconds = finish("two processes", top / "peace")
        alone = {seed: train(preset("smoke", seed=seed, **FIELDS), top / "alone") for seed in (0, 1, 2)}
        pair = Run(*run_folders(top / "peace/runs"))
        reports, rounds = [], dict.fromkeys(KINDS, 0)

        def compare(kind: str, folder: Path) -> None:
            finish(kind, folder)
            expected = [pair if kind == "two processes" else alone[seed] for seed in SEEDS[kind]]
            folders = run_folders(folder / "runs")
            assert {run.name for run in folders} == {run.name for run in expected}
            for run in expected:
                assert_identical(Run(folder / "runs" / run.name), run)

        for i in range(arguments.kills):
            kind = list(KINDS)[i % len(KINDS)]
            folder = top / f"killed-{rounds[kind]}" / kind
            number = chance.choice([signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
            reports.append(kill(kind, folder, number, chance, seconds))
            print(f"[{i + 1}/{arguments.kills}] {reports[-1]}", flush=True)
            if reports[-1].endswith("ended)"):
                compare(kind, folder)
                rounds[kind] += 1
        for kind in KINDS:
            if (folder := top / f"killed-{rounds[kind]}" / kind).exists():
                compare(kind, folder)
    met = sum(not text.endswith("ended)") for text in reports)
    print(f"{len(reports)} signals, {met} of them met it running; nothing left, all bit for bit as in peace")


if __name__ == "__main__":
    main()
