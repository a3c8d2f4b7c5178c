"""What trained models can do: their skill on a set, whether they solve it, their phase, and the best moment to stop."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from modgrok.config import SETS
from modgrok.evaluate import MULTIPLE
from modgrok.storage.runs import Run

SOLVED = 0.5
"""The smallest skill at the last shot with which a model solves a set."""

PHASES = (
    "not learned",
    "i.d. memorisation",
    "i.d. generalisation",
    "o.o.d. memorisation",
    "o.o.d. generalisation",
)
"""What a run can have learned, from nothing to everything; the last four are the paper's phases (F1b)."""

EASIER = {
    "id_train": (),
    "id_test": ("id_train",),
    "ood_train": ("id_train",),
    "ood_test": ("id_train", "id_test", "ood_train"),
}
"""Set → the sets that a model which solves it should solve as well."""


# --- skill on a set -------------------------------------------------------------------------------------


def skill(n_correct: ArrayLike, n_queries: ArrayLike, p: int) -> np.ndarray:
    """How far a model comes from look-up to ratio matching, on the queries that repeat no earlier pair.

    (accuracy - 1/p) / (expected accuracy of ratio matching - 1/p), both on the same queries: look-up has 0, ratio
    matching has 1, and more takes combinations of examples. Accuracy over all queries would not do: at p = 7 with 12
    examples 24 to 68 % of the queries repeat an earlier pair, so that copying alone scores 0.35 to 0.73.

    Args:
        n_correct: (…, 4, K) correct answers by kind of query (`evaluate.KINDS`) and number of shots.
        n_queries: (4, K) queries.
        p: the modulus.

    Returns:
        (…, K), nan where no query is another multiple of an earlier pair.
    """
    n_correct, n_queries = np.asarray(n_correct, dtype=float), np.asarray(n_queries, dtype=float)
    above_chance = n_correct[..., MULTIPLE:, :].sum(-2) - n_queries[MULTIPLE:].sum(0) / p
    n_multiples = np.where(n_queries[MULTIPLE] > 0, n_queries[MULTIPLE], np.nan)
    return above_chance / (n_multiples * (1 - 1 / p))


def skill_curve(run: Run, set_name: str) -> np.ndarray:
    """Skill on a set at the last shot, at each evaluation: (E,)."""
    return skill(run.correct[set_name], run.queries[set_name], run.config.p)[:, -1]


def map_skill(runs: NDArray[np.object_], evaluation: ArrayLike = -1) -> dict[str, np.ndarray]:
    """Set → skill at the last shot of an array of runs, in its shape.

    Args:
        runs: array of runs; the skill of a missing one (None) is nan.
        evaluation: which of a run's evaluations, one for all or an array of one for each run.
    """
    pick = np.vectorize(lambda run, i, name: skill_curve(run, name)[i] if run else np.nan, otypes=[float])
    return {name: pick(runs, evaluation, name) for name in SETS}


def solves(run: Run, set_name: str) -> np.ndarray:
    """Whether a run solves a set, at each evaluation: (E,) bool; never if the set is empty."""
    return skill_curve(run, set_name) >= SOLVED


def learned_training_set(run: Run) -> bool:
    """Whether a run solved its training set at some evaluation; a run that did not tells nothing."""
    return bool(solves(run, "id_train").any())


# --- accuracy -------------------------------------------------------------------------------------------


def novel_curves(runs: Iterable[Run]) -> dict[str, np.ndarray]:
    """Set → (runs, evaluations) accuracy at the last shot on the queries that repeat no earlier pair."""
    runs = list(runs)
    return {name: np.stack([run.metrics[f"{name}_novel"] for run in runs]) for name in SETS}


def novel_by_shot(runs: Iterable[Run]) -> dict[str, np.ndarray]:
    """Set → (runs, K) accuracy at the last evaluation on the queries that repeat no earlier pair, by shots."""
    runs = list(runs)
    return {name: np.stack([novel_at_end(run, name)[0] for run in runs]) for name in SETS}


def novel_at_end(run: Run, set_name: str) -> np.ndarray:
    """Accuracy at the last evaluation on queries that repeat no earlier pair, and its standard error: (2, K)."""
    counts = (run.correct[set_name][-1], run.queries[set_name])
    n_correct, n_queries = (count[MULTIPLE:].sum(0) for count in counts)
    accuracy = n_correct / np.maximum(n_queries, 1)
    return np.stack([accuracy, np.sqrt(accuracy * (1 - accuracy) / np.maximum(n_queries, 1))])


def matched_at_end(run: Run, set_name: str) -> float:
    """Accuracy of ratio matching on the last shot's queries that repeat no earlier pair; look-up has 1/p there."""
    n_multiples, *n_harder = run.queries[set_name][MULTIPLE:, -1]
    return float((n_multiples + sum(n_harder) / run.config.p) / max(n_multiples + sum(n_harder), 1))


# --- phases of a map of runs ----------------------------------------------------------------------------


def phases(runs: Run | NDArray[np.object_], evaluation: ArrayLike = -1) -> np.ndarray:
    """Phases as indices of PHASES; a model is named after the last set, in the order of SETS, that it solves.

    Args:
        runs: a run or an array of runs, whose shape is that of the result; -1 for a missing one (None).
        evaluation: as for `map_skill`.
    """
    skills = map_skill(runs, evaluation)
    reached = np.max([(skills[name] >= SOLVED) * (i + 1) for i, name in enumerate(SETS)], axis=0)
    return np.where(np.equal(runs, None).astype(bool), -1, reached)


def phases_twice(runs: NDArray[np.object_]) -> dict[str, np.ndarray]:
    """Phases "at the end" and "stopped early", at each run's `ood_stop`, in the shape of the runs."""
    stops = np.vectorize(lambda run: ood_stop(run).index if run else -1, otypes=[int])(runs)
    return {"at the end": phases(runs), "stopped early": phases(runs, stops)}


def phase_panels(maps: dict[str, NDArray[np.object_]]) -> dict[str, dict[str, np.ndarray]]:
    """Moment, "at the end" or "stopped early" → title of a map → its phases, as by `phases_twice`."""
    by_title = {title: phases_twice(runs) for title, runs in maps.items()}
    moments = ("at the end", "stopped early")
    return {moment: {title: reached[moment] for title, reached in by_title.items()} for moment in moments}


def map_axes(runs: NDArray[np.object_]) -> tuple[list[int], list[float]]:
    """Numbers of tasks and values of α along the last two axes of a map of runs, (…, alphas, n_tasks)."""
    configs = [run.config for run in runs.flat if run]
    return sorted({config.n_tasks for config in configs}), sorted({config.alpha for config in configs})


def maps_by_depth(runs: NDArray[np.object_]) -> dict[int, NDArray[np.object_]]:
    """Depth → its map (seeds, alphas, n_tasks), of a sweep laid out as (depths, n_tasks, alphas, seeds)."""
    n_alphas = len(map_axes(runs)[1])
    maps = runs.reshape(len(runs), -1, n_alphas, runs.shape[-1]).transpose(0, 3, 2, 1)
    return {grid.flat[0].config.depth: grid for grid in maps}


def maps_by_choice(runs: NDArray[np.object_]) -> dict[int, NDArray[np.object_]]:
    """Depth → a map for each rule of choosing tasks, (rules, seeds, alphas, n_tasks).

    Args:
        runs: of a sweep laid out as (rules, depths, n_tasks, alphas, seeds); None for a missing run. Depths that lack
            all runs of a rule are left out.
    """
    n_tasks, alphas = map_axes(runs)
    maps = runs.reshape(len(runs), -1, len(n_tasks), len(alphas), runs.shape[-1]).swapaxes(2, 4)
    is_there = ~np.equal(maps, None).astype(bool)
    by_depth = {}
    for i in np.flatnonzero(is_there.any(axis=(2, 3, 4)).all(0)):
        grid = maps[:, i]
        by_depth[grid[is_there[:, i]][0].config.depth] = grid
    return by_depth


def typical_points(skills: dict[str, ArrayLike], reached: ArrayLike) -> dict[int, tuple[int, int]]:
    """For each phase in which all seeds of a point end, the point with most skill on the set that names the phase.

    Args:
        skills: set → (seeds, rows, columns), as `map_skill` returns.
        reached: (seeds, rows, columns) their `phases`.

    Returns:
        Index of PHASES → (row, column), without the phases of no point.
    """
    points = {}
    for phase, set_name in enumerate(("id_train", *SETS)):
        is_shared = (np.asarray(reached) == phase).all(axis=0)
        if is_shared.any():
            mean = np.where(is_shared, np.mean(skills[set_name], axis=0), -np.inf)
            points[phase] = tuple(map(int, np.unravel_index(mean.argmax(), mean.shape)))
    return points


# --- early stopping and transience ----------------------------------------------------------------------

MIN_FALL = 0.1
"""The smallest loss of skill that counts as a fall, however small the noise."""


class EarlyStop(NamedTuple):
    """Where to stop a run early.

    Attributes:
        index: the evaluation in the middle of the best window.
        best, final: mean skill in the best window and in the last.
        scatter: standard deviation of one evaluation around its neighbours.
        width: evaluations in a window.
    """

    index: int
    best: float
    final: float
    scatter: float
    width: int

    @property
    def is_solved(self) -> bool:
        """Whether the best window solves the set."""
        return self.best >= SOLVED

    @property
    def is_transient(self) -> bool:
        """Whether the run solved the set and then lost more than MIN_FALL, and more than noise explains (claim 4).

        The best of many windows lies above the last even on a plateau. So the loss must exceed four standard errors
        of a difference: of simulated plateaus with noise, fewer than 2 in 100 are then called transient.
        """
        noise = 4 * self.scatter * np.sqrt(2 / self.width)
        return self.is_solved and self.best - self.final > max(MIN_FALL, noise)


def early_stop(curve: ArrayLike) -> EarlyStop:
    """The best moment of a run, by means over windows, so that noise is no peak (F4).

    A window is a tenth of the evaluations, at least five.

    Args:
        curve: (evaluations,) skill during training, as a rule `skill_curve(run, "ood_train")`.
    """
    curve = np.asarray(curve, dtype=float)
    width = min(len(curve), max(5, len(curve) // 10))
    smooth = np.convolve(curve, np.full(width, 1 / width), mode="valid")
    best = int(smooth.argmax())
    start = int((smooth >= smooth[best] / 2).argmax())  # before it rises, a model scatters less
    steps = abs(np.diff(curve[start:]))
    # from neighbours, so that no slow change counts; by the median, so that no jump does
    scatter = 1.4826 * np.median(steps) / np.sqrt(2) if len(steps) else 0.0
    return EarlyStop(best + (width - 1) // 2, float(smooth[best]), float(smooth[-1]), float(scatter), width)


def ood_stop(run: Run, set_name: str = "ood_train") -> EarlyStop:
    """Where a run's skill on o.o.d. tasks, by default with training inputs, is best."""
    return early_stop(skill_curve(run, set_name))


def ood_twice(runs: NDArray[np.object_]) -> dict[str, np.ndarray]:
    """Skill on o.o.d. tasks, training inputs, "at the end" and "stopped early", in the shape of the runs.

    Means over the windows of `early_stop`; nan for a missing run (None).
    """
    pick = np.vectorize(lambda run, moment: getattr(ood_stop(run), moment) if run else np.nan, otypes=[float])
    return {"at the end": pick(runs, "final"), "stopped early": pick(runs, "best")}
