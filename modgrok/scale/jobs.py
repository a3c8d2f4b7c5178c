"""Trainings as jobs, several at once: local processes or an array of SLURM's, through submitit."""

import contextlib
import os
import shutil
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import psutil
import torch

from modgrok.config import Config
from modgrok.data import check_count
from modgrok.train import train
from modgrok.training.session import signals


@dataclass(frozen=True)
class Resources:
    """The machines that train the runs of a sweep; a value that is not allowed raises ValueError.

    Attributes:
        jobs: runs that train at once; local ones share this machine's CPU cores and GPUs.
        cluster: this machine, or an array of SLURM's jobs.
        gpus: GPUs, and processes, of each run; 0 trains on the CPU. By default 1 if this machine has one, else 0.
        minutes: time limit of a SLURM job; one that reaches it is requeued and goes on.
        slurm: another option of sbatch, such as partition=gpu; can be given several times.
    """

    jobs: int = 2
    cluster: Literal["local", "slurm"] = "local"
    gpus: int | None = None
    minutes: int = 24 * 60
    slurm: tuple[str, ...] = ()

    def __post_init__(self):
        if self.cluster not in ("local", "slurm"):
            raise ValueError(f'cluster={self.cluster!r} is not allowed; choose "local" or "slurm".')
        if self.gpus is None:
            object.__setattr__(self, "gpus", int(torch.cuda.is_available()))
        for name, lowest in (("jobs", 1), ("gpus", 0), ("minutes", 1)):
            check_count(getattr(self, name), name, lowest)


@dataclass(frozen=True)
class Point:
    """The job of one run. submitit pickles it, calls it in each of its processes, and again after a preemption.

    Attributes:
        config: what to train.
        root: folder that holds runs.
        sweep_process: the id of the local process without which the job saves and stops.
    """

    config: Config
    root: Path
    sweep_process: int | None = None

    def __call__(self) -> str | None:
        """Train; return the error, if any, as a sentence."""
        from submitit import JobEnvironment
        from submitit.helpers import TorchDistributedEnvironment

        if self.sweep_process:
            threading.Thread(target=_end_with, args=(self.sweep_process,), daemon=True).start()
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


def _end_with(process: int) -> None:
    """Wait until a process ends, however it does; then stop this one by SIGTERM."""
    with contextlib.suppress(psutil.NoSuchProcess):
        psutil.Process(process).wait()
    while True:  # repeatedly, since a process that starts is deaf for a moment
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.5)


NO_LIMIT = 60 * 24 * 365
"""Minutes after which submitit ends a local job; its own default is two."""

Submit = Callable[[Point, int], Any]
"""Takes a point and its slot, 0 … jobs - 1; starts the job and returns it."""


def work_off(
    configs: Sequence[Config], root: Path, resources: Resources
) -> Iterator[tuple[Config, str | None]]:
    """Train configs under a root, several at once, and yield each as it ends, with its error if any.

    Local jobs save and end when the generator is closed; those of SLURM go on.

    Raises:
        ValueError: the machine lacks the resources, or SLURM refuses the jobs.
        ModuleNotFoundError: submitit is not installed.
        KeyboardInterrupt: the process received SIGINT or SIGTERM.
    """
    try:
        import submitit  # noqa: F401
    except ModuleNotFoundError:
        message = 'A sweep needs submitit; install it with: pip install "modgrok[sweep]"'
        raise ModuleNotFoundError(message, name="submitit") from None
    # a time and a process id, so that submitit's files of former sweeps are not taken for those of this one
    logs = root / "sweep-logs" / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
    is_local = resources.cluster == "local"
    points = [Point(config, root, os.getpid() if is_local else None) for config in configs]
    try:
        submit = local_submit(logs, resources) if is_local else slurm_submit(logs, resources, points)
        at_once = resources.jobs if is_local else len(points)
        yield from _follow(points, submit, at_once, stop_locally if is_local else leave_queued)
    finally:
        for folder in (logs / "%j", logs, logs.parent):  # "%j" is submitit's, for a job without a number
            with contextlib.suppress(OSError):  # it holds logs of jobs that failed
                folder.rmdir()


def _follow(
    points: list[Point], submit: Submit, at_once: int, stop: Callable[[list[Any]], str]
) -> Iterator[tuple[Config, str | None]]:
    """Keep so many jobs running until all points are done, or a signal comes; see `work_off`."""
    waiting, running = list(reversed(points)), {}
    with signals() as received:
        try:
            while (waiting or running) and not received:
                for slot in range(at_once):
                    if waiting and slot not in running:
                        point = waiting.pop()
                        running[slot] = point, submit(point, slot)
                time.sleep(0.5)
                for slot, (point, job) in list(running.items()):
                    if job.done():
                        del running[slot]
                        yield point.config, job_error(job)
        finally:
            advice = stop([job for _, job in running.values()])
    if received:
        name = signal.Signals(received[0]).name
        raise KeyboardInterrupt(f"stopped by {name}{advice}; the same command continues.")


def job_error(job: Any) -> str | None:
    """The error of a job that ended, if any; the log of a job without an error is removed."""
    try:
        errors = [error for error in job.results() if error]
    except Exception:  # submitit's way to say that there is no result
        return f"ended without a result, killed or out of memory; its log is {job.paths.stderr}"
    if not errors:
        shutil.rmtree(job.paths.folder, ignore_errors=True)
    return errors[0] if errors else None


def local_submit(logs: Path, resources: Resources) -> Submit:
    """How a point becomes a process of this machine, or as many as it has GPUs; more jobs than GPUs share them.

    Raises ValueError if a job needs more GPUs than there are.
    """
    import submitit

    gpus = resources.gpus
    cards = [int(card) for card in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if card.isdigit()]
    cards = cards or list(range(torch.cuda.device_count()))
    if gpus > len(cards):
        raise ValueError(f"gpus={gpus} is more than this machine has; choose at most {len(cards)}.")
    executor = submitit.LocalExecutor(logs / "%j")

    def submit(point: Point, slot: int) -> Any:
        visible_gpus = [cards[(slot * gpus + i) % len(cards)] for i in range(gpus)]
        executor.update_parameters(
            tasks_per_node=max(1, gpus), gpus_per_node=gpus, visible_gpus=visible_gpus, timeout_min=NO_LIMIT
        )
        # the job inherits it: Ctrl-C reaches this process, which then stops the job
        handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            return executor.submit(point)
        finally:
            signal.signal(signal.SIGINT, handler)

    return submit


def stop_locally(jobs: list[Any]) -> str:
    """Make local jobs save and end; they need no advice."""
    for job in jobs:
        while not job.done():  # repeatedly, since a process that starts is deaf for a moment
            os.kill(int(job.job_id), signal.SIGTERM)
            time.sleep(0.5)
        shutil.rmtree(job.paths.folder, ignore_errors=True)
    return ""


def slurm_executor(logs: Path, resources: Resources) -> Any:
    """submitit's executor for an array of jobs, of which `resources.jobs` run at once.

    Raises ValueError if SLURM is not on this machine.
    """
    import submitit

    if not (shutil.which("sbatch") and shutil.which("srun")):
        raise ValueError('cluster="slurm" finds no sbatch and srun here; start the sweep on a login node.')
    executor = submitit.SlurmExecutor(logs / "%j", max_num_timeout=100)  # how often a run may be continued
    executor.update_parameters(
        job_name="modgrok",
        time=resources.minutes,
        gpus_per_node=resources.gpus or None,
        ntasks_per_node=max(1, resources.gpus),
        array_parallelism=resources.jobs,
        # since SLURM 22.05 srun no longer takes the number of CPUs from sbatch
        setup=["export SRUN_CPUS_PER_TASK=${SLURM_CPUS_PER_TASK:-1}"],
        additional_parameters=dict(
            text.split("=", 1) if "=" in text else (text, True) for text in resources.slurm
        ),
    )
    return executor


def slurm_submit(logs: Path, resources: Resources, points: list[Point]) -> Submit:
    """Submit all points at once: point → its job.

    Raises ValueError if SLURM is not on this machine, or refuses the jobs.
    """
    from submitit.core.utils import FailedJobError

    executor = slurm_executor(logs, resources)
    try:
        jobs = dict(zip(points, executor.submit_array(points), strict=True))
    except FailedJobError as error:
        shutil.rmtree(logs, ignore_errors=True)  # the scripts of jobs that were refused
        raise ValueError(f"sbatch refused the jobs: {str(error).strip().splitlines()[-1]}") from None
    return lambda point, slot: jobs[point]


def leave_queued(jobs: list[Any]) -> str:
    """The advice how to end the jobs that SLURM continues."""
    numbers = sorted({job.job_id.split("_")[0] for job in jobs})
    return f"; scancel {' '.join(numbers)} ends the jobs that are queued" if numbers else ""
