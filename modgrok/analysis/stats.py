"""Statistics of the book: intervals, exact tests, comparisons with a null, and a power-law fit, all on SciPy.

An interval is a NumPy array whose first axis holds the estimate, the lower end and the upper end. It covers 95 % unless
a level is passed.
"""

import functools
import math
from itertools import permutations
from typing import NamedTuple

import numpy as np
import scipy  # and none of its parts: it imports scipy.stats, which takes a second, when that is first used
from numpy.typing import ArrayLike

LEVEL = 0.95
"""Probability with which an interval covers the true value."""


# --- intervals ------------------------------------------------------------------------------------------


def mean_interval(values: ArrayLike, level: float = LEVEL) -> np.ndarray:
    """Mean of independent values over the first axis, with its interval by Student's t (Student, 1908).

    Args:
        values: (n, …) values; each nan is left out.
        level: probability with which the interval covers the true mean.

    Returns:
        (3, …) mean, low, high; low and high are nan where there are fewer than two values.
    """
    values = np.asarray(values, dtype=float)
    n_values = (~np.isnan(values)).sum(0)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = np.nansum(values, 0) / n_values
        error = np.sqrt(np.nansum((values - mean) ** 2, 0) / (n_values - 1) / n_values)
    half = scipy.special.stdtrit(n_values - 1, (1 + level) / 2) * error
    return np.stack([mean, mean - half, mean + half])


def share_interval(is_hit: ArrayLike) -> np.ndarray:
    """Share of hits among independent cases, (n,) bool, with its score interval (Wilson, 1927): share, low, high."""
    n_hits, n_cases = int(np.sum(is_hit)), np.size(is_hit)
    interval = scipy.stats.binomtest(n_hits, n_cases).proportion_ci(LEVEL, "wilson")
    return np.array([n_hits / n_cases, *interval])


# --- tests ----------------------------------------------------------------------------------------------


def binomial_tail(n_hits: int, n_trials: int, chance: float) -> float:
    """P of `n_hits` hits or more in independent trials that each hit with P `chance` (one-sided binomial test)."""
    return float(scipy.stats.binom.sf(n_hits - 1, n_trials, chance))


def stratified_exchange_test(
    is_hit: ArrayLike, is_in_group: ArrayLike, strata: ArrayLike
) -> tuple[float, float]:
    """Test whether a group has more or fewer hits than the other cases, if cases change places within their stratum.

    This is the exact conditional test of Cochran, Mantel and Haenszel (Birch, 1964); with one stratum it is Fisher's.
    The number of hits in each stratum is hypergeometric; the law of their sum is the convolution.

    Args:
        is_hit, is_in_group: (n,) bool.
        strata: (n,) the label of each case's stratum, such as its seed.

    Returns:
        P of at least the measured number of hits in the group, and P of at most that number.
    """
    is_hit, is_in_group = np.asarray(is_hit, dtype=bool), np.asarray(is_in_group, dtype=bool)
    law, n_hits = np.ones(1), (is_hit & is_in_group).sum()
    for stratum in np.unique(strata):
        is_here = np.asarray(strata) == stratum
        n_group = is_in_group[is_here].sum()
        counts = np.arange(n_group + 1), is_here.sum(), is_hit[is_here].sum(), n_group
        law = np.convolve(law, scipy.stats.hypergeom.pmf(*counts))
    return float(law[n_hits:].sum()), float(law[: n_hits + 1].sum())


def rank_correlation(first: ArrayLike, second: ArrayLike) -> float:
    """Spearman's rank correlation of two arrays of one size, ties at their mean rank; 0 if either is constant."""
    first, second = np.ravel(first), np.ravel(second)
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return 0.0
    return float(scipy.stats.spearmanr(first, second).statistic)


# --- comparison with a null of relabellings -------------------------------------------------------------


class NullComparison(NamedTuple):
    """A score of structure beside its distribution under random relabellings.

    Attributes:
        value: the score of the true labels.
        baseline: mean over random relabellings.
        low: lower end of the middle 95 % of random relabellings.
        high: its upper end.
        p_value: share of the relabellings, the true labels among them, that score at least as much.
        interval: low and high of the 95 % interval of a mean over contexts; nan where there is one context.
    """

    value: float
    baseline: float
    low: float
    high: float
    p_value: float
    interval: tuple[float, float] = (math.nan, math.nan)

    @property
    def is_significant(self) -> bool:
        """Whether the score is positive and above the null's middle 95 %."""
        return self.value > max(self.high, 0.0)


def compare_with_null(scores: ArrayLike) -> NullComparison:
    """Compare the score of the true labels with those of random ones (permutation test; Phipson and Smyth, 2010).

    scores: (relabellings,) or (contexts, relabellings), the true labels first. Column i must be the same relabelling in
    every context, so that the null keeps the dependence between contexts. Means over contexts are compared.
    """
    by_context = np.atleast_2d(scores)
    means = by_context.mean(0)
    low, high = np.quantile(means[1:], (0.025, 0.975)).tolist()
    is_as_high = means >= means[0] - 1e-9  # relabellings that amount to the true one count despite rounding
    interval = tuple(mean_interval(by_context[:, 0])[1:].tolist())
    return NullComparison(
        float(means[0]), float(means[1:].mean()), low, high, float(is_as_high.mean()), interval
    )


@functools.lru_cache(maxsize=16)
def relabellings(n_labels: int, n_max: int = 1000) -> np.ndarray:
    """Orders of labels, (relabellings, n_labels), the true order first; a read-only array, shared between calls.

    If there are more than `n_max` orders, the true one and random ones replace them.
    """
    if math.factorial(min(n_labels, 13)) <= n_max:
        orders = np.array(list(permutations(range(n_labels))))
    else:
        rng = np.random.default_rng(0)
        orders = np.stack([np.arange(n_labels), *(rng.permutation(n_labels) for _ in range(n_max - 1))])
    orders.setflags(write=False)
    return orders


def min_p_value(strengths: ArrayLike) -> float:
    """P of the clearest of several structures, corrected for the choice (min-P; Westfall and Young, 1993).

    Each structure is ranked among its own relabellings. The best rank under the true labels is then compared with the
    best rank under each relabelling, so P allows for the number of structures and for their dependence. Strengths are
    (structures, relabellings) scores, the true labels first; column i is one relabelling of all.
    """
    strengths = np.asarray(strengths)
    n_at_least = [
        len(strength) - np.searchsorted(np.sort(strength), strength - 1e-9) for strength in strengths
    ]
    best_rank = np.min(n_at_least, axis=0)
    return float((best_rank <= best_rank[0]).mean())


# --- power law ------------------------------------------------------------------------------------------


def power_law(x: ArrayLike, y: ArrayLike, x_line: ArrayLike) -> tuple[float, np.ndarray]:
    """Fit y = factor · x^exponent by least squares on logarithmic axes.

    Points (n,) with a nan are left out. Returns the exponent and the fitted y at x_line (m,); nan if there are fewer
    than three points, or if all have one x.
    """
    x, y, x_line = (np.log(np.asarray(values, dtype=float)) for values in (x, y, x_line))
    x, y = np.array([x, y])[:, np.isfinite(x + y)]
    if len(x) < 3 or np.ptp(x) == 0:
        return math.nan, np.full(len(x_line), np.nan)
    exponent, offset = np.polyfit(x, y, 1)
    return float(exponent), np.exp(offset + exponent * x_line)
