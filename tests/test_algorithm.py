"""Which algorithm a predictor follows, with predictors that follow a known one."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiny import tiny

from modgrok.analysis import algorithm
from modgrok.analysis.algorithm import accuracy_by_place, combination_accuracy, zero_line
from modgrok.data import Data
from modgrok.evaluate import places
from modgrok.model import Transformer
from modgrok.predictors import predictors


def test_failures_are_located():
    tokens = torch.tensor([[1, 2, 0, 0, 3, 0, 4, 0, 0, 0, 0, 0]])
    assert places(tokens).tolist() == [[0, 1, 2, -1]]
    questions = torch.randint(5, (300, 24), generator=torch.Generator().manual_seed(0))
    questions[:, 2::3] = (2 * questions[:, 0::3] + 3 * questions[:, 1::3]) % 5

    def fails_at_y_zero(tokens):
        exact = predictors(5)["regression"](tokens)
        return torch.where((tokens[:, 1::3] == 0)[..., None], exact.roll(1, -1), exact)

    accuracy = accuracy_by_place(fails_at_y_zero, questions, 5)
    np.testing.assert_array_equal(accuracy[:3], [[1, 1, 0]] * 3)


def test_combinations_of_tasks_of_one_number_do_not_count():
    data = Data(tiny(p=5, n_tasks=24, task_rule="random", n_examples=6, batch_size=24))
    tokens, tasks = data.evaluation_set("id_train", 240), data.tasks["id"]

    def y_alone(tokens):  # regression, for whom all x are 0: right where a = 0
        tokens = tokens.clone()
        tokens[:, 0::3] = 0
        return predictors(5)["regression"](tokens)

    has_zero = (tasks == 0).any(1)
    assert 0 < has_zero.sum() < len(tasks)
    assert combination_accuracy(predictors(5)["regression"], tokens, tasks, 5) == 1
    assert combination_accuracy(y_alone, tokens, tasks, 5) < 0.5
    tokens = tokens[has_zero[torch.arange(len(tokens)) % len(tasks)]]
    assert math.isnan(combination_accuracy(y_alone, tokens, tasks[has_zero], 5))


def test_a_row_by_kind_counts_every_sequence_but_by_place_the_first():
    config = tiny(p=5, n_tasks=12, n_examples=6, eval_sequences=96)
    tokens, n_scored = Data(config).evaluation_set("ood_train"), []

    def predict(tokens):
        n_scored.append(len(tokens))
        return predictors(5)["regression"](tokens)

    counts = np.array([[2], [3], [4], [0]])
    run = SimpleNamespace(
        config=config,
        model=lambda: predict,
        correct={"ood_train": counts[None] // 2},
        queries={"ood_train": counts},
    )
    row = dict(zip(algorithm.KIND_COLUMNS, algorithm.kind_row(run, n=10), strict=True))
    assert sorted(n_scored) == [10, len(tokens)] and len(tokens) == 96
    assert [row[name] for name in ("repeats", "multiples", "combinations")] == [1 / 2, 1 / 3, 1 / 2]
    assert row["combinations, a, b ≠ 0"] == 1


def test_the_zero_line_needs_an_example_with_z_0():
    tokens = torch.tensor(
        [[1, 1, 3, 2, 4, 0, 3, 0, 3, 1, 2, 0], [1, 1, 3, 0, 1, 2, 3, 0, 3, 1, 2, 0]]
    )  # (1, 2) mod 5
    beliefs = zero_line(tokens, 5)
    assert beliefs.argmax(-1)[0].tolist()[2:] == [3, 0] and beliefs[0, 2:].amax(-1).tolist() == [0, 0]
    np.testing.assert_allclose(
        beliefs[1], -math.log(5), rtol=1e-6
    )  # regression would know from two examples on
    assert algorithm.shows_zero_line(torch.tensor([[0, 0, 0, 1, 2, 0, 1, 1]])).tolist() == [[False, True]]


@pytest.mark.parametrize("name", ["ratio matching", "regression", "zero line"])
def test_an_algorithm_foretells_itself_best(name):
    data = Data(tiny(p=5, n_examples=6))
    tokens = data.evaluation_set("ood_train", 600)
    exact = predictors(5) | {"zero line": lambda tokens: zero_line(tokens, 5)}

    def answer(tokens):  # where it does not know, it errs
        beliefs = exact[name](tokens)
        z = tokens[:, 2::3]
        wrong = torch.nn.functional.one_hot((z + 1) % 5, 5).float()
        return torch.where((beliefs.amax(-1) > -1e-4)[..., None], beliefs, wrong.log())

    agreement = algorithm._agreement(answer, tokens, 5)
    assert algorithm.nearest_algorithm(agreement)[2:] == [name] * 4
    assert agreement[algorithm.ALGORITHMS.index(name), 2:].min() == 1


def test_failures_are_split_by_their_cause():
    n_correct = np.array([[5], [25], [4], [24]])
    flags = {"is_zero_seen": n_correct > 12, "has_repeat": n_correct > 0, "has_zero_pair": n_correct < 0}
    scores = algorithm.ContextScores(n_correct, rank=np.full((4, 1), 2), **flags)
    zero, rank, repeat, _ = algorithm.split_failures(scores, 5)
    assert zero[1:] == (2, 0, 2, 2) and rank[1:] == repeat[1:] == (2, 2, 2, 2)
    assert (
        algorithm.most_bimodal({"flat": scores._replace(n_correct=n_correct * 0), "peaks": scores}) == "peaks"
    )


def test_the_rank_is_that_over_the_field():
    assert [
        algorithm._rank(np.array(pairs), 5) for pairs in ([[0, 0]], [[1, 2], [3, 1]], [[1, 2], [1, 3]])
    ] == [0, 1, 2]


class FakeRun:
    def __init__(self, seed, distance):
        self.config = tiny(seed=seed)
        self.divergence = {"ood_train": np.full((1, 4, 3), distance)}


def test_the_nearest_seed_is_drawn_first():
    shallow, deep = (
        [FakeRun(s, 1.0) for s in (0, 1, 2)],
        [FakeRun(s, d) for s, d in ((0, 2.0), (1, 0.5), (2, 1.0))],
    )
    rows = algorithm.replicates({"2 blocks": shallow, "4 blocks": deep})
    assert list(rows) == ["seed 1", "seed 0", "seed 2"]
    assert rows["seed 1"] == {"2 blocks": shallow[1], "4 blocks": deep[1]}
    assert rows["seed 2"] == {"2 blocks": shallow[2], "4 blocks": deep[2]}
    apart = algorithm.replicates({"2 blocks": shallow[:1], "4 blocks": deep[1:]})
    assert apart == {"first runs": {"2 blocks": shallow[0], "4 blocks": deep[1]}}
    with pytest.raises(ValueError, match="choose one of"):
        algorithm.nearest_run(deep, "magic")


def test_a_predictor_is_nearest_to_itself():
    config = tiny(p=5, n_tasks=8, n_examples=6, batch_size=16)
    data = Data(config)
    tokens = data.evaluation_set("ood_train", 200)
    regression = predictors(5)["regression"]
    comparison = algorithm.compare_with_references(regression, tokens, 5, data.tasks["id"])
    assert comparison.distance.keys() == comparison.agreement.keys() == set(algorithm.REFERENCES)
    np.testing.assert_allclose(comparison.distance["regression"], 0, atol=1e-6)
    np.testing.assert_allclose(comparison.accuracy[0], comparison.reference_accuracy["regression"], rtol=1e-6)
    low, high = comparison.accuracy[1:]
    assert (low <= comparison.accuracy[0]).all() and (comparison.accuracy[0] <= high).all()
    row = dict(zip(algorithm.NEAREST_COLUMNS, algorithm.nearest_row(comparison), strict=True))
    assert row["nearest at most numbers of shots"] == row["nearest after the last shot"] == "regression"
    assert row["distance (nats)"] == "0.00"


def test_the_nearest_predictor_is_counted_by_shots():
    def curves(*means):
        return dict(zip(algorithm.REFERENCES, np.array(means)[:, None].repeat(3, 1), strict=True))

    distance = curves([1, 2, 2, 2], [2, 1, 1, 3], [3, 3, 3, 0.5], [4, 4, 4, 4])
    agreement = curves(*[[0, 0, 0, share] for share in (0.1, 0.25, 0.75, 0.4)])
    comparison = algorithm.Comparison(np.zeros((3, 4)), {}, distance, agreement)
    assert algorithm.nearest_row(comparison) == [
        "ratio matching",
        "2 of 4",
        "regression",
        "0.50",
        "25 %",
        "75 %",
    ]


def test_an_approach_counts_the_evaluations_before_the_last_change():
    nearest = [0, 3, 3, 2, 1, 1]
    run = FakeRun(0, 0.0)
    run.divergence = {"ood_train": np.where(np.arange(4) == np.array(nearest)[:, None], 0.1, 2.0)[..., None]}
    run.metrics = {"step": np.arange(0, 6000, 1000)}
    assert algorithm.approach_row(run, "ood_train") == ["ratio matching", "4,000", 1, 0, 1, 2]
    run.divergence["ood_train"] = run.divergence["ood_train"][4:]
    assert algorithm.approach_row(run, "ood_train") == ["ratio matching", "0", 0, 0, 0, 0]


def test_regression_holds_the_beliefs_of_bayes_over_all_tasks():
    config = tiny(p=5, n_tasks=8, n_examples=6, batch_size=16)
    assert algorithm.belief_gap("regression", "Bayes, all tasks", config, 100) < 1e-6
    assert algorithm.belief_gap("regression", "look-up", config, 100) == pytest.approx(0.8)


def test_the_papers_curve_lies_between_ratio_matching_and_regression():
    references = algorithm.paper_references(64)
    shots = slice(4, len(algorithm.PAPER_ACCURACY))
    assert (algorithm.PAPER_ACCURACY[shots] > references["ratio matching"][shots]).all()
    assert (algorithm.PAPER_ACCURACY[shots] < references["regression"][shots]).all()
    assert {name: len(curve) for name, curve in references.items()} == dict.fromkeys(algorithm.REFERENCES, 32)


def test_answer_grids_mark_what_ratio_matching_can_answer():
    class Answering:
        config = tiny(p=5)

        def model(self):
            return Transformer(self.config)

    pairs = torch.tensor([[1, 2], [2, 2]])
    grids = algorithm.answer_grids({"model": Answering()}, [1, 1], pairs, [1, 2])
    assert grids.correct["model"].shape == grids.is_matched.shape == (2, 5, 5) and grids.shots == [1, 2]
    assert grids.tokens.tolist() == [1, 2, 3, 2, 2, 4]
    assert grids.is_matched[0, 2, 4] and not grids.is_matched[0, 3, 3] and grids.is_matched[1, 3, 3]
