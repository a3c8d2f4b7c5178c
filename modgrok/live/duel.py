"""One question to two models, chosen by a rule: where the one that is better on average is ahead most."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from modgrok.analysis.activations import draw_contexts
from modgrok.data import Data
from modgrok.evaluate import correct_grid, query_grid
from modgrok.predictors import ratio_matches
from modgrok.storage.runs import Run


class Duel(NamedTuple):
    """A question and what models answer.

    Attributes:
        runs: label → run.
        task: (a, b), held out.
        examples: (x, y, z) each, K - 1 of them.
        query: (x, y) that is looked at.
        answers: label → (K, p, p) answers to every query, indexed [shots, x, y].
        correct: label → (n,) right answers at the last shot in each of the contexts that the question was chosen from.
    """

    runs: dict[str, Run]
    task: list[int]
    examples: list[list[int]]
    query: list[int]
    answers: dict[str, NDArray]
    correct: dict[str, NDArray]


def duel(runs: dict[str, Run], n: int = 60) -> Duel:
    """Of n contexts of held-out tasks, the one in which the model that is better on average is ahead most.

    The query is one that the better model has right and the other has wrong; if there is one, x and y are not 0, and no
    example has the same ratio.

    Args:
        runs: label → run, two or more of one p, trained on the same tasks.
        n: contexts, drawn by `activations.draw_contexts` from the first run.
    """
    first = next(iter(runs.values()))
    p, shots = first.config.p, min(run.config.n_examples for run in runs.values()) - 1
    pairs, tasks = draw_contexts(Data(first.config), n)
    pairs = pairs[:, :shots]
    x, y = np.mgrid[:p, :p]
    models = {label: run.model() for label, run in runs.items()}
    hits = {
        label: np.stack(
            [correct_grid(model, [t], of, [shots])[0, 0] for of, t in zip(pairs, tasks, strict=True)]
        )
        for label, model in models.items()
    }
    correct = {label: hit.sum((1, 2)) for label, hit in hits.items()}
    best = max(correct, key=lambda label: correct[label].mean())
    worst = min(correct, key=lambda label: correct[label].mean())
    at = int((correct[best] - correct[worst]).argmax())

    differ = hits[best][at] & ~hits[worst][at]
    both = differ & (x > 0) & (y > 0)
    combines = both & ~ratio_matches(pairs[at], [shots], p)[0]
    wanted = next((of for of in (combines, both, differ) if of.any()), np.ones_like(differ))
    examples = np.column_stack([pairs[at], pairs[at] @ tasks[at] % p])
    every = range(shots + 1)
    answers = {
        label: query_grid(model, tasks[at][None], pairs[at], [*every])[0] for label, model in models.items()
    }
    return Duel(
        runs, tasks[at].tolist(), examples.tolist(), np.argwhere(wanted)[0].tolist(), answers, correct
    )
