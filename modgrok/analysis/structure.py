"""How features follow numbers modulo p: logarithms, rings, waves, parity, and the null of renamed numbers (claim 5).

The null gives the numbers 1 … p - 1 other names. Every score below comes with its values under the same relabellings,
the true names first, so that scores can be combined and compared relabelling by relabelling.
"""

import functools
import math
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from modgrok.analysis.stats import NullComparison, compare_with_null, relabellings

# --- numbers modulo p -----------------------------------------------------------------------------------


def primitive_root(p: int) -> int:
    """The smallest number whose powers modulo the prime p are all of 1 … p - 1."""
    return next(base for base in range(1, p) if is_primitive_root(base, p))


def is_primitive_root(base: int, p: int) -> bool:
    """Whether the powers of base modulo the prime p are all of 1 … p - 1."""
    return len({pow(base, k, p) for k in range(1, p)}) == p - 1 and base % p != 0


def discrete_log(p: int, base: int | None = None) -> np.ndarray:
    """Logarithms modulo the prime p, (p,): log[base^k mod p] = k for k = 1 … p - 1, and log[0] = 0.

    So 1 has the logarithm p - 1, and the number 0, which has no logarithm, is the only one with 0, as in Figure 1d.

    Args:
        p: the modulus.
        base: a primitive root, by default the smallest (the paper uses 27 for p = 29).

    Raises:
        ValueError: the base is no primitive root.
    """
    base = primitive_root(p) if base is None else base
    if not is_primitive_root(base, p):
        roots = [str(root) for root in range(1, p) if is_primitive_root(root, p)]
        raise ValueError(f"base={base} is no primitive root modulo {p}; choose one of {', '.join(roots)}.")
    log = np.zeros(p, dtype=int)
    for k in range(1, p):
        log[pow(base, k, p)] = k
    return log


# --- geometry -------------------------------------------------------------------------------------------


class PCA(NamedTuple):
    """Principal components: `features = mean + coordinates @ components`.

    Attributes:
        coordinates: (N, M), M = min(N, C), the largest variance first.
        components: (M, C) orthonormal directions.
        mean: (C,).
        share: (M,) of the variance; zeros if there is none.
    """

    coordinates: np.ndarray
    components: np.ndarray
    mean: np.ndarray
    share: np.ndarray


def pca(features: ArrayLike) -> PCA:
    """Principal components of features (N, C), each sign such that the largest coordinate is positive."""
    features = np.asarray(features, dtype=float)
    mean = features.mean(0)
    u, s, components = np.linalg.svd(features - mean, full_matrices=False)
    largest = np.abs(u).argmax(0)
    sign = np.where(u[largest, np.arange(len(s))] < 0, -1.0, 1.0)
    total = (s**2).sum()
    return PCA(u * s * sign, components * sign[:, None], mean, s**2 / total if total > 0 else 0 * s)


def class_means(features: ArrayLike, labels: ArrayLike) -> np.ndarray:
    """Mean of the features (N, C) of each label 0, 1, …: (labels, C)."""
    features, labels = np.asarray(features, dtype=float), np.asarray(labels)
    one_hot = labels == np.arange(labels.max() + 1)[:, None]  # (labels, N)
    return one_hot @ features / one_hot.sum(1, keepdims=True)


def log_plane(features: ArrayLike, numbers: ArrayLike) -> tuple[np.ndarray, float]:
    """The plane of the first two principal components of the rows whose number is not 0.

    Args:
        features: (N, C).
        numbers: (N,) the number of each row, such as x of the pair (x, y).

    Returns:
        (N, 2) coordinates of all rows, and the share of the variance of the rows without 0 that lies in the plane.
    """
    features = np.asarray(features)
    axes = pca(features[np.asarray(numbers) > 0])
    return (features - axes.mean) @ axes.components[:2].T, float(axes.share[:2].sum())


# --- rings, waves and parity ----------------------------------------------------------------------------


@functools.lru_cache(maxsize=4)
def _turns(n: int, n_max: int) -> np.ndarray:
    """exp(-2πi·s·k / n) of each label, k its place under a relabelling: (orders, strides, n), s = 1 … n // 2."""
    places = np.argsort(relabellings(n, n_max), axis=1)
    strides = np.arange(1, n // 2 + 1)
    return np.exp(-2j * np.pi / n * strides[:, None] * places[:, None])


def windings(points: ArrayLike, n_max: int = 1000) -> np.ndarray:
    """Score how evenly points go round their centre in the order of their logarithm, at every stride and relabelling.

    A point is replaced by the unit vector from the centre towards it. The score of stride s is the length of the mean
    of these vectors, each turned back by 2π·s·k / n, where k is the logarithm: 1 if the point of logarithm k stands
    at the angle 2π·s·k / n, up to a common rotation. If s and n share a factor f, only n / f places are different.

    Args:
        points: (…, n, 2), n = p - 1, the points of logarithm 1 … p - 1.
        n_max: as in `stats.relabellings`.

    Returns:
        (2, …, orders, strides) for both directions of turning and s = 1 … (n - 1) // 2, at which a ring has three
        places or more.
    """
    points = np.asarray(points, dtype=float)
    n = points.shape[-2]
    arrows = (points - points.mean(-2, keepdims=True)) @ (1, 1j)  # (…, n)
    arrows = arrows / np.where(abs(arrows) > 0, abs(arrows), 1)
    turns = _turns(n, n_max)[:, : max(1, (n - 1) // 2)]
    return abs(np.einsum("d...k,osk->d...os", np.stack([arrows, arrows.conj()]), turns, optimize=True)) / n


def best_wave(scores: ArrayLike) -> tuple[NullComparison, int]:
    """Compare the best of several waves with a null in which the best wave is chosen anew under every relabelling.

    Args:
        scores: (contexts, orders, waves); the wave with the largest mean over contexts is the best.

    Returns:
        the comparison, and the index of the wave that is best under the true names.
    """
    scores = np.asarray(scores)
    best = scores.mean(0).argmax(-1)  # (orders,)
    return compare_with_null(np.take_along_axis(scores, best[None, :, None], -1)[..., 0]), int(best[0])


def log_spectrum(means: ArrayLike, n_max: int = 1000) -> np.ndarray:
    """Share of the variance between numbers in wave s, which goes round s times while the logarithm runs through once.

    This is the Fourier spectrum over the multiplicative group (F1d, F1e). Features on one ring in the order of the
    logarithm have all their variance at one s. Features that know only the logarithm's parity have it at (p - 1) / 2.

    Args:
        means: (p - 1, C) mean features of the numbers of logarithm 1 … p - 1; or (contexts, p - 1, C), whose spectra
            are averaged.
        n_max: as in `stats.relabellings`.

    Returns:
        (orders, (p - 1) // 2) shares for s = 1, 2, …, which sum to 1; the true names first.
    """
    means = np.asarray(means, dtype=float)
    means = means.reshape(-1, *means.shape[-2:])
    means = means - means.mean(1, keepdims=True)
    products = means @ means.swapaxes(1, 2)  # (contexts, n, n)
    total = np.trace(products, axis1=1, axis2=2)[:, None, None]
    products = (products / np.where(total > 0, total, 1)).mean(0)
    n = len(products)
    turns = _turns(n, n_max)
    shares = ((turns @ products) * turns.conj()).sum(-1).real / n
    shares[:, : (n - 1) // 2] *= 2  # s and -s are one wave
    return shares


def parity_rank(features: ArrayLike, p: int, n_max: int = 10_000) -> tuple[int, int]:
    """Rank of the split into odd and even logarithms among all ways to halve the numbers 1 … p - 1 (F1e).

    A split scores the share of the variance between the numbers that lies between its halves; for odd against even
    logarithms that is the last wave of `log_spectrum`. Even logarithms are squares, so the primitive root does not
    matter. The expected rank of a split that means nothing is (splits + 1) / 2.

    Args:
        features: (p, C), a row for each number, such as the embedding; that of 0 is left out.
        p: the modulus.
        n_max: the largest number of splits to list; if there are more (p > 17), this many random ones replace them.

    Returns:
        rank, from 1 (no other split scores as much), and the number of splits: 10 at p = 7, 126 at p = 11.
    """
    n = p - 1
    points = np.asarray(features, dtype=float)[1:]
    points = points - points.mean(0)
    parity = np.where(discrete_log(p)[1:] % 2 == 1, 1.0, -1.0)
    if math.comb(n, n // 2) // 2 <= n_max:
        splits = np.full((math.comb(n - 1, n // 2 - 1), n), -1.0)
        for signs, half in zip(splits, combinations(range(1, n), n // 2 - 1), strict=True):
            signs[[0, *half]] = 1  # the number 1 is always in the first half: each split once
    else:
        rng = np.random.default_rng(0)
        splits = np.stack([parity, *(rng.permutation(parity) for _ in range(n_max - 1))])
    scores = ((splits @ points) ** 2).sum(1)  # times the same total for all splits
    score = ((parity @ points) ** 2).sum()
    return int((scores >= score * (1 - 1e-9)).sum()), len(
        splits
    )  # itself among them; a tie counts against it


def parity_view(features: ArrayLike, numbers: ArrayLike, log: ArrayLike) -> np.ndarray:
    """Mean features of each number in three directions; the third separates odd logarithms from even ones (F1e).

    Args:
        features: (N, C).
        numbers: (N,) the number of each row.
        log: (p,) the log table.

    Returns:
        (p, 3), in the order of the logarithm, the number 0 first. The third coordinate lies along the line through the
        means of both parities, with its origin half-way. The others are the first two principal components across it.
    """
    means = class_means(features, np.asarray(log)[np.asarray(numbers)])
    odd_mean, even_mean = means[1::2].mean(0), means[2::2].mean(0)
    axis = (odd_mean - even_mean) / max(np.linalg.norm(odd_mean - even_mean), 1e-300)
    height = (means - (odd_mean + even_mean) / 2) @ axis
    across = means - np.outer(means @ axis, axis)
    flat = pca(across[1:])
    return np.column_stack([(across - flat.mean) @ flat.components[:2].T, height])
