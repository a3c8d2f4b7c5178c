"""Statistics against SciPy's own tests, brute force, and samples whose truth is known."""

from itertools import permutations, product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from modgrok.analysis import stats


def some_bool(seed, n):
    return np.random.default_rng(seed).random(n) < 0.5


# --- intervals


@given(st.lists(st.floats(-100, 100), min_size=2, max_size=12), st.floats(0.5, 0.999))
def test_mean_interval_is_that_of_scipys_t_test(values, level):
    if np.ptp(values) < 1e-6:
        return
    expected = scipy_stats.ttest_1samp(values, 0).confidence_interval(level)
    _, low, high = stats.mean_interval(values, level=level)
    assert (low, high) == pytest.approx(tuple(expected), rel=1e-6, abs=1e-6)


def test_mean_interval_leaves_nan_out():
    mean, low, high = stats.mean_interval(torch.tensor([[0.0], [2.0], [torch.nan]]))
    assert mean[0] == 1 and high[0] - 1 == pytest.approx(1 - low[0]) == pytest.approx(12.7062, rel=1e-4)
    assert np.isnan(stats.mean_interval([0.5])[1:]).all()


@given(st.integers(0, 60), st.integers(1, 60))
def test_share_interval_is_wilsons(n_hits, n_cases):
    n_hits = min(n_hits, n_cases)
    expected = scipy_stats.binomtest(n_hits, n_cases).proportion_ci(method="wilson")
    share, low, high = stats.share_interval(np.arange(n_cases) < n_hits)
    assert (share, low, high) == pytest.approx((n_hits / n_cases, expected.low, expected.high), abs=1e-9)


# --- tests


@given(st.integers(0, 8), st.integers(0, 8), st.floats(0.01, 0.99))
def test_binomial_tail_counts_all_outcomes(n_hits, n_trials, chance):
    outcomes = np.array(list(product((0, 1), repeat=n_trials)))
    weights = np.where(outcomes, chance, 1 - chance).prod(-1)
    expected = weights[outcomes.sum(-1) >= n_hits].sum()
    assert stats.binomial_tail(n_hits, n_trials, chance) == pytest.approx(expected, abs=1e-12)


@given(st.integers(0, 100), st.integers(1, 30))
def test_with_one_stratum_exchanges_are_fishers_exact_test(seed, n):
    is_hit, is_in_group = some_bool(seed, n), some_bool(seed + 1, n)
    table = [
        [(is_hit & is_in_group).sum(), (~is_hit & is_in_group).sum()],
        [(is_hit & ~is_in_group).sum(), (~is_hit & ~is_in_group).sum()],
    ]
    expected = [scipy_stats.fisher_exact(table, alternative=side).pvalue for side in ("greater", "less")]
    p_values = stats.stratified_exchange_test(is_hit, is_in_group, np.zeros(n))
    np.testing.assert_allclose(p_values, expected, rtol=1e-9)


def test_exchanges_stay_within_their_stratum():
    is_hit, is_in_group, strata = some_bool(0, 12), some_bool(1, 12), np.arange(12) % 3
    n_orders = np.zeros(13)
    for orders in product(permutations(range(4)), repeat=3):
        moved = is_hit.copy()
        for stratum, order in enumerate(orders):
            moved[strata == stratum] = is_hit[strata == stratum][list(order)]
        n_orders[(moved & is_in_group).sum()] += 1
    law, n_hits = n_orders / n_orders.sum(), (is_hit & is_in_group).sum()
    p_values = stats.stratified_exchange_test(is_hit, is_in_group, strata)
    assert p_values == pytest.approx((law[n_hits:].sum(), law[: n_hits + 1].sum()))
    apart = stats.stratified_exchange_test([1, 1, 0, 0], [1, 0, 1, 0], [0, 1, 0, 1])
    assert apart == pytest.approx(
        (1, 1)
    )  # stratum 0 has one hit and one case in the group: nothing can change


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=2, max_size=12))
def test_rank_correlation_is_the_correlation_of_mean_ranks(pairs):
    first, second = np.array(pairs).T
    ranks = [scipy_stats.rankdata(values) for values in (first, second)]
    is_constant = np.ptp(first) == 0 or np.ptp(second) == 0
    expected = 0 if is_constant else np.corrcoef(ranks)[0, 1]
    assert stats.rank_correlation(first, second) == pytest.approx(expected, abs=1e-12)


# --- comparison with a null


def test_relabellings_are_all_orders_or_random_ones_with_the_true_order_first():
    assert len(np.unique(stats.relabellings(4), axis=0)) == 24
    for n_labels in (4, 9, 30):
        orders = stats.relabellings(n_labels, 50)
        assert (orders[0] == np.arange(n_labels)).all() and len(orders) <= 50
        assert (np.sort(orders, axis=1) == np.arange(n_labels)).all()


def test_a_comparison_counts_the_true_labels_among_the_relabellings():
    comparison = stats.compare_with_null([0.9, 0.1, 0.2, 0.3])
    assert (comparison.value, comparison.p_value) == (0.9, 1 / 4) and comparison.is_significant
    assert comparison.baseline == pytest.approx(0.2) and np.isnan(comparison.interval).all()
    negative = stats.compare_with_null([-0.1, -0.3, -0.2, -0.4])
    assert negative.value > negative.high and not negative.is_significant


def test_a_comparison_over_contexts_is_of_their_means():
    by_context = np.random.default_rng(0).normal(size=(5, 40))
    comparison, of_means = stats.compare_with_null(by_context), stats.compare_with_null(by_context.mean(0))
    assert comparison[:5] == pytest.approx(of_means[:5])
    np.testing.assert_allclose(comparison.interval, stats.mean_interval(by_context[:, 0])[1:])


@given(st.integers(0, 100))
@settings(max_examples=20)
def test_min_p_value_of_one_structure_is_its_permutation_p_value(seed):
    strengths = np.random.default_rng(seed).integers(0, 20, size=50)
    assert stats.min_p_value([strengths]) == pytest.approx((strengths >= strengths[0]).mean())


def test_the_clearest_of_many_structures_is_no_finding_by_itself():
    """Under the null, P is uniform whether structures depend on each other or not; a clear one stays clear."""
    rng = np.random.default_rng(0)
    for shared in (0.0, 0.9):
        p_values = np.array(
            [
                stats.min_p_value(shared * rng.normal(size=1000) + rng.normal(size=(12, 1000)))
                for _ in range(400)
            ]
        )
        assert p_values.mean() == pytest.approx(0.5, abs=0.05)
        assert (p_values <= 0.1).mean() == pytest.approx(0.1, abs=0.05)
    strengths = rng.normal(size=(12, 1000))
    strengths[3, 0] = 20
    assert stats.min_p_value(strengths) <= 0.02


# --- power law


@given(st.floats(-3, 6), st.floats(0.01, 1e4))
def test_power_law_finds_a_law_that_holds(exponent, factor):
    x = np.array([5, 7, 11, 13])
    fitted_exponent, line = stats.power_law(x, factor * x**exponent, [2, 29])
    assert fitted_exponent == pytest.approx(exponent, abs=1e-5)
    assert line == pytest.approx(factor * np.array([2.0, 29.0]) ** exponent, rel=1e-4)


def test_power_law_leaves_out_what_was_not_measured():
    full = stats.power_law([5, 7, 11], [1, 2, 5], [29])
    holed = stats.power_law([5, 7, 11, 13], [1, 2, 5, np.nan], [29])
    assert all(map(np.array_equal, full, holed))
    for x, y in (([5, 7], [1, 2]), ([5, 5, 5], [1, 2, 3]), ([5, 7, 11], [1, 2, np.nan])):
        exponent, line = stats.power_law(x, y, [29])
        assert np.isnan(line).all() and np.isnan(exponent).all()
