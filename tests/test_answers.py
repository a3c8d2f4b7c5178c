"""Comparing a model's answers with the exact predictors."""

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
    kinds = evaluate.weakest_certain(references)
    x, y, _ = tokens.unflatten(1, (-1, 3)).unbind(2)
    for k in range(SMOKE.n_examples):
        earlier = (x[:, :k] == x[:, k : k + 1]) & (y[:, :k] == y[:, k : k + 1])
        assert torch.equal(kinds[:, k] == 0, earlier.any(1))
    z = evaluate.targets(tokens)
    for i, reference in enumerate(references):  # on a true sequence who is certain is right
        assert (reference.argmax(-1) == z)[kinds <= i][evaluate.is_certain(reference)[kinds <= i]].all()
