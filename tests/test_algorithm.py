"""Which algorithm a predictor follows, with predictors that follow a known one."""

import math

import numpy as np
import torch
from tiny import tiny

from modgrok.analysis.algorithm import accuracy_by_place, combination_accuracy
from modgrok.data import Data
from modgrok.evaluate import places
from modgrok.predictors import predictors


def test_failures_are_located():
    tokens = torch.tensor([[1, 2, 0, 0, 3, 0, 4, 0, 0, 0, 0, 0]])
    assert places(tokens).tolist() == [[0, 1, 2, -1]]
    asked = torch.randint(5, (300, 24), generator=torch.Generator().manual_seed(0))
    asked[:, 2::3] = (2 * asked[:, 0::3] + 3 * asked[:, 1::3]) % 5

    def fails_at_y_zero(tokens):
        exact = predictors(5)["regression"](tokens)
        return torch.where((tokens[:, 1::3] == 0)[..., None], exact.roll(1, -1), exact)

    accuracy, confidence = accuracy_by_place(fails_at_y_zero, asked, 5)
    np.testing.assert_array_equal(accuracy[:3], [[1, 1, 0]] * 3)
    np.testing.assert_allclose(confidence[:3], 1)  # surely right, or surely wrong


def test_combinations_of_tasks_of_one_number_do_not_count():
    data = Data(tiny(p=5, n_tasks=24, task_rule="random", n_examples=6, batch_size=24))
    tokens, tasks = data.evaluation_set("id_train", 240), data.tasks["id"]

    def y_alone(tokens):  # regression, for whom all x are 0: right where a = 0
        without = tokens.clone()
        without[:, 0::3] = 0
        return predictors(5)["regression"](without)

    one = (tasks == 0).any(1)
    assert 0 < one.sum() < len(tasks)
    assert combination_accuracy(predictors(5)["regression"], tokens, tasks, 5) == 1
    assert combination_accuracy(y_alone, tokens, tasks, 5) < 0.5
    of_one = tokens[one[torch.arange(len(tokens)) % len(tasks)]]
    assert math.isnan(combination_accuracy(y_alone, of_one, tasks[one], 5))
