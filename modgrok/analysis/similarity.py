"""Which pairs of inputs a model finds alike: cosine similarities by groups of pairs, and groups by chance (F7)."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from modgrok.analysis.activations import features_at_y, features_by_context
from modgrok.analysis.stats import NullComparison, compare_with_null
from modgrok.data import grid
from modgrok.predictors import ratio_classes
from modgrok.storage.runs import Run

CHUNK = 2.5e7
"""Numbers in an array of similarities at once, which bounds memory: 200 MB."""


def cosine_similarity(features: ArrayLike) -> np.ndarray:
    """Cosines between all rows of features (N, C), of which the mean row is subtracted first: (N, N).

    A row that is the mean is similar to nothing.
    """
    features = np.asarray(features, dtype=float)
    features = features - features.mean(0)
    norms = np.linalg.norm(features, axis=1, keepdims=True)
    unit = features / np.where(norms > 1e-12 * max(norms.max(), 1e-300), norms, np.inf)
    return unit @ unit.T


def contrast(similarity: ArrayLike, groupings: ArrayLike) -> np.ndarray:
    """Mean similarity (…, N, N) within groups less that between groups, (…, groupings) (F7).

    groupings: (groupings, N) group 0, 1, … of each row; rows of group -1 are left out.
    """
    similarity, groupings = np.asarray(similarity, dtype=float), np.asarray(groupings)
    n_rows, contrasts = groupings.shape[1], []
    similarity = similarity.reshape(*similarity.shape[:-2], n_rows**2)
    for chunk in np.array_split(groupings, math.ceil(len(groupings) * n_rows**2 / 4e6)):
        is_counted = (chunk[:, :, None] >= 0) & (chunk[:, None] >= 0) & ~np.eye(n_rows, dtype=bool)
        is_within = is_counted & (chunk[:, :, None] == chunk[:, None])
        n_within, n_counted = (pairs.sum((1, 2))[:, None, None] for pairs in (is_within, is_counted))
        between = -1 / np.maximum(n_counted - n_within, 1)
        weights = np.where(is_within, 1 / np.maximum(n_within, 1), np.where(is_counted, between, 0))
        contrasts.append(similarity @ weights.reshape(len(chunk), n_rows**2).T)
    return np.concatenate(contrasts, -1)


def run_scores(run: Run, n_contexts: int, shots: int) -> dict[str, dict[str, NullComparison]]:
    """Score at every stage of a run's last checkpoint how alike pairs of one ratio are (F7).

    The score is the `contrast` of cosine similarities, a mean over the contexts of `features_by_context`, whose first
    `shots` examples stand in front of each pair (x, y). `ratio_groupings` give the null.

    Returns:
        position, "y" or "z" → stage, in the order of `stage_features` → score.
    """
    p, groupings, contrasts = run.config.p, ratio_groupings(run.config.p), []
    contexts = list(features_by_context(run, n_contexts, shots))
    n_chunk = max(1, int(CHUNK / (2 * len(contexts[0]) * p**4)))
    for first in range(0, n_contexts, n_chunk):
        alike = [
            [[cosine_similarity(vectors[i]) for vectors in stages.values()] for i in (1, 2)]
            for stages in contexts[first : first + n_chunk]
        ]
        contrasts.append(contrast(alike, groupings))  # (contexts, 2, stages, groupings)
    by_position = np.concatenate(contrasts).swapaxes(0, 1)
    return {
        name: {stage: compare_with_null(scores[:, i]) for i, stage in enumerate(contexts[0])}
        for name, scores in zip("yz", by_position, strict=True)
    }


def after_blocks(scores: dict[str, NullComparison]) -> list[NullComparison]:
    """The scores after each block, out of the scores of all stages."""
    return [score for stage, score in scores.items() if stage.startswith("after")]


def ratio_p_value(run: Run) -> float:
    """P value for pairs of one ratio being more alike at y than others, after the clearest block (claim 5, F7).

    In 20 contexts, see `activations.features_at_y`. A block with a negative score has P = 1. The smallest P is
    multiplied by the number of blocks (Bonferroni).
    """
    depth = run.config.depth
    features = features_at_y(run, [f"after block {i}" for i in range(depth)], 20)
    alike = [[cosine_similarity(block) for block in context] for context in features]
    contrasts = contrast(alike, ratio_groupings(run.config.p))  # (contexts, depth, groupings)
    scores = [compare_with_null(contrasts[:, i]) for i in range(depth)]
    return min(1.0, depth * min(score.p_value if score.value > 0 else 1.0 for score in scores))


def ratio_groupings(p: int, n_groupings: int = 200, seed: int = 0) -> np.ndarray:
    """Group of each pair by x/y, and groups after numbers are renamed: (groupings, p²), the true ones first.

    Pairs with a 0 get -1. Two pairs of one ratio share neither x nor y. Renaming all x, and all y, keeps that, so the
    baseline allows for the similarity of pairs that share a number.
    """
    rng, (x, y) = np.random.default_rng(seed), grid(p).T
    classes = np.where(x * y > 0, ratio_classes(p) - 1, -1).reshape(p, p)
    names = [np.arange(1, p), *(rng.permutation(np.arange(1, p)) for _ in range(2 * n_groupings - 1))]
    names[1] = np.arange(1, p)
    names = np.pad(names, ((0, 0), (1, 0)))  # 0 keeps its name
    return np.stack([classes[a[x], b[y]] for a, b in zip(names[::2], names[1::2], strict=True)])


def ratio_matrices(
    stages: dict[str, np.ndarray], position: int, log: ArrayLike
) -> tuple[list[np.ndarray], np.ndarray, list[str]]:
    """Every stage's similarity matrix of the pairs without a 0, sorted by x/y and then by the logarithm of x (F7).

    Stages are those of `stage_features`, the position 0 (x), 1 (y) or 2 (z). The result is what
    `plots.similarity_matrices` draws: matrices, the ratio of each row, and the names.
    """
    pairs, ratio = grid(len(log)), ratio_classes(len(log))
    order = np.lexsort((np.asarray(log)[pairs[:, 0]], ratio))
    order = order[(pairs[order] > 0).all(1)]
    alike = (cosine_similarity(vectors[position]) for vectors in stages.values())
    return [matrix[np.ix_(order, order)] for matrix in alike], ratio[order], list(stages)


def most_alike(runs: Sequence[Run], scores: dict[str, dict[str, dict[str, NullComparison]]]) -> Run:
    """The run with the highest score at y after any block; scores: name of a run → its `run_scores`."""
    return max(runs, key=lambda run: max(score.value for score in after_blocks(scores[run.name]["y"])))
