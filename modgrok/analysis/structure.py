"""How features follow numbers modulo p: logarithms, circles, waves, parity, and the nulls that judge them (claim 5)."""

import math
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from modgrok.analysis.stats import NullComparison, compare_with_null, relabellings

# --- numbers modulo p -----------------------------------------------------------------------------------


def primitive_root(p: int) -> int:
    """The smallest number whose powers are all of 1 … p - 1."""
    return next(base for base in range(1, p) if is_primitive_root(base, p))


def is_primitive_root(base: int, p: int) -> bool:
    """Whether the powers of base modulo the prime p are all of 1 … p - 1."""
    return len({pow(base, k, p) for k in range(1, p)}) == p - 1 and base % p != 0


def discrete_log(p: int, base: int | None = None) -> np.ndarray:
    """Logarithms modulo the prime p, (p,): log[base^k mod p] = k for k = 1 … p - 1, and log[0] = 0.

    So 1 has the logarithm p - 1, and the number 0, which has none, is alone with 0, as in the paper's Figure 1d.

    Args:
        p: the modulus.
        base: a primitive root, by default the smallest (the paper uses 27 for p = 29).

    Raises:
        ValueError: the base is no primitive root.
    """
    base = primitive_root(p) if base is None else base
    if not is_primitive_root(base, p):
        roots = [str(b) for b in range(1, p) if is_primitive_root(b, p)]
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
    sums = np.zeros((labels.max() + 1, features.shape[1]))
    np.add.at(sums, labels, features)
    return sums / np.bincount(labels)[:, None]


def aligned(points: ArrayLike, reference: ArrayLike) -> np.ndarray:
    """Points (N, M) turned and reflected about the origin to lie as near as possible to a reference (N, M)."""
    u, _, vt = np.linalg.svd(np.asarray(points).T @ np.asarray(reference))
    return np.asarray(points) @ u @ vt


# --- circles, waves and parity --------------------------------------------------------------------------


def circularity(points: ArrayLike) -> float:
    """How close points (n, 2) come to a circle about their centre: 1 less the relative spread of the radii.

    1 on a circle, about 0.5 for a Gaussian cloud; never below 0.
    """
    points = np.asarray(points, dtype=float)
    radii = np.linalg.norm(points - points.mean(0), axis=1)
    return max(0.0, 1 - radii.std() / radii.mean()) if radii.mean() > 0 else 0.0


def log_order(points: ArrayLike, most: int = 1000) -> tuple[NullComparison, int]:
    """Whether points stand around their centre in the order of their logarithm (F1d).

    The angle of the point with logarithm k is compared with 2π·s·k/n, up to a rotation and reflection; the score is
    the length of the mean of the differences as unit vectors, 1 for perfect order, and the best stride s ≤ n/2 counts.

    Args:
        points: (n, 2), n = p - 1, the points of logarithm 1 … p - 1; or (contexts, n, 2), and the stride that is best
            on the mean over contexts counts.
        most: relabellings, which put the points in another order.

    Returns:
        the score and the stride.
    """
    return best_of(order_waves(points, most))


def order_waves(points: ArrayLike, most: int = 1000) -> np.ndarray:
    """The scores of `log_order` at every stride 1 … n / 2, (contexts, relabellings, strides), the true labels first."""
    points = np.asarray(points, dtype=float).reshape(-1, *np.shape(points)[-2:])
    z = (points - points.mean(1, keepdims=True)) @ (1, 1j)  # (contexts, n)
    unit = z / np.where(abs(z) > 0, abs(z), 1)
    n = z.shape[1]
    waves = abs(np.fft.fft(unit[:, relabellings(n, most)])) / n  # strides and, mirrored, -strides
    half = n // 2
    return np.maximum(waves[..., 1 : half + 1], waves[..., -1 : -half - 1 : -1])


def best_of(waves: np.ndarray) -> tuple[NullComparison, int]:
    """The score of the best wave, chosen anew for every relabelling, and which it is for the true labels.

    Args:
        waves: (contexts, shuffles, waves); the wave with the largest mean over contexts is the best.
    """
    best = waves.mean(0).argmax(-1)  # (shuffles,)
    return compare_with_null(np.take_along_axis(waves, best[None, :, None], -1)[..., 0]), int(best[0]) + 1


def log_spectrum(means: ArrayLike, most: int = 1000) -> np.ndarray:
    """How much of the variance between numbers goes round s times with their logarithm (F1d, F1e).

    The Fourier spectrum over the multiplicative group: features on one circle in the order of the logarithm have all
    their variance at one s; those that know only the logarithm's parity, at s = (p - 1)/2.

    Args:
        means: (p - 1, C) mean feature of the numbers of logarithm 1 … p - 1.
        most: relabellings of the baseline.

    Returns:
        (shuffles, (p - 1) // 2) shares for s = 1, 2, …, which sum to 1; the true labels first.
    """
    means = pca(means).coordinates
    n = len(means)
    share = (abs(np.fft.rfft(means[relabellings(n, most)], axis=1)) ** 2).sum(-1)[:, 1:]  # (shuffles, waves)
    share[:, : (n - 1) // 2] *= 2  # s and -s are one wave
    total = share.sum(1, keepdims=True)
    return share / np.where(total > 0, total, 1)


def parity_rank(features: ArrayLike, p: int, most: int = 10_000) -> tuple[int, int]:
    """How well odd and even logarithms are told apart, among all ways to halve the numbers 1 … p - 1 (F1e).

    A split scores the share of the variance between the numbers that lies between its halves; for odd against even
    logarithms that is the last wave of `log_spectrum`. Even logarithms are squares, so the primitive root does not
    matter. The expected rank of a split that means nothing is (splits + 1)/2.

    Args:
        features: (p, C) one row a number, such as the embedding; that of 0 is left out.
        p: the modulus.
        most: where there are more splits (p > 17), so many random ones stand for them.

    Returns:
        rank, from 1 (no other split scores as much), and the number of splits: 10 at p = 7, 126 at p = 11.
    """
    n = p - 1
    points = np.asarray(features, dtype=float)[1:]
    points = points - points.mean(0)
    odd = np.where(discrete_log(p)[1:] % 2 == 1, 1.0, -1.0)
    if math.comb(n, n // 2) // 2 <= most:
        halves = np.full((math.comb(n - 1, n // 2 - 1), n), -1.0)
        for signs, half in zip(halves, combinations(range(1, n), n // 2 - 1), strict=True):
            signs[[0, *half]] = 1  # the number 1 is always in the first half: each split once
    else:
        rng = np.random.default_rng(0)
        halves = np.stack([odd, *(rng.permutation(odd) for _ in range(most - 1))])
    scores = ((halves @ points) ** 2).sum(1)  # times the same total for all splits
    own = ((odd @ points) ** 2).sum()
    return int((scores >= own * (1 - 1e-9)).sum()), len(halves)  # itself among them; a tie counts against it


def log_plane(features: ArrayLike, numbers: ArrayLike) -> tuple[np.ndarray, float]:
    """The plane of the first two principal components of the pairs whose number is not 0, which has no logarithm.

    Args:
        features: (N, C).
        numbers: (N,) the pairs' x, y or z.

    Returns:
        (N, 2) coordinates of all pairs, those with 0 too, and the share of variance in the plane, without these.
    """
    features = np.asarray(features)
    found = pca(features[np.asarray(numbers) > 0])
    return (features - found.mean) @ found.components[:2].T, float(found.share[:2].sum())


class Structure(NamedTuple):
    """How a head's output over all pairs depends on one of their numbers, pairs where it is 0 left out.

    Attributes:
        carried: share of the variance that this number explains.
        share: of the variance in the first two principal components.
        circle: circularity of its class means in that plane; baseline: pairs in random classes.
        order: log order of these means; baseline: numbers in another order.
        stride: of the best log order.
        strides: (contexts, shuffles, strides) log order at every stride; baseline: numbers in another order.
        spectrum: (contexts, shuffles, waves) log spectra, in all dimensions; baseline: numbers in another order.
        wave: its largest share.
        turns: which wave that is.
        parity: its last, which tells odd from even logarithms.
    """

    carried: float
    share: float
    circle: NullComparison
    order: NullComparison
    stride: int
    strides: np.ndarray
    spectrum: np.ndarray
    wave: NullComparison
    turns: int
    parity: NullComparison


def structure(features: ArrayLike, numbers: ArrayLike, log: ArrayLike, shuffles: int = 200) -> Structure:
    """The structure of the features of pairs, a mean over contexts where there are several.

    Args:
        features: (N, C), or (contexts, N, C) of the same pairs in every context.
        numbers: (N,) the number of each pair.
        log: (p,) the log table.
        shuffles: random classes for the circle's baseline.
    """
    labels = np.asarray(log)[np.asarray(numbers)] - 1  # 0 … p - 2
    rows, labels = labels >= 0, labels[labels >= 0]
    random_classes = relabellings(len(labels), shuffles)
    all_means, carried, shares, circles = [], [], [], []
    for each in np.reshape(features, (-1, *np.shape(features)[-2:])):
        found = pca(each[rows])
        means, total = class_means(found.coordinates, labels), (found.coordinates**2).sum()
        all_means.append(means)
        carried.append((means[labels] ** 2).sum() / total if total > 0 else 0.0)
        shares.append(found.share[:2].sum())
        plane = found.coordinates[:, :2]
        circles.append([circularity(class_means(plane[order], labels)) for order in random_classes])
    strides = order_waves(np.stack(all_means)[..., :2])
    order, stride = best_of(strides)
    spectrum = np.stack([log_spectrum(means) for means in all_means])
    wave, turns = best_of(spectrum)
    return Structure(
        float(np.mean(carried)),
        float(np.mean(shares)),
        compare_with_null(circles),
        order,
        stride,
        strides,
        spectrum,
        wave,
        turns,
        compare_with_null(spectrum[..., -1]),
    )


def parity_view(features: ArrayLike, numbers: ArrayLike, log: ArrayLike) -> np.ndarray:
    """The class means in three directions, the last of which tells odd logarithms from even ones (F1e).

    Args:
        features: (N, C) of pairs whose number is given (N,).
        log: (p,) the log table.

    Returns:
        (p, 3), in the order of the logarithm, the number 0 first: the two largest principal components across the
        direction between the parities' means, and that direction, its origin half-way.
    """
    means = class_means(features, np.asarray(log)[np.asarray(numbers)])
    odd, even = means[1::2].mean(0), means[2::2].mean(0)
    axis = (odd - even) / max(np.linalg.norm(odd - even), 1e-300)
    height = (means - (odd + even) / 2) @ axis
    across = means - np.outer(means @ axis, axis)
    flat = pca(across[1:])
    return np.column_stack([(across - flat.mean) @ flat.components[:2].T, height])
