"""What models cost: when a run solves a set, and how steps and time grow with p."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from modgrok.analysis.skill import solves
from modgrok.evaluate import students_t
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


class PowerLaw(NamedTuple):
    """y = factor · x^exponent, as found by `power_law`.

    Attributes:
        exponent: with its 95 % interval, (3,); nan if there are fewer than three points, or all are at one x.
        line: with its 95 % interval at the places asked for, (3, len(at)); nan likewise.
    """

    exponent: np.ndarray
    line: np.ndarray


def power_law(x: ArrayLike, y: ArrayLike, at: ArrayLike) -> PowerLaw:
    """The straight line through points on logarithmic axes, by least squares, with intervals by Student's t.

    The intervals suppose that the law holds. Far from the points that is the larger doubt, and no interval tells it.

    Args:
        x, y: (n,) positive values, of at least two different x; points with a nan are left out.
        at: (m,) places at which to evaluate the line.
    """
    x, y, at = (np.asarray(values, dtype=float) for values in (x, y, at))
    known = np.isfinite(x) & np.isfinite(y)
    x, y = np.log(x[known]), np.log(y[known])
    if len(x) < 3 or np.ptp(x) == 0:
        return PowerLaw(np.full(3, np.nan), np.full((3, len(at)), np.nan))
    centre, freedom = x.mean(), len(x) - 2  # around the centre, slope and height are independent
    slope = (x - centre) @ (y - y.mean()) / ((x - centre) ** 2).sum()
    variance = ((y - y.mean() - slope * (x - centre)) ** 2).sum() / freedom
    of_slope = variance / ((x - centre) ** 2).sum()
    t, far = students_t(freedom), np.log(at) - centre
    middle, half = y.mean() + slope * far, t * np.sqrt(variance / len(x) + of_slope * far**2)
    return PowerLaw(
        slope + t * np.sqrt(of_slope) * np.array([0, -1, 1]), np.exp([middle, middle - half, middle + half])
    )


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
