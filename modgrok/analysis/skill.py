"""What trained models can do: their skill on a set, whether they solve it, their phase, and the best moment to stop."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from modgrok.analysis.stats import SHARE, mean_interval, share_interval
from modgrok.config import SETS
from modgrok.evaluate import MULTIPLE
from modgrok.storage.runs import Run

SOLVED = 0.5
"""The least skill at the last shot of a model that solves a set."""

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
"""The sets that whoever solves a set should solve as well."""


def skill(right: ArrayLike, asked: ArrayLike, p: int) -> np.ndarray:
    """How far from look-up to ratio matching a model comes, on the queries that are no repeat.

    (accuracy - 1/p) / (expected accuracy of ratio matching - 1/p), both on the same queries: 0 is what look-up gives
    there, 1 what ratio matching gives, and above 1 needs combinations. A model *solves* a set if its skill at the last
    shot is at least SOLVED. Plain accuracy cannot carry that word: at p = 7 with 12 examples 25 to 69 % of the queries
    repeat an earlier pair, so that copying alone scores 0.36 to 0.73 over all queries. Its skill is 0 by construction.

    Args:
        right: (…, 4, K) right answers by kind of query (`evaluate.KINDS`) and number of shots.
        asked: (4, K) how many queries there were.
        p: the modulus.

    Returns:
        (…, K), nan where no query is another multiple of an earlier pair.
    """
    right, asked = np.asarray(right, dtype=float), np.asarray(asked, dtype=float)
    above_chance = right[..., MULTIPLE:, :].sum(-2) - asked[MULTIPLE:].sum(0) / p
    multiples = np.where(asked[MULTIPLE] > 0, asked[MULTIPLE], np.nan)
    return above_chance / (multiples * (1 - 1 / p))


def skill_curve(run: Run, name: str) -> np.ndarray:
    """Skill on a set at the last shot, at each evaluation: (E,)."""
    return skill(run.correct[name], run.queries[name], run.config.p)[:, -1]


def map_novel(runs: NDArray[np.object_]) -> dict[str, np.ndarray]:
    """Set → accuracy at the last shot, at the end, on the queries that are no repeat, in the shape of the runs."""
    pick = np.vectorize(lambda run, name: run.metrics[f"{name}_novel"][-1], otypes=[float])
    return {name: pick(runs, name) for name in SETS}


def novel_curves(runs: Iterable[Run]) -> dict[str, np.ndarray]:
    """Set → (runs, evaluations) accuracy at the last shot on the queries that are no repeat."""
    runs = list(runs)
    return {name: np.stack([run.metrics[f"{name}_novel"] for run in runs]) for name in SETS}


def novel_by_shot(runs: Iterable[Run]) -> dict[str, np.ndarray]:
    """Set → (runs, K) accuracy at the last evaluation on the queries that are no repeat, by number of shots."""
    runs = list(runs)
    return {name: np.stack([novel_at_end(run, name)[0] for run in runs]) for name in SETS}


def novel_at_end(run: Run, name: str) -> np.ndarray:
    """Accuracy at the last evaluation on queries that are no repeat, and its standard error: (2, K)."""
    right, asked = (table[..., MULTIPLE:, :].sum(-2) for table in (run.correct[name][-1], run.queries[name]))
    share = right / np.maximum(asked, 1)
    return np.stack([share, np.sqrt(share * (1 - share) / np.maximum(asked, 1))])


def matched_at_end(run: Run, name: str) -> float:
    """What ratio matching could have of the last shot's queries that are no repeat, where look-up has 1/p."""
    multiples, others = run.queries[name][MULTIPLE, -1], run.queries[name][MULTIPLE + 1 :, -1].sum()
    return float((multiples + others / run.config.p) / max(multiples + others, 1))


def kind_counts(run: Run, name: str, along: str) -> tuple[np.ndarray, np.ndarray]:
    """Right answers and queries by kind, (4, n) each, along "shots" (at the end) or "step" (all shots together)."""
    right, asked = run.correct[name], run.queries[name]
    if along == "shots":
        return right[-1], asked
    return right.sum(-1).T, np.broadcast_to(asked.sum(-1)[:, None], right.sum(-1).T.shape)


def explained(runs: Iterable[Run], name: str, along: str) -> tuple[np.ndarray, np.ndarray]:
    """Share of all answers that is right, by the weakest algorithm that explains it (claim 6).

    Args:
        runs: of one length.
        name: of the set.
        along: "shots" or "step", as in `kind_counts`.

    Returns:
        (runs, 4, n) right answers, and (4, n) queries, as shares of all, by kind of query; the latter a mean over runs.
    """
    counts = [kind_counts(run, name, along) for run in runs]
    shares = [(right / asked.sum(0), asked / asked.sum(0)) for right, asked in counts]
    return np.stack([right for right, _ in shares]), np.mean([asked for _, asked in shares], 0)


def by_kind(runs: Sequence[Run], name: str, along: str, least: int = 10) -> np.ndarray:
    """Accuracy on each kind of query with its 95 % interval, (4, 3, n): over runs, or of one run over its queries.

    Args:
        runs, name, along: as in `explained`.
        least: with fewer queries than this in a run there is no number.
    """
    counts = [kind_counts(run, name, along) for run in runs]
    if len(counts) == 1:
        right, asked = counts[0]
        one = share_interval(right, asked, np.minimum(asked, runs[0].config.eval_sequences))
        return np.where(asked >= least, one, np.nan).swapaxes(0, 1)
    shares = [np.where(asked >= least, right / np.maximum(asked, 1), np.nan) for right, asked in counts]
    return mean_interval(shares, SHARE).swapaxes(0, 1)


def map_skill(runs: NDArray[np.object_], evaluation: ArrayLike = -1) -> dict[str, np.ndarray]:
    """Set → skill at the last shot of an array of runs, in its shape.

    Args:
        runs: array of runs; nan for one that is missing (None).
        evaluation: which of a run's evaluations, one for all or an array of one each.
    """
    pick = np.vectorize(lambda run, i, name: skill_curve(run, name)[i] if run else np.nan, otypes=[float])
    return {name: pick(runs, evaluation, name) for name in SETS}


def solves(run: Run, name: str) -> np.ndarray:
    """Whether a run solves a set, at each evaluation: (E,) bool; never if the set is empty."""
    return skill_curve(run, name) >= SOLVED


def learned(run: Run) -> bool:
    """Whether a run solved its training set at some time; of one that did not, nothing follows."""
    return bool(solves(run, "id_train").any())


def phases(runs: Run | NDArray[np.object_], evaluation: ArrayLike = -1) -> np.ndarray:
    """Phases as indices of PHASES: each model named after the most demanding set, in the order of SETS, that it solves.

    Args:
        runs: a run or an array of runs, whose shape is that of the result; -1 for one that is missing (None).
        evaluation: as in `map_skill`.
    """
    of = map_skill(runs, evaluation)
    reached = np.max([(of[name] >= SOLVED) * (i + 1) for i, name in enumerate(SETS)], axis=0)
    return np.where(np.equal(runs, None).astype(bool), -1, reached)


def phases_twice(runs: NDArray[np.object_]) -> dict[str, np.ndarray]:
    """Phases "at the end" and "stopped early", at each run's `ood_stop`, in the shape of the runs."""
    stops = np.vectorize(lambda run: ood_stop(run).index if run else -1, otypes=[int])(runs)
    return {"at the end": phases(runs), "stopped early": phases(runs, stops)}


def map_axes(runs: NDArray[np.object_]) -> tuple[list[int], list[float]]:
    """Numbers of tasks and values of α along the last two axes of a map of runs, (…, alphas, n_tasks)."""
    there = [run.config for run in runs.flat if run]
    return sorted({config.n_tasks for config in there}), sorted({config.alpha for config in there})


def typical_points(skills: dict[str, ArrayLike], reached: ArrayLike) -> dict[int, tuple[int, int]]:
    """For each phase that all seeds of a point end in, the point that is best on the set that names the phase.

    Args:
        skills: set → (seeds, rows, columns), as `map_skill` returns.
        reached: their `phases`.

    Returns:
        Index of PHASES → (row, column), without the phases that no point is in.
    """
    points = {}
    for i, name in enumerate(("id_train", *SETS)):  # what is not learned is best where it nearly is
        agreed = (np.asarray(reached) == i).all(axis=0)
        if agreed.any():
            mean = np.where(agreed, np.mean(skills[name], axis=0), -np.inf)
            points[i] = tuple(map(int, np.unravel_index(mean.argmax(), mean.shape)))
    return points


LEAST_LOSS = 0.1
"""The least loss of skill that is called a fall, however exactly it is known."""


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
    def generalises(self) -> bool:
        return self.best >= SOLVED

    @property
    def transient(self) -> bool:
        """Whether it solved the set and then lost more of it than LEAST_LOSS and than noise explains (claim 4).

        The best of many windows exceeds the last even on a plateau, so four standard errors of a difference are asked
        for: of simulated plateaus with noise, fewer than 2 in 100 are then called transient.
        """
        noise = 4 * self.scatter * np.sqrt(2 / self.width)
        return self.generalises and self.best - self.final > max(LEAST_LOSS, noise)


def early_stop(curve: ArrayLike) -> EarlyStop:
    """The best moment of a run, by means over a tenth of its evaluations, at least five, so that noise is no peak (F4).

    Args:
        curve: (evaluations,) skill during training, `skill_curve(run, "ood_train")` as a rule.
    """
    curve = np.asarray(curve, dtype=float)
    width = min(len(curve), max(5, len(curve) // 10))
    smooth = np.convolve(curve, np.full(width, 1 / width), mode="valid")
    best = int(smooth.argmax())
    risen = curve[
        int((smooth >= smooth[best] / 2).argmax()) :
    ]  # a model that knows nothing yet scatters less
    # of neighbours, so that no slow change counts; by the median, so that no jump does
    scatter = 1.4826 * np.median(abs(np.diff(risen))) / np.sqrt(2) if len(risen) > 1 else 0.0
    return EarlyStop(best + (width - 1) // 2, float(smooth[best]), float(smooth[-1]), float(scatter), width)


def ood_stop(run: Run, name: str = "ood_train") -> EarlyStop:
    """Where a run's skill on o.o.d. tasks, by default with training inputs, is best."""
    return early_stop(skill_curve(run, name))


def ood_twice(runs: NDArray[np.object_]) -> dict[str, np.ndarray]:
    """Skill on o.o.d. tasks, training inputs, "at the end" and "stopped early", means over the windows of `early_stop`,
    in the shape of the runs; nan for one that is missing (None)."""
    pick = np.vectorize(lambda run, what: getattr(ood_stop(run), what) if run else np.nan, otypes=[float])
    return {"at the end": pick(runs, "final"), "stopped early": pick(runs, "best")}
