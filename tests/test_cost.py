"""When a set is solved, how that grows with p, and what runs cost."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up import made_up

from modgrok.claims.cost import core_hours, core_minutes, left_plateau, power_law, solved_at


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


@given(st.floats(-3, 6), st.floats(0.01, 1e4))
def test_power_law_finds_a_law_that_holds(exponent, factor):
    x = np.array([5, 7, 11, 13])
    law = power_law(x, factor * x**exponent, [2, 29])
    assert law.exponent == pytest.approx([exponent] * 3, abs=1e-5)
    assert law.line == pytest.approx(np.tile(factor * np.array([2.0, 29.0]) ** exponent, (3, 1)), rel=1e-4)


def test_power_law_intervals_cover_the_truth_in_95_of_100():
    rng = np.random.default_rng(0)
    x, found = np.repeat([5, 7, 11], 3), []
    for _ in range(1000):
        law = power_law(x, 3 * x**2.5 * np.exp(rng.normal(0, 0.4, 9)), [29])
        found.append([law.exponent[1] < 2.5 < law.exponent[2], law.line[1, 0] < 3 * 29**2.5 < law.line[2, 0]])
    assert np.mean(found, axis=0) == pytest.approx(0.95, abs=0.02)


def test_power_law_leaves_out_what_was_not_measured():
    full = power_law([5, 7, 11], [1, 2, 5], [29])
    holed = power_law([5, 7, 11, 13], [1, 2, 5, np.nan], [29])
    assert np.array_equal(full.line, holed.line) and np.array_equal(full.exponent, holed.exponent)
    for x, y in (([5, 7], [1, 2]), ([5, 5, 5], [1, 2, 3]), ([5, 7, 11], [1, 2, np.nan])):
        law = power_law(x, y, [29])
        assert np.isnan(law.line).all() and np.isnan(law.exponent).all()


def test_core_hours_adds_up_runs_of_a_kind():
    runs = [made_up(seed=0), made_up(seed=1), made_up(depth=4)]  # six core-minutes each, 4,000 steps
    runs[1].provenance = runs[1].provenance | {"seconds": 120}
    assert core_minutes(runs[:1]) == 6
    assert core_hours(runs) == [
        [7, 2, 64, 2, "8,000", "90", "0.30"],
        [7, 4, 64, 1, "4,000", "90", "0.10"],
        ["all", "", "", 3, "", "", "0.40"],
    ]
