"""Scores, with predictors whose every answer is known."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tiny import one_thread, tiny  # noqa: F401 (a fixture)

from modgrok.data import Data
from modgrok.evaluate import (
    REFERENCES,
    accuracy_by_shot,
    accuracy_with_one_wrong,
    by_place,
    count_kinds,
    on_combinations,
    places,
    query_grid,
    questions,
    reference_accuracy,
    right_grid,
    score,
    scores_with_wrong_labels,
    targets,
    with_wrong_labels,
)
from modgrok.model import Transformer
from modgrok.predictors import predictors

P = 5
TOKENS = torch.randint(P, (13, 12), generator=torch.Generator().manual_seed(0))  # 13 sequences of 4 examples


def knows(shots: int):
    """A predictor that is sure of the truth after so many shots and of the next number before."""

    def predict(tokens):
        z = tokens[:, 2::3]
        late = torch.arange(z.shape[1]) >= shots
        return 10.0 * F.one_hot(torch.where(late, z, (z + 1) % P), P)

    return predict


def test_targets_are_the_third_of_every_three():
    assert targets(torch.arange(12)[None]).tolist() == [[2, 5, 8, 11]]


@pytest.mark.parametrize("shots", range(5))
@pytest.mark.parametrize("batch_size", [1, 5, 13, 1024])
def test_accuracy_by_shot_counts_right_answers(shots, batch_size):
    expected = [0.0] * shots + [1.0] * (4 - shots)
    assert accuracy_by_shot(knows(shots), TOKENS, batch_size).tolist() == expected


def test_accuracy_is_a_share_of_sequences():
    right = torch.arange(13) < 4

    def predict(tokens):
        z = targets(tokens)
        assert len(tokens) == 13
        return F.one_hot(torch.where(right[:, None], z, (z + 2) % P), P).float()

    torch.testing.assert_close(accuracy_by_shot(predict, TOKENS), torch.full((4,), 4 / 13).double())


TASKS = torch.tensor([[1, 2], [3, 0]])  # all that Bayes is told of, which is not what made TOKENS


def test_loss_is_the_cross_entropy_in_nats():
    asked = questions(TOKENS, P, TASKS)
    uniform = score(lambda tokens: torch.zeros(len(tokens), 4, P), asked)
    torch.testing.assert_close(uniform.loss, torch.full((4,), 13 * math.log(P)).double())
    sure, wrong = score(knows(2), asked).loss[[3, 0]].tolist()
    norm = math.log(math.exp(10) + P - 1)
    assert sure == pytest.approx(13 * (norm - 10), rel=1e-3) and wrong == pytest.approx(13 * norm, rel=1e-5)


def test_right_answers_are_counted_by_kind():
    asked = questions(TOKENS, P, TASKS)
    right = score(knows(2), asked).correct
    assert torch.equal(right[:, 2:], count_kinds(asked.kinds)[:, 2:].double())
    assert (right[:, :2] == 0).all() and count_kinds(asked.kinds).sum(0).tolist() == [13] * 4


def test_divergence_is_zero_from_the_predictor_itself():
    asked = questions(TOKENS, P, TASKS)
    for i, name in enumerate(REFERENCES):
        found = score(predictors(P, TASKS)[name], asked).divergence
        assert found[i].abs().max() < 1e-4
        assert found.shape == (4, 4) and (found.sum(1) > 1).sum() >= 2  # the others differ


def test_no_sequences_sum_to_nothing():
    config = tiny()
    asked = questions(torch.zeros(0, 9, dtype=torch.long), config.p, Data(config).tasks["id"])
    for sums in score(Transformer(config), asked):
        assert sums.abs().sum() == 0


def test_the_model_is_scored_like_any_predictor_whatever_the_batch():
    config = tiny()
    data = Data(config)
    model, asked = Transformer(config), questions(data.evaluation_set("id_train"), config.p, data.tasks["id"])
    for sums, whole in zip(score(model, asked, 7), score(model, asked), strict=True):
        assert not sums.requires_grad and sums.dtype == torch.float64
        torch.testing.assert_close(sums, whole)


@pytest.mark.parametrize("chunk", [1, 60, 4096])
def test_query_grid_answers_as_the_plain_loop_does(chunk):
    config = tiny(p=5, n_examples=4)
    model = Transformer(config).init_weights(torch.Generator().manual_seed(1)).double()
    tasks, pairs, shots = (
        torch.tensor([[1, 2], [0, 3], [4, 4]]),
        torch.tensor([[1, 2], [3, 0], [2, 2]]),
        [3, 0, 1],
    )
    grids = query_grid(model, tasks, pairs, shots, chunk)
    assert grids.shape == (3, 3, 5, 5)
    for (a, b), answers in zip(tasks, grids, strict=True):
        context = torch.cat([pairs, (pairs @ torch.stack([a, b]) % 5)[:, None]], dim=1)
        for k, answer in zip(shots, answers, strict=True):
            queries = torch.cartesian_prod(torch.arange(5), torch.arange(5))
            tokens = torch.cat([context[:k].flatten().expand(25, -1), queries], dim=1)
            assert answer.flatten().tolist() == model(tokens)[:, -1].argmax(-1).tolist()


def test_right_grid_is_where_the_answers_are_the_tasks():
    model = Transformer(tiny(p=5, n_examples=4)).init_weights(torch.Generator().manual_seed(1))
    tasks, pairs, shots = [[1, 2], [0, 3]], [[1, 2], [3, 0]], [0, 2]
    answers, right = (of(model, tasks, pairs, shots) for of in (query_grid, right_grid))
    assert right.shape == answers.shape and 0 < right.sum() < right.size
    for (i, k, x, y), hit in np.ndenumerate(right):
        assert hit == (answers[i, k, x, y] == (tasks[i][0] * x + tasks[i][1] * y) % 5)


def test_reference_accuracy_is_that_of_each_predictor():
    data = Data(tiny(p=5, n_examples=4))
    asked = questions(data.evaluation_set("ood_train", 50), 5, data.tasks["id"])
    found = reference_accuracy(asked)
    assert list(found) == list(REFERENCES)
    assert found["regression"][0] == pytest.approx(0.2, abs=0.15) and found["regression"][3] > 0.9
    assert (found["look-up"] <= found["ratio matching"] + 1e-9).all()


@pytest.mark.parametrize("shots", [[-1], [3], [0, 4]])
def test_query_grid_refuses_shots_beyond_the_context(shots):
    with pytest.raises(ValueError, match="must lie between 0 and 2"):
        query_grid(Transformer(tiny()), [[1, 1]], [[0, 1], [1, 1], [2, 1]], shots)


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
    found = scores_with_wrong_labels(up_to_two, zeros, 5, np.random.default_rng(0))
    nan = math.nan
    expected = [
        [1, nan, nan, nan, nan],
        [1, 1, nan, nan, nan],
        [1, 1, 1, nan, nan],
        [1, 1, 1, 0, nan],
        [1, 1, 1, 0, 0],
    ]
    np.testing.assert_array_equal(found["accuracy"], expected)
    right = math.log(4 + math.e) - 1
    np.testing.assert_allclose(
        found["loss"], right + 1 - found["accuracy"], 1e-6
    )  # a wrong answer costs 1 nat more
    one = [
        scores_with_wrong_labels(up_to_two, zeros[:1], 5, np.random.default_rng(seed)) for seed in range(9)
    ]
    assert all(of["accuracy"][4, 4] == 0 for of in one)  # every sequence is asked with all examples wrong


def test_only_that_example_is_wrong():
    not_the_last = answers_zero_if(lambda wrong: ~F.pad(wrong, (1, 0))[:, :-1])
    zeros = torch.zeros(30, 12, dtype=torch.long)
    accuracy = accuracy_with_one_wrong(not_the_last, zeros, 5, np.random.default_rng(0))
    nan = math.nan
    np.testing.assert_array_equal(accuracy, [[nan, 0, 1, 1], [nan, nan, 0, 1], [nan, nan, nan, 0]])


def test_failures_are_located():
    tokens = torch.tensor([[1, 2, 0, 0, 3, 0, 4, 0, 0, 0, 0, 0]])
    assert places(tokens).tolist() == [[0, 1, 2, -1]]
    asked = torch.randint(5, (300, 24), generator=torch.Generator().manual_seed(0))
    asked[:, 2::3] = (2 * asked[:, 0::3] + 3 * asked[:, 1::3]) % 5

    def fails_at_y_zero(tokens):
        exact = predictors(5)["regression"](tokens)
        return torch.where((tokens[:, 1::3] == 0)[..., None], exact.roll(1, -1), exact)

    accuracy, confidence = by_place(fails_at_y_zero, asked, 5)
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
    assert on_combinations(predictors(5)["regression"], tokens, tasks, 5) == 1
    assert on_combinations(y_alone, tokens, tasks, 5) < 0.5
    of_one = tokens[one[torch.arange(len(tokens)) % len(tasks)]]
    assert math.isnan(on_combinations(y_alone, of_one, tasks[one], 5))
