"""Which algorithm a predictor follows, with predictors that follow a known one."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiny import tiny

from modgrok.analysis import algorithm
from modgrok.analysis.algorithm import zero_line
from modgrok.data import Data
from modgrok.evaluate import MULTIPLE, query_kinds
from modgrok.model import Transformer
from modgrok.predictors import predictors


def answering(predict, **fields):
    """A run whose model is a predictor; its stored scores by kind are 1 of 2, 1 of 3, 2 of 4 and none."""
    counts = np.array([[2], [3], [4], [0]])
    return SimpleNamespace(
        config=tiny(**fields),
        model=lambda step=0: predict,
        steps=[0],
        correct={"ood_train": counts[None] // 2},
        queries={"ood_train": counts},
    )


def test_a_row_by_kind_tells_failures_where_y_is_0():
    def fails_at_y_zero(tokens):
        exact = predictors(5)["regression"](tokens)
        return torch.where((tokens[:, 1::3] == 0)[..., None], exact.roll(1, -1), exact)

    run = answering(fails_at_y_zero, p=5, n_tasks=12, n_examples=6, eval_sequences=720)
    row = dict(zip(algorithm.KIND_COLUMNS, algorithm.kind_row(run), strict=True))
    assert [row[name] for name in ("repeats", "multiples", "combinations")] == [1 / 2, 1 / 3, 1 / 2]
    assert 0.5 < row["combinations, a, b ≠ 0"] < 1
    assert [row[f"multiples, {place}"] for place in ("neither is 0", "x = 0", "y = 0")] == [1, 1, 0]


def test_a_row_by_kind_counts_every_sequence():
    def fails_after_one(tokens):
        exact = predictors(5)["regression"](tokens)
        return torch.where((tokens[:, :1] == 1)[..., None], exact.roll(1, -1), exact)

    run = answering(fails_after_one, p=5, n_tasks=12, n_examples=6, eval_sequences=720)
    tokens = Data(run.config).evaluation_set("ood_train")
    is_counted = (query_kinds(tokens, 5) == MULTIPLE) & (tokens[:, 0::3] > 0) & (tokens[:, 1::3] == 0)
    share = (is_counted & (tokens[:, :1] != 1)).sum() / is_counted.sum()
    column = algorithm.KIND_COLUMNS.index("multiples, y = 0")
    assert algorithm.kind_row(run)[column] == pytest.approx(float(share))


def test_combinations_of_tasks_of_one_number_do_not_count():
    def y_alone(tokens):  # regression, for whom all x are 0: right where a = 0
        tokens = tokens.clone()
        tokens[:, 0::3] = 0
        return predictors(5)["regression"](tokens)

    fields = dict(p=5, n_tasks=4, task_rule="random", n_examples=6, batch_size=24, eval_sequences=480)
    tasks = Data(tiny(**fields)).tasks["ood"]
    assert algorithm.both_numbers_matter(torch.zeros(len(tasks) + 1, 18), tasks).tolist() == [
        bool(a and b) for a, b in (*tasks.tolist(), tasks[0].tolist())
    ]
    column = algorithm.KIND_COLUMNS.index("combinations, a, b ≠ 0")
    assert algorithm.kind_row(answering(predictors(5)["regression"], **fields))[column] == 1
    assert algorithm.kind_row(answering(y_alone, **fields))[column] < 0.5


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
    exact = predictors(5) | {"zero line": lambda tokens: zero_line(tokens, 5)}

    def answer(tokens):  # where it does not know, it errs
        beliefs = exact[name](tokens)
        z = tokens[:, 2::3]
        wrong = torch.nn.functional.one_hot((z + 1) % 5, 5).float()
        return torch.where((beliefs.amax(-1) > -1e-4)[..., None], beliefs, wrong.log())

    agreement = algorithm.agreement_by_shot(answering(answer, p=5, n_examples=6))
    assert algorithm.nearest_cells(agreement, [2, 3, 4, 5], 1.0) == [f"{name} (1.00)"] * 4
    assert algorithm.nearest_cells(agreement, [2, 3], repeats=0.2) == ["none", "none"]
    assert algorithm.nearest_cells(np.full_like(agreement, np.nan), [2], 1.0) == ["nan"]
    assert agreement[algorithm.ALGORITHMS.index(name), 2:].min() == 1


class Untrained:
    config = tiny(p=5)

    def model(self):
        return Transformer(self.config)


def test_contexts_with_an_example_on_the_zero_line_are_told(monkeypatch):
    pairs = np.array([[[1, 2], [3, 1]], [[1, 2], [1, 4]], [[0, 0], [0, 0]], [[1, 3], [4, 4]]])
    tasks = np.array([[1, 1], [1, 1], [2, 3], [1, 1]])
    monkeypatch.setattr(algorithm, "draw_contexts", lambda *_: (pairs, tasks))
    n_correct, is_zero_seen = algorithm.score_contexts(Untrained(), 2, 4)
    assert n_correct.shape == (4,) and is_zero_seen.tolist() == [False, True, False, False]
    assert algorithm.failure_rows(Untrained(), 2, np.array([5, 25, 4, 24])) == [
        ["an example with z = 0", "0 of 2", "1 of 2"],
        ["two independent pairs", "0 of 2", "2 of 2"],  # (3, 1) is 3·(1, 2) modulo 5
        ["a repeated pair", "1 of 2", "0 of 2"],
        ["a pair with a 0", "1 of 2", "0 of 2"],
    ]


def test_an_exchanged_example_lies_on_the_zero_line_or_off_it(monkeypatch):
    scored, (_, tasks) = [], algorithm.draw_contexts(Data(Untrained.config), 20)
    monkeypatch.setattr(algorithm, "_n_correct", lambda _, *context: scored.append(context) or np.ones(1))
    n_contexts, *means = algorithm.exchange_row(Untrained(), 2, 20)
    (drawn_pairs, _), (on_line, _), (off_line, hidden_tasks) = scored
    assert 0 < n_contexts == len(drawn_pairs) < len(tasks) and means == [1, 1, 1]
    for version, is_shown in ((drawn_pairs, False), (on_line, True), (off_line, False)):
        assert (version[:, 0] == drawn_pairs[:, 0]).all()
        assert (algorithm._is_zero_seen(version, hidden_tasks, 5) == is_shown).all()


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


def test_a_predictor_is_nearest_to_itself():
    run = answering(predictors(5)["regression"], p=5, n_tasks=8, n_examples=6, batch_size=16)
    comparison = algorithm.compare_on_sets(run, 0, 200)["ood_train"]
    assert comparison.distance.keys() == set(algorithm.REFERENCES)
    np.testing.assert_allclose(comparison.distance["regression"], 0, atol=1e-6)
    np.testing.assert_allclose(comparison.accuracy, comparison.reference_accuracy["regression"], rtol=1e-6)
    assert comparison.distance["look-up"][-1] > 0.5


def test_regression_holds_the_beliefs_of_bayes_over_all_tasks():
    config = tiny(p=5, n_tasks=8, n_examples=6, batch_size=16)
    assert algorithm.belief_gap("regression", "Bayes, all tasks", config) < 1e-6
    assert algorithm.belief_gap("regression", "look-up", config) == pytest.approx(0.8)


def test_the_papers_curve_lies_between_ratio_matching_and_regression():
    references = algorithm.paper_references(64)
    shots = slice(4, len(algorithm.PAPER_ACCURACY))
    assert (algorithm.PAPER_ACCURACY[shots] > references["ratio matching"][shots]).all()
    assert (algorithm.PAPER_ACCURACY[shots] < references["regression"][shots]).all()
    assert {name: len(curve) for name, curve in references.items()} == dict.fromkeys(algorithm.REFERENCES, 32)


def test_answer_grids_mark_what_ratio_matching_can_answer():
    pairs = torch.tensor([[1, 2], [2, 2]])
    correct, is_matched, tokens, shots = algorithm.answer_grids({"model": Untrained()}, [1, 1], pairs, [1, 2])
    assert correct["model"].shape == is_matched.shape == (2, 5, 5) and shots == [1, 2]
    assert tokens.tolist() == [1, 2, 3, 2, 2, 4]
    assert is_matched[0, 2, 4] and not is_matched[0, 3, 3] and is_matched[1, 3, 3]
