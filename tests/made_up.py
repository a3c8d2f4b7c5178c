"""Runs whose answers are made up, so that what must be said of them is known."""

from types import SimpleNamespace

import numpy as np

from modgrok.config import SETS, preset

P, K = 7, 12
ASKED = np.full((4, K), 1000)
NOTHING, ALL = 0.0, 1.0  # skill
RATIOS, COMBINES = (1, 1, 1 / P, 1 / P), (1, 1, 0.9, 1 / P)  # accuracy by kind of query


def answers(skill):
    """Right answers at evaluations of given skills (E,): repeats as often as multiples, else chance; (E, 4, K)."""
    share = np.full((len(skill), 4, K), 1 / P)
    share[:, :2] += (1 - 1 / P) * np.array(skill)[:, None, None]
    return share * ASKED


def made_up(ood=(NOTHING, ALL), training=(NOTHING, ALL), last=None, **fields):
    """A run with a known skill at each evaluation.

    Args:
        ood: on o.o.d. tasks, training inputs.
        training: on the training set.
        last: accuracy on o.o.d. tasks, training inputs, at the last evaluation: (4,) by kind, or (4, K).
        fields: of the config.
    """
    curves = {"id_train": np.resize(training, len(ood)), "ood_train": ood}
    curves["id_train"][-1] = training[-1]
    right = {name: answers(curves.get(name, np.zeros(len(ood)))) for name in SETS}
    if last is not None:
        right["ood_train"][-1] = np.broadcast_to(np.transpose(last), (K, 4)).T * ASKED
    return SimpleNamespace(
        config=preset("laptop", **fields),
        correct=right,
        queries=dict.fromkeys(SETS, ASKED),
        metrics={f"{name}_novel": np.array(ood) for name in SETS},
        provenance={"seconds": 60, "threads": 2, "processes": [4, 3]},
    )


def seeds(n=3, *args, **kwargs):
    return [made_up(*args, seed=seed, **kwargs) for seed in range(n)]


def solving(*names, **fields):
    """A run of which the skill on these sets is 1, else 0."""
    run = made_up((NOTHING,), (NOTHING,), **fields)
    run.correct |= {name: answers([ALL]) for name in names}
    return run
