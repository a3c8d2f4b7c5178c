"""Structures of a run (claim 5): the circle of circles, waves of the logarithm, and parity; the run is the unit."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from modgrok.analysis.activations import draw_contexts, head_features
from modgrok.analysis.stats import NullComparison, min_p_value
from modgrok.analysis.structure import (
    best_wave,
    class_means,
    discrete_log,
    log_plane,
    log_spectrum,
    parity_rank,
    pca,
    windings,
)
from modgrok.data import Data, grid
from modgrok.storage.runs import Run

N_CONTEXTS = 20
"""Number of contexts over which a score of structure is averaged."""


class CircleOfCircles(NamedTuple):
    """The head of a block that writes the clearest circle of circles (F1d).

    Attributes:
        head: its number.
        score: its score, see `nested_windings`, a mean over contexts. Under every relabelling the head and the stride
            with the best score are chosen anew.
        outer, inner: the two parts of the score, for the groups on their circle and for the pairs of a group on theirs.
        stride: how often both circles go round while the logarithm runs through once.
        places: different places on a circle, (p - 1) / gcd(stride, p - 1). With fewer than p - 1 places several
            numbers share one: a pentagon at p = 11 does not tell x from -x.
        groups: "x" if pairs of one x form a group, "y" if pairs of one y do.
        plane: (p², 2) output of the head in the first context, in the plane of `structure.log_plane`.
    """

    head: int
    score: NullComparison
    outer: float
    inner: float
    stride: int
    places: int
    groups: str
    plane: np.ndarray


class Structures(NamedTuple):
    """The structures of claim 5 in one run.

    Attributes:
        circles: the clearest circle of circles of block 0, at y.
        wave_p_value: see `wave_p_value`.
        parity_rank: of odd against even logarithms among all splits of the embedding, see `structure.parity_rank`.
        n_splits: how many splits there are.
    """

    circles: CircleOfCircles
    wave_p_value: float
    parity_rank: int
    n_splits: int


def nested_windings(features: ArrayLike, log: ArrayLike) -> tuple[np.ndarray, np.ndarray, str]:
    """Score how evenly pairs lie on circles in a circle, in the order of their logarithms (F1d).

    Pairs with a 0 have no logarithm and are left out. The others are projected onto their first two principal
    components, context by context. Pairs that share one number form a group. That number is x or y, the one whose group
    means vary more in the plane, summed over contexts. The outer score is that of `structure.windings` for the means
    of the groups, in the order of the logarithm of the number they share. The inner score is that of the pairs of a
    group about its mean, in the order of the logarithm of their other number, averaged over groups, which all turn in
    the same direction. The score of a circle of circles is the smaller of the two at the same stride, 1 if both
    circles are perfect. The null gives the numbers other names, the same for x, for y and in all contexts, and chooses
    the best stride anew.

    Args:
        features: (contexts, p², C) of all pairs, in the order of `data.grid`.
        log: (p,) the log table.

    Returns:
        outer and inner scores, (contexts, orders, strides) each, and the number that pairs are grouped by.
    """
    n, by_log = len(log) - 1, np.argsort(log)[1:]
    planes = []
    for outputs in np.asarray(features):
        pairs = outputs.reshape(n + 1, n + 1, -1)[np.ix_(by_log, by_log)]  # (log x, log y, C)
        planes.append(pca(pairs.reshape(n * n, -1)).coordinates[:, :2].reshape(n, n, 2))
    planes = np.stack(planes)
    spread_x, spread_y = (planes.mean(axis).var(1).sum() for axis in (2, 1))
    if spread_y > spread_x:
        planes = planes.swapaxes(1, 2)
    outer = windings(planes.mean(2)).max(0)
    inner = np.stack([windings(groups).mean(1).max(0) for groups in planes])
    return outer, inner, "y" if spread_y > spread_x else "x"


def clearest_circles(outputs: ArrayLike, log: ArrayLike) -> CircleOfCircles:
    """The head that writes the clearest circle of circles.

    Args:
        outputs: (contexts, H, p², C) outputs of the heads for all pairs, in the order of `data.grid`.
        log: (p,) the log table.
    """
    outputs = np.asarray(outputs)
    p, heads = len(log), [nested_windings(outputs[:, h], log) for h in range(outputs.shape[1])]
    outer, inner = (np.concatenate([head[part] for head in heads], -1) for part in (0, 1))
    score, best = best_wave(np.minimum(outer, inner))
    head, stride = divmod(best, outer.shape[-1] // len(heads))
    places = (p - 1) // math.gcd(stride + 1, p - 1)
    groups = heads[head][2]
    plane, _ = log_plane(outputs[0, head], grid(p)[:, "xy".index(groups)])
    parts = (float(part[:, 0, best].mean()) for part in (outer, inner))
    return CircleOfCircles(head, score, *parts, stride + 1, places, groups, plane)


def head_spectra(outputs: ArrayLike, log: ArrayLike) -> np.ndarray:
    """Spectrum of each head's mean outputs for each x over waves of the logarithm, see `structure.log_spectrum`.

    Args:
        outputs: (contexts, H, p², C) outputs of the heads for all pairs, in the order of `data.grid`.
        log: (p,) the log table.

    Returns:
        (H, orders, waves) means over contexts, the true names first.
    """
    labels = np.asarray(log)[grid(len(log))[:, 0]] - 1
    heads = np.asarray(outputs).swapaxes(0, 1)[:, :, labels >= 0]
    labels = labels[labels >= 0]
    return np.stack([log_spectrum([class_means(output, labels) for output in head]) for head in heads])


def wave_p_value(outputs: ArrayLike, log: ArrayLike) -> float:
    """P value of the clearest wave of the logarithm of x in any of several heads (claim 5, F1d).

    A head's score is the largest share of one wave in `head_spectra`, which takes the same arguments. The heads are
    combined by `stats.min_p_value`.
    """
    return min_p_value(head_spectra(outputs, log).max(-1))


def outputs_at_y(run: Run, n_contexts: int = N_CONTEXTS, shots: int = 4) -> np.ndarray:
    """Output of each head of block 0 at y of every pair, in several contexts.

    Args:
        run: the run; its last checkpoint is used.
        n_contexts: number of contexts.
        shots: examples in front of the pair; fewer if sequences are shorter.

    Returns:
        (contexts, H, p², C)
    """
    shots, model = min(shots, run.config.n_examples - 2), run.model()
    contexts, tasks = draw_contexts(Data(run.config), n_contexts)
    return np.stack(
        [
            head_features(model, context[:shots], task)[0, :, 1]
            for context, task in zip(contexts, tasks, strict=True)
        ]
    )


def structures(run: Run, n_contexts: int = N_CONTEXTS, shots: int = 4) -> Structures:
    """Measure the structures of claim 5 in a run; arguments as for `outputs_at_y`."""
    p, outputs = run.config.p, outputs_at_y(run, n_contexts, shots)
    log, embedding = discrete_log(p), run.model().embed.weight.detach().numpy()
    return Structures(clearest_circles(outputs, log), wave_p_value(outputs, log), *parity_rank(embedding, p))


def wave_probability(run: Run) -> float:
    """`wave_p_value` of a run's last checkpoint, for the heads of block 0 at y."""
    return wave_p_value(outputs_at_y(run), discrete_log(run.config.p))
