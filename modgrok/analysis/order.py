"""In which order skills are learned: numbers alone, copies, ratios, combinations; when each of them arrives.

Two sources. Every run stores, at each evaluation, its right answers by kind of query: `stored_curves`. Its checkpoints,
where they are kept, tell more, such as tasks that need one number alone: `task_curves`.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike

from modgrok import evaluate
from modgrok.analysis.stats import sign_test
from modgrok.data import Data, generator, paired_sequences
from modgrok.evaluate import COMBINATION, MULTIPLE, REPEAT
from modgrok.storage.runs import Run

STORED = {
    "repeats, o.o.d. tasks": ("ood_train", REPEAT),
    "other multiples, o.o.d. tasks": ("ood_train", MULTIPLE),
    "combinations, i.d. tasks": ("id_train", COMBINATION),
    "combinations, o.o.d. tasks": ("ood_train", COMBINATION),
}
"""Skill → the set and the kind of query that show it, in the scores of a run. Inputs are training inputs.

Scores do not tell tasks apart, and where a = 0 or b = 0 combinations need one number only, no regression."""

TASK_KINDS = ("z = b·y", "z = a·x", "both numbers")
"""Tasks by what their answer depends on: y alone (a = 0), x alone (b = 0), or both. Task (0, 0) is none of these."""


def task_kind(tasks: ArrayLike) -> np.ndarray:
    """Tasks (n, 2) as indices of TASK_KINDS, -1 for (0, 0): (n,)."""
    a, b = np.asarray(tasks).T
    return np.select([(a == 0) & (b != 0), (a != 0) & (b == 0), (a != 0) & (b != 0)], [0, 1, 2], -1)


def stored_curves(run: Run) -> dict[str, np.ndarray]:
    """Skill of STORED → accuracy at each evaluation, all shots together: (E,), nan where nothing was asked."""
    with np.errstate(invalid="ignore"):
        return {
            skill: run.correct[name][:, kind].sum(-1) / run.queries[name][kind].sum()
            for skill, (name, kind) in STORED.items()
        }


class TaskCurves(NamedTuple):
    """Accuracy along training by kind of task, on queries that the examples determine but do not repeat.

    Attributes:
        accuracy: "id" and "ood" → (3, S) by TASK_KINDS; nan where a set has no task of a kind.
        matched: what ratio matching has on these queries, the same for every kind of task.
    """

    accuracy: dict[str, np.ndarray]
    matched: float


@torch.no_grad()
def task_curves(run: Run, steps: Sequence[int], n: int = 100) -> TaskCurves:
    """How well a run does on each kind of task at some of its checkpoints.

    Args:
        run: keeps the checkpoints.
        steps: (S,) which of them.
        n: sequences of each kind of task; tasks take turns, all kinds are asked on the same pairs.
    """
    sample, config = Data(run.config), run.config
    draws = generator(config.seed, "order").integers(len(sample.pairs["train"]), size=(n, config.n_examples))
    pairs = sample.pairs["train"][torch.from_numpy(draws)]
    asked = {}
    for which, tasks in sample.tasks.items():
        for i in range(len(TASK_KINDS)):
            of_kind = tasks[torch.from_numpy(task_kind(tasks) == i)]
            if len(of_kind):
                asked[which, i] = paired_sequences(of_kind[torch.arange(n) % len(of_kind)], pairs, config.p)
    tokens = torch.cat(list(asked.values()))
    kinds = evaluate.kinds(tokens[:n], config.p)
    multiple, combined = kinds == MULTIPLE, kinds == COMBINATION
    counted = (multiple | combined).repeat(len(asked), 1)
    found = {which: np.full((len(TASK_KINDS), len(steps)), np.nan) for which in sample.tasks}
    for s, step in enumerate(steps):
        right = evaluate.log_probabilities(run.model(step), tokens).argmax(-1) == evaluate.targets(tokens)
        shares = [(r & c).sum() / c.sum() for r, c in zip(right.split(n), counted.split(n), strict=True)]
        for (which, i), share in zip(asked, shares, strict=True):
            found[which][i, s] = share
    matched = (multiple.sum() + combined.sum() / config.p) / (multiple | combined).sum()
    return TaskCurves(found, float(matched))


def arrival(steps: ArrayLike, accuracy: ArrayLike, p: int, full: float = 1.0) -> float:
    """The step at which a skill arrives: its accuracy passes half of the way from a blind guess, 1/p, to full.

    Between two evaluations the curve is taken as straight. The first crossing counts, whatever comes later.

    Args:
        steps, accuracy: (E,) along training.
        p: the modulus.
        full: the accuracy of an algorithm that has the skill.

    Returns:
        a step, inf if it never arrives, nan if it was never asked.
    """
    steps, accuracy = np.asarray(steps, dtype=float), np.asarray(accuracy, dtype=float)
    if np.isnan(accuracy).all():
        return np.nan
    half = (full + 1 / p) / 2
    above = np.flatnonzero(accuracy >= half)
    if not len(above):
        return np.inf
    i = above[0]
    if i == 0:
        return float(steps[0])
    share = (half - accuracy[i - 1]) / (accuracy[i] - accuracy[i - 1])
    return float(steps[i - 1] + share * (steps[i] - steps[i - 1]))


def arrivals(run: Run, of_tasks: tuple[ArrayLike, TaskCurves] | None = None) -> dict[str, float]:
    """Skill → the step at which a run learns it; i.d. tasks of a kind at half of what ratio matching has, a skill of ½.

    Args:
        run: finished or not.
        of_tasks: steps (S,), and what `task_curves` found there, where it was asked.
    """
    p, found = run.config.p, {}
    if of_tasks is not None:
        steps, curves = of_tasks
        found = {
            f"{kind}, i.d. tasks": arrival(steps, of_kind, p, curves.matched)
            for kind, of_kind in zip(TASK_KINDS, curves.accuracy["id"], strict=True)
        }
    return found | {skill: arrival(run.metrics["step"], of, p) for skill, of in stored_curves(run).items()}


class Precedence(NamedTuple):
    """How often one skill comes before another.

    Attributes:
        before: runs in which it does.
        runs: in which both were looked for, and at least one of them arrives.
        p_value: of so one-sided a count, or more so, if either order were as likely (sign test, two-sided).
    """

    before: int
    runs: int
    p_value: float


def precedence(first: ArrayLike, second: ArrayLike) -> Precedence:
    """How often the first of two skills is the earlier, by steps (runs,), inf: never, nan: not looked for."""
    first, second = np.asarray(first), np.asarray(second)
    before, after = int((first < second).sum()), int((first > second).sum())
    return Precedence(before, before + after, sign_test(before, after))


def in_order(found: Sequence[Mapping[str, float]]) -> dict[str, np.ndarray]:
    """Skill → (runs,) steps of arrival, the earliest median first; inf: never, nan: not looked for."""
    names = dict.fromkeys(skill for of_run in found for skill in of_run)
    table = {skill: np.array([of_run.get(skill, np.nan) for of_run in found]) for skill in names}

    def middle(skill: str) -> tuple[float, float]:
        steps = np.sort(table[skill][~np.isnan(table[skill])])
        learned = steps[np.isfinite(steps)]
        return steps[len(steps) // 2], learned.mean() if len(learned) else np.inf

    return {skill: table[skill] for skill in sorted(names, key=middle)}
