"""The order of skills: arrivals and precedences of curves that are made up, and of predictors in a known order."""

from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
from made_up import ALL, NOTHING, P, made_up
from tiny import tiny

from modgrok import predictors as algorithms
from modgrok.analysis import order


def test_tasks_by_the_numbers_they_need():
    tasks = [(0, 0), (0, 3), (2, 0), (1, 1)]
    assert [*map(int, order.task_kind(tasks))] == [-1, 0, 1, 2]


@pytest.mark.parametrize(
    "accuracy, step",
    [((0.2, 0.5, 0.7), 150), ((0.7, 0.1, 0.1), 0), ((0.2, 0.3, 0.5), np.inf), ((np.nan, 0.1, 0.8), 170)],
)
def test_a_skill_arrives_half_way_to_always_right(accuracy, step):
    assert order.arrival([0, 100, 200], accuracy, 5) == pytest.approx(step, abs=2)  # half way: 0.6
    assert np.isnan(order.arrival([0, 100], [np.nan, np.nan], 5))  # never asked
    full = 0.4  # of an algorithm that has the skill: half way is 0.3
    assert order.arrival([0, 100], [0.1, 0.5], 5, full) == pytest.approx(50)


def test_stored_curves_take_the_right_set_and_kind():
    run = made_up((NOTHING, ALL), last=(1, 0.9, 0.5, 0.1))
    run.metrics["step"] = np.array([0, 100])
    curves = order.stored_curves(run)
    assert [round(float(of[-1]), 2) for of in curves.values()] == [1, 0.9, round(1 / P, 2), 0.5]
    assert order.arrivals(run)["combinations, o.o.d. tasks"] == np.inf
    assert (
        0
        < order.arrivals(run)["repeats, o.o.d. tasks"]
        < order.arrivals(run)["other multiples, o.o.d. tasks"]
        < 100
    )
    of_tasks = order.TaskCurves({"id": np.array([[0.1, 1], [0.1, 0.4], [0.1, 0.2]])}, matched=0.5)
    with_tasks = order.arrivals(run, ([0, 100], of_tasks))
    assert list(with_tasks)[:2] == ["z = b·y, i.d. tasks", "z = a·x, i.d. tasks"]
    assert np.isfinite([with_tasks["z = b·y, i.d. tasks"], with_tasks["z = a·x, i.d. tasks"]]).all()
    assert with_tasks["both numbers, i.d. tasks"] == np.inf  # below a skill of ½, 0.32


def test_what_never_arrives_is_later_and_what_was_not_looked_for_does_not_count():
    first, second = [1, 2, 3, np.inf, np.inf, np.nan], [2, 1, np.inf, np.inf, 5, 1]
    assert order.precedence(first, second) == (2, 4, 1)
    assert order.precedence([1] * 10, [2] * 10).p_value == pytest.approx(2 / 2**10)
    found = order.in_order([{"late": 9.0, "never": np.inf}, {"late": 7.0, "never": np.inf, "soon": 3.0}])
    assert list(found) == ["soon", "late", "never"]
    np.testing.assert_array_equal(found["soon"], [np.nan, 3])


def test_task_curves_of_a_model_that_knows_y_alone_and_then_everything():
    config = tiny(p=5, n_tasks=20, batch_size=20, n_examples=6)

    def y_alone(tokens):
        """Right on tasks z = b·y: what ratio matching of y alone gives."""
        no_x = tokens.clone()
        no_x[:, 0::3] = 0
        return algorithms.ratio_matching(no_x, 5)

    ratios, regression = (
        partial(of, p=5) for of in (algorithms.ratio_matching, algorithms.modular_regression)
    )
    run = SimpleNamespace(config=config, model={0: y_alone, 1: ratios, 2: regression}.get)
    found = order.task_curves(run, [0, 1, 2], n=60)
    early, matching, late = found.accuracy["id"].T
    np.testing.assert_allclose(late, 1)
    np.testing.assert_allclose(matching, found.matched, atol=0.1)  # where it must guess it says 0
    assert early[0] > 0.8 and early[2] < 0.7
    assert set(found.accuracy) == {"id", "ood"} and found.accuracy["ood"].shape == (3, 3)
