"""Which tasks a model learns first: those whose answer depends on one number, or those that need both."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike

from modgrok.data import Data, generator, paired_sequences
from modgrok.evaluate import COMBINATION, MULTIPLE, is_correct, query_kinds
from modgrok.storage.runs import Run

TASK_KINDS = ("z = b·y", "z = a·x", "both numbers")
"""Tasks by what their answer depends on: y alone (a = 0), x alone (b = 0), or both. Task (0, 0) is none of these."""


def task_kind(tasks: ArrayLike) -> np.ndarray:
    """Index in TASK_KINDS of each task (n, 2), −1 for (0, 0): (n,)."""
    a, b = np.asarray(tasks).T
    return np.select([(a == 0) & (b != 0), (a != 0) & (b == 0), (a != 0) & (b != 0)], [0, 1, 2], -1)


class TaskCurves(NamedTuple):
    """Accuracy of a run along training by kind of task, on queries that the examples determine but do not repeat.

    Attributes:
        run: the run.
        steps: (S,) the checkpoints.
        accuracy: "id" and "ood" → (3, S) by TASK_KINDS; nan where a set has no task of a kind.
        matched: accuracy of ratio matching on these queries, the same for every kind of task.
    """

    run: Run
    steps: Sequence[int]
    accuracy: dict[str, np.ndarray]
    matched: float


@torch.no_grad()
def task_curves(run: Run, steps: Sequence[int], n: int = 100) -> TaskCurves:
    """Score the checkpoints of some steps, (S,), of a run on n sequences of each kind of task.

    The pairs are the same for every kind; the tasks of a kind take turns.
    """
    data, config = Data(run.config), run.config
    draws = generator(config.seed, "order").integers(len(data.pairs["train"]), size=(n, config.n_examples))
    pairs, sequences = data.pairs["train"][torch.from_numpy(draws)], {}
    for task_set, tasks in data.tasks.items():
        for i in range(len(TASK_KINDS)):
            alike = tasks[torch.from_numpy(task_kind(tasks) == i)]
            if len(alike):
                taking_turns = alike[torch.arange(n) % len(alike)]
                sequences[task_set, i] = paired_sequences(taking_turns, pairs, config.p)
    tokens = torch.cat(list(sequences.values()))
    kinds = query_kinds(tokens[:n], config.p)
    is_multiple, is_combination = kinds == MULTIPLE, kinds == COMBINATION
    is_counted = is_multiple | is_combination
    accuracy = {task_set: np.full((len(TASK_KINDS), len(steps)), np.nan) for task_set in data.tasks}
    for s, step in enumerate(steps):
        is_right = is_correct(run.model(step), tokens)
        for (task_set, i), answers in zip(sequences, is_right.split(n), strict=True):
            accuracy[task_set][i, s] = answers[is_counted].float().mean()
    matched = (is_multiple.sum() + is_combination.sum() / config.p) / is_counted.sum()
    return TaskCurves(run, steps, accuracy, float(matched))


def arrival(steps: ArrayLike, accuracy: ArrayLike, p: int, full: float = 1.0) -> float:
    """The step at which accuracy first reaches the middle between a blind guess, 1/p, and `full`.

    Of steps and accuracy (E,) along training, interpolated linearly between evaluations; inf if accuracy stays below,
    nan if it was never measured. full: the accuracy of an algorithm that has the skill.
    """
    steps, accuracy = np.asarray(steps, dtype=float), np.asarray(accuracy, dtype=float)
    half = (full + 1 / p) / 2
    is_above = accuracy >= half
    if not is_above.any():
        return np.nan if np.isnan(accuracy).all() else np.inf
    i = is_above.argmax()
    return float(np.interp(half, accuracy[i - 1 : i + 1], steps[i - 1 : i + 1]) if i else steps[0])


def task_arrivals(curves: TaskCurves) -> list[float]:
    """`arrival` of each of TASK_KINDS on i.d. tasks, where `full` is the accuracy of ratio matching."""
    p = curves.run.config.p
    return [arrival(curves.steps, accuracy, p, curves.matched) for accuracy in curves.accuracy["id"]]
