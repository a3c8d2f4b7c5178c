"""Wrong labels: they are where they should be, and predictors of known weakness fail as they must."""

import math

import numpy as np
import torch
import torch.nn.functional as F

from modgrok.analysis.labels import (
    accuracy_with_one_wrong,
    change_by_distance,
    scores_with_wrong_labels,
    with_wrong_labels,
)
from modgrok.evaluate import targets


def test_wrong_labels_are_wrong_where_they_should_be():
    tokens = torch.randint(5, (200, 12))
    wrong = torch.rand(200, 4) < 0.5
    corrupted = with_wrong_labels(tokens, wrong, 5, np.random.default_rng(0))
    assert torch.equal(targets(corrupted) != targets(tokens), wrong)
    assert torch.equal(corrupted.unflatten(1, (4, 3))[..., :2], tokens.unflatten(1, (4, 3))[..., :2])
    assert set(((targets(corrupted) - targets(tokens)) % 5)[wrong].tolist()) == {1, 2, 3, 4}


def answers_zero_if(is_fine):
    """A predictor of the task (0, 0), whose every right z is 0, from which of the earlier z (B, K) are not."""
    return lambda tokens: F.one_hot(1 - is_fine(targets(tokens) != 0).long(), 5).float()


def test_so_many_of_the_examples_are_wrong():
    up_to_two = answers_zero_if(lambda wrong: wrong.cumsum(1) - wrong.long() <= 2)
    zeros = torch.zeros(30, 15, dtype=torch.long)
    scores = scores_with_wrong_labels(up_to_two, zeros, 5, np.random.default_rng(0))
    nan = math.nan
    expected = [
        [1, nan, nan, nan, nan],
        [1, 1, nan, nan, nan],
        [1, 1, 1, nan, nan],
        [1, 1, 1, 0, nan],
        [1, 1, 1, 0, 0],
    ]
    np.testing.assert_array_equal(scores["accuracy"], expected)
    right = math.log(4 + math.e) - 1
    np.testing.assert_allclose(
        scores["loss"], right + 1 - scores["accuracy"], 1e-6
    )  # a wrong answer costs 1 nat more
    single_scores = [
        scores_with_wrong_labels(up_to_two, zeros[:1], 5, np.random.default_rng(seed)) for seed in range(9)
    ]
    # every sequence is asked with all examples wrong
    assert all(scores["accuracy"][4, 4] == 0 for scores in single_scores)


def test_only_that_example_is_wrong():
    not_the_last = answers_zero_if(lambda wrong: ~F.pad(wrong, (1, 0))[:, :-1])
    zeros = torch.zeros(30, 12, dtype=torch.long)
    accuracy = accuracy_with_one_wrong(not_the_last, zeros, 5, np.random.default_rng(0))
    nan = math.nan
    np.testing.assert_array_equal(accuracy, [[nan, 0, 1, 1], [nan, nan, 0, 1], [nan, nan, nan, 0]])


def test_change_by_distance_averages_later_queries():
    change = np.full((5, 6), np.nan)
    for j in range(5):
        change[j, j + 1 :] = -np.arange(1, 6 - j)  # as many as it stands back
    np.testing.assert_allclose(change_by_distance(change), [-1, -2, -3, -4])
    assert len(change_by_distance(change, 2)) == 2
