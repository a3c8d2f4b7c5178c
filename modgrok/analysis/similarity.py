"""Which pairs of inputs a model finds alike: cosine similarities by groups of pairs, and groups by chance (F7)."""

import math
from collections.abc import Iterable
from itertools import islice

import numpy as np
from numpy.typing import ArrayLike

from modgrok.analysis.activations import block_features, stage_features
from modgrok.data import grid
from modgrok.model import Transformer
from modgrok.predictors import ratio_classes


def cosine_similarity(features: ArrayLike, center: bool = False) -> np.ndarray:
    """Cosines between all rows of features (N, C), (N, N); a row of zeros is similar to nothing.

    With `center`, the rows' mean is taken off first, so that what all rows have in common does not count.
    """
    features = np.asarray(features, dtype=float)
    features = features - features.mean(0) if center else features
    norms = np.linalg.norm(features, axis=1, keepdims=True)
    unit = features / np.where(norms > 1e-12 * max(norms.max(), 1e-300), norms, np.inf)
    return unit @ unit.T


def mean_similarity(
    model: Transformer, contexts: ArrayLike, tasks: ArrayLike, center: bool = True
) -> dict[str, np.ndarray]:
    """Cosine similarities of all pairs at every stage, means over contexts: name → (3, p², p²), at x, y and z (F7).

    Args:
        model, contexts, tasks, center: as in `contrast_over_contexts`.
    """
    total: dict[str, np.ndarray] = {}
    for context, task in zip(contexts, tasks, strict=True):
        for name, stage in stage_features(model, context, task).items():
            alike = np.stack([cosine_similarity(at, center) for at in stage])
            total[name] = total.get(name, 0) + alike / len(contexts)
    return total


def contrast(similarity: ArrayLike, groupings: ArrayLike) -> np.ndarray:
    """Mean similarity within groups less that between groups (F7).

    Args:
        similarity: (…, N, N).
        groupings: (shuffles, N) group 0, 1, … of each row; rows of group -1 are left out.

    Returns:
        (…, shuffles)
    """
    similarity, groupings = np.asarray(similarity, dtype=float), np.asarray(groupings)
    n = groupings.shape[1]
    found = []
    for part in np.array_split(groupings, math.ceil(len(groupings) * n**2 / 4e6)):  # bounds memory: 32 MB
        valid = ((part[:, :, None] >= 0) & (part[:, None, :] >= 0)) & ~np.eye(
            n, dtype=bool
        )  # no row with itself
        within = valid & (part[:, :, None] == part[:, None, :])
        weights = [
            of / np.maximum(of.sum((1, 2), keepdims=True), 1) for of in (within, valid & ~within)
        ]  # (part, N, N) each
        flat = (weights[0] - weights[1]).reshape(len(part), n * n)
        found.append(similarity.reshape(*similarity.shape[:-2], n * n) @ flat.T)
    return np.concatenate(found, -1)


def contrast_over_contexts(
    model: Transformer,
    contexts: ArrayLike,
    tasks: ArrayLike,
    groupings: dict[str, np.ndarray],
    center: bool = True,
) -> dict[str, np.ndarray]:
    """How much more alike the pairs of one group are, in each of several contexts (F7).

    Args:
        model: the transformer.
        contexts: (n, shots, 2) pairs in front of the pair that is looked at.
        tasks: (n, 2) the task that answers each.
        groupings: name → (n or 1, shuffles, p²), as `all_groupings`.
        center: compare vectors without what the vectors of all pairs have in common.

    Returns:
        name → (n, 3, stages, shuffles): context; position x, y or z; stage in the order of `stage_features`; grouping,
        the true one first. `compare` judges (n, shuffles) of these.
    """
    features = (stage_features(model, *of).values() for of in zip(contexts, tasks, strict=True))
    alike = (
        np.stack([[cosine_similarity(at, center) for at in of] for of in stages], 1) for stages in features
    )
    return _contrasts(alike, groupings)


def contrast_after_blocks(
    model: Transformer,
    contexts: ArrayLike,
    tasks: ArrayLike,
    groupings: dict[str, np.ndarray],
    center: bool = True,
) -> dict[str, np.ndarray]:
    """The same at y after every block, without the heads: name → (n, depth, shuffles)."""
    features = (block_features(model, *of) for of in zip(contexts, tasks, strict=True))
    alike = (np.stack([cosine_similarity(at, center) for at in blocks[:, 1]]) for blocks in features)
    return _contrasts(alike, groupings)


def _contrasts(alike: Iterable[np.ndarray], groupings: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The contrasts of each context's similarities (…, N, N), several contexts at a time: name → (n, …, shuffles)."""
    found: dict[str, list[np.ndarray]] = {name: [] for name in groupings}
    every, start = iter(alike), 0
    while waiting := list(islice(every, 1)):
        waiting += islice(every, int(2.5e7 / waiting[0].size))  # bounds memory: 200 MB
        for name, of in groupings.items():
            if len(of) == 1:
                found[name].append(contrast(np.stack(waiting), of[0]))
            else:
                own = of[start : start + len(waiting)]
                found[name].append(np.stack([contrast(*both) for both in zip(waiting, own, strict=True)]))
        start += len(waiting)
    return {name: np.concatenate(each) for name, each in found.items()}


def all_groupings(tasks: ArrayLike, p: int, shuffles: int = 200, seed: int = 0) -> dict[str, np.ndarray]:
    """The pairs grouped by ratio, by x, by y and by the answers z to tasks (n, 2), each with its chance groupings.

    Returns:
        name → (1, shuffles, p²), or (n, shuffles, p²) for z.
    """
    x, y = grid(p).T
    return {
        "same ratio x/y": ratio_groupings(p, shuffles, seed)[None],
        "same x": number_groupings(x, shuffles, seed)[None],
        "same y": number_groupings(y, shuffles, seed)[None],
        "same z": np.stack([answer_groupings(task, p, shuffles, seed) for task in np.asarray(tasks)]),
    }


def ratio_groupings(p: int, shuffles: int = 200, seed: int = 0) -> np.ndarray:
    """The pairs grouped by x/y, pairs with a zero left out, and the same after numbers are renamed, (shuffles, p²).

    Two pairs of one ratio share neither x nor y. Renaming the x among themselves, and the y, keeps that, so the
    baseline allows for whatever similarity pairs have because they share a number.
    """
    rng, (x, y) = np.random.default_rng(seed), grid(p).T
    classes = np.where(x * y > 0, ratio_classes(p) - 1, -1).reshape(p, p)
    names = [np.arange(1, p), *(rng.permutation(np.arange(1, p)) for _ in range(2 * shuffles - 1))]
    names[1] = np.arange(1, p)
    renamed = [np.concatenate([[0], order]) for order in names]
    return np.stack([classes[a[x], b[y]] for a, b in zip(renamed[::2], renamed[1::2], strict=True)])


def answer_groupings(task: ArrayLike, p: int, shuffles: int = 200, seed: int = 0) -> np.ndarray:
    """The pairs grouped by z = a·x + b·y mod p, and the same after numbers are renamed, (shuffles, p²).

    Two pairs of one z share neither x nor y. The baseline keeps that: it groups by a·π(x) + b·σ(y) with the numbers x
    renamed by π and the y by σ (a Latin square). What a model knows of x and of y, each alone, then scores under the
    true grouping as it does under the others; only what it knows of their sum stands out.

    Raises:
        ValueError: a task with a or b = 0, for which z is just the other number, renamed.
    """
    a, b = (int(number) % p for number in task)
    if a * b == 0:
        raise ValueError(
            f"task={[a, b]} has an answer that depends on one number at most; to group by z choose a task with a and b "
            f"from 1 to {p - 1}, such as [1, 2]."
        )
    rng, (x, y) = np.random.default_rng(seed), grid(p).T
    names = rng.permuted(np.broadcast_to(np.arange(p), (shuffles, 2, p)), axis=-1)
    names[0] = np.arange(p)
    return (a * names[:, 0, x] + b * names[:, 1, y]) % p


def number_groupings(numbers: ArrayLike, shuffles: int = 200, seed: int = 0) -> np.ndarray:
    """The pairs grouped by their x or y (p²,), and by renamed sums as in `answer_groupings`, (shuffles, p²)."""
    numbers = np.asarray(numbers)
    return np.concatenate([numbers[None], answer_groupings((1, 1), numbers.max() + 1, shuffles, seed)[1:]])


def ratio_order(p: int, log: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """The pairs without a zero, sorted by x/y and within it by the logarithm of x: indices and ratios (F7)."""
    ratio, x = ratio_classes(p), grid(p)[:, 0]
    order = np.lexsort((np.asarray(log)[x], ratio))
    order = order[(grid(p)[order] > 0).all(1)]
    return order, ratio[order]


def value_order(values: ArrayLike, log: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """The pairs sorted by one of their numbers (p²,) in the order of its logarithm, 0 first: indices and numbers."""
    values = np.asarray(values)
    order = np.argsort(np.asarray(log)[values], kind="stable")
    return order, values[order]
