"""Many runs: one at each point of a grid, several at once.

A sweep is "ensure" as training is: finished points are skipped, half-done ones continue. A point that fails is listed
with its error and stops no other.
"""

import contextlib
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

from modgrok.config import SETS, Config
from modgrok.scale.grids import departure, grid, in_words, sweep_of_kind
from modgrok.scale.jobs import Resources, work_off
from modgrok.storage.find import find_run, same_result
from modgrok.storage.runs import Run
from modgrok.training.session import finished_elsewhere, is_finished


@dataclass(frozen=True)
class Result:
    """The outcome of a point: its finished run, or the error that ended it."""

    config: Config
    run: Run | None = None
    error: str | None = None


@dataclass
class Report:
    """The results so far, printed as rows above a progress line."""

    labels: Mapping[str, str]
    bar: tqdm
    results: dict[str, Result] = field(default_factory=dict)

    def add(self, result: Result) -> None:
        """Keep a result, print its row, and advance the progress line."""
        name = result.config.name
        self.results[name] = result
        label = f"{self.labels[name]}: {result.error}" if result.error else self.labels[name]
        self.bar.write(f"{_row(result.run)}  {label}")
        self.bar.n = len(self.results)
        self.bar.refresh()

    def announce(self, missing: Sequence[Config], jobs: int) -> None:
        """Print how many runs are left to train, and start the clock of the progress line."""
        steps = sum(config.steps for config in missing)
        self.bar.write(
            f"{len(missing)} of {len(self.labels)} runs to train, {jobs} at a time, {steps:,} steps in all; the time "
            "that is left is known from their first evaluations on."
        )
        self.bar.initial, self.bar.start_t = self.bar.n, time.time()  # runs that were there took no time


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

    Prints a row for each run as it ends, and a progress line.

    Args:
        configs: the configs to train, such as a `grid`.
        root: folder that holds runs; on a cluster, one that all nodes share.
        jobs, cluster, gpus, partition, minutes, slurm: see `jobs.Resources`.

    Returns:
        a result for each config, in their order; equal configs give one.

    Raises:
        ValueError: an argument that is not allowed.
        ModuleNotFoundError: submitit is not installed.
        KeyboardInterrupt: the process received SIGINT or SIGTERM; local runs saved their state, SLURM's continue.
    """
    resources = Resources(jobs, cluster, gpus, partition, minutes, slurm or {})
    root, points = Path(root).absolute(), _by_name(configs)
    if not points:
        return []
    print(f"{'minutes':>8} " + " ".join(f"{name:>10}" for name in SETS) + "  point")
    with tqdm(total=len(points), desc="sweep", unit="run", smoothing=0) as bar:
        report, missing = Report(_labels(points), bar), []
        for config in points.values():
            if result := _existing(config, root):
                report.add(result)
            else:
                missing.append(config)
        if missing:
            report.announce(missing, jobs)
            with contextlib.closing(work_off(missing, root, resources, bar)) as work:  # leaves no job behind
                for config, error in work:
                    report.add(Result(config, None if error else Run(root / config.name), error))
    return [report.results[name] for name in points]


def _by_name(configs: Iterable[Config]) -> dict[str, Config]:
    """Name → config, in order.

    Raises:
        ValueError: two different configs have one name.
    """
    points: dict[str, Config] = {}
    for config in configs:
        if not same_result(points.setdefault(config.name, config), config):
            raise ValueError(f"two different points have the name {config.name}; train them under two roots.")
    return points


def _existing(config: Config, root: Path) -> Result | None:
    """The result at a point whose run is finished, or whose folder holds something else; else None."""
    folder = root / config.name
    try:
        finished = folder if is_finished(folder, config) else finished_elsewhere(config, root)
        return Result(config, Run(finished)) if finished else None
    except ValueError as error:
        return Result(config, error=f"ValueError: {error}")


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
    """The runs of the sweep "PRESET-KIND" in an array with the axes of its grid.

    Args:
        source: "shipped" finds finished runs under root; "train" makes sure they exist.
        preset_name: the first half of the sweep's name, such as "laptop".
        kind: the second half, such as "map"; see SWEEPS.
        root: the folder that holds runs.
        seeds: seeds of the runs at every point.
        jobs: number of runs that train at once.
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
    """The runs of the sweep "PRESET-factors", one setting changed at a time (A8).

    Args:
        source, preset_name, root, seeds, jobs: as in `obtain_grid`.

    Returns:
        field → value, that of the base point first → a run for each seed, None if it is missing. Fields that change
        together have the name and the value of the first.

    Raises:
        ValueError: a parameter that is not allowed, or a run that failed.
    """
    named = sweep_of_kind(preset_name, "factors")
    _obtain(source, grid(named.preset, named.vary, seeds, one_at_a_time=True), root, jobs, partial=True)
    base = {name: values[0] for name, values in named.vary.items()}

    def runs_at(name: str, value: Any) -> list[Run | None]:
        point = {field: (chosen,) for field, chosen in departure(base, name, value).items()}
        return _obtain("shipped", grid(named.preset, point, seeds), root, jobs, partial=True)

    return {
        name.split(",")[0]: {value[0] if "," in name else value: runs_at(name, value) for value in values}
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


def _row(run: Run | None) -> str:
    """Minutes of a finished run and its accuracy at the last shot on the four sets, as text."""
    if run is None:
        return "failed".rjust(8) + " " * 11 * len(SETS)
    minutes = run.provenance["seconds"] / 60
    return f"{minutes:8.1f} " + " ".join(f"{run.metrics[f'{name}_acc'][-1]:10.2f}" for name in SETS)


def _labels(points: Mapping[str, Config]) -> dict[str, str]:
    """Name → the fields in which a config differs from others, in words; its name if it differs in none."""
    dictionaries = {name: config.to_dict() for name, config in points.items()}
    first = next(iter(dictionaries.values()))
    varied = [
        field for field in first if any(fields[field] != first[field] for fields in dictionaries.values())
    ]
    return {
        name: in_words({field: fields[field] for field in varied}) or name
        for name, fields in dictionaries.items()
    }
