"""Trainings as jobs, several at once: local processes or an array of SLURM's, through submitit."""

import contextlib
import os
import shutil
import signal
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from filelock import FileLock
from tqdm.auto import tqdm

from modgrok.config import Config
from modgrok.storage.files import make_folder
from modgrok.train import train
from modgrok.training.session import signals


@dataclass(frozen=True)
class Resources:
    """The machines that train the runs of a sweep.

    Attributes:
        jobs: number of runs at once. Local runs share this machine's CPU cores and GPUs.
        cluster: "local" for processes on this machine, "slurm" for an array of jobs.
        gpus: GPUs, and processes, of each run; 0 trains on the CPU. By default 1 if this machine has one, else 0.
        partition: partition of SLURM.
        minutes: time limit of a SLURM job; a job that reaches it is requeued and resumes.
        slurm: other options of sbatch, such as {"account": "lab", "cpus_per_task": 8, "mem": "16GB"}.

    Raises:
        ValueError: a value that is not allowed.
    """

    jobs: int = 2
    cluster: Literal["local", "slurm"] = "local"
    gpus: int | None = None
    partition: str | None = None
    minutes: int = 24 * 60
    slurm: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self):
        if self.cluster not in ("local", "slurm"):
            raise ValueError(f'cluster={self.cluster!r} is not allowed; choose "local" or "slurm".')
        if self.gpus is None:
            object.__setattr__(self, "gpus", int(torch.cuda.is_available()))
        for name, lowest in (("jobs", 1), ("gpus", 0), ("minutes", 1)):
            if getattr(self, name) < lowest:
                raise ValueError(f"{name}={getattr(self, name)} is not allowed; choose {lowest} or more.")


@dataclass(frozen=True)
class Point:
    """The job of one run. submitit pickles it, calls it in each of its processes, and again after a preemption.

    Attributes:
        config, root: the config to train, and the folder that holds runs.
        alive: a lock that the sweep holds. The job saves and stops once the lock is free, however the sweep ended.
    """

    config: Config
    root: Path
    alive: Path | None = None

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
    """Wait until the lock of a sweep is free, at the latest when its process ends; then stop as if by SIGTERM."""
    FileLock(alive, poll_interval=1).acquire().lock.release()  # for the next job that waits
    while True:  # repeatedly, since a process that starts is deaf for a moment
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.5)


Submit = Callable[[Point, int], Any]
"""Takes a point and its slot, 0 … at_once - 1; starts the job and returns it."""

NO_LIMIT = 60 * 24 * 365
"""Minutes after which submitit ends a local job; its own default is two."""


def work_off(
    configs: Sequence[Config], root: Path, resources: Resources, bar: tqdm
) -> Iterator[tuple[Config, str | None]]:
    """Train configs under a root, several at once, and yield each as it ends, with its error if any.

    Args:
        bar: progress line, which shows the steps of running jobs.

    Raises:
        ValueError: the machine lacks the resources.
        ModuleNotFoundError: submitit is not installed.
        KeyboardInterrupt: the process received SIGINT or SIGTERM.
    """
    # a time and a process id, so that submitit's files of former sweeps are not taken for those of this one
    logs = root / "sweep-logs" / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
    work_off_points = _work_off_locally if resources.cluster == "local" else _work_off_by_slurm
    try:
        for point, error in work_off_points(configs, root, resources, logs, bar):
            yield point.config, error
    finally:
        for folder in (logs / "%j", logs, logs.parent):  # "%j" is submitit's, for a job without a number
            with contextlib.suppress(OSError):  # it holds logs of jobs that failed
                folder.rmdir()


Outcomes = Iterator[tuple[Point, str | None]]
"""Points as they end, each with its error if any."""


def _work_off_locally(
    configs: Sequence[Config], root: Path, resources: Resources, logs: Path, bar: tqdm
) -> Outcomes:
    submit = _local_submit(logs, resources.gpus)
    make_folder(logs)
    alive = FileLock(logs / "alive")
    alive.acquire()
    points = [Point(config, root, logs / "alive") for config in configs]
    try:
        yield from _follow(points, submit, resources.jobs, _stop_locally, bar)
    finally:
        (logs / "alive").unlink(missing_ok=True)  # before the lock is released, lest a job that ends take it
        alive.release()


def _work_off_by_slurm(
    configs: Sequence[Config], root: Path, resources: Resources, logs: Path, bar: tqdm
) -> Outcomes:
    points = [Point(config, root) for config in configs]
    try:
        submit = _slurm_submit(slurm_executor(logs, resources), points)
    except ValueError:
        shutil.rmtree(logs, ignore_errors=True)  # the scripts of jobs that were refused
        raise
    yield from _follow(points, submit, len(points), _leave_queued, bar)


def _follow(
    points: list[Point],
    submit: Submit,
    at_once: int,
    stop: Callable[[list[Any]], str],
    bar: tqdm,
) -> Outcomes:
    """Submit the points, never more at once than allowed, and yield each as it ends.

    Args:
        stop: takes the jobs that still run when the sweep ends for any reason; returns advice about them.
    """
    waiting, running, n_ended = deque(points), {}, bar.n  # running: slot → (point, job)
    advice = ""
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
                        n_ended += 1
                        yield point, _error(job)
                _show_progress(bar, n_ended, [point for point, _ in running.values()])
        finally:
            advice = stop([job for _, job in running.values()])
    if received:
        name = signal.Signals(received[0]).name
        raise KeyboardInterrupt(f"stopped by {name}{advice}; the same command continues.")


def _show_progress(bar: tqdm, n_ended: int, points: list[Point]) -> None:
    """Count the running points by the share of their steps, and list the first few."""
    progress = [(_step(point), point.config.steps) for point in points]
    bar.n = round(n_ended + sum(step / steps for step, steps in progress), 2)
    text = ", ".join(f"{step}/{steps}" for step, steps in progress[:4])
    bar.set_postfix_str(text, refresh=text != bar.postfix)


def _stop_locally(jobs: list[Any]) -> str:
    """Make local jobs save and end."""
    for job in jobs:
        while not job.done():  # repeatedly, since a process that starts is deaf for a moment
            os.kill(int(job.job_id), signal.SIGTERM)
            time.sleep(0.5)
        shutil.rmtree(job.paths.folder, ignore_errors=True)
    return ""


def _leave_queued(jobs: list[Any]) -> str:
    """The advice how to end the jobs that SLURM continues."""
    numbers = sorted({job.job_id.split("_")[0] for job in jobs})
    return f"; scancel {' '.join(numbers)} ends the jobs that are queued" if numbers else ""


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
        visible = [
            cards[(slot * gpus + i) % len(cards)] for i in range(gpus)
        ]  # more jobs than GPUs share them
        executor.update_parameters(
            tasks_per_node=max(1, gpus), gpus_per_node=gpus, visible_gpus=visible, timeout_min=NO_LIMIT
        )
        # the job inherits it: Ctrl-C reaches this process, which then stops the job
        handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            return executor.submit(point)
        finally:
            signal.signal(signal.SIGINT, handler)

    return submit


def slurm_executor(logs: Path, resources: Resources):
    """submitit's executor for an array of jobs, of which `resources.jobs` run at once.

    Raises:
        ValueError: SLURM is not on this machine.
    """
    if not (shutil.which("sbatch") and shutil.which("srun")):
        raise ValueError('cluster="slurm" finds no sbatch and srun here; start the sweep on a login node.')
    executor = _submitit().SlurmExecutor(logs / "%j", max_num_timeout=100)  # how often a run may be continued
    executor.update_parameters(
        job_name="modgrok",
        partition=resources.partition,
        time=resources.minutes,
        gpus_per_node=resources.gpus or None,
        ntasks_per_node=max(1, resources.gpus),
        array_parallelism=resources.jobs,
        # since SLURM 22.05 srun no longer takes the number of CPUs from sbatch
        setup=["export SRUN_CPUS_PER_TASK=${SLURM_CPUS_PER_TASK:-1}"],
        additional_parameters=dict(resources.slurm),
    )
    return executor


def _slurm_submit(executor: Any, points: list[Point]) -> Submit:
    try:
        submitted = dict(zip(points, executor.submit_array(points), strict=True))
    except _submitit().core.utils.FailedJobError as error:
        raise ValueError(f"sbatch refused the jobs: {str(error).strip().splitlines()[-1]}") from None
    return lambda point, slot: submitted[point]


def _error(job: Any) -> str | None:
    """The error of a job that ended, if any; the log of a job without an error is removed."""
    try:
        errors = [error for error in job.results() if error]
    except Exception:  # submitit's way to say that there is no result
        return f"ended without a result, killed or out of memory; its log is {job.paths.stderr}"
    if not errors:
        shutil.rmtree(job.paths.folder, ignore_errors=True)
    return errors[0] if errors else None


def _step(point: Point) -> int:
    """The step of the latest evaluation of a running point; 0 before the first."""
    try:
        table = (point.root / point.config.name / "metrics.csv").read_text()
        return int(table.splitlines()[-1].split(",")[0])
    except (ValueError, OSError):  # not evaluated yet
        return 0
