"""Skill, phases and early stopping, on answers that are made up."""

import numpy as np
import pytest
import torch
from made_up import ALL, ASKED, K, P, made_up, solving

from modgrok.analysis import skill
from modgrok.config import SETS, preset
from modgrok.data import Data
from modgrok.evaluate import KINDS, query_kinds, targets
from modgrok.predictors import predictors


@pytest.mark.parametrize("alpha", [0.4, 0.8])
@pytest.mark.parametrize("set_name", ["id_train", "ood_train", "ood_test"])
def test_look_up_has_no_skill_and_ratio_matching_has_skill_one(alpha, set_name):
    """On real sequences, where a predictor's ties are broken at random, many times over."""
    config = preset("laptop", alpha=alpha)
    tokens = Data(config).evaluation_set(set_name, 500)
    kinds, rng = query_kinds(tokens, P), torch.Generator().manual_seed(0)
    n_queries = np.stack([(kinds == i).sum(0) for i in range(len(KINDS))])
    skills = {}
    for name in ("look-up", "ratio matching", "regression"):
        probabilities = predictors(P)[name](tokens).exp().flatten(0, 1)
        guesses = torch.multinomial(probabilities, 200, replacement=True, generator=rng)
        is_correct = guesses.unflatten(0, kinds.shape) == targets(tokens)[..., None]
        accuracy = is_correct.double().mean(-1)
        n_correct = np.stack([(accuracy * (kinds == i)).sum(0) for i in range(len(KINDS))])
        skills[name] = skill.skill(n_correct, n_queries, P)
    assert skills["look-up"].shape == (K,) and skills["look-up"][-1] == pytest.approx(0, abs=0.02)
    assert skills["ratio matching"][-1] == pytest.approx(1, abs=0.02)
    assert skills["regression"][-1] > 1.1


def test_copying_solves_nothing_however_many_queries_repeat():
    rng = np.random.default_rng(0)
    for _ in range(500):
        n_queries = rng.multinomial(2048, rng.dirichlet(np.ones(4)))[:, None]
        if n_queries[1] < 50:
            continue
        n_correct = np.array([n_queries[0], *rng.binomial(n_queries[1:], 1 / P)])
        error = np.sqrt(n_queries[1:].sum() * (P - 1)) / P / (n_queries[1] * (1 - 1 / P))
        assert abs(skill.skill(n_correct, n_queries, P)) < 5 * error


def test_skill_counts_no_repeats():
    n_queries = np.array([[600], [300], [80], [20]])
    matched = [[600], [300], [80 / P], [20 / P]]  # ratio matching, in expectation
    assert skill.skill(matched, n_queries, P) == pytest.approx(1)
    assert skill.skill([[0], *matched[1:]], n_queries, P) == pytest.approx(1)
    assert skill.skill(n_queries / P, n_queries, P) == pytest.approx(0)
    assert skill.skill(np.stack([n_queries, matched]), n_queries, P).shape == (2, 1)
    assert np.isnan(skill.skill([[5], [0], [0], [0]], [[5], [0], [0], [3]], P)).all()


def test_a_set_is_solved_half_way_to_ratio_matching():
    run = made_up((0.0, 0.49, 0.51, 1.2))
    np.testing.assert_allclose(skill.skill_curve(run, "ood_train"), (0.0, 0.49, 0.51, 1.2))
    assert skill.solves(run, "ood_train").tolist() == [False, False, True, True]
    run.queries = run.queries | {"ood_test": 0 * ASKED}  # no such tasks
    assert not skill.solves(run, "ood_test").any()
    assert skill.phases(run) == skill.PHASES.index("o.o.d. memorisation")


def test_a_phase_is_named_after_the_most_demanding_set_solved():
    cases = {
        (): "not learned",
        ("id_train",): "i.d. memorisation",
        ("id_train", "id_test"): "i.d. generalisation",
        ("id_train", "ood_train"): "o.o.d. memorisation",
        SETS: "o.o.d. generalisation",
    }
    runs = np.array([solving(*names) for names in cases], dtype=object)
    assert [skill.PHASES[i] for i in skill.phases(runs)] == list(cases.values())


def test_a_map_holds_the_chosen_evaluation():
    runs = np.array([[made_up((0.1, 0.7)), made_up((0.2, 0.8))]], dtype=object)
    np.testing.assert_allclose(skill.map_skill(runs, 0)["ood_train"], [[0.1, 0.2]])
    np.testing.assert_allclose(skill.map_skill(runs)["ood_train"], [[0.7, 0.8]])
    np.testing.assert_allclose(skill.map_skill(runs, np.array([[0, -1]]))["ood_train"], [[0.1, 0.8]])
    np.testing.assert_allclose(skill.novel_curves(runs[0])["ood_train"], [[0.1, 0.7], [0.2, 0.8]])


def test_accuracy_by_shot_is_that_at_the_end_without_repeats():
    run = made_up(last=np.stack([np.ones(K), *np.full((3, K), np.linspace(0.1, 0.9, K))]))
    np.testing.assert_allclose(skill.novel_by_shot(run)["ood_train"][-1], np.linspace(0.1, 0.9, K))


def test_a_phase_is_shown_by_the_best_point_where_all_seeds_are_in_it():
    reached = np.array([[[1, 1, 4]], [[1, 2, 4]]])  # two seeds, one row, three columns
    skills = {name: np.full(reached.shape, 0.5) for name in SETS}
    assert skill.typical_points(skills, reached) == {1: (0, 0), 4: (0, 2)}
    skills["id_train"] = np.array([[[0.5, 0.9, 0.1]]] * 2)
    assert skill.typical_points(skills, np.ones_like(reached)) == {1: (0, 1)}


def test_a_map_is_looked_at_at_the_end_and_where_each_run_is_best():
    falls, keeps = np.repeat((0, ALL, 0.3), 7), np.repeat((0, 0.6, ALL), 7)
    runs = [
        [
            [made_up(curve, n_tasks=n, alpha=a) for n, curve in ((8, falls), (40, keeps))]
            for a in (0.4, 0.6, 0.8)
        ]
    ]
    runs = np.array(runs, dtype=object)
    assert skill.map_axes(runs) == skill.map_axes(runs[None]) == ([8, 40], [0.4, 0.6, 0.8])
    twice = skill.phases_twice(runs)
    assert twice["at the end"].tolist() == [[[1, 3]] * 3] and twice["stopped early"].tolist() == [
        [[3, 3]] * 3
    ]


def test_early_stopping_ignores_a_single_peak_and_smooths_the_end():
    curve = np.full(100, 0.2)
    curve[10] = 1.0
    curve[50:70] = 0.6
    stop = skill.early_stop(curve)
    assert 50 <= stop.index < 70 and stop.best == pytest.approx(0.6) and stop.final == pytest.approx(0.2)
    curve[-1] = 1.2
    assert skill.early_stop(curve).final == pytest.approx(0.3)  # of ten evaluations
    assert skill.early_stop(np.arange(21)).final == pytest.approx(18)  # of five
    assert skill.early_stop([0.1, 0.4, 0.4])[:3] == pytest.approx((1, 0.3, 0.3))  # of all three


def noisy(rng, evaluations, after=0, noise=0.1, level=0.9):
    """Skill that jumps to a level after some evaluations and stays there, but for noise."""
    risen = np.arange(evaluations) >= after
    return np.where(risen, level, 0) + np.where(risen, noise, 0.02) * rng.normal(size=evaluations)


@pytest.mark.parametrize("evaluations", [21, 41])
@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("noise", [0.05, 0.1, 0.2])
def test_a_steady_plateau_is_not_transient_and_a_fall_is(evaluations, late, noise):
    rng = np.random.default_rng(evaluations)
    plateaus = [
        noisy(rng, evaluations, rng.integers(2 * evaluations // 3) if late else 0, noise) for _ in range(1000)
    ]
    assert np.mean([skill.early_stop(curve).is_transient for curve in plateaus]) < 0.02
    fall = np.clip(np.linspace(1.5, -0.5, evaluations), 0, 1)  # 0.9 for a quarter, then slowly to 0
    falls = [noisy(rng, evaluations, 0, noise, 0.9 * fall) for _ in range(200)]
    assert np.mean([skill.early_stop(curve).is_transient for curve in falls]) > 0.95


def test_a_fall_counts_from_a_tenth_on_and_only_of_what_was_solved():
    def transient(best, end):
        return skill.early_stop([best] * 10 + [end] * 10).is_transient

    assert transient(0.9, 0.79) and not transient(0.9, 0.81)
    assert transient(0.51, 0.1) and not transient(0.49, 0.1)


def test_runs_that_are_missing_have_no_phase_and_no_skill():
    curve = (0, *[ALL] * 6)
    runs = np.array([[made_up(curve, curve), None]], dtype=object)
    assert skill.map_skill(runs)["ood_train"][0, 0] == pytest.approx(1)
    assert np.isnan(skill.map_skill(runs)["ood_train"][0, 1])
    for phases in skill.phases_twice(runs).values():
        assert phases[0].tolist() == [3, -1]


def test_ratio_matching_has_its_multiples_and_guesses_the_rest():
    run = made_up()  # as many queries of each kind
    assert skill.matched_at_end(run, "ood_train") == pytest.approx((1 + 2 / 7) / 3)


def test_a_copier_guesses_what_is_no_repeat():
    run = made_up(last=(1, 0.9, 0.5, 0.1))
    run.queries = {name: np.array([500, 200, 100, 0])[:, None] * np.ones(3) for name in run.queries}
    assert skill.copied_at_end(run, "id_test") == pytest.approx((500 + 300 / P) / 800)
