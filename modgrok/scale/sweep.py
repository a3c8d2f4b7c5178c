"""Many runs: one at each point of a grid, several at once.

A sweep is "ensure" as training is: finished points are skipped, half-done ones continue. A point that fails is listed
with its error and stops no other.
"""

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tqdm.auto import tqdm

from modgrok.config import Config
from modgrok.scale.grids import in_words
from modgrok.scale.jobs import Resources, work_off
from modgrok.storage.runs import OUTCOME_HEAD, Run
from modgrok.training.session import finished_folder


@dataclass(frozen=True)
class Result:
    """The outcome of a point: its finished run, or the error that ended it."""

    config: Config
    run: Run | None = None
    error: str | None = None


def sweep(configs: Iterable[Config], root: str | Path = "runs", jobs: int = 2, **resources) -> list[Result]:
    """Make sure that the runs of some configs exist under a root, several at once.

    Prints a row for each run as it ends, and a progress line.

    Args:
        configs: the configs to train, such as a `grid`.
        root: folder that holds runs; on a cluster, one that all nodes share.
        jobs: number of runs at once.
        **resources: other fields of `jobs.Resources`, such as cluster="slurm".

    Returns:
        a result for each config, in their order; equal configs give one.

    Raises:
        ValueError: an argument that is not allowed.
        ModuleNotFoundError: submitit is not installed.
        KeyboardInterrupt: the process received SIGINT or SIGTERM; local runs saved their state, SLURM's continue.
    """
    machines = Resources(jobs, **resources)
    root, points, results = Path(root).absolute(), {config.name: config for config in configs}, {}
    fields = [config.to_dict() for config in points.values()]
    varied = (
        [field for field in fields[0] if any(f[field] != fields[0][field] for f in fields)] if fields else []
    )

    def report(config: Config, run: Run | None, error: str | None = None) -> None:
        results[config.name] = Result(config, run, error)
        label = in_words({field: config.to_dict()[field] for field in varied}) or config.name
        cells = run.outcome if run else "failed".rjust(8).ljust(len(OUTCOME_HEAD))
        tqdm.write(f"{cells}  {label}{f': {error}' if error else ''}")

    tqdm.write(f"{OUTCOME_HEAD}  point")
    for config in points.values():
        try:
            if folder := finished_folder(config, root):
                report(config, Run(folder))
        except ValueError as error:  # its folder holds something else
            report(config, None, f"ValueError: {error}")
    missing = [config for name, config in points.items() if name not in results]
    if missing:
        tqdm.write(f"{len(missing)} of {len(points)} runs to train, {jobs} at a time")
        with contextlib.closing(work_off(missing, root, machines)) as work:  # leaves no job behind
            for config, error in tqdm(work, desc="sweep", total=len(missing), unit="run"):
                report(config, None if error else Run(root / config.name), error)
    return [results[name] for name in points]
