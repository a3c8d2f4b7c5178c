"""Structure that is planted is found, and noise is not taken for it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modgrok.analysis import structure
from modgrok.analysis.stats import relabellings

PRIMES = [3, 5, 7, 11, 29]
each_p = pytest.mark.parametrize("p", PRIMES)


@given(st.sampled_from(PRIMES), st.data())
def test_logarithm_of_a_product(p, data):
    roots = structure.primitive_roots(p)
    log = structure.discrete_log(p, data.draw(st.sampled_from(roots)))
    x, y = (data.draw(st.integers(1, p - 1)) for _ in range(2))
    assert (log[x] + log[y] - log[x * y % p]) % (p - 1) == 0
    assert sorted(log) == list(range(p)) and log[0] == 0 and log[1] == p - 1


def test_bases():
    assert [structure.primitive_roots(p)[0] for p in (2, *PRIMES)] == [1, 2, 2, 3, 2, 2]
    assert structure.discrete_log(29, 27)[27] == 1  # the paper's
    with pytest.raises(ValueError, match="base=2 is no primitive root modulo 7; choose one of 3, 5"):
        structure.discrete_log(7, 2)
    with pytest.raises(ValueError, match="p=9 must be a prime number"):
        structure.discrete_log(9)


@given(st.integers(2, 12), st.integers(1, 12), st.integers(0, 99))
def test_pca_reconstructs(n, width, seed):
    features = np.random.default_rng(seed).normal(size=(n, width))
    coordinates, components, mean = structure.pca(features)
    np.testing.assert_allclose(mean + coordinates @ components, features, atol=1e-9)
    assert (np.diff(coordinates.var(0)) < 1e-9).all()


@settings(max_examples=20, deadline=None)
@given(st.sampled_from([7, 11, 29]), st.integers(0, 99), st.integers(1, 13))
def test_points_in_the_order_of_their_logarithm_wind_at_one_stride(p, seed, stride):
    rng, n = np.random.default_rng(seed), p - 1
    stride = 1 + stride % max(1, (n - 1) // 2)
    angle = 2 * np.pi * stride * np.arange(1, p) / n + rng.uniform(0, 7)
    radius = rng.uniform(0.99, 1.01, n)  # only angles count
    ring = np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1)
    scores = structure.windings(ring, 50).max(0)
    assert scores.shape == (50, (n - 1) // 2)
    assert scores[0].argmax() == stride - 1 and scores[0].max() > 0.99
    assert structure.log_spectrum(ring, 50)[0].argmax() == stride - 1


def test_windings_of_the_definition():
    """Against the sum that the docstring states, under a relabelling."""
    points, order = np.random.default_rng(1).normal(size=(10, 2)), relabellings(10, 40)[17]
    arrows = (points - points.mean(0)) @ (1, 1j)
    arrows = (arrows / abs(arrows))[order]
    expected = [abs(np.mean(arrows * np.exp(-2j * np.pi * s * np.arange(10) / 10))) for s in range(1, 5)]
    np.testing.assert_allclose(structure.windings(points, 40)[0, 17], expected, atol=1e-12)


def test_spectrum_of_several_contexts_is_the_mean_of_theirs():
    means = np.random.default_rng(2).normal(size=(5, 10, 3))
    apart = np.mean([structure.log_spectrum(context, 30) for context in means], 0)
    np.testing.assert_allclose(structure.log_spectrum(means, 30), apart, atol=1e-12)


@given(st.sampled_from([5, 7, 11]), st.integers(0, 99))
@settings(max_examples=20, deadline=None)
def test_spectrum_is_a_distribution_and_knows_parity(p, seed):
    rng = np.random.default_rng(seed)
    shares = structure.log_spectrum(rng.normal(size=(p - 1, 9)), 30)
    assert shares.shape[1] == (p - 1) // 2
    np.testing.assert_allclose(shares.sum(1), 1)
    parity = np.outer(np.arange(1, p) % 2, rng.normal(size=4))
    np.testing.assert_allclose(structure.log_spectrum(parity, 30)[0, -1], 1)


def test_parity_view_is_centred():
    """What all pairs have in common does not move it, and its origin lies half-way between the parities."""
    rng, log = np.random.default_rng(0), structure.discrete_log(7)
    features = rng.normal(size=(7, 5)) + 4 * np.outer(log % 2, [0, 1, 0, 0, 0])
    view = structure.parity_view(features + 10, log)
    odd, even_view = view[1::2], view[2::2]
    assert odd[:, 2].mean() > 1 and odd[:, 2].mean() + even_view[:, 2].mean() == pytest.approx(0)
    np.testing.assert_allclose(view[1:, :2].mean(0), 0, atol=1e-9)
    np.testing.assert_allclose(np.abs(view), np.abs(structure.parity_view(features, log)), atol=1e-9)


@pytest.mark.parametrize(("p", "splits"), [(3, 1), (5, 3), (7, 10), (11, 126), (29, 10_000)])
def test_parity_among_all_splits(p, splits):
    rng, log = np.random.default_rng(p), structure.discrete_log(p)
    features = np.outer(log % 2, rng.normal(size=6)) + 0.01 * rng.normal(size=(p, 6))
    assert structure.parity_rank(features, p) == (1, splits)
    first_half = np.outer(np.arange(p) > (p - 1) // 2, rng.normal(size=6))
    assert structure.parity_rank(first_half, p)[0] > 1 or p == 3
    assert structure.parity_rank(np.ones((p, 6)), p) == (splits, splits)  # ties count against it


def test_rank_of_the_parity_is_that_of_its_wave():
    features, log = np.random.default_rng(3).normal(size=(7, 4)), structure.discrete_log(7)
    parity = structure.log_spectrum(features[np.argsort(log)[1:]])[:, -1]
    better = np.unique(parity[parity > parity[0] + 1e-9].round(9))  # 72 orders make the same split
    assert structure.parity_rank(features, 7) == (1 + len(better), 10) and len(better) > 0
