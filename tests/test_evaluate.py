"""Scores, with predictors whose every answer is known."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tiny import tiny

from modgrok import evaluate
from modgrok.data import Data
from modgrok.evaluate import (
    REFERENCES,
    accuracy_by_shot,
    correct_grid,
    count_kinds,
    is_correct,
    prepare_questions,
    query_grid,
    reference_accuracy,
    score,
    targets,
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
def test_answers_are_counted_in_batches_of_any_size(shots, batch_size):
    expected = [0.0] * shots + [1.0] * (4 - shots)
    assert is_correct(knows(shots), TOKENS, batch_size).double().mean(0).tolist() == expected


def test_accuracy_is_a_share_of_sequences():
    right = torch.arange(13) < 4

    def predict(tokens):
        z = targets(tokens)
        assert len(tokens) == 13
        return F.one_hot(torch.where(right[:, None], z, (z + 2) % P), P).float()

    torch.testing.assert_close(accuracy_by_shot(predict, TOKENS), torch.full((4,), 4 / 13).double())


TASKS = torch.tensor([[1, 2], [3, 0]])  # all that Bayes is told of, which is not what made TOKENS


def test_loss_is_the_cross_entropy_in_nats():
    questions = prepare_questions(TOKENS, P, TASKS)
    uniform = score(lambda tokens: torch.zeros(len(tokens), 4, P), questions)
    torch.testing.assert_close(uniform.loss, torch.full((4,), 13 * math.log(P)).double())
    sure, wrong = score(knows(2), questions).loss[[3, 0]].tolist()
    norm = math.log(math.exp(10) + P - 1)
    assert sure == pytest.approx(13 * (norm - 10), rel=1e-3) and wrong == pytest.approx(13 * norm, rel=1e-5)


def test_right_answers_are_counted_by_kind():
    questions = prepare_questions(TOKENS, P, TASKS)
    right = score(knows(2), questions).correct
    assert torch.equal(right[:, 2:], count_kinds(questions.kinds)[:, 2:].double())
    assert (right[:, :2] == 0).all() and count_kinds(questions.kinds).sum(0).tolist() == [13] * 4


def test_divergence_is_zero_from_the_predictor_itself():
    questions = prepare_questions(TOKENS, P, TASKS)
    for i, name in enumerate(REFERENCES):
        divergence = score(predictors(P, TASKS)[name], questions).divergence
        assert divergence[i].abs().max() < 1e-4
        assert divergence.shape == (4, 4) and (divergence.sum(1) > 1).sum() >= 2  # the others differ


def test_no_sequences_sum_to_nothing():
    config = tiny()
    questions = prepare_questions(torch.zeros(0, 9, dtype=torch.long), config.p, Data(config).tasks["id"])
    for sums in score(Transformer(config), questions):
        assert sums.abs().sum() == 0


def test_the_model_is_scored_like_any_predictor_whatever_the_batch(monkeypatch):
    config = tiny()
    data = Data(config)
    model, questions = (
        Transformer(config),
        prepare_questions(data.evaluation_set("id_train"), config.p, data.tasks["id"]),
    )
    at_once = score(model, questions)
    monkeypatch.setattr(evaluate, "PASS", 7)
    for sums, whole in zip(score(model, questions), at_once, strict=True):
        assert not sums.requires_grad and sums.dtype == torch.float64
        torch.testing.assert_close(sums, whole)


@pytest.mark.parametrize("chunk", [1, 60, 4096])
def test_query_grid_answers_as_the_plain_loop_does(chunk, monkeypatch):
    monkeypatch.setattr(evaluate, "QUERIES_PER_PASS", chunk)
    config = tiny(p=5, n_examples=4)
    model = Transformer(config).init_weights(torch.Generator().manual_seed(1)).double()
    tasks, pairs, shots = (
        torch.tensor([[1, 2], [0, 3], [4, 4]]),
        torch.tensor([[1, 2], [3, 0], [2, 2]]),
        [3, 0, 1],
    )
    grids = query_grid(model, tasks, pairs, shots)
    assert grids.shape == (3, 3, 5, 5)
    for (a, b), answers in zip(tasks, grids, strict=True):
        context = torch.cat([pairs, (pairs @ torch.stack([a, b]) % 5)[:, None]], dim=1)
        for k, answer in zip(shots, answers, strict=True):
            queries = torch.cartesian_prod(torch.arange(5), torch.arange(5))
            tokens = torch.cat([context[:k].flatten().expand(25, -1), queries], dim=1)
            assert answer.flatten().tolist() == model(tokens)[:, -1].argmax(-1).tolist()


def test_query_grid_takes_a_context_for_each_task():
    model = Transformer(tiny(p=5, n_examples=4)).init_weights(torch.Generator().manual_seed(1)).double()
    tasks, pairs = [[1, 2], [0, 3], [4, 4]], [[[1, 2], [3, 0]], [[0, 0], [4, 1]], [[2, 2], [2, 3]]]
    grids = query_grid(model, tasks, pairs, [2, 0])
    for task, context, grid in zip(tasks, pairs, grids, strict=True):
        assert (grid == query_grid(model, [task], context, [2, 0])[0]).all()


def test_right_grid_is_where_the_answers_are_the_tasks():
    model = Transformer(tiny(p=5, n_examples=4)).init_weights(torch.Generator().manual_seed(1))
    tasks, pairs, shots = [[1, 2], [0, 3]], [[1, 2], [3, 0]], [0, 2]
    answers, right = (compute(model, tasks, pairs, shots) for compute in (query_grid, correct_grid))
    assert right.shape == answers.shape and 0 < right.sum() < right.size
    for (i, k, x, y), hit in np.ndenumerate(right):
        assert hit == (answers[i, k, x, y] == (tasks[i][0] * x + tasks[i][1] * y) % 5)


def test_reference_accuracy_is_that_of_each_predictor():
    data = Data(tiny(p=5, n_examples=4))
    questions = prepare_questions(data.evaluation_set("ood_train", 50), 5, data.tasks["id"])
    accuracy = reference_accuracy(questions)
    assert list(accuracy) == list(REFERENCES)
    assert accuracy["regression"][0] == pytest.approx(0.2, abs=0.15) and accuracy["regression"][3] > 0.9
    assert (accuracy["look-up"] <= accuracy["ratio matching"] + 1e-9).all()


@pytest.mark.parametrize("shots", [[-1], [3], [0, 4], [0.5], []])
def test_query_grid_refuses_shots_beyond_the_context(shots):
    with pytest.raises(ValueError, match="must lie between 0 and 2"):
        query_grid(Transformer(tiny()), [[1, 1]], [[0, 1], [1, 1], [2, 1]], shots)


def test_wrong_input_is_refused_in_a_sentence():
    with pytest.raises(ValueError, match="tokens must be a torch tensor"):
        accuracy_by_shot(knows(0), [[1, 2, 3]])
    with pytest.raises(ValueError, match="tokens must be integers"):
        accuracy_by_shot(knows(0), torch.rand(2, 6))
    with pytest.raises(ValueError, match="tasks must be in 0 … 4"):
        query_grid(Transformer(tiny(p=5)), [[1, 9]], [[0, 1]], [1])
    with pytest.raises(ValueError, match=r"pairs must have shape \(n, 2\)"):
        query_grid(Transformer(tiny(p=5)), [[1, 1]], [0, 1], [1])
    with pytest.raises(ValueError, match="a context for each of 1 tasks, got 2"):
        query_grid(Transformer(tiny(p=5)), [[1, 1]], [[[0, 1]], [[1, 1]]], [1])
    with pytest.raises(ValueError, match=r"tokens must be in 0 … 4 \(p = 5\), got 7 … 7"):
        accuracy_by_shot(Transformer(tiny(p=5)), torch.full((2, 6), 7))
