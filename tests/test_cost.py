"""When a set is solved, how that grows with p, and what runs cost."""

import numpy as np
import pytest
from made_up import made_up

from modgrok.claims import cost
from modgrok.claims.cost import core_hours, core_minutes, plateau_end, solved_at
from modgrok.model import flops_per_step


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
        assert plateau_end(run) == pytest.approx(step, nan_ok=True)


def test_core_hours_adds_up_runs_of_a_kind():
    runs = [made_up(seed=0), made_up(seed=1), made_up(depth=4)]  # six core-minutes each, 4,000 steps
    runs[1].provenance = runs[1].provenance | {"seconds": 120}
    assert core_minutes(runs[:1]) == 6
    assert core_hours(runs) == [
        [7, 2, 64, 2, "8,000", "90", "0.30"],
        [7, 4, 64, 1, "4,000", "90", "0.10"],
        ["all", "", "", 3, "", "", "0.40"],
    ]


def learner(solved=2, loss=0.5, novel=0.6, **fields):
    """A run of eight evaluations, 10 steps apart, that solves o.o.d. tasks from one of them on."""
    skills = [0] * solved + [1] * (8 - solved)
    run = made_up(skills, skills, **fields)
    run.metrics |= {"step": 10 * np.arange(8), "ood_train_novel": np.full(8, novel)}
    run.metrics["id_train_loss"] = np.log(run.config.p) * np.array([1] + [loss] * 7)
    return run


def test_a_ladder_counts_steps_and_operations_and_carries_them_on():
    runs = [learner(solved, p=p, n_tasks=4, batch_size=4) for solved, p in ((1, 5), (2, 7), (4, 11), (8, 11))]
    ladder = cost.ladder(runs)
    assert ladder.p == [5, 7, 11, 11] and ladder.primes == [5, 7, 11, 13, 17, 19, 23, 29]
    solve, work = list(ladder.costs.values())[1:]
    assert solve[:3] == [10, 20, 40] and np.isnan(solve[3])
    assert work[1] == pytest.approx(20 * flops_per_step(runs[1].config) / 1e12)
    fastest = max(flops_per_step(run.config) * run.config.steps / core_minutes([run]) for run in runs)
    *_, (_, line) = ladder.laws.values()
    assert ladder.core_hours == pytest.approx(line[-1] * 1e12 / fastest / 60)
    rows = cost.ladder_rows(ladder)
    assert [row[1] for row in rows] == ["4 of 4", "3 of 4", "3 of 4", ""]
    assert rows[1][2] == "1.7"


def test_a_ladder_of_too_few_runs_has_no_law():
    rows = cost.ladder_rows(cost.ladder([learner(p=5, n_tasks=4, batch_size=4)]))
    assert [row[2:] for row in rows] == [["–", "–"]] * 3 + [["", "–"]]


def test_a_run_is_measured_by_its_plateau_and_its_end():
    runs = [learner(seed=0), learner(seed=1)]
    steps, accuracy, matched, guess = cost.measure(runs)
    assert (steps == 10).all() and (accuracy == 0.6).all() and guess == pytest.approx(1 / 7)
    assert (matched < 1).all() and cost.measure([]).shape == (4, 0)
    assert [cost.step_text(step) for step in (1234.4, np.nan, np.inf)] == ["1,234", "never", "never"]
