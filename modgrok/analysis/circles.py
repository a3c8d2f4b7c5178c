"""Claim 5 over many runs: how probable each structure of a run would be by chance; the run is the unit (F1d, F1e)."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from modgrok.analysis import activations, stats, structure
from modgrok.data import Data, grid
from modgrok.storage.runs import Run

MEASURES = {
    "circle": "the means of the numbers stand in the order of their logarithm round their plane",
    "wave": "in all dimensions, they follow some wave of the logarithm",
    "parity": "odd and even logarithms lie apart",
}
"""Structure → what it says of the mean vector of every number but 0."""

READ = {"x": "x", "y": "xy", "z": "xyz"}
"""Position → the numbers that a head's output there may tell."""

PLACES = ("embedding", *(f"{blocks} at {at}" for blocks in ("block 0", "later blocks") for at in READ))
"""Where a structure is looked for; in blocks, in what any of their heads writes, of any number known there."""


def probabilities(run: Run, contexts: int = 20, shots: int = 4) -> dict[tuple[str, str], float]:
    """How probable each structure, so strong at least, would be if the numbers had other names.

    Where heads and numbers are many, the clearest counts, and chance chooses the clearest, too (`stats.min_p_value`).
    A structure that means nothing has a mean of 0.5 or a little more, since few numbers have few orders.

    Args:
        run: its last checkpoint is judged.
        contexts: over which a head's scores are averaged.
        shots: examples in front of the pair, at most; fewer where sequences are shorter.

    Returns:
        (measure, place) of MEASURES and PLACES → probability, nan of later blocks where there is one block.
    """
    shots = min(shots, run.config.n_examples - 2)
    model, p = run.model(), run.config.p
    log, pairs = structure.discrete_log(p), grid(p)
    numbers = model.embed.weight.detach().numpy()
    rank, splits = structure.parity_rank(numbers, p)
    of_embedding = _strengths(numbers[None, np.argsort(log)[1:]])
    found = {(measure, "embedding"): stats.min_p_value([of]) for measure, of in of_embedding.items()}
    found["parity", "embedding"] = rank / splits  # exact

    before, tasks = activations.draw_contexts(Data(run.config), contexts)
    logs = [{number: log[of] for number, of in _numbers(pairs, task).items()} for task in tasks]
    outputs = [activations.head_features(model, *of) for of in zip(before[:, :shots], tasks, strict=True)]
    for position, (at, readable) in enumerate(READ.items()):
        for where, blocks in (("block 0", range(1)), ("later blocks", range(1, run.config.depth))):
            strengths: dict[str, list[np.ndarray]] = {measure: [] for measure in MEASURES}
            for i, h in np.ndindex(len(blocks), run.config.n_head):
                for number in readable:
                    written = [of[blocks[i], h, position] for of in outputs]  # (p², C) each
                    means = [_means(of, own[number]) for of, own in zip(written, logs, strict=True)]
                    for measure, of in _strengths(np.stack(means)).items():
                        strengths[measure].append(of)
            for measure, of in strengths.items():
                found[measure, f"{where} at {at}"] = stats.min_p_value(of) if of else float("nan")
    return found


def _numbers(pairs: np.ndarray, task: ArrayLike) -> dict[str, np.ndarray]:
    """x, y and z of pairs (p², 2): (p²,) each."""
    x, y = pairs.T
    return {"x": x, "y": y, "z": (np.asarray(task) @ (x, y)) % (x.max() + 1)}


def _means(output: np.ndarray, log: np.ndarray) -> np.ndarray:
    """Mean output (p - 1, C) of the pairs of each number but 0, in the order of its logarithm."""
    return structure.class_means(output[log > 0], log[log > 0] - 1)


def _strengths(means: np.ndarray) -> dict[str, np.ndarray]:
    """How strong each structure of (contexts, p - 1, C) is under every renaming: (renamings,), means over contexts."""
    planes = np.stack([structure.pca(of).coordinates[:, :2] for of in means])
    spectra = np.mean([structure.log_spectrum(of) for of in means], 0)  # (renamings, waves)
    return {
        "circle": structure.order_waves(planes).mean(0).max(-1),
        "wave": spectra.max(-1),
        "parity": spectra[:, -1],
    }


def clearest(run: Run, contexts: int = 20, shots: int = 4) -> tuple[int, NDArray, stats.NullComparison]:
    """The head of block 0 that writes x at y in the clearest order of its logarithm, and x before all (F1d).

    That is the one with the largest product of log order and the share of its variance that x explains. Chance, which
    gives the numbers other names, chooses its head in the same way.

    Args:
        run: its last checkpoint is judged.
        contexts: over which scores are means.
        shots: examples in front of the pair, at most; fewer where sequences are shorter.

    Returns:
        the head, the plane (p², 2) of what it writes in the first context, and its log order.
    """
    shots = min(shots, run.config.n_examples - 2)
    model, p = run.model(), run.config.p
    log, x = structure.discrete_log(p), grid(p)[:, 0]
    drawn = zip(*activations.draw_contexts(Data(run.config), contexts), strict=True)
    at_y = [activations.head_features(model, context[:shots], task)[0, :, 1] for context, task in drawn]
    found = [structure.structure([of[head] for of in at_y], x, log) for head in range(run.config.n_head)]
    order = np.stack([of.strides.mean(0).max(-1) for of in found])  # (heads, renamings)
    chosen = (order * [[of.carried] for of in found]).argmax(0)
    plane, _ = structure.log_plane(at_y[0][chosen[0]], x)
    return int(chosen[0]), plane, stats.compare_with_null(np.take_along_axis(order, chosen[None], 0))
