"""Trainings as jobs, several at once: processes on this machine or an array of SLURM's, through submitit."""

import contextlib
import os
import shutil
import signal
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from filelock import FileLock
from tqdm.auto import tqdm

from modgrok.config import Config
from modgrok.train import train
from modgrok.training.session import signals


@dataclass(frozen=True)
class Point:
    """The job of one run. submitit pickles it, calls it in each of its processes, and again after a preemption."""

    config: Config
    root: Path
    alive: Path | None = (
        None  # a lock that the sweep holds; without it, however it ended, the job stops and saves
    )

    def __call__(self) -> str | None:
        """Train; return the error, if any, as a sentence."""
        from submitit import JobEnvironment
        from submitit.helpers import TorchDistributedEnvironment

        if self.alive:
            threading.Thread(target=_end_with, args=(self.alive,), daemon=True).start()
        if JobEnvironment().num_tasks > 1:  # Accelerate joins the group that these variables describe
            TorchDistributedEnvironment().export(set_cuda_visible_devices=False, overwrite=True)
        try:
            train(self.config, self.root)
        except Exception as error:
            traceback.print_exc()  # for the log
            return f"{type(error).__name__}: {error}"

    def checkpoint(self):
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)  # the run's own resume point is all there is to keep


def _end_with(alive: Path) -> None:
    """Wait for the lock of a sweep, which the system lets go of when its process ends, and stop as if by SIGTERM."""
    FileLock(alive, poll_interval=1).acquire().lock.release()  # for the next job that waits
    while True:  # asked again, for a process that starts is deaf for a moment
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.5)


Submit = Callable[[Point, int], Any]
"""Gives the job of a point that shall run in a slot, 0 … at_once - 1."""

NO_LIMIT = 60 * 24 * 365
"""Minutes after which submitit ends a local job; its own default is two."""


def work_off(
    configs: Sequence[Config],
    root: Path,
    jobs: int,
    cluster: Literal["local", "slurm"],
    gpus: int,
    partition: str | None,
    minutes: int,
    slurm: Mapping[str, Any],
    bar: tqdm,
) -> Iterator[tuple[Config, str | None]]:
    """Train configs under a root, so many at once, and yield each as it ends, with its error if any.

    Args:
        root, jobs, cluster, gpus, partition, minutes, slurm: as for `sweep.sweep`.
        bar: shows how far the running ones are.

    Raises:
        ValueError: the machine has not what is asked for.
        ModuleNotFoundError: submitit is not installed.
        KeyboardInterrupt: SIGINT or SIGTERM came.
    """
    # a time and a process id: submitit's files of former sweeps must not be taken for this one's
    logs = root / "sweep-logs" / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
    if cluster == "local":
        submit = _local_submit(logs, gpus)
        logs.mkdir(parents=True, exist_ok=True)
        alive = FileLock(logs / "alive")
        alive.acquire()
        work, at_once = [Point(config, root, logs / "alive") for config in configs], jobs
    else:
        work, at_once = [Point(config, root) for config in configs], len(configs)
        executor = slurm_executor(logs, jobs, gpus, partition, minutes, slurm)
        submit = _slurm_submit(executor, work)
    try:
        for point, error in _follow(work, submit, at_once, cluster, bar):
            yield point.config, error
    finally:
        if cluster == "local":
            # before the lock goes, lest a job that ends take it
            (logs / "alive").unlink(missing_ok=True)
            alive.release()
        for folder in (logs / "%j", logs, logs.parent):  # "%j" is submitit's, for a job without a number
            with contextlib.suppress(OSError):  # logs of jobs that failed are in it
                folder.rmdir()


def _follow(
    work: list[Point], submit: Submit, at_once: int, cluster: str, bar: tqdm
) -> Iterator[tuple[Point, str | None]]:
    """Submit the points, never more at once than allowed, and yield each as it ends, with its error if any."""
    waiting, running, ended = deque(work), {}, bar.n  # running: slot → (point, job)
    with signals() as received:
        try:
            while (waiting or running) and not received:
                for slot in range(at_once):
                    if waiting and slot not in running:
                        point = waiting.popleft()
                        running[slot] = point, submit(point, slot)
                time.sleep(0.5)
                for slot, (point, job) in list(running.items()):
                    if job.done():
                        del running[slot]
                        ended += 1
                        yield point, _error(job)
                at = [(_step(point), point.config.steps) for point, _ in running.values()]
                bar.n = round(ended + sum(step / steps for step, steps in at), 2)
                told = ", ".join(f"{step}/{steps}" for step, steps in at[:4])
                bar.set_postfix_str(told, refresh=told != bar.postfix)
        finally:
            for _, job in running.values() if cluster == "local" else ():
                while not job.done():  # asked again, for a process that starts is deaf for a moment
                    os.kill(int(job.job_id), signal.SIGTERM)
                    time.sleep(0.5)
                shutil.rmtree(job.paths.folder, ignore_errors=True)
    if received:
        queued = {job.job_id.split("_")[0] for _, job in running.values()} if cluster == "slurm" else ()
        rest = f"; scancel {' '.join(queued)} ends the jobs that are queued" if queued else ""
        raise KeyboardInterrupt(
            f"stopped by {signal.Signals(received[0]).name}{rest}; the same command continues."
        )


def _submitit():
    """submitit, which importing modgrok must not need."""
    try:
        import submitit
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            'A sweep needs submitit; install it with: pip install "modgrok[sweep]"', name="submitit"
        ) from None
    return submitit


def _local_submit(logs: Path, gpus: int) -> Submit:
    executor = _submitit().LocalExecutor(logs / "%j")
    cards = [int(card) for card in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if card.isdigit()]
    cards = cards or list(range(torch.cuda.device_count()))
    if gpus > len(cards):
        raise ValueError(f"gpus={gpus} is more than this machine has; choose at most {len(cards)}.")

    def submit(point: Point, slot: int):
        own = [cards[(slot * gpus + i) % len(cards)] for i in range(gpus)]  # more jobs than GPUs share them
        executor.update_parameters(
            tasks_per_node=max(1, gpus), gpus_per_node=gpus, visible_gpus=own, timeout_min=NO_LIMIT
        )
        handler = signal.signal(
            signal.SIGINT, signal.SIG_IGN
        )  # inherited: Ctrl-C is for us, who then tell the job
        try:
            return executor.submit(point)
        finally:
            signal.signal(signal.SIGINT, handler)

    return submit


def slurm_executor(
    logs: Path, jobs: int, gpus: int, partition: str | None, minutes: int, options: Mapping[str, Any]
):
    """submitit's executor for an array of jobs, of which so many run at once; arguments as for `sweep`.

    Raises:
        ValueError: SLURM is not on this machine.
    """
    if not (shutil.which("sbatch") and shutil.which("srun")):
        raise ValueError('cluster="slurm" finds no sbatch and srun here; start the sweep on a login node.')
    executor = _submitit().SlurmExecutor(logs / "%j", max_num_timeout=100)  # how often a run may be continued
    executor.update_parameters(
        job_name="modgrok",
        partition=partition,
        time=minutes,
        gpus_per_node=gpus or None,
        ntasks_per_node=max(1, gpus),
        array_parallelism=jobs,
        # since SLURM 22.05 srun no longer takes the number of CPUs from sbatch
        setup=["export SRUN_CPUS_PER_TASK=${SLURM_CPUS_PER_TASK:-1}"],
        additional_parameters=dict(options),
    )
    return executor


def _slurm_submit(executor: Any, work: list[Point]) -> Submit:
    try:
        submitted = dict(zip(work, executor.submit_array(work), strict=True))
    except _submitit().core.utils.FailedJobError as error:
        raise ValueError(f"sbatch refused the jobs: {str(error).strip().splitlines()[-1]}") from None
    return lambda point, slot: submitted[point]


def _error(job: Any) -> str | None:
    """What a job that ended says went wrong; the log of one that went well is removed."""
    try:
        errors = [error for error in job.results() if error]
    except Exception:  # submitit's way to say that there is no result
        return f"ended without a result, killed or out of memory; its log is {job.paths.stderr}"
    if not errors:
        shutil.rmtree(job.paths.folder, ignore_errors=True)
    return errors[0] if errors else None


def _step(point: Point) -> int:
    """How far a running point is, by its latest evaluation."""
    try:
        table = (point.root / point.config.name / "metrics.csv").read_text()
        return int(table.splitlines()[-1].split(",")[0])
    except (ValueError, OSError):  # not evaluated yet
        return 0
