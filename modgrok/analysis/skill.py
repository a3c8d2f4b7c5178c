"""Abilities of a trained model: its skill on a set, whether it solves the set, its phase, and its best moment."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from modgrok.config import SETS
from modgrok.evaluate import MULTIPLE, REPEAT
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
"""Phases of a run, from nothing learned to everything; the last four are the paper's (F1b)."""

EASIER = {
    "id_train": (),
    "id_test": ("id_train",),
    "ood_train": ("id_train",),
    "ood_test": ("id_train", "id_test", "ood_train"),
}
"""Set → the sets that a model which solves it should solve as well."""


# --- skill on a set -------------------------------------------------------------------------------------


def skill(n_correct: ArrayLike, n_queries: ArrayLike, p: int) -> np.ndarray:
    """Accuracy on a scale from look-up (0) to ratio matching (1), on the queries that repeat no earlier pair.

    Skill is (accuracy - 1/p) / (expected accuracy of ratio matching - 1/p), both on the same queries. An algorithm that
    combines examples has more than 1. At p = 7, where half of the queries repeat a pair, copying scores up to 0.73 of
    all queries, but no skill.

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
    """Set → skill at the last shot of each run of an array, in the shape of the array; nan for a missing run (None).

    evaluation: index of an evaluation, the same for all runs or an array with one for each run.
    """
    pick = np.vectorize(lambda run, i, name: skill_curve(run, name)[i] if run else np.nan, otypes=[float])
    return {name: pick(runs, evaluation, name) for name in SETS}


def solves(run: Run, set_name: str) -> np.ndarray:
    """Whether a run solves a set, at each evaluation: (E,) bool; never if the set is empty."""
    return skill_curve(run, set_name) >= SOLVED


def learned_training_set(run: Run) -> bool:
    """Whether a run solved its training set at some evaluation."""
    return bool(solves(run, "id_train").any())


# --- accuracy -------------------------------------------------------------------------------------------


def novel_curves(runs: Iterable[Run]) -> dict[str, np.ndarray]:
    """Set → (runs, evaluations) accuracy at the last shot on the queries that repeat no earlier pair."""
    runs = list(runs)
    return {name: np.stack([run.metrics[f"{name}_novel"] for run in runs]) for name in SETS}


def novel_by_shot(run: Run) -> dict[str, np.ndarray]:
    """Set → accuracy on the queries that repeat no earlier pair, by evaluation and number of shots.

    Each is (E, K), nan without queries.
    """
    with np.errstate(invalid="ignore"):
        return {
            name: run.correct[name][:, MULTIPLE:].sum(1) / run.queries[name][MULTIPLE:].sum(0)
            for name in SETS
        }


def matched_at_end(run: Run, set_name: str) -> float:
    """Expected accuracy of ratio matching at the last shot, on the queries that repeat no earlier pair."""
    n_multiples, *n_harder = run.queries[set_name][MULTIPLE:, -1]
    return float((n_multiples + sum(n_harder) / run.config.p) / max(n_multiples + sum(n_harder), 1))


def copied_at_end(run: Run, set_name: str) -> float:
    """Accuracy of copying repeats and guessing every other answer, at the last shot, over all queries."""
    queries = run.queries[set_name][:, -1]
    return float((queries[REPEAT] + queries[MULTIPLE:].sum() / run.config.p) / max(queries.sum(), 1))


# --- phases of a map of runs ----------------------------------------------------------------------------


def phases(runs: Run | NDArray[np.object_], evaluation: ArrayLike = -1) -> np.ndarray:
    """Phase of each run of an array, an index of PHASES, by the last of SETS that it solves.

    A missing run (None) has -1. evaluation: as for `map_skill`.
    """
    skills = map_skill(runs, evaluation)
    reached = np.max([(skills[name] >= SOLVED) * (i + 1) for i, name in enumerate(SETS)], axis=0)
    return np.where(np.equal(runs, None).astype(bool), -1, reached)


def phases_twice(runs: NDArray[np.object_]) -> dict[str, np.ndarray]:
    """`phases` of an array of runs "at the end" and "stopped early", at the `ood_stop` of each run."""
    stops = np.vectorize(lambda run: ood_stop(run).index if run else -1, otypes=[int])(runs)
    return {"at the end": phases(runs), "stopped early": phases(runs, stops)}


def phase_panels(maps: dict[str, NDArray[np.object_]]) -> dict[str, dict[str, np.ndarray]]:
    """Moment, "at the end" or "stopped early" → title of a map → its phases, as by `phases_twice`."""
    by_title = {title: phases_twice(runs) for title, runs in maps.items()}
    return {
        moment: {title: reached[moment] for title, reached in by_title.items()}
        for moment in ("at the end", "stopped early")
    }


def map_axes(runs: NDArray[np.object_]) -> tuple[list[int], list[float]]:
    """Numbers of tasks and values of α along the last two axes of a map of runs, (…, alphas, n_tasks)."""
    configs = [run.config for run in runs.flat if run]
    return sorted({config.n_tasks for config in configs}), sorted({config.alpha for config in configs})


def maps_by_choice(runs: NDArray[np.object_]) -> dict[int, NDArray[np.object_]]:
    """Depth → a map for each rule of choosing tasks, (rules, seeds, alphas, n_tasks).

    runs: of a sweep laid out as (rules, depths, n_tasks, alphas, seeds); None for a missing run. A depth without any
    run of some rule is left out.
    """
    n_tasks, alphas = map_axes(runs)
    maps = runs.reshape(len(runs), -1, len(n_tasks), len(alphas), runs.shape[-1]).swapaxes(2, 4)
    by_depth = {}
    for grid in maps.swapaxes(0, 1):
        present = [[run for run in choice.flat if run] for choice in grid]
        if all(present):
            by_depth[present[0][0].config.depth] = grid
    return by_depth


def typical_points(skills: dict[str, ArrayLike], reached: ArrayLike) -> dict[int, tuple[int, int]]:
    """Choose for each phase the point with the most skill among the points at which all seeds end in this phase.

    Args:
        skills: set → (seeds, rows, columns), as `map_skill` returns; that on the set which names the phase counts,
            averaged over seeds.
        reached: (seeds, rows, columns) their `phases`.

    Returns:
        index of PHASES → (row, column); a phase without such a point is left out.
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
    """The best moment to stop a run, and its skill then and at the end.

    Attributes:
        index: the evaluation in the middle of the best window.
        best, final: mean skill in the best window, and in the last window.
        is_solved: whether the best window solves the set.
        is_transient: whether the run solved the set and then lost more skill than MIN_FALL and than noise explains
            (claim 4).
    """

    index: int
    best: float
    final: float
    is_solved: bool
    is_transient: bool


def early_stop(curve: ArrayLike) -> EarlyStop:
    """The best moment of a run: the middle of the window of evaluations with the highest mean skill (F4).

    The best of many windows lies above the last even on a plateau. So a loss must exceed four standard errors of a
    difference: of simulated plateaus with noise, fewer than 2 in 100 are then called transient.

    curve: (evaluations,) skill during training, such as `skill_curve(run, "ood_train")`. A window has a tenth of them,
    at least five, so that noise makes no peak.
    """
    curve = np.asarray(curve, dtype=float)
    width = min(len(curve), max(5, len(curve) // 10))
    smooth = np.convolve(curve, np.full(width, 1 / width), mode="valid")
    place = int(smooth.argmax())
    best, final = float(smooth[place]), float(smooth[-1])
    start = int((smooth >= best / 2).argmax())  # before it rises, a model scatters less
    steps = abs(np.diff(curve[start:]))
    # from neighbours, so that no slow change counts; by the median, so that no jump does
    scatter = 1.4826 * np.median(steps) / np.sqrt(2) if len(steps) else 0.0
    noise, is_solved = 4 * scatter * np.sqrt(2 / width), best >= SOLVED
    is_transient = bool(is_solved and best - final > max(MIN_FALL, noise))
    return EarlyStop(place + (width - 1) // 2, best, final, is_solved, is_transient)


def ood_stop(run: Run, set_name: str = "ood_train") -> EarlyStop:
    """`early_stop` of a run for its skill on o.o.d. tasks, by default with training inputs."""
    return early_stop(skill_curve(run, set_name))
