"""What models cost: when a run solves a set, and how steps and time grow with p."""

from collections.abc import Iterable

import numpy as np

from modgrok.analysis.skill import solves
from modgrok.storage.runs import Run


def core_minutes(runs: Iterable[Run]) -> float:
    """Wall time of training times threads, in minutes, over all sessions at the size of the last."""
    records = [run.provenance for run in runs]
    return sum(r["seconds"] * r["threads"] * r["processes"][-1] for r in records) / 60


def solved_at(run: Run, name: str) -> float:
    """The step of the first evaluation at which a run solves a set, as at the next one; nan if it never does.

    Two in a row are asked for, because one evaluation above a threshold may be noise.
    """
    reached = solves(run, name)
    twice = np.flatnonzero(reached[:-1] & reached[1:])
    return float(run.metrics["step"][twice[0]]) if len(twice) else float("nan")


def left_plateau(run: Run) -> float:
    """The step of the first evaluation, the next one alike, whose loss on the training set is at least a tenth below
    that of a blind guess, ln p; nan if there is none."""
    below = run.metrics["id_train_loss"] <= 0.9 * np.log(run.config.p)
    twice = np.flatnonzero(below[:-1] & below[1:])
    return float(run.metrics["step"][twice[0]]) if len(twice) else float("nan")


def core_hours(runs: Iterable[Run]) -> list[list]:
    """What runs cost, a row for each p, depth and width: these, runs, steps, least ms of a step, core-hours."""
    groups: dict[tuple[int, int, int], list[Run]] = {}
    for run in runs:
        groups.setdefault((run.config.p, run.config.depth, run.config.n_embd), []).append(run)
    rows = []
    for of, group in sorted(groups.items()):
        minutes = [core_minutes([run]) for run in group]
        fastest = min(60_000 * spent / run.config.steps for spent, run in zip(minutes, group, strict=True))
        steps = sum(run.config.steps for run in group)
        rows.append([*of, len(group), f"{steps:,}", f"{fastest:.0f}", f"{sum(minutes) / 60:.2f}"])
    total = sum(map(core_minutes, groups.values())) / 60
    return [*rows, ["all", "", "", sum(map(len, groups.values())), "", "", f"{total:.2f}"]]
