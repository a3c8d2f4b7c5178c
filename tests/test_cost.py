"""When a set is solved, how that grows with p, and what runs cost."""

import numpy as np
import pytest
from made_up import made_up

from modgrok.claims.cost import core_hours, core_minutes, left_plateau, solved_at


@pytest.mark.parametrize(
    "skills, step",
    [
        ((0, 0.6, 0.7, 0.8), 10),
        ((0, 0.6, 0.2, 0.7, 0.8), 30),  # one evaluation above the threshold may be noise
        ((0.5, 0.5), 0),
        ((0, 0.2, 0.9), np.nan),  # too late to be seen twice
        ((0, 0.49, 0.49), np.nan),
    ],
)
def test_a_set_is_solved_from_the_first_of_two_evaluations(skills, step):
    run = made_up(skills, skills)
    run.metrics["step"] = 10 * np.arange(len(skills))
    assert solved_at(run, "ood_train") == pytest.approx(step, nan_ok=True)
    assert solved_at(run, "ood_test") != solved_at(run, "ood_test")  # skill 0 there


def test_the_plateau_is_left_a_tenth_below_a_guess_twice_in_a_row():
    run, guess = made_up([0] * 5, [0] * 5), np.log(7)
    run.metrics["step"] = 10 * np.arange(5)
    for losses, step in (((1, 0.89, 0.95, 0.9, 0.5), 30), ((1, 0.91, 0.91, 0.91, 0.5), np.nan)):
        run.metrics["id_train_loss"] = guess * np.array(losses)
        assert left_plateau(run) == pytest.approx(step, nan_ok=True)


def test_core_hours_adds_up_runs_of_a_kind():
    runs = [made_up(seed=0), made_up(seed=1), made_up(depth=4)]  # six core-minutes each, 4,000 steps
    runs[1].provenance = runs[1].provenance | {"seconds": 120}
    assert core_minutes(runs[:1]) == 6
    assert core_hours(runs) == [
        [7, 2, 64, 2, "8,000", "90", "0.30"],
        [7, 4, 64, 1, "4,000", "90", "0.10"],
        ["all", "", "", 3, "", "", "0.40"],
    ]
