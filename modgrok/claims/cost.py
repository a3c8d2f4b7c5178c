"""Costs of training: the step at which a run solves a set, its growth with p, and its change with settings."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from modgrok.analysis.skill import matched_at_end, solves
from modgrok.analysis.stats import power_law
from modgrok.config import is_prime, preset
from modgrok.model import flops_per_step
from modgrok.storage.runs import Run


def core_minutes(runs: Iterable[Run]) -> float:
    """Training time of all runs in core-minutes: wall time times threads times processes of the last session."""
    records = [run.provenance for run in runs]
    return sum(r["seconds"] * r["threads"] * r["processes"][-1] for r in records) / 60


def solved_at(run: Run, set_name: str) -> float:
    """The step of the first evaluation that, like the next one, solves a set; nan if there is none."""
    return _first_twice(run, solves(run, set_name))


def plateau_end(run: Run) -> float:
    """The step of the first evaluation after the plateau, if the next is after it, too; nan if there is none.

    After the plateau the loss on i.d. tasks with training inputs is at least a tenth below that of a blind guess, ln p.
    """
    return _first_twice(run, run.metrics["id_train_loss"] <= 0.9 * np.log(run.config.p))


def _first_twice(run: Run, is_reached: NDArray[np.bool_]) -> float:
    """The step of the first two evaluations in a row with `is_reached` (E,); a single evaluation may be noise."""
    starts = np.flatnonzero(is_reached[:-1] & is_reached[1:])
    return float(run.metrics["step"][starts[0]]) if len(starts) else float("nan")


def step_text(step: float) -> str:
    """A step as text for a table: "never" where it is not finite."""
    return f"{step:,.0f}" if np.isfinite(step) else "never"


class Ladder(NamedTuple):
    """Cost of solving o.o.d. tasks with training inputs, against p.

    Attributes:
        p: (runs,) moduli.
        primes: (n,) the primes from the smallest modulus to the paper's, 29.
        costs: label → (runs,) steps or operations; nan for a run that does not solve them.
        laws: label → the exponent of a power law through the costs, and the law (n,) at the primes.
        core_hours: hours of one core at the last prime.
    """

    p: list[int]
    primes: list[int]
    costs: dict[str, list[float]]
    laws: dict[str, tuple[float, np.ndarray]]
    core_hours: float


def ladder(runs: Sequence[Run]) -> Ladder:
    """Fit how the cost of solving o.o.d. tasks with training inputs grows with p, over runs of several p."""
    p = [run.config.p for run in runs]
    primes = [n for n in range(min(p), preset("paper").p + 1) if is_prime(n)]
    steps = [solved_at(run, "ood_train") for run in runs]
    costs = {
        "steps to leave the plateau": [plateau_end(run) for run in runs],
        "steps to solve": steps,
        "trillion floating-point operations to solve": [
            flops_per_step(run.config) * step / 1e12 for run, step in zip(runs, steps, strict=True)
        ],
    }
    laws = {label: power_law(p, cost, primes) for label, cost in costs.items()}
    *_, (_, operations) = laws.values()
    # trillions of operations that a training did in a minute of a core
    speeds = [flops_per_step(run.config) * run.config.steps / 1e12 / core_minutes([run]) for run in runs]
    return Ladder(p, primes, costs, laws, operations[-1] / max(speeds) / 60)


def ladder_rows(costs: Ladder) -> list[list[str]]:
    """Rows of a table: name of the cost, runs that solve the set, power of p, cost at the last prime."""
    rows = []
    for label, (exponent, law) in costs.laws.items():
        is_solved = np.isfinite(costs.costs[label])
        n_solved = f"{is_solved.sum()} of {len(is_solved)}"
        rows.append([label, n_solved, *(_two_digits(number) for number in (exponent, law[-1]))])
    return [*rows, ["core-hours to solve", "", "", _two_digits(costs.core_hours)]]


def _two_digits(number: float) -> str:
    """A number to two digits, as text; a dash where there is none."""
    if not np.isfinite(number):
        return "–"
    rounded = float(f"{number:.2g}")
    return f"{rounded:,.0f}" if rounded >= 10 else f"{rounded:g}"


def core_hours(runs: Iterable[Run]) -> list[list]:
    """Rows of a table: p, depth, width, number of runs, steps, fewest ms of a step, core-hours; the sum comes last."""
    groups: dict[tuple[int, int, int], list[Run]] = {}
    for run in runs:
        groups.setdefault((run.config.p, run.config.depth, run.config.n_embd), []).append(run)
    rows = []
    for setting, group in sorted(groups.items()):
        fastest = min(60_000 * core_minutes([run]) / run.config.steps for run in group)
        steps = sum(run.config.steps for run in group)
        rows.append([*setting, len(group), f"{steps:,}", f"{fastest:.0f}", f"{core_minutes(group) / 60:.2f}"])
    total = sum(map(core_minutes, groups.values())) / 60
    return [*rows, ["all", "", "", sum(map(len, groups.values())), "", "", f"{total:.2f}"]]


SETTINGS = {
    "lr": "learning rate of AdamW, a tenth of Muon's",
    "weight_decay": "weight decay",
    "n_embd": "width",
    "n_head": "heads",
    "n_examples": "examples in a sequence",
    "rope_base": "rotary base",
    "optimizer": "optimizer",
    "batch_size": "sequences in a batch",
    "p": "modulus, and four fifths of its tasks",
}
"""Fields that the sweep of one factor at a time changes, in words."""


def measure(runs: Sequence[Run]) -> np.ndarray:
    """Measure the speed and the final accuracy of some runs: (4, runs).

    The rows are the step at which the plateau is left (nan if never), and three accuracies at the end on o.o.d. tasks
    with training inputs, on queries that are no repeat: those of the run, of ratio matching and of a guess.
    """
    rows = [
        (plateau_end(r), r.metrics["ood_train_novel"][-1], matched_at_end(r, "ood_train"), 1 / r.config.p)
        for r in runs
    ]
    return np.reshape(rows, (-1, 4)).T
