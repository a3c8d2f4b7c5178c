"""Claim 5 over many runs: how probable each structure of a run would be by chance; the run is the unit (F1d, F1e)."""

import numpy as np
from numpy.typing import NDArray

from modgrok import interpret, structure
from modgrok.data import Data, grid
from modgrok.runs import Run

MEASURES = {
    "circle, embedding": "numbers stand in the order of their logarithm in the embedding's plane",
    "parity, embedding": "odd and even logarithms lie apart in the embedding",
    "circle, head": "some head of block 0 writes $x$ at $y$ in the order of its logarithm in its plane",
    "wave, head": "some head of block 0 writes $x$ at $y$ in waves of its logarithm, in all dimensions",
    "parity, head": "some head of block 0 tells odd logarithms of $x$ from even ones at $y$",
}
"""Structure → what it says. Where several heads are tried, the P of the best counts as many times."""


def probabilities(run: Run, contexts: int = 8, shots: int = 4) -> dict[str, float]:
    """How probable each of MEASURES would be, at least so strong, if the numbers had other names.

    A structure that means nothing has a mean of 0.5 or a little more, since few numbers have few orders.

    Args:
        run: its last checkpoint is judged.
        contexts: over which a head's scores are averaged.
        shots: examples in front of the pair.
    """
    model, p, heads = run.model(), run.config.p, run.config.n_head
    log = structure.discrete_log(p)
    numbers = model.embed.weight.detach().numpy()
    plane = structure.log_plane(numbers, np.arange(p))[0]
    rank, splits = structure.parity_rank(numbers, p)
    order = structure.log_order(plane[np.argsort(log)[1:]])[0]
    found = {"circle, embedding": order.p_value, "parity, embedding": rank / splits}

    labels = log[grid(p)[:, 0]] - 1
    drawn = zip(*interpret.draw_contexts(Data(run.config), contexts), strict=True)
    at_y = [interpret.head_features(model, context[:shots], task)[0, :, 1] for context, task in drawn]
    scores = []
    for head in range(heads):
        means = [structure.class_means(of[head][labels >= 0], labels[labels >= 0]) for of in at_y]
        planes = np.stack([structure.pca(of).coordinates[:, :2] for of in means])
        spectra = np.stack([structure.log_spectrum(of) for of in means])
        scores.append(
            (
                structure.log_order(planes)[0].p_value,
                structure.best_of(spectra)[0].p_value,
                structure.compare(spectra[..., -1]).p_value,
            )
        )
    best = np.minimum(1, heads * np.min(scores, 0))
    return found | dict(zip(list(MEASURES)[2:], best.tolist(), strict=True))


def clearest(run: Run, contexts: int = 8, shots: int = 4) -> tuple[int, NDArray, structure.Structure]:
    """The head of block 0 that writes x at y in the clearest order of its logarithm (F1d).

    Args:
        run: its last checkpoint is judged.
        contexts: over which scores are means.
        shots: examples in front of the pair.

    Returns:
        the head, the plane (p², 2) of what it writes in the first context, and its structure, with the nulls.
    """
    model, p = run.model(), run.config.p
    log, x = structure.discrete_log(p), grid(p)[:, 0]
    drawn = zip(*interpret.draw_contexts(Data(run.config), contexts), strict=True)
    at_y = [interpret.head_features(model, context[:shots], task)[0, :, 1] for context, task in drawn]
    found = [structure.structure([of[head] for of in at_y], x, log) for head in range(run.config.n_head)]
    head = max(range(len(found)), key=lambda h: found[h].order.value)
    return head, structure.log_plane(at_y[0][head], x)[0], found[head]
