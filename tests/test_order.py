"""Which tasks arrive first: curves that are made up, and predictors in a known order."""

from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
from made_up import made_up
from tiny import tiny

from modgrok import predictors
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


def test_kinds_of_task_arrive_half_way_to_ratio_matching():
    accuracy = {"id": np.array([[0.1, 1], [0.1, 0.4], [0.1, 0.2]])}
    steps = order.task_arrivals(order.TaskCurves(made_up(), [0, 100], accuracy, matched=0.5))
    assert np.isfinite(steps[:2]).all() and steps[2] == np.inf  # below a skill of ½, 0.32


def test_task_curves_of_a_model_that_knows_y_alone_and_then_everything():
    config = tiny(p=5, n_tasks=20, batch_size=20, n_examples=6)

    def y_alone(tokens):
        """Right on tasks z = b·y: what ratio matching of y alone gives."""
        no_x = tokens.clone()
        no_x[:, 0::3] = 0
        return predictors.ratio_matching(no_x, 5)

    ratios, regression = (
        partial(predict, p=5) for predict in (predictors.ratio_matching, predictors.modular_regression)
    )
    run = SimpleNamespace(config=config, model={0: y_alone, 1: ratios, 2: regression}.get)
    curves = order.task_curves(run, [0, 1, 2], n=60)
    early, matching, late = curves.accuracy["id"].T
    np.testing.assert_allclose(late, 1)
    np.testing.assert_allclose(matching, curves.matched, atol=0.1)  # where it must guess it says 0
    assert early[0] > 0.8 and early[2] < 0.7
    assert set(curves.accuracy) == {"id", "ood"} and curves.accuracy["ood"].shape == (3, 3)
