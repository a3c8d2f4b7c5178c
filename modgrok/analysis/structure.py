"""How features follow numbers modulo p: logarithms, rings, waves, parity, and the null of renamed numbers (claim 5).

The null gives the numbers 1 … p - 1 other names. Every score below comes with its values under the same relabellings,
the true names first, so that scores can be combined and compared relabelling by relabelling.
"""

import functools
import math
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike

from modgrok.analysis.stats import relabellings

# --- numbers modulo p -----------------------------------------------------------------------------------


def primitive_roots(p: int) -> list[int]:
    """The numbers whose powers modulo the prime p are all of 1 … p - 1, the smallest first."""
    return [base for base in range(1, p) if len({pow(base, k, p) for k in range(1, p)}) == p - 1]


def discrete_log(p: int, base: int | None = None) -> np.ndarray:
    """Logarithms modulo the prime p, (p,): log[base^k mod p] = k for k = 1 … p - 1, and log[0] = 0.

    So 1 has the logarithm p - 1, and the number 0, which has no logarithm, is the only one with 0, as in Figure 1d.
    The base is by default the smallest primitive root (the paper uses 27 for p = 29); ValueError if it is none,
    or p is not prime.
    """
    roots = primitive_roots(p)
    if not roots:
        raise ValueError(f"p={p} must be a prime number.")
    base = roots[0] if base is None else base
    if base % p not in roots:
        choices = ", ".join(map(str, roots))
        raise ValueError(f"base={base} is no primitive root modulo {p}; choose one of {choices}.")
    log = np.zeros(p, dtype=int)
    log[[pow(base, k, p) for k in range(1, p)]] = np.arange(1, p)
    return log


# --- geometry -------------------------------------------------------------------------------------------


def pca(features: ArrayLike) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Principal components of features (N, C), the largest variance first, each sign with its largest coordinate > 0.

    They are coordinates (N, M), M = min(N, C); orthonormal directions (M, C); and the mean (C,).
    """
    features = np.asarray(features, dtype=float)
    mean = features.mean(0)
    u, s, components = np.linalg.svd(features - mean, full_matrices=False)
    sign = np.where(np.take_along_axis(u, abs(u).argmax(0)[None], 0)[0] < 0, -1.0, 1.0)
    return u * s * sign, components * sign[:, None], mean


def class_means(features: ArrayLike, labels: ArrayLike) -> np.ndarray:
    """Mean of the features (N, C) of each label 0, 1, …: (labels, C)."""
    features, labels = np.asarray(features, dtype=float), np.asarray(labels)
    one_hot = labels == np.arange(labels.max() + 1)[:, None]  # (labels, N)
    return one_hot @ features / one_hot.sum(1, keepdims=True)


def log_plane(features: ArrayLike, numbers: ArrayLike) -> np.ndarray:
    """Coordinates (N, 2) of features (N, C) in the first two principal components of the rows whose number is not 0.

    numbers: (N,) the number of each row, such as x of the pair (x, y).
    """
    features = np.asarray(features)
    _, components, mean = pca(features[np.asarray(numbers) > 0])
    return (features - mean) @ components[:2].T


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

    Of points (…, n, 2), n = p - 1, of logarithm 1 … p - 1, under the orders of `stats.relabellings`: (2, …, orders,
    strides) for both directions of turning and s = 1 … (n - 1) // 2, at which a ring has three places or more.
    """
    points = np.asarray(points, dtype=float)
    n = points.shape[-2]
    arrows = (points - points.mean(-2, keepdims=True)) @ (1, 1j)  # (…, n)
    arrows = arrows / np.where(abs(arrows) > 0, abs(arrows), 1)
    turns = _turns(n, n_max)[:, : max(1, (n - 1) // 2)]
    return abs(np.einsum("d...k,osk->d...os", np.stack([arrows, arrows.conj()]), turns, optimize=True)) / n


def log_spectrum(means: ArrayLike, n_max: int = 1000) -> np.ndarray:
    """Share of the variance between numbers in wave s, which goes round s times while the logarithm runs through once.

    This is the Fourier spectrum over the multiplicative group (F1d, F1e). Features on one ring in the order of the
    logarithm have all their variance at one s. Features that know only the logarithm's parity have it at (p - 1) / 2.

    Of mean features (p - 1, C) of the numbers of logarithm 1 … p - 1, or (contexts, p - 1, C), whose spectra are
    averaged, under the orders of `stats.relabellings`: (orders, (p - 1) // 2) shares for s = 1, 2, …, which sum to 1;
    the true names first.
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


def parity_rank(features: ArrayLike, p: int) -> tuple[int, int]:
    """Rank of the split into odd and even logarithms among all ways to halve the numbers 1 … p - 1 (F1e).

    A split scores the share of the variance between the numbers that lies between its halves; for odd against even
    logarithms that is the last wave of `log_spectrum`. Even logarithms are squares, so the primitive root does not
    matter. The expected rank of a split that means nothing is (splits + 1) / 2.

    Args:
        features: (p, C), a row for each number, such as the embedding; that of 0 is left out.
        p: the modulus.

    Returns:
        rank, from 1 (no other split scores as much), and the number of splits: 10 at p = 7, 126 at p = 11. Of more than
        10,000 (p > 17) as many random ones count.
    """
    n, n_max = p - 1, 10_000
    points = np.asarray(features, dtype=float)[1:]
    points = points - points.mean(0)
    parity = np.where(discrete_log(p)[1:] % 2 == 1, 1.0, -1.0)
    if math.comb(n, n // 2) // 2 <= n_max:
        halves = combinations(range(1, n), n // 2 - 1)  # with the number 1 (row 0): each split once
        splits = np.array([np.where(np.isin(np.arange(n), [0, *half]), 1.0, -1.0) for half in halves])
    else:
        rng = np.random.default_rng(0)
        splits = np.stack([parity, *(rng.permutation(parity) for _ in range(n_max - 1))])
    scores = ((splits @ points) ** 2).sum(1)  # times the same total for all splits
    score = ((parity @ points) ** 2).sum()
    rank = (scores >= score * (1 - 1e-9)).sum()  # itself among them; a tie counts against it
    return int(rank), len(splits)


def parity_view(features: ArrayLike, log: ArrayLike) -> np.ndarray:
    """Features (p, C) of the numbers in three directions; the third separates odd logarithms from even ones (F1e).

    The result is (p, 3), in the order of the logarithm, the number 0 first. The third coordinate lies along the line
    through the means of both parities, its origin half-way; the others are the first two principal components across
    it.
    """
    rows = np.asarray(features, dtype=float)[np.argsort(log)]
    odd_mean, even_mean = rows[1::2].mean(0), rows[2::2].mean(0)
    axis = (odd_mean - even_mean) / max(np.linalg.norm(odd_mean - even_mean), 1e-300)
    height = (rows - (odd_mean + even_mean) / 2) @ axis
    across = rows - np.outer(rows @ axis, axis)
    return np.column_stack([log_plane(across, np.arange(len(rows))), height])
