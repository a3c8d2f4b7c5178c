"""Many runs: one a point of a grid, several at once.

A sweep is "ensure" as training is: finished points are skipped, half-done ones continue. One that fails is listed
with its error and stops no other.
"""

import contextlib
import dataclasses
import itertools
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm.auto import tqdm

from modgrok.config import SETS, Config, preset
from modgrok.scale.jobs import work_off
from modgrok.storage.find import find_run, same_result
from modgrok.storage.runs import Run
from modgrok.training.session import finished_elsewhere, is_finished


class Sweep(NamedTuple):
    """A named grid: every combination of the values, for every seed, on top of a preset.

    Fields that change together are named together, separated by commas, and each of their values is a tuple. One at a
    time, there are no combinations: the first values are the base point, from which one field departs at a time.
    """

    preset: str
    vary: Mapping[str, Sequence[Any]]
    seeds: Sequence[int] = (0,)
    one_at_a_time: bool = False


SHORT = {"steps": (2000,), "eval_every": (100,)}
BOTH_RULES = {"task_rule": ("rectangle", "random")}
RUNG = "p,n_tasks,n_examples,batch_size,steps,eval_every"
PAPER_PLANE = {"n_tasks": (8, 16, 32, 64, 128, 256, 512), "alpha": (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)}

SWEEPS = {
    "smoke-map": Sweep("smoke", {"n_tasks": (8, 16), "alpha": (0.6, 0.8)}),
    "smoke-rule": Sweep("smoke", BOTH_RULES | {"n_tasks": (8, 16), "alpha": (0.8,)}),
    "smoke-coarse": Sweep("smoke", {"depth": (1, 2), "n_tasks": (8, 16), "alpha": (0.6, 0.8)}),
    "smoke-lasting": Sweep("smoke", {"depth": (1, 2), "alpha": (0.6,)}),
    "smoke-factors": Sweep(
        "smoke", {"n_head": (2, 1), "optimizer": ("adamw", "muon")}, one_at_a_time=True
    ),
    "smoke-ladder": Sweep("smoke", {RUNG: ((3, 4, 4, 16, 20, 5), (5, 16, 8, 48, 20, 5))}),
    "laptop-depth": Sweep("laptop", {"depth": (1, 2, 4)}, seeds=(0, 1, 2)),
    "laptop-map": Sweep(
        "laptop",
        {"n_tasks": (20, 40), "alpha": (0.4, 0.6, 0.8)} | SHORT,
        seeds=(0, 1, 2),
    ),
    "laptop-rule": Sweep(
        "laptop",
        BOTH_RULES | {"depth": (1, 2, 4), "n_tasks": (20, 40), "alpha": (0.4, 0.6, 0.8)} | SHORT,
        seeds=(0, 1, 2),
    ),
    "laptop-coarse": Sweep(
        "laptop",
        {"depth": (1, 2, 4), "n_tasks": (20, 40), "alpha": (0.4, 0.6, 0.8)} | SHORT,
        seeds=(0, 1, 2),
    ),
    "laptop-lasting": Sweep("laptop", {"depth": (2, 4), "alpha": (0.4,)} | SHORT, seeds=(0, 1, 2)),
    "laptop-factors": Sweep(
        "laptop",
        SHORT
        | {
            "lr,muon_lr": ((1e-3, 0.01), (3e-4, 0.003), (3e-3, 0.03)),
            "weight_decay": (0.9, 0.0, 0.3, 2.7),
            "n_embd": (64, 32, 128),
            "n_head": (2, 1, 4),
            "n_examples": (12, 8, 16),
            "rope_base": (100.0, 10.0, 10_000.0),
            "optimizer": ("muon", "adamw"),
            "batch_size": (160, 80, 320),
            "p,n_tasks,batch_size": ((7, 40, 160), (5, 20, 160), (11, 96, 192)),
        },
        seeds=(0, 1),
        one_at_a_time=True,
    ),
    "desk-depth": Sweep("desk", {"depth": (1, 2, 4)}, seeds=(0, 1, 2)),
    "desk-ladder": Sweep(
        "desk",
        {RUNG: ((5, 20, 10, 160, 2000, 50), (7, 40, 12, 160, 3000, 100), (11, 96, 16, 192, 16_000, 250))},
        seeds=(0, 1, 2),
    ),
    "desk-map": Sweep(
        "desk",
        {"depth": (2,), "n_tasks": (16, 32, 64, 96), "alpha": (0.4, 0.6, 0.8), "steps": (8000,)},
        seeds=(0, 1, 2),
    ),
    "desk-coarse": Sweep("desk", {"depth": (1, 2, 4), "alpha": (0.4, 0.8), "steps": (8000,)}),
    "desk-lasting": Sweep("desk", {"depth": (2, 4), "alpha": (0.4,)}, seeds=(0, 1, 2)),
    "paper-map": Sweep("paper", PAPER_PLANE),
    "paper-rule": Sweep("paper", BOTH_RULES | {"depth": (1, 2, 4)} | PAPER_PLANE),
    "paper-coarse": Sweep("paper", {"depth": (1, 2, 4, 6)} | PAPER_PLANE),
    "paper-lasting": Sweep("paper", {"depth": (2, 4, 6), "alpha": (0.4,)}),
}  # fmt: skip
"""Named after what they vary. `map`: tasks and inputs (F1b). `rule`: how tasks are chosen, over the same map, for
several depths (A1). `depth`: blocks. `coarse`: a smaller map for each of several depths (F4). `lasting`: depth again,
with few training inputs. `ladder`: the modulus, and with it all that grows with it. `factors`: one setting at a time
(A8). Those of `smoke` take up to a minute (CI), of `paper` hours on a GPU for each run. Those of `laptop` on two cores:
`map` half an hour (18 runs), `rule` four hours (108, of which 18 are the map's), `depth` half an hour (9), `coarse` two
hours (54, those of `rule` by rectangles), `lasting` a quarter of an hour (6, all of them in `coarse`), `factors` an
hour (38, of which 2 are the map's). Those of `desk` on two cores with bf16: `depth` three hours (9), `ladder` a quarter
of an hour more (9, of which 3 are the depths'), `map` two and a quarter (36), `coarse` half an hour more (6, of which 2
are the map's), `lasting` two and a half (6)."""


class NoSweep(ValueError):
    """A preset has no sweep of that kind."""


@dataclass(frozen=True)
class Result:
    """What became of a point: its finished run, or the error that it ended with."""

    config: Config
    run: Run | None = None
    error: str | None = None


def grid(
    preset_name: str,
    vary: Mapping[str, Sequence[Any]],
    seeds: Sequence[int] = (0,),
    one_at_a_time: bool = False,
) -> list[Config]:
    """The configs of every combination of values and seeds on top of a preset.

    Args:
        preset_name, vary, seeds, one_at_a_time: as in `Sweep`.

    Raises:
        ValueError: an unknown preset, or the points that are not valid, one sentence each.
    """
    preset(preset_name)
    configs, errors, base = [], [], {name: values[0] for name, values in vary.items()}
    combinations = (dict(zip(vary, values, strict=True)) for values in itertools.product(*vary.values()))
    departures = (_departing(vary, name, value) for name, values in vary.items() for value in values[1:])
    for chosen in (base, *departures) if one_at_a_time else combinations:
        point = {}
        for name, value in chosen.items():
            point |= zip(name.split(","), value, strict=True) if "," in name else {name: value}
        try:
            configs += [preset(preset_name, **{"seed": seed} | point) for seed in seeds]
        except ValueError as error:
            errors.append(f"{_words(point)}: {error}".removeprefix(": "))
    if errors:
        listed = "".join(f"\n  {error}" for error in errors)
        raise ValueError(f"{len(errors)} point(s) of the sweep are not valid, nothing was started:{listed}")
    return configs


def _departing(vary: Mapping[str, Sequence[Any]], name: str, value: Any) -> dict[str, Any]:
    """The base point, one field of it changed; that comes last, so that it counts where fields are named twice."""
    return {other: values[0] for other, values in vary.items() if other != name} | {name: value}


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
    truths = {"true": True, "false": False}
    parsers = {int: int, float: float, bool: lambda value: truths[value.lower()]}

    def parse(value: str) -> Any:
        with contextlib.suppress(ValueError, KeyError):
            return parsers[kinds[name]](value)
        return value  # the config will say what is wrong with it

    return name, [parse(value) for value in values.split(",")]


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
    with tqdm(total=len(points), desc="sweep", unit="run", smoothing=0) as bar:

        def conclude(config: Config, error: str | None = None, run: Run | None = None) -> None:
            run = None if error else run or Run(root / config.name)
            results[config.name] = Result(config, run, error)
            bar.write(f"{_row(run)}  {labels[config.name]}" + (f": {error}" if error else ""))
            bar.n = len(results)
            bar.refresh()

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
            steps = sum(config.steps for config in missing)
            bar.write(
                f"{len(missing)} of {len(points)} runs to train, {jobs} at a time, {steps:,} steps in all; the time "
                "that is left is known from their first evaluations on."
            )
            bar.initial, bar.start_t = bar.n, time.time()  # what was there took no time
            work = work_off(missing, root, jobs, cluster, gpus, partition, minutes, slurm or {}, bar)
            with contextlib.closing(work):  # whatever ends it: no job is left, nor a lock
                for config, error in work:
                    conclude(config, error)
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
    """The runs of the sweep "PRESET-KIND" that a notebook asks for, laid out as its grid is.

    Args:
        source: "shipped" finds finished runs under root; "train" makes sure they exist.
        preset_name: the first half of the sweep's name, such as "laptop".
        kind: the second half, such as "map"; see SWEEPS.
        root: where runs are.
        seeds: one run of each at every point.
        jobs: how many runs train at once.
        partial: whether a run that is missing from what is shipped is None instead of an error.
        **fields: fields of the config that differ from the sweep's.

    Returns:
        (…, seeds) runs; in front of the seeds an axis for each field that takes several values, in the sweep's order.

    Raises:
        ValueError: a parameter that is not allowed, or a run that failed.
        NoSweep: the preset has no sweep of that kind.
        FileNotFoundError: source="shipped" and a run is missing.
    """
    named = _named(preset_name, kind)
    vary = dict(named.vary) | {name: (value,) for name, value in fields.items()}
    runs = _obtain(source, grid(named.preset, vary, seeds), root, jobs, partial)
    return np.array(runs, dtype=object).reshape(
        [len(values) for values in vary.values() if len(values) > 1] + [len(seeds)]
    )


def obtain_factors(
    source: str, preset_name: str, root: str | Path, seeds: Sequence[int], jobs: int = 2
) -> dict[str, dict[Any, list[Run | None]]]:
    """The runs of the sweep "PRESET-factors", one setting changed at a time (A8).

    Args:
        source, preset_name, root, seeds, jobs: as in `obtain_grid`.

    Returns:
        field → value, the base point's first → a run for each seed, None where it is not shipped. Of fields that change
        together the first gives name and value.

    Raises:
        ValueError: a parameter that is not allowed, or a run that failed.
    """
    named = _named(preset_name, "factors")
    _obtain(source, grid(named.preset, named.vary, seeds, one_at_a_time=True), root, jobs, partial=True)

    def of(name: str, value: Any) -> list[Run | None]:
        point = {field: (value,) for field, value in _departing(named.vary, name, value).items()}
        return _obtain("shipped", grid(named.preset, point, seeds), root, jobs, partial=True)

    return {
        name.split(",")[0]: {value[0] if "," in name else value: of(name, value) for value in values}
        for name, values in named.vary.items()
        if len(values) > 1
    }


def _named(preset_name: str, kind: str) -> Sweep:
    """The sweep "PRESET-KIND"."""
    known = [name.removesuffix(f"-{kind}") for name in SWEEPS if name.endswith(f"-{kind}")]
    if preset_name not in known:
        raise NoSweep(f"preset={preset_name!r} has no {kind}; choose one of {', '.join(known)}.")
    return SWEEPS[f"{preset_name}-{kind}"]


def _obtain(
    source: str, configs: list[Config], root: str | Path, jobs: int, partial: bool
) -> list[Run | None]:
    """A run for each config; see `obtain_grid`."""
    if source not in ("shipped", "train"):
        raise ValueError(f'source={source!r} is not allowed; choose "shipped" or "train".')
    if source == "train" and (failed := [r.error for r in sweep(configs, root, jobs) if r.error]):
        raise ValueError(f"{len(failed)} of {len(configs)} runs failed; the first says: {failed[0]}")
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
    """Minutes and last-shot accuracy on the four sets of a finished run."""
    if run is None:
        return "failed".rjust(8) + " " * 11 * len(SETS)
    minutes = run.provenance["seconds"] / 60
    return f"{minutes:8.1f} " + " ".join(f"{run.metrics[f'{name}_acc'][-1]:10.2f}" for name in SETS)


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
