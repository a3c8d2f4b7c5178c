"""Comparing a model's answers with the exact predictors, and the intervals around shares."""

import numpy as np
import pytest
import torch

from modgrok import evaluate
from modgrok import predictors as algorithms
from modgrok.config import preset
from modgrok.data import Data
from modgrok.model import Transformer

SMOKE = preset("smoke")


@pytest.fixture(scope="module")
def tokens():
    return Data(SMOKE).evaluation_set("ood_train", 400)


def test_a_predictor_agrees_with_itself(tokens):
    for predict in algorithms.predictors(SMOKE.p).values():
        reference = evaluate.log_probabilities(predict, tokens)
        assert evaluate.divergence(reference, reference).abs().max() < 1e-5
        known = evaluate.certain(reference)
        assert (evaluate.agreement(reference, reference)[known] == 1).all()


def test_divergence_is_that_of_torch(tokens):
    model = Transformer(SMOKE).init_weights(torch.Generator().manual_seed(0))
    scores = evaluate.log_probabilities(model, tokens)
    reference = evaluate.log_probabilities(algorithms.predictors(SMOKE.p)["ratio matching"], tokens)
    expected = torch.distributions.kl_divergence(
        torch.distributions.Categorical(probs=reference.exp()), torch.distributions.Categorical(logits=scores)
    )
    torch.testing.assert_close(evaluate.divergence(reference, scores), expected, atol=1e-4, rtol=1e-4)


def test_kinds_are_the_weakest_predictor_that_knows(tokens):
    exact = algorithms.predictors(SMOKE.p)
    names = ["look-up", "ratio matching", "regression"]
    references = [evaluate.log_probabilities(exact[name], tokens) for name in names]
    kinds = evaluate.query_kinds(references)
    x, y, _ = tokens.unflatten(1, (-1, 3)).unbind(2)
    for k in range(SMOKE.n_examples):
        earlier = (x[:, :k] == x[:, k : k + 1]) & (y[:, :k] == y[:, k : k + 1])
        assert torch.equal(kinds[:, k] == 0, earlier.any(1))
    z = evaluate.targets(tokens)
    for i, reference in enumerate(references):  # on a true sequence who is certain is right
        assert (reference.argmax(-1) == z)[kinds <= i][evaluate.certain(reference)[kinds <= i]].all()


def test_share_of_independent_cases_is_wilsons():
    hits = torch.zeros(50, dtype=torch.bool)
    hits[:5] = True
    np.testing.assert_allclose(evaluate.clustered_share(hits), [0.1, 0.0435, 0.2136], atol=2e-4)


def test_share_without_variation_keeps_an_interval_and_none_without_cases():
    share, low, high = evaluate.clustered_share(torch.ones(50))
    assert share == 1 and 0.9 < low < 0.95 and high == pytest.approx(1)
    assert np.isnan(evaluate.clustered_share(torch.zeros(5), torch.zeros(5))).all()


def test_interval_covers_clustered_truth():
    """95 % intervals of 200 samples of clusters that succeed or fail together; independent ones would miss."""
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(200):
        chance = rng.beta(1, 1, size=100)  # a cluster's own rate; the mean is 1/2
        hits = rng.binomial(20, chance)
        _, low, high = evaluate.clustered_share(torch.from_numpy(hits), torch.full((100,), 20))
        covered += low <= 0.5 <= high
    assert covered >= 0.9 * 200


def test_mean_interval():
    mean, low, high = evaluate.mean_interval(torch.tensor([[0.0], [2.0]] * 50))
    assert mean[0] == 1 and mean[0] - low[0] == pytest.approx(high[0] - mean[0])
    assert high[0] - mean[0] == pytest.approx(0.1994, abs=1e-4)  # Student's t with 99 degrees of freedom
    rare = evaluate.mean_interval(torch.tensor([[0.0], [2.0]] * 50), chance=0.002)
    assert rare[2, 0] - 1 == pytest.approx(0.1005 * 3.1747, rel=1e-3)
    exact = evaluate.students_t([1, 2], 0.01)
    assert exact == pytest.approx([63.657, 9.925], rel=1e-4)
    wide = evaluate.mean_interval([0.9, 0.5, 1.0])
    assert wide[2] > 1 and evaluate.mean_interval([0.9, 0.5, 1.0], evaluate.SHARE)[2] == 1
    assert evaluate.mean_interval([0.1, 0.5, 0.0], evaluate.SHARE).round(2).tolist() == [0.2, 0.0, 0.86]
