"""Many runs: one a point of a grid, in local processes or on a SLURM cluster, through submitit.

A sweep is "ensure" as training is: finished points are skipped, half-done ones continue. One that fails is listed
with its error and stops no other.
"""

import contextlib
import dataclasses
import itertools
import os
import shutil
import signal
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from filelock import FileLock
from numpy.typing import NDArray
from tqdm.auto import tqdm

from modgrok.config import SETS, Config, preset
from modgrok.find import find_run, same_result
from modgrok.runs import Run
from modgrok.session import finished_elsewhere, is_finished, signals
from modgrok.train import train


class Sweep(NamedTuple):
    """A named grid: every combination of the values, for every seed, on top of a preset."""

    preset: str
    vary: Mapping[str, Sequence[Any]]
    seeds: Sequence[int] = (0,)


SHORT = {"steps": (2000,), "eval_every": (100,)}
PAPER_PLANE = {"n_tasks": (8, 16, 32, 64, 128, 256, 512), "alpha": (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)}

SWEEPS = {
    "smoke-map": Sweep("smoke", {"n_tasks": (8, 16), "alpha": (0.6, 0.8)}),
    "smoke-rule": Sweep("smoke", {"task_rule": ("rectangle", "random"), "n_tasks": (8, 16)}),
    "smoke-coarse": Sweep("smoke", {"depth": (1, 2), "n_tasks": (8, 16), "alpha": (0.6, 0.8)}),
    "smoke-lasting": Sweep("smoke", {"depth": (1, 2), "alpha": (0.6,)}),
    "laptop-depth": Sweep("laptop", {"depth": (1, 2, 4)}, seeds=(0, 1, 2)),
    "laptop-map": Sweep(
        "laptop",
        {"n_tasks": (20, 40), "alpha": (0.4, 0.6, 0.8)} | SHORT,
        seeds=(0, 1, 2),
    ),
    "laptop-rule": Sweep(
        "laptop", {"task_rule": ("rectangle", "random"), "n_tasks": (40,)} | SHORT, seeds=(0, 1, 2)
    ),
    "laptop-coarse": Sweep(
        "laptop", {"depth": (1, 2, 4), "alpha": (0.4, 0.8)} | SHORT
    ),
    "laptop-lasting": Sweep("laptop", {"depth": (2, 4), "alpha": (0.4,)} | SHORT, seeds=(0, 1, 2)),
    "paper-map": Sweep("paper", PAPER_PLANE),
    "paper-rule": Sweep("paper", {"task_rule": ("rectangle", "random"), "n_tasks": PAPER_PLANE["n_tasks"]}),
    "paper-coarse": Sweep("paper", {"depth": (1, 2, 4, 6)} | PAPER_PLANE),
    "paper-lasting": Sweep("paper", {"depth": (2, 4, 6), "alpha": (0.4,)}),
}  # fmt: skip
"""Named after what they vary. `map`: tasks and inputs (F1b). `rule`: how tasks are chosen, along a row of the map.
`depth`: blocks. `coarse`: a smaller map for each of several depths (F4). `lasting`: depth again, with few training
inputs. Those of `smoke` take up to a minute (CI), of `paper` hours on a GPU for each run. Those of `laptop` on two
cores: `map` half an hour (18 runs), `rule` ten minutes (6, of which 3 are the map's), `depth` half an hour
(9), `coarse` ten minutes (6, of which 2 are the map's), `lasting` a quarter of an hour (6, of which 4 are in
other maps)."""


@dataclass(frozen=True)
class Result:
    """What became of a point: its finished run, or the error that it ended with."""

    config: Config
    run: Run | None = None
    error: str | None = None


def grid(preset_name: str, vary: Mapping[str, Sequence[Any]], seeds: Sequence[int] = (0,)) -> list[Config]:
    """The configs of every combination of values and seeds on top of a preset.

    Raises:
        ValueError: an unknown preset, or the points that are not valid, one sentence each.
    """
    preset(preset_name)
    configs, errors = [], []
    for values in itertools.product(*vary.values()):
        point = dict(zip(vary, values, strict=True))
        try:
            configs += [preset(preset_name, **{"seed": seed} | point) for seed in seeds]
        except ValueError as error:
            errors.append(f"{_words(point)}: {error}")
    if errors:
        listed = "".join(f"\n  {error}" for error in errors)
        raise ValueError(f"{len(errors)} point(s) of the sweep are not valid, nothing was started:{listed}")
    return configs


def parse_values(text: str) -> tuple[str, list[Any]]:
    """The field and values of text such as "n_tasks=4,8,16"; what is no value of the field's type stays text.

    Raises:
        ValueError: the text is not NAME=VALUE,VALUE…, or the field is no single value.
    """
    name, equals, values = text.partition("=")
    if not (name and equals and all(values.split(","))):
        raise ValueError(f"{text!r} does not say what to vary; write it like n_tasks=4,8,16.")
    name = name.replace("-", "_")
    if name == "betas":
        raise ValueError(
            "betas is a pair of numbers, which --vary does not take; train such a run by itself."
        )
    kinds = {field.name: field.type for field in dataclasses.fields(Config)}
    kind = kinds.get(name) if kinds.get(name) in (int, float) else str

    def parse(value: str) -> Any:
        with contextlib.suppress(ValueError):
            return kind(value)
        return value  # the config will say what is wrong with it

    return name, [parse(value) for value in values.split(",")]


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


def sweep(
    configs: Iterable[Config],
    root: str | Path = "runs",
    jobs: int = 2,
    cluster: Literal["local", "slurm"] = "local",
    gpus: int | None = None,
    partition: str | None = None,
    minutes: int = 24 * 60,
    slurm: Mapping[str, Any] | None = None,
) -> list[Result]:
    """Make sure that the runs of some configs exist under a root, several at once.

    Prints a row a run as it ends, and a progress line.

    Args:
        configs: what to train, such as a `grid`.
        root: folder that holds runs; on a cluster, one that all nodes share.
        jobs: how many run at once. Local ones share out this machine's CPU cores and GPUs.
        cluster: "local" for processes on this machine, "slurm" for an array of jobs.
        gpus: GPUs, and processes, of each run; 0 trains on the CPU. By default 1 if this machine has one, else 0.
        partition, minutes: SLURM's partition and time limit; a job that reaches it is requeued and resumes.
        slurm: other options of sbatch, such as {"account": "lab", "cpus_per_task": 8, "mem": "16GB"}.

    Returns:
        One result a config, in their order, equal configs once.

    Raises:
        ValueError: an argument that is not allowed.
        ModuleNotFoundError: submitit is not installed.
        KeyboardInterrupt: SIGINT or SIGTERM came; local runs saved their state, SLURM's go on.
    """
    if cluster not in ("local", "slurm"):
        raise ValueError(f'cluster={cluster!r} is not allowed; choose "local" or "slurm".')
    gpus = int(torch.cuda.is_available()) if gpus is None else gpus
    for name, value, least in (("jobs", jobs, 1), ("gpus", gpus, 0), ("minutes", minutes, 1)):
        if value < least:
            raise ValueError(f"{name}={value} is not allowed; choose {least} or more.")
    root = Path(root).absolute()
    points: dict[str, Config] = {}
    for config in configs:
        if not same_result(points.setdefault(config.name, config), config):
            raise ValueError(f"two different points have the name {config.name}; train them under two roots.")
    if not points:
        return []
    labels = _labels(points)
    results: dict[str, Result] = {}

    print(f"{'minutes':>8} " + " ".join(f"{name:>10}" for name in SETS) + "  point")
    with tqdm(total=len(points), desc="sweep", unit="run") as bar:

        def conclude(config: Config, error: str | None = None, run: Run | None = None) -> None:
            run = None if error else run or Run(root / config.name)
            results[config.name] = Result(config, run, error)
            bar.write(f"{_row(run)}  {labels[config.name]}" + (f": {error}" if error else ""))
            bar.update()

        missing = []
        for config in points.values():
            try:
                found = root / config.name
                if not is_finished(found, config):
                    found = finished_elsewhere(config, root)
                if found:
                    conclude(config, run=Run(found))
                else:
                    missing.append(config)
            except ValueError as error:  # a folder that holds something else
                conclude(config, f"ValueError: {error}")
        if missing:
            # a time and a process id: submitit's files of former sweeps must not be taken for this one's
            logs = root / "sweep-logs" / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
            if cluster == "local":
                submit = _local_submit(logs, gpus)
                logs.mkdir(parents=True, exist_ok=True)
                alive = FileLock(logs / "alive")
                alive.acquire()
                work, at_once = [Point(config, root, logs / "alive") for config in missing], jobs
            else:
                work, at_once = [Point(config, root) for config in missing], len(missing)
                executor = slurm_executor(logs, jobs, gpus, partition, minutes, slurm or {})
                submit = _slurm_submit(executor, work)
            try:
                for point, error in _follow(work, submit, at_once, cluster, bar):
                    conclude(point.config, error)
            finally:
                if cluster == "local":
                    # before the lock goes, lest a job that ends take it
                    (logs / "alive").unlink(missing_ok=True)
                    alive.release()
                for folder in (
                    logs / "%j",
                    logs,
                    logs.parent,
                ):  # "%j" is submitit's, for a job without a number
                    with contextlib.suppress(OSError):  # logs of jobs that failed are in it
                        folder.rmdir()
    return [results[name] for name in points]


def obtain_grid(
    source: str,
    preset_name: str,
    kind: str,
    root: str | Path,
    seeds: Sequence[int],
    jobs: int = 2,
    **fields,
) -> NDArray[np.object_]:
    """The runs of the sweep "PRESET-KIND" that a notebook asks for, laid out as its grid is.

    Args:
        source: "shipped" finds finished runs under root; "train" makes sure they exist.
        preset_name: "smoke", "laptop" or "paper".
        kind: "map", "rule", "coarse" or "lasting", the second half of the sweep's name.
        root: where runs are.
        seeds: one run of each at every point.
        jobs: how many runs train at once.
        **fields: fields of the config that differ from the sweep's.

    Returns:
        (…, seeds) runs; in front of the seeds an axis for each field that takes several values, in the sweep's order.

    Raises:
        ValueError: a parameter that is not allowed, or a run that failed.
        FileNotFoundError: source="shipped" and a run is missing.
    """
    known = [name.removesuffix(f"-{kind}") for name in SWEEPS if name.endswith(f"-{kind}")]
    if source not in ("shipped", "train"):
        raise ValueError(f'source={source!r} is not allowed; choose "shipped" or "train".')
    if preset_name not in known:
        raise ValueError(f"preset={preset_name!r} has no {kind}; choose one of {', '.join(known)}.")
    named = SWEEPS[f"{preset_name}-{kind}"]
    vary = dict(named.vary) | {name: (value,) for name, value in fields.items()}
    configs = grid(named.preset, vary, seeds)
    if source == "train" and (failed := [r.error for r in sweep(configs, root, jobs) if r.error]):
        raise ValueError(f"{len(failed)} of {len(configs)} runs failed; the first says: {failed[0]}")
    runs = np.array([find_run(config, root) for config in configs], dtype=object)
    return runs.reshape([len(values) for values in vary.values() if len(values) > 1] + [len(seeds)])


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


def _follow(
    work: list[Point], submit: Submit, at_once: int, cluster: str, bar: tqdm
) -> Iterator[tuple[Point, str | None]]:
    """Submit the points, never more at once than allowed, and yield each as it ends, with its error if any."""
    waiting, running = deque(work), {}  # running: slot → (point, job)
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
                        yield point, _error(job)
                steps = ", ".join(_progress(point) for point, _ in list(running.values())[:4])
                bar.set_postfix_str(steps, refresh=steps != bar.postfix)
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


def _error(job: Any) -> str | None:
    """What a job that ended says went wrong; the log of one that went well is removed."""
    try:
        errors = [error for error in job.results() if error]
    except Exception:  # submitit's way to say that there is no result
        return f"ended without a result, killed or out of memory; its log is {job.paths.stderr}"
    if not errors:
        shutil.rmtree(job.paths.folder, ignore_errors=True)
    return errors[0] if errors else None


def _row(run: Run | None) -> str:
    """Minutes and last-shot accuracy on the four sets of a finished run."""
    if run is None:
        return "failed".rjust(8) + " " * 11 * len(SETS)
    minutes = run.provenance["seconds"] / 60
    return f"{minutes:8.1f} " + " ".join(f"{run.metrics[f'{name}_acc'][-1]:10.2f}" for name in SETS)


def _progress(point: Point) -> str:
    """How far a running point is, by its latest evaluation."""
    try:
        step = Run(point.root / point.config.name).metrics["step"][-1]
    except (ValueError, OSError):  # not evaluated yet
        step = 0
    return f"{step}/{point.config.steps}"


def _labels(points: dict[str, Config]) -> dict[str, str]:
    """Name → the fields in which a config differs from others, in words."""
    all_fields = [config.to_dict() for config in points.values()]
    varied = [name for name in all_fields[0] if len({str(fields[name]) for fields in all_fields}) > 1]
    return {
        name: _words({field: config.to_dict()[field] for field in varied}) or name
        for name, config in points.items()
    }


def _words(fields: Mapping[str, Any]) -> str:
    return " ".join(f"{name}={value}" for name, value in fields.items())
