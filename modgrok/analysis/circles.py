"""Structures of a run (claim 5): the circle of circles, waves of the logarithm, and parity; the run is the unit."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from modgrok.analysis.activations import features_at_y
from modgrok.analysis.stats import NullComparison, compare_with_null, min_p_value
from modgrok.analysis.structure import (
    class_means,
    discrete_log,
    log_plane,
    log_spectrum,
    parity_rank,
    pca,
    windings,
)
from modgrok.data import grid
from modgrok.storage.runs import Run

N_CONTEXTS = 20
"""Number of contexts over which a score of structure is averaged."""


class CircleOfCircles(NamedTuple):
    """The head of a block that writes the clearest circle of circles (F1d).

    Attributes:
        head: its number.
        score: its score, see `nested_windings`, a mean over contexts. Under every relabelling the head and the stride
            with the best score are chosen anew.
        places: different places on a circle, (p - 1) / gcd(stride, p - 1), where both circles go round `stride` times
            while the logarithm runs through once. With fewer than p - 1 places several numbers share one: a pentagon
            at p = 11 does not tell x from -x.
        groups: "x" if pairs of one x form a group, "y" if pairs of one y do.
        plane: (p², 2) output of the head in the first context, in the first two principal components of the pairs
            without a 0, in which circles are scored.
    """

    head: int
    score: NullComparison
    places: int
    groups: str
    plane: np.ndarray


def nested_windings(features: ArrayLike, log: ArrayLike) -> tuple[np.ndarray, str]:
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
        scores (contexts, orders, strides), and the number that pairs are grouped by.
    """
    n, by_log = len(log) - 1, np.argsort(log)[1:]
    planes = []
    for outputs in np.asarray(features):
        pairs = outputs.reshape(n + 1, n + 1, -1)[np.ix_(by_log, by_log)]  # (log x, log y, C)
        planes.append(pca(pairs.reshape(n * n, -1))[0][:, :2].reshape(n, n, 2))
    planes = np.stack(planes)
    spread_x, spread_y = (planes.mean(axis).var(1).sum() for axis in (2, 1))
    if spread_y > spread_x:
        planes = planes.swapaxes(1, 2)
    outer = windings(planes.mean(2)).max(0)
    inner = np.stack([windings(groups).mean(1).max(0) for groups in planes])
    return np.minimum(outer, inner), "y" if spread_y > spread_x else "x"


def clearest_circles(outputs: ArrayLike, log: ArrayLike) -> CircleOfCircles:
    """The head that writes the clearest circle of circles.

    outputs: (contexts, H, p², C) of the heads for all pairs, in the order of `data.grid`. log: (p,) the log table.
    """
    outputs, p = np.asarray(outputs), len(log)
    scores, groups = zip(*(nested_windings(output, log) for output in outputs.swapaxes(0, 1)), strict=True)
    scores = np.stack(scores, 2)  # (contexts, orders, H, strides)
    n_strides = scores.shape[-1]
    scores = scores.reshape(*scores.shape[:2], -1)
    best = scores.mean(0).argmax(-1)  # (orders,)
    score = compare_with_null(np.take_along_axis(scores, best[None, :, None], -1)[..., 0])
    head, stride = divmod(int(best[0]), n_strides)
    plane = log_plane(outputs[0, head], grid(p).prod(1))
    return CircleOfCircles(head, score, (p - 1) // math.gcd(stride + 1, p - 1), groups[head], plane)


def wave_p_value(outputs: ArrayLike, log: ArrayLike) -> float:
    """P value of the clearest wave of the logarithm of x in any of several heads (claim 5, F1d).

    A head's score is the largest share of one wave in the spectrum (`structure.log_spectrum`) of its mean outputs for
    each x. The heads are combined by `stats.min_p_value`. Arguments as for `clearest_circles`.
    """
    labels = np.asarray(log)[grid(len(log))[:, 0]] - 1
    heads = np.asarray(outputs).swapaxes(0, 1)[:, :, labels >= 0]
    labels = labels[labels >= 0]
    spectra = [log_spectrum([class_means(output, labels) for output in head]) for head in heads]
    return min_p_value(np.max(spectra, -1))  # (H, orders)


def outputs_at_y(run: Run, n_contexts: int = N_CONTEXTS, shots: int = 4) -> np.ndarray:
    """Output of each head of block 0 at y of every pair, (contexts, H, p², C); arguments of `features_at_y`."""
    heads = [f"block 0, head {h}" for h in range(run.config.n_head)]
    return features_at_y(run, heads, n_contexts, shots, n_blocks=1)


def structures(run: Run, n_contexts: int, shots: int) -> tuple[CircleOfCircles, float, int, int]:
    """Measure the structures of claim 5 in a run; arguments as for `outputs_at_y`.

    They are the clearest circle of circles of block 0 at y, `wave_p_value`, and the two numbers of
    `structure.parity_rank` of the embedding.
    """
    log, outputs = discrete_log(run.config.p), outputs_at_y(run, n_contexts, shots)
    embedding = run.model().embed.weight.detach().numpy()
    return clearest_circles(outputs, log), wave_p_value(outputs, log), *parity_rank(embedding, len(log))


def wave_probability(run: Run) -> float:
    """`wave_p_value` of a run's last checkpoint, for the heads of block 0 at y."""
    return wave_p_value(outputs_at_y(run), discrete_log(run.config.p))
