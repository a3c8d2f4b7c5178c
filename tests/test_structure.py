"""Structure that is planted is found, and noise is not taken for it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modgrok.analysis import structure
from modgrok.data import grid

PRIMES = [3, 5, 7, 11, 29]
each_p = pytest.mark.parametrize("p", PRIMES)


@given(st.sampled_from(PRIMES), st.data())
def test_logarithm_of_a_product(p, data):
    roots = [b for b in range(1, p) if structure.is_primitive_root(b, p)]
    log = structure.discrete_log(p, data.draw(st.sampled_from(roots)))
    x, y = (data.draw(st.integers(1, p - 1)) for _ in range(2))
    assert (log[x] + log[y] - log[x * y % p]) % (p - 1) == 0
    assert sorted(log) == list(range(p)) and log[0] == 0 and log[1] == p - 1


def test_bases():
    assert [structure.primitive_root(p) for p in (2, *PRIMES)] == [1, 2, 2, 3, 2, 2]
    assert structure.discrete_log(29, 27)[27] == 1  # the paper's
    with pytest.raises(ValueError, match="base=2 is no primitive root modulo 7; choose one of 3, 5"):
        structure.discrete_log(7, 2)


@given(st.integers(2, 12), st.integers(1, 12), st.integers(0, 99))
def test_pca_reconstructs(n, width, seed):
    features = np.random.default_rng(seed).normal(size=(n, width))
    found = structure.pca(features)
    np.testing.assert_allclose(found.mean + found.coordinates @ found.components, features, atol=1e-9)
    assert found.share.sum() == pytest.approx(1) and (np.diff(found.share) < 1e-12).all()
    turned = structure.aligned(found.coordinates, -found.coordinates[:, ::-1])
    np.testing.assert_allclose(turned, -found.coordinates[:, ::-1], atol=1e-8)


def test_pca_of_nothing():
    assert (structure.pca(np.ones((4, 3))).share == 0).all()


def planted(p, base, rng, stride=1, noise=0.0):
    """Features of all pairs: x on a wide circle by its logarithm, y on a narrow one, 0 at the centre, turned."""
    log = structure.discrete_log(p, base)
    angle = 2 * np.pi * stride * log / (p - 1) + 1
    circle = np.where(log > 0, [np.cos(angle), np.sin(angle)], 0).T
    x, y = grid(p).T
    plane = np.concatenate([circle[x] + 0.1 * circle[y], noise * rng.normal(size=(p * p, 6))], axis=1)
    turn, _ = np.linalg.qr(rng.normal(size=(8, 8)))
    return plane @ turn, log


@settings(max_examples=20, deadline=None)
@given(st.sampled_from([11, 29]), st.integers(0, 99), st.sampled_from([1, -1]))
def test_planted_circle_scores_high(p, seed, stride):
    rng = np.random.default_rng(seed)
    features, log = planted(p, None, rng, stride, noise=0.01)
    found = structure.structure(features, grid(p)[:, 0], log)
    assert found.circle.value > 0.9 > found.circle.high and found.order.value > 0.99 > found.order.high
    assert found.stride == 1 and found.order.p_value < 0.01 and found.carried > 0.9 and found.share > 0.99
    other = structure.structure(features, grid(p)[:, 1], log)
    assert other.order.value > 0.9 and other.carried < 0.1  # the circles in the circle
    means = structure.class_means(features, log[grid(p)[:, 0]])[1:]
    shares = structure.log_spectrum(means)
    assert shares[0, 0] > 0.98 and shares[1:, 0].mean() < 0.3


def test_noise_scores_like_its_baseline():
    low = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        found = structure.structure(rng.normal(size=(121, 8)), grid(11)[:, 0], structure.discrete_log(11), 50)
        low += found.order.p_value < 0.05
        assert found.carried < 0.2
    assert low <= 4


def test_small_p_cannot_be_significant():
    features, log = planted(5, None, np.random.default_rng(0))
    found = structure.structure(features, grid(5)[:, 0], log)
    assert found.order.value > 0.99 and found.order.p_value >= 1 / 3  # 4 points have 3 circular orders


@given(st.sampled_from([5, 7, 11]), st.integers(0, 99))
@settings(max_examples=20, deadline=None)
def test_spectrum_is_a_distribution_and_knows_parity(p, seed):
    rng = np.random.default_rng(seed)
    shares = structure.log_spectrum(rng.normal(size=(p - 1, 9)), 30)
    assert shares.shape[1] == (p - 1) // 2
    np.testing.assert_allclose(shares.sum(1), 1)
    parity = np.outer(np.arange(1, p) % 2, rng.normal(size=4))
    np.testing.assert_allclose(structure.log_spectrum(parity, 30)[0, -1], 1)


def test_structure_over_contexts_finds_what_one_context_hides():
    log, x = structure.discrete_log(11), grid(11)[:, 0]
    features = np.stack([planted(11, None, np.random.default_rng(i), 1, noise=0.5)[0] for i in range(12)])
    together, alone = structure.structure(features, x, log, 20), structure.structure(features[0], x, log, 20)
    assert together.order.p_value <= 0.01 and together.stride == 1
    assert together.spectrum.shape == (12, 1000, 5) and alone.spectrum.shape == (1, 1000, 5)
    assert together.wave.value == pytest.approx(together.spectrum[:, 0].mean(0).max())
    assert together.parity.value == pytest.approx(together.spectrum[:, 0, -1].mean())
    assert together.order.interval[0] < together.order.value < together.order.interval[1]
    assert np.isnan(alone.order.interval).all()


def test_parity_view_is_centred():
    """What all pairs have in common does not move it, and its origin lies half-way between the parities."""
    rng, (x, _), log = np.random.default_rng(0), grid(7).T, structure.discrete_log(7)
    features = rng.normal(size=(7, 5))[x] + 4 * np.outer(log[x] % 2, [0, 1, 0, 0, 0])
    view = structure.parity_view(features + 10, x, log)
    odd, even = view[1::2], view[2::2]
    assert odd[:, 2].mean() > 1 and odd[:, 2].mean() + even[:, 2].mean() == pytest.approx(0)
    np.testing.assert_allclose(view[1:, :2].mean(0), 0, atol=1e-9)
    np.testing.assert_allclose(np.abs(view), np.abs(structure.parity_view(features, x, log)), atol=1e-9)


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
