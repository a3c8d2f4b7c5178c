"""Kill a training run again and again, and compare what it becomes with a run left in peace.

    python scripts/kill_resume.py 1000 --seed 3

Every other kill comes at a random moment; the ones between come out of a write, with the file half written, whole but
not yet in its place, or just put there. All are SIGKILL, which a process cannot notice. Each attempt is a process
forked from this one, which saves it importing torch; this one trains nothing itself, because a fork of a process that
has threads may wait for ever for a lock that one of them held. Exits with 0 if every run that was killed on its way
ended bit for bit like the reference.
"""

import argparse
import faulthandler
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported: its pool would be threads

import accelerate  # noqa: F401  so that an attempt need not import it
import torch
import torch._dynamo  # as optimizers do: most of the time of an attempt

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from tiny import assert_identical, tiny

from modgrok.config import Config
from modgrok.storage.runs import Run
from modgrok.train import train

CONFIG = tiny(
    depth=1, steps=20, eval_every=4, checkpoint_every=3, n_checkpoints=4
)  # they interleave in every way


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_while_writing(write: int, moment: str) -> None:
    """Have this process killed at its n-th write: "half", "unnamed" or "named"."""
    fsync, replace, countdown = os.fsync, os.replace, [write]

    def killing_fsync(descriptor: int) -> None:
        countdown[0] -= 1
        if countdown[0] == 0 and moment == "half":
            os.ftruncate(descriptor, os.fstat(descriptor).st_size // 2)
            die()
        fsync(descriptor)

    def killing_replace(source: str, target: Path) -> None:
        if countdown[0] == 0 and moment == "unnamed":
            die()
        replace(source, target)
        if countdown[0] == 0:
            die()

    os.fsync, os.replace = killing_fsync, killing_replace


def attempt(config: Config, root: Path, seconds: float | None, write: tuple[int, str] | None) -> bool:
    """Train in a forked process, killed after some seconds or at a write; whether it came to its end."""
    log = root.with_suffix(".log")
    if len(os.listdir("/proc/self/task")) > 1:
        raise SystemExit("this process has threads, so it cannot be forked safely")
    child = os.fork()
    if child == 0:
        status = 1
        try:
            log_file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(log_file, 1)
            os.dup2(log_file, 2)
            faulthandler.dump_traceback_later(
                120, exit=True
            )  # an attempt takes a second; one that waits says where
            torch.set_num_threads(1)
            if write:
                die_while_writing(*write)
            train(config, root)
            status = 0
        except BaseException:
            traceback.print_exc()
        os._exit(status)
    if seconds is not None:
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status not in (0, -signal.SIGKILL):
        raise SystemExit(f"{log.read_text()}\na run failed with status {status} instead of going on")
    return status == 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kills", type=int, nargs="?", default=20)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    chance = random.Random(arguments.seed)
    kills = runs = 0
    with tempfile.TemporaryDirectory() as folder:
        reference, root = Path(folder) / "reference", Path(folder) / "timed"
        attempt(CONFIG, reference, None, None)
        expected = Run(reference / CONFIG.name)
        started = time.monotonic()
        attempt(CONFIG, root, None, None)
        duration = time.monotonic() - started
        root = Path(folder) / "killed"
        while True:
            kill = kills < arguments.kills
            seconds = chance.uniform(0, 1.2 * duration) if kill and kills % 2 else None
            write = (chance.randint(1, 12), chance.choice(["half", "unnamed", "named"]))
            finished = attempt(CONFIG, root, seconds, write if kill and not kills % 2 else None)
            kills += not finished
            if finished:
                assert_identical(Run(root / CONFIG.name), expected)
                runs += 1
                root = Path(folder) / f"killed-{runs}"
                if not kill:
                    break
    print(f"{kills} kills, {runs} runs, all bit for bit like the one left in peace")


if __name__ == "__main__":
    main()
