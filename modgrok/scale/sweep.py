"""Many runs: one at each point of a grid, several at once.

A sweep is "ensure" as training is: finished points are skipped, half-done ones continue. A point that fails is listed
with its error and stops no other.
"""

import contextlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

from modgrok.config import SETS, Config
from modgrok.scale.grids import grid, in_words, sweep_of_kind
from modgrok.scale.jobs import Resources, work_off
from modgrok.storage.find import find_run
from modgrok.storage.runs import Run
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
        cells = ["failed".rjust(8), *[" " * 10] * len(SETS)]
        if run:
            accuracies = [f"{run.metrics[f'{name}_acc'][-1]:10.2f}" for name in SETS]
            cells = [f"{run.provenance['seconds'] / 60:8.1f}", *accuracies]
        label = in_words({field: config.to_dict()[field] for field in varied}) or config.name
        tqdm.write(f"{' '.join(cells)}  {label}{f': {error}' if error else ''}")

    tqdm.write(f"{'minutes':>8} " + " ".join(f"{name:>10}" for name in SETS) + "  point")
    for config in points.values():
        try:
            if folder := finished_folder(config, root):
                report(config, Run(folder))
        except ValueError as error:  # its folder holds something else
            report(config, None, f"ValueError: {error}")
    missing = [config for name, config in points.items() if name not in results]
    if missing:
        tqdm.write(f"{len(missing)} of {len(points)} runs to train, {jobs} at a time")
        n_steps = sum(config.steps for config in missing)
        with (
            tqdm(total=n_steps, desc="sweep", unit="step", smoothing=0) as bar,
            contextlib.closing(work_off(missing, root, machines, bar)) as work,  # leaves no job behind
        ):
            for config, error in work:
                report(config, None if error else Run(root / config.name), error)
    return [results[name] for name in points]


def obtain_grid(
    source: str,
    preset_name: str,
    kind: str,
    root: str | Path,
    seeds: Sequence[int],
    jobs: int = 2,
    partial: bool = False,
    **fields,
) -> NDArray[np.object_]:
    """The runs of the sweep "PRESET-KIND", such as "laptop-map", in an array with the axes of its grid.

    Args:
        source: "shipped" finds finished runs under root; "train" makes sure they exist, so many `jobs` at once.
        preset_name, kind: the halves of a name in SWEEPS.
        root: the folder that holds runs.
        seeds: seeds of the runs at every point.
        partial: whether a missing run gives None instead of an error.
        **fields: fields of the config that differ from the sweep's.

    Returns:
        (…, seeds) runs; the axes before the seeds are those of the fields with several values, in the sweep's order.

    Raises:
        ValueError: a parameter that is not allowed, or a run that failed.
        NoSweep: the preset has no sweep of that kind.
        FileNotFoundError: source="shipped" and a run is missing.
    """
    named = sweep_of_kind(preset_name, kind)
    vary = dict(named.vary) | {name: (value,) for name, value in fields.items()}
    runs = _obtain(source, grid(named.preset, vary, seeds), root, jobs, partial)
    lengths = [len(values) for values in vary.values() if len(values) > 1]
    return np.array(runs, dtype=object).reshape([*lengths, len(seeds)])


def obtain_factors(
    source: str, preset_name: str, root: str | Path, seeds: Sequence[int], jobs: int = 2
) -> dict[str, dict[Any, list[Run | None]]]:
    """The runs of the sweep "PRESET-factors", one setting changed at a time (A8); arguments as for `obtain_grid`.

    Returns:
        field → value, that of the base point first → a run for each seed, None if it is missing. Fields that change
        together have the name and the value of the first.

    Raises:
        ValueError: a parameter that is not allowed, or a run that failed.
    """
    named = sweep_of_kind(preset_name, "factors")
    configs = grid(named.preset, named.vary, seeds, one_at_a_time=True)
    runs = _obtain(source, configs, root, jobs, partial=True)
    base, *departures = (runs[i : i + len(seeds)] for i in range(0, len(runs), len(seeds)))
    points = iter(departures)  # field by field, value by value, as in the grid
    return {
        name.split(",")[0]: {
            value[0] if "," in name else value: base if value == values[0] else next(points)
            for value in values
        }
        for name, values in named.vary.items()
        if len(values) > 1
    }


def _obtain(
    source: str, configs: list[Config], root: str | Path, jobs: int, partial: bool
) -> list[Run | None]:
    """A run for each config; see `obtain_grid`."""
    if source not in ("shipped", "train"):
        raise ValueError(f'source={source!r} is not allowed; choose "shipped" or "train".')
    if source == "train":
        errors = [result.error for result in sweep(configs, root, jobs) if result.error]
        if errors:
            raise ValueError(f"{len(errors)} of {len(configs)} runs failed; the first says: {errors[0]}")
    runs: list[Run | None] = []
    for config in configs:
        try:
            runs.append(find_run(config, root))
        except FileNotFoundError:
            if not partial:
                raise
            runs.append(None)
    return runs
