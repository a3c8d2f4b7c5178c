"""The exact predictors against brute force, and against each other where theory ranks them."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close as same

from modgrok.data import grid
from modgrok.predictors import (
    bayes,
    consistent_tasks,
    expected_accuracy,
    look_up,
    modular_inverse,
    modular_regression,
    predictors,
    ratio_classes,
    ratio_matches,
    ratio_matching,
)

PRIMES = [3, 5, 7, 11, 29]
PREDICTORS = [look_up, ratio_matching, modular_regression, bayes]
each_p = pytest.mark.parametrize("p", PRIMES)
each_predictor = pytest.mark.parametrize("predict", PREDICTORS, ids=lambda f: f.__name__)


@st.composite
def sequences(draw, corrupted=False):
    """p, its task and one sequence (examples, 3), rich in repeats, multiples and zeros at every p."""
    p = draw(st.sampled_from(PRIMES))
    number = st.integers(0, p - 1)
    directions = draw(st.lists(st.tuples(number, number), min_size=1, max_size=3))
    multiple = st.builds(lambda v, c: (c * v[0] % p, c * v[1] % p), st.sampled_from(directions), number)
    pairs = draw(st.lists(multiple | st.just((0, 0)), min_size=1, max_size=8))
    a, b = draw(st.tuples(number, number))
    wrong = draw(st.sets(st.integers(0, len(pairs) - 1), max_size=2)) if corrupted else ()
    examples = [(x, y, (a * x + b * y + (i in wrong)) % p) for i, (x, y) in enumerate(pairs)]
    return p, (a, b), examples


def probabilities(predict, examples, p):
    """(examples, p) for one sequence."""
    return predict(torch.tensor(examples).reshape(1, -1), p).exp()[0]


def certain(z, p):
    return torch.nn.functional.one_hot(torch.tensor(z), p).float()


def uniform(p):
    return torch.full((p,), 1 / p)


def sequences_of_all_tasks(pairs, tasks, p):
    """pairs (batch, n, 2) under each task (n_tasks, 2) → tokens (batch·n_tasks, 3n), answers (…, n)."""
    z = torch.einsum("bnc,tc->btn", pairs, tasks) % p
    xy = pairs[:, None].expand(-1, len(tasks), -1, -1)
    return torch.cat([xy, z[..., None]], -1).reshape(-1, 3 * pairs.shape[1]), z.flatten(0, 1)


def all_tasks(p):
    return torch.tensor(list(itertools.product(range(p), repeat=2)))


def some_pairs(p, batch, n, seed=0):
    """Sequences of pairs (batch, n, 2), half of them from four pairs only: repeats at every p."""
    generator = torch.Generator().manual_seed(seed)
    free = torch.randint(p, (batch // 2, n, 2), generator=generator)
    pool = torch.randint(p, (batch - batch // 2, 4, 2), generator=generator)
    pick = torch.randint(4, (len(pool), n), generator=generator)
    return torch.cat([free, pool.gather(1, pick[..., None].expand(-1, -1, 2))])


# --- what each algorithm answers


def repeated(p, pair, before) -> bool:
    return pair in before


def multiple(p, pair, before) -> bool:
    return any((c * u % p, c * v % p) == pair for u, v in before for c in range(p))


def spanned(p, pair, before) -> bool:
    span = {(0, 0)}
    for u, v in before:
        if (u, v) not in span:
            span = {((s + c * u) % p, (t + c * v) % p) for s, t in span for c in range(p)}
    return pair in span


@pytest.mark.parametrize(
    "algorithm, knows", [(look_up, repeated), (ratio_matching, multiple), (modular_regression, spanned)]
)
@settings(max_examples=50, deadline=None)
@given(sequence=sequences())
def test_an_algorithm_is_right_exactly_where_its_rule_holds(algorithm, knows, sequence):
    p, _, examples = sequence
    predicted, pairs = probabilities(algorithm, examples, p), [(x, y) for x, y, _ in examples]
    for k, (x, y, z) in enumerate(examples):
        same(predicted[k], certain(z, p) if knows(p, (x, y), pairs[:k]) else uniform(p))


@each_p
def test_regression_is_right_whenever_the_context_spans_the_plane(p):
    tokens, z = sequences_of_all_tasks(some_pairs(p, 20, 8), all_tasks(p), p)
    x, y, _ = tokens.unflatten(1, (-1, 3)).unbind(2)
    independent = (x[:, :, None] * y[:, None, :] - y[:, :, None] * x[:, None, :]) % p != 0
    spans = torch.stack([independent[:, :k, :k].flatten(1).any(1) for k in range(8)], 1)
    right = modular_regression(tokens, p).gather(2, z[..., None])[..., 0] == 0  # log 1
    assert spans.any()
    assert right[spans].all()


@settings(max_examples=50, deadline=None)
@given(sequences(corrupted=True))
def test_regression_is_bayes_over_all_tasks_even_with_wrong_labels(sequence):
    p, _, examples = sequence
    same(probabilities(modular_regression, examples, p), probabilities(bayes, examples, p))


@each_p
def test_regression_is_bayes_over_all_tasks_on_random_sequences(p):
    tokens, _ = sequences_of_all_tasks(some_pairs(p, 4, 10), all_tasks(p), p)
    same(modular_regression(tokens, p), bayes(tokens, p))
    noise = torch.randint(p, (500, 9), generator=torch.Generator().manual_seed(1))
    same(modular_regression(noise, p), bayes(noise, p))


@settings(max_examples=40, deadline=None)
@given(sequences(corrupted=True), st.data())
def test_bayes_over_given_tasks_counts_the_consistent_ones(sequence, data):
    p, task, examples = sequence
    number = st.integers(0, p - 1)
    tasks = data.draw(st.lists(st.tuples(number, number) | st.just(task), min_size=1, max_size=12))
    predicted = bayes(torch.tensor(examples).reshape(1, -1), p, torch.tensor(tasks)).exp()[0]
    consistent = tasks
    for k, (x, y, z) in enumerate(examples):
        mass = torch.bincount(torch.tensor([(a * x + b * y) % p for a, b in consistent]).long(), minlength=p)
        expected = mass / mass.sum() if consistent else uniform(p)
        same(predicted[k], expected)
        consistent = [(a, b) for a, b in consistent if (a * x + b * y) % p == z]


def test_worked_example_of_the_paper():
    # Figure F5: task (6, 6) at p = 29, context (4, 21), (2, 6).
    context, task = [(4, 21), (2, 6)], np.array([6, 6])
    queries = [
        (8, 13),
        (6, 27),
        (4, 21),
        (1, 1),
    ]  # 2·first, first + second, repeat, neither (but in the span)
    answered = {f.__name__: [] for f in PREDICTORS}
    for query in queries:
        examples = [(x, y, int(task @ (x, y)) % 29) for x, y in [*context, query]]
        for f in PREDICTORS:
            answered[f.__name__].append(bool(probabilities(f, examples, 29)[2, examples[2][2]] == 1))
    assert answered == {
        "look_up": [False, False, True, False],
        "ratio_matching": [True, False, True, False],
        "modular_regression": [True] * 4,
        "bayes": [True] * 4,
    }


def test_the_zero_query():
    zero_first = [(0, 0, 0), (0, 0, 0)]
    for f, at_no_shots in (
        (look_up, False),
        (ratio_matching, False),
        (modular_regression, True),
        (bayes, True),
    ):
        predicted = probabilities(f, zero_first, 5)
        same(predicted[0], certain(0, 5) if at_no_shots else uniform(5))
        same(predicted[1], certain(0, 5))
    same(probabilities(ratio_matching, [(1, 2, 3), (0, 0, 0)], 5)[1], certain(0, 5))
    same(probabilities(ratio_matching, [(0, 0, 0), (1, 2, 3)], 5)[1], uniform(5))


def test_examples_that_disagree():
    examples = [(1, 2, 3), (1, 2, 3), (1, 2, 4), (1, 2, 0)]
    votes = torch.tensor([0, 0, 0, 2 / 3, 1 / 3])
    for f in (look_up, ratio_matching):
        same(probabilities(f, examples, 5)[3], votes)
    for f in (modular_regression, bayes):
        same(probabilities(f, examples, 5)[3], uniform(5))
    doubled = [*examples[:3], (2, 4, 0)]
    same(probabilities(ratio_matching, doubled, 5)[3], torch.tensor([0, 2 / 3, 0, 1 / 3, 0]))


# --- who is best


def assert_best(best, rivals, pairs, tasks, p):
    """For each sequence of pairs and number of shots: accuracy and log-likelihood, averaged over the tasks.

    The average over tasks is complete, so Bayes must win for each single sequence of pairs, up to rounding.
    Returns by how much it wins in accuracy, by shots.
    """
    tokens, z = sequences_of_all_tasks(pairs, tasks, p)

    def averages(predict):
        scores = predict(tokens)
        likelihood = scores.gather(2, z[..., None])[..., 0]
        return torch.stack([expected_accuracy(scores, z), likelihood]).unflatten(1, (len(pairs), -1)).mean(2)

    top = averages(best)
    assert top.isfinite().all()
    for name, rival in rivals.items():
        assert (top >= averages(rival) - 1e-5).all(), name
    return {name: (top - averages(rival))[0].mean(0) for name, rival in rivals.items()}


@pytest.mark.parametrize(("p", "examples"), [(3, 3), (5, 2)])
def test_bayes_over_all_tasks_is_best_on_average_over_every_sequence(p, examples):
    pairs = torch.tensor(list(itertools.product(itertools.product(range(p), repeat=2), repeat=examples)))
    assert len(pairs) == p ** (2 * examples)
    assert_best(lambda t: bayes(t, p), predictors(p, all_tasks(p)[1::2]), pairs, all_tasks(p), p)


@each_p
def test_bayes_over_all_tasks_is_best_on_average_over_all_tasks(p):
    some_tasks = all_tasks(p)[1::2]
    pairs = some_pairs(p, 6, 7)
    lead = assert_best(lambda t: bayes(t, p), predictors(p, some_tasks), pairs, all_tasks(p), p)
    assert lead["regression"].abs().max() == 0
    assert lead["ratio matching"].max() > 0.1  # after two shots
    assert (lead["look-up"] >= lead["ratio matching"]).all()
    assert lead["Bayes, pre-training tasks"][1:].max() > 0.1


@each_p
def test_bayes_over_pretraining_tasks_is_best_on_pretraining_tasks(p):
    order = torch.randperm(p * p, generator=torch.Generator().manual_seed(2))
    tasks = all_tasks(p)[order[: max(3, p * p // 8)]]
    lead = assert_best(lambda t: bayes(t, p, tasks), predictors(p, tasks), some_pairs(p, 20, 7), tasks, p)
    assert lead["Bayes, pre-training tasks"].abs().max() == 0
    assert lead["Bayes, all tasks"][1] > 0.02  # fewer tasks are left than there are answers to tell apart


def test_bayes_over_pretraining_tasks_guesses_out_of_distribution():
    # Task (2, 1) contradicts the only known task (1, 1) at the first example.
    predicted = bayes(torch.tensor([[1, 0, 2, 1, 1, 3]]), 5, torch.tensor([[1, 1]])).exp()[0]
    same(predicted[0], certain(1, 5))
    same(predicted[1], uniform(5))


def test_expected_accuracy_breaks_ties_fairly():
    scores = torch.tensor([[0.0, 0.0, 0.0], [2.0, 1.0, 2.0], [2.0, 1.0, 2.0 + 2e-7], [-1.0, 3.0, 0.0]])
    same(expected_accuracy(scores, torch.tensor([2, 0, 1, 1])), torch.tensor([1 / 3, 1 / 2, 0, 1]))


# --- what all have in common


@each_predictor
@each_p
def test_distributions_are_normalised_and_batched(predict, p):
    tokens, _ = sequences_of_all_tasks(some_pairs(p, 6, 9), all_tasks(p)[:5], p)
    out = predict(tokens, p)
    assert out.shape == (30, 9, p)
    same(out.exp().sum(-1), torch.ones(30, 9))
    for row in (0, 13, 29):
        same(predict(tokens[row : row + 1], p)[0], out[row])


@each_predictor
@given(sequences(corrupted=True), st.data())
@settings(max_examples=40, deadline=None)
def test_predictions_depend_on_earlier_tokens_only(predict, sequence, data):
    p, _, examples = sequence
    tokens = torch.tensor(examples).reshape(1, -1)
    full = predict(tokens, p)
    k = data.draw(st.integers(0, len(examples) - 1))
    same(predict(tokens[:, : 3 * k + 2], p), full[:, : k + 1])  # 3n − 1 tokens
    changed = tokens.clone()
    changed[:, 3 * k + 2 :] = (changed[:, 3 * k + 2 :] + data.draw(st.integers(1, p - 1))) % p
    same(predict(changed, p)[:, : k + 1], full[:, : k + 1])


@each_p
def test_predictors_are_called_like_the_model(p):
    tasks = all_tasks(p)[:4]
    tokens, _ = sequences_of_all_tasks(some_pairs(p, 4, 3), tasks, p)
    assert list(predictors(p)) == ["look-up", "ratio matching", "regression", "Bayes, all tasks"]
    for name, f in predictors(p, tasks).items():
        assert f(tokens[:, :-1]).shape == (len(tokens), 3, p), name
    assert torch.equal(predictors(p, tasks)["Bayes, pre-training tasks"](tokens), bayes(tokens, p, tasks))
    assert torch.equal(bayes(tokens, p, tasks.numpy()), bayes(tokens, p, tasks))
    assert torch.equal(predictors(p)["ratio matching"](tokens.int()), ratio_matching(tokens, p))


@each_predictor
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_devices_agree(predict):
    tokens, _ = sequences_of_all_tasks(some_pairs(29, 8, 32), all_tasks(29)[::50], 29)
    out = predict(tokens.cuda(), 29)
    assert out.is_cuda
    same(out.cpu(), predict(tokens, 29))


# --- query grids


@settings(max_examples=40, deadline=None)
@given(sequences())
def test_ratio_matches_marks_what_ratio_matching_answers(sequence):
    p, task, examples = sequence
    shots = list(range(len(examples) + 1))
    marked = ratio_matches([e[:2] for e in examples], shots, p)
    assert marked.shape == (len(shots), p, p) and marked.dtype == bool
    multiples = {0: set()}
    for k, (x, y, _) in enumerate(examples):
        multiples[k + 1] = multiples[k] | {(c * x % p, c * y % p) for c in range(p)}
    for k in shots:
        assert set(zip(*(i.tolist() for i in marked[k].nonzero()), strict=True)) == multiples[k]
    # The predictor itself, asked all p² queries after the whole context.
    context = torch.tensor(examples).reshape(1, -1).expand(p * p, -1)
    queries = all_tasks(p)
    predicted = ratio_matching(torch.cat([context, queries], 1), p)[:, -1]
    right = predicted.gather(1, (queries @ torch.tensor(task) % p)[:, None])[:, 0] == 0
    assert torch.equal(right.reshape(p, p), torch.from_numpy(marked[-1]))


def test_ratio_matches_takes_shots_in_any_order():
    marked = ratio_matches(torch.tensor([[4, 21], [2, 6]]), [2, 0, 1], 29)
    assert marked.sum((1, 2)).tolist() == [57, 0, 29]
    assert marked[0, 2, 6] and not marked[2, 2, 6] and not marked[0, 6, 2]
    assert ratio_matches(torch.tensor([[4, 21]]), [], 29).shape == (0, 29, 29)


@each_p
def test_modular_inverse(p):
    inverse = modular_inverse(p)
    assert inverse[0] == 0
    assert ((inverse[1:] * torch.arange(1, p)) % p == 1).all()


# --- bad input


@each_predictor
@pytest.mark.parametrize("p", [-3, 0, 1, 4, 25, 28, 29.0, "7"])
def test_p_must_be_prime(predict, p):
    tokens = torch.zeros(1, 5, dtype=torch.long)
    with pytest.raises(ValueError, match=f"p must be a prime number, got {p!r}"):
        predict(tokens, p)
    for f in (modular_inverse, predictors, lambda p: ratio_matches(torch.zeros(2, 2).long(), [1], p)):
        with pytest.raises(ValueError, match="prime"):
            f(p)


@each_predictor
def test_bad_tokens(predict):
    for tokens, match in [
        (torch.tensor([[0, 1, 1, 2, 7]]), r"0 … 6 \(p = 7\), got 0 … 7"),
        (torch.tensor([[0, -1, 1]]), "got -1 … 1"),
        (torch.tensor([[0, 1, 1, 2]]), r"shape \(batch, 3·n\) or \(batch, 3·n − 1\)"),
        (torch.tensor([[0]]), "shape"),
        (torch.zeros(2, 0).long(), "shape"),
        (torch.tensor([0, 1, 1]), "shape"),
        (torch.zeros(1, 3), "integers, got torch.float32"),
        (torch.zeros(1, 3).bool(), "integers, got torch.bool"),
    ]:
        with pytest.raises(ValueError, match=match):
            predict(tokens, 7)


def test_an_empty_batch_is_fine():
    for predict in PREDICTORS:
        assert predict(torch.zeros(0, 6).long(), 7).shape == (0, 2, 7)


def test_bad_tasks_pairs_and_shots():
    tokens = torch.zeros(1, 3).long()
    for tasks, match in [([[0, 7]], "tasks must be in 0 … 6"), ([0, 1], "shape"), ([[0.0, 1.0]], "integers")]:
        with pytest.raises(ValueError, match=match):
            bayes(tokens, 7, torch.tensor(tasks))
    with pytest.raises(ValueError, match="at least one"):
        bayes(tokens, 7, torch.zeros(0, 2).long())
    with pytest.raises(ValueError, match="pairs must be in 0 … 6"):
        ratio_matches(torch.tensor([[7, 0]]), [1], 7)
    with pytest.raises(ValueError, match="pairs must have shape"):
        ratio_matches(torch.tensor([[1, 0, 1]]), [1], 7)
    for k in (-1, 2):
        with pytest.raises(ValueError, match=f"shots must be in 0 … 1, the number of context pairs, got {k}"):
            ratio_matches(torch.tensor([[1, 0]]), [k], 7)


@each_p
def test_ratio_classes_are_the_lines_through_the_origin(p):
    classes = ratio_classes(p)
    assert (np.bincount(classes[1:]) == p - 1).all() and classes[0] == -1
    (x1, y1), (x2, y2) = grid(p).T[:, :, None], grid(p).T[:, None, :]
    parallel = ((x1 * y2 - x2 * y1) % p == 0)[1:, 1:]
    assert (parallel == (classes[1:, None] == classes[1:])).all()


@given(sequences(), st.data())
def test_consistent_tasks_are_the_support_of_the_posterior(case, data):
    p, task, examples = case
    tokens = torch.tensor(examples).flatten()
    shots = data.draw(st.integers(0, len(examples) - 1))
    fits, answers = consistent_tasks(tokens, shots, p)
    for a, b in itertools.product(range(p), repeat=2):
        assert fits[a, b] == all((a * x + b * y - z) % p == 0 for x, y, z in examples[:shots])
    assert fits[task]
    possible = bayes(tokens[None], p)[0, shots] > -torch.inf
    assert answers == possible.nonzero().flatten().tolist()
