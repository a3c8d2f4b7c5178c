"""Verdicts from runs whose answers are made up, so that what they must say is known."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from modgrok import claims
from modgrok.algorithms import predictors
from modgrok.config import SETS, preset
from modgrok.data import Data, grid
from modgrok.evaluate import KINDS, kinds, targets
from modgrok.model import Transformer
from modgrok.structure import discrete_log

P, K = 7, 12
ASKED = np.full((4, K), 1000)
NOTHING, ALL = 0.0, 1.0  # skill
RATIOS, COMBINES = (1, 1, 1 / P, 1 / P), (1, 1, 0.9, 1 / P)  # accuracy by kind of query


def answers(skill):
    """Right answers at evaluations of given skills (E,): repeats as often as multiples, else chance; (E, 4, K)."""
    share = np.full((len(skill), 4, K), 1 / P)
    share[:, :2] += (1 - 1 / P) * np.array(skill)[:, None, None]
    return share * ASKED


def made_up(ood=(NOTHING, ALL), known=(NOTHING, ALL), last=None, **fields):
    """A run with a known skill at each evaluation.

    Args:
        ood: on o.o.d. tasks, training inputs.
        known: on the training set.
        last: accuracy on o.o.d. tasks, training inputs, at the last evaluation: (4,) by kind, or (4, K).
        fields: of the config.
    """
    curves = {"id_train": np.resize(known, len(ood)), "ood_train": ood}
    curves["id_train"][-1] = known[-1]
    right = {name: answers(curves.get(name, np.zeros(len(ood)))) for name in SETS}
    if last is not None:
        right["ood_train"][-1] = np.broadcast_to(np.transpose(last), (K, 4)).T * ASKED
    return SimpleNamespace(
        config=preset("laptop", **fields),
        right=right,
        asked=dict.fromkeys(SETS, ASKED),
        metrics={f"{name}_novel": np.array(ood) for name in SETS},
        provenance={"seconds": 60, "threads": 2, "processes": [4, 3]},
    )


def seeds(n=3, *args, **kwargs):
    return [made_up(*args, seed=seed, **kwargs) for seed in range(n)]


def solving(*names, **fields):
    """A run of which the skill on these sets is 1, else 0."""
    run = made_up((NOTHING,), (NOTHING,), **fields)
    run.right |= {name: answers([ALL]) for name in names}
    return run


# --- what a model can do ----------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [0.4, 0.8])
@pytest.mark.parametrize("name", ["id_train", "ood_train", "ood_test"])
def test_look_up_has_no_skill_and_ratio_matching_has_skill_one(alpha, name):
    """On real sequences: what is not determined is answered at random, many times over."""
    config = preset("laptop", alpha=alpha)
    tokens = Data(config).evaluation_set(name, 500)
    kind, rng = kinds(tokens, P), torch.Generator().manual_seed(0)
    asked = np.stack([(kind == i).sum(0) for i in range(len(KINDS))])
    found = {}
    for who in ("look-up", "ratio matching", "regression"):
        chances = predictors(P)[who](tokens).exp().flatten(0, 1)
        guesses = torch.multinomial(chances, 200, replacement=True, generator=rng).unflatten(
            0, kind.shape
        )  # ties at random
        hit = (guesses == targets(tokens)[..., None]).double().mean(-1)
        right = np.stack([(hit * (kind == i)).sum(0) for i in range(len(KINDS))])
        assert claims.skill(asked * 0 + right, asked, P).shape == (K,)
        found[who] = claims.skill(right, asked, P)[-1]
    assert found["look-up"] == pytest.approx(0, abs=0.02)
    assert found["ratio matching"] == pytest.approx(1, abs=0.02)
    assert found["regression"] > 1.1


def test_who_copies_solves_nothing_however_many_queries_repeat():
    rng = np.random.default_rng(0)
    for _ in range(500):
        asked = rng.multinomial(2048, rng.dirichlet(np.ones(4)))[:, None]
        if asked[1] < 50:
            continue
        right = np.array([asked[0], *rng.binomial(asked[1:], 1 / P)])
        error = np.sqrt(asked[1:].sum() * (P - 1)) / P / (asked[1] * (1 - 1 / P))
        assert abs(claims.skill(right, asked, P)) < 5 * error


def test_skill_is_a_matter_of_what_is_no_repeat():
    asked = np.array([[600], [300], [80], [20]])
    exactly = [[600], [300], [80 / P], [20 / P]]  # in expectation
    assert claims.skill(exactly, asked, P) == pytest.approx(1)
    assert claims.skill([[0], *exactly[1:]], asked, P) == pytest.approx(1)
    assert claims.skill(asked / P, asked, P) == pytest.approx(0)
    assert claims.skill(np.stack([asked, exactly]), asked, P).shape == (2, 1)
    assert np.isnan(claims.skill([[5], [0], [0], [0]], [[5], [0], [0], [3]], P)).all()


def test_a_set_is_solved_half_way_to_ratio_matching():
    run = made_up((0.0, 0.49, 0.51, 1.2))
    np.testing.assert_allclose(claims.skill_curve(run, "ood_train"), (0.0, 0.49, 0.51, 1.2))
    assert claims.solves(run, "ood_train").tolist() == [False, False, True, True]
    run.asked = run.asked | {"ood_test": 0 * ASKED}  # no such tasks
    assert not claims.solves(run, "ood_test").any()
    assert claims.phases(run) == claims.PHASES.index("o.o.d. memorisation")


def test_a_phase_is_named_after_the_most_demanding_set_solved():
    cases = {
        (): "not learned",
        ("id_train",): "i.d. memorisation",
        ("id_train", "id_test"): "i.d. generalisation",
        ("id_train", "ood_train"): "o.o.d. memorisation",
        SETS: "o.o.d. generalisation",
    }
    runs = np.array([solving(*names) for names in cases], dtype=object)
    assert [claims.PHASES[i] for i in claims.phases(runs)] == list(cases.values())


def test_a_map_holds_the_chosen_evaluation():
    runs = np.array([[made_up((0.1, 0.7)), made_up((0.2, 0.8))]], dtype=object)
    np.testing.assert_allclose(claims.map_skill(runs, 0)["ood_train"], [[0.1, 0.2]])
    np.testing.assert_allclose(claims.map_skill(runs)["ood_train"], [[0.7, 0.8]])
    np.testing.assert_allclose(claims.map_skill(runs, np.array([[0, -1]]))["ood_train"], [[0.1, 0.8]])
    np.testing.assert_allclose(claims.skill_curves(runs[0])["ood_train"], [[0.1, 0.7], [0.2, 0.8]])
    np.testing.assert_allclose(claims.novel_curves(runs[0])["ood_train"], [[0.1, 0.7], [0.2, 0.8]])
    np.testing.assert_allclose(claims.map_novel(runs)["ood_train"], [[0.7, 0.8]])


def test_accuracy_by_shot_is_that_at_the_end_without_repeats():
    run = made_up(last=np.stack([np.ones(K), *np.full((3, K), np.linspace(0.1, 0.9, K))]))
    np.testing.assert_allclose(claims.novel_by_shot([run])["ood_train"], [np.linspace(0.1, 0.9, K)])


def test_a_phase_is_shown_by_the_best_point_where_all_seeds_are_in_it():
    reached = np.array([[[1, 1, 4]], [[1, 2, 4]]])  # two seeds, one row, three columns
    skills = {name: np.full(reached.shape, 0.5) for name in SETS}
    assert claims.typical_points(skills, reached) == {1: (0, 0), 4: (0, 2)}
    skills["id_train"] = np.array([[[0.5, 0.9, 0.1]]] * 2)
    assert claims.typical_points(skills, np.ones_like(reached)) == {1: (0, 1)}


# --- early stopping ---------------------------------------------------------------------------------------


def test_early_stopping_ignores_a_single_peak_and_smooths_the_end():
    curve = np.full(100, 0.2)
    curve[10] = 1.0
    curve[50:70] = 0.6
    stop = claims.early_stop(curve)
    assert 50 <= stop.index < 70 and stop.best == pytest.approx(0.6) and stop.final == pytest.approx(0.2)
    curve[-1] = 1.2
    assert claims.early_stop(curve).final == pytest.approx(0.3)  # of ten evaluations
    assert claims.early_stop(np.arange(21)).final == pytest.approx(18)  # of five
    assert claims.early_stop([0.1, 0.4, 0.4])[:3] == pytest.approx((1, 0.3, 0.3))  # of all three


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
    assert np.mean([claims.early_stop(curve).transient for curve in plateaus]) < 0.02
    fall = np.clip(np.linspace(1.5, -0.5, evaluations), 0, 1)  # 0.9 for a quarter, then slowly to 0
    falls = [noisy(rng, evaluations, 0, noise, 0.9 * fall) for _ in range(200)]
    assert np.mean([claims.early_stop(curve).transient for curve in falls]) > 0.95


def test_a_fall_counts_from_a_tenth_on_and_only_of_what_was_solved():
    def transient(best, end):
        return claims.early_stop([best] * 10 + [end] * 10).transient

    assert transient(0.9, 0.79) and not transient(0.9, 0.81)
    assert transient(0.51, 0.1) and not transient(0.49, 0.1)


# --- verdicts ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("outcomes", "words"),
    [
        ((1, 1, 1), "shown"),
        ((-1, -1, -1), "contrary"),
        ((1, 1, -1), "not shown"),
        ((1, 1, 0), "not shown"),
        ((0, 0, 0), "not shown"),
        ((1, 1), "not shown"),
        ((-1,), "not shown"),
    ],
)
def test_a_verdict_needs_every_seed_and_three_of_them(outcomes, words):
    assert claims.verdict(outcomes) == words


def plane(few, many, n=3):
    """A map of four α and two numbers of tasks; the o.o.d. tasks are solved at so many α each."""
    runs = [
        [
            [made_up((ALL if a < few else 0.1,), n_tasks=8), made_up((ALL if a < many else 0.1,), n_tasks=40)]
            for a in range(4)
        ]
        for _ in range(n)
    ]
    return np.array(runs, dtype=object)


@pytest.mark.parametrize(
    ("few", "many", "n", "words"),
    [
        (0, 2, 3, "shown"),
        (1, 4, 3, "shown"),
        (2, 0, 3, "contrary"),
        (0, 1, 3, "not shown"),  # at the best α only
        (4, 4, 3, "not shown"),
        (0, 4, 2, "not shown"),
    ],
)
def test_more_tasks(few, many, n, words):
    claim = claims.more_tasks(plane(few, many, n))
    assert claim.verdict == words and claim.minutes == 8 * n * 2 * 3  # a minute, two threads, three processes
    assert ("two seeds only" in claim.measured) == (n == 2)


def test_more_tasks_looks_at_the_whole_map():
    """The ends of the row alone do not make a trend."""
    middle = [[[made_up((level,), n_tasks=n) for n, level in zip((8, 16, 20, 32, 40), row, strict=True)]]
              for row in [(0.4, 0.3, 0.2, 0.1, 0.6)] * 3]  # fmt: skip
    assert claims.more_tasks(np.array(middle, dtype=object)).verdict == "not shown"


PHASE_SETS = [SETS[:1], SETS[:2], ("id_train", "ood_train"), SETS]


@pytest.mark.parametrize(
    ("points", "words"),
    [
        (PHASE_SETS, "shown"),
        (PHASE_SETS[1:], "not shown"),
        ([(), ()], "not shown"),
        ([*PHASE_SETS, *[("ood_test",)] * 4], "shown"),  # half of the models are out of order, not most
        ([*PHASE_SETS, *[("ood_test",)] * 5], "contrary"),
        ([("id_train",), ("ood_train",), ("id_train", "ood_test")], "contrary"),
    ],
)
def test_four_phases(points, words):
    runs = [[[solving(*names) for names in points]] for _ in range(3)]
    assert claims.four_phases(np.array(runs, dtype=object)).verdict == words


@pytest.mark.parametrize(
    ("curve", "words"),
    [
        (np.linspace(1 / P, 1, K), "shown"),
        (np.linspace(1, 0.9, K), "contrary"),
        (np.full(K, 0.9), "contrary"),
        (np.linspace(1 / P, 0.2, K), "not shown"),
    ],
)
def test_in_context(curve, words):
    assert claims.in_context(seeds(last=np.broadcast_to(curve, (4, K)))).verdict == words


def test_in_context_asks_about_queries_that_are_no_repeat():
    """Accuracy over all queries would rise here, by copying."""
    copied = np.stack([np.linspace(0, 1, K), *np.full((3, K), 0.9)])
    assert claims.in_context(seeds(last=copied)).verdict == "contrary"


def test_two_blocks():
    can, cannot, untaught = seeds(), seeds(3, (NOTHING, NOTHING)), seeds(3, (NOTHING,) * 2, (NOTHING,) * 2)
    assert claims.two_blocks(cannot, can).verdict == "shown"
    assert claims.two_blocks(can, cannot).verdict == claims.two_blocks(can, can).verdict == "contrary"
    assert claims.two_blocks([*cannot[:2], can[2]], can).verdict == "not shown"
    assert claims.two_blocks(cannot, untaught).verdict == "not shown"
    nothing = claims.two_blocks(untaught, can)
    assert nothing.verdict == "not shown" and "0 of 3 learned their training set" in nothing.measured
    single = claims.two_blocks(cannot[:1], can[:1])
    assert single.verdict == "not shown" and "one seed only" in single.measured and single.units == "one seed"


FALLS, STAYS, NEVER = np.repeat((0, ALL, 0.3), 7), np.repeat((0, 0.6, ALL), 7), np.zeros(21)


@pytest.mark.parametrize(
    ("shallow", "deep", "words"),
    [
        (STAYS, FALLS, "shown"),
        (FALLS, STAYS, "contrary"),
        (FALLS, FALLS, "not shown"),
        (STAYS, STAYS, "not shown"),
        (NEVER, FALLS, "not shown"),
        (FALLS, NEVER, "not shown"),
    ],
)
def test_transience_is_a_contrast(shallow, deep, words):
    pair = seeds(3, shallow, depth=2), seeds(3, deep, depth=4)
    assert claims.transience(*pair).verdict == words
    if words == "shown":
        assert claims.transience(pair[0], seeds(3, deep, (NOTHING, NOTHING), depth=4)).verdict == "not shown"


def mixed(able, others, n_seeds=3):
    """Runs of which so many solve o.o.d. tasks, and so many do not."""
    levels = [ALL] * able + [NOTHING] * others
    return [made_up((level,), seed=i % n_seeds) for i, level in enumerate(levels)]


@pytest.mark.parametrize(
    ("hits", "others", "chance", "words"),
    [
        (9, 2, 0.1, "shown"),
        (1, 9, 0.1, "contrary"),
        (1, 1, 0.1, "not shown"),
        (9, 9, 0.1, "not shown"),  # all have it, whether they generalise or not
        (9, 2, 0.9, "not shown"),  # chance gives as much
    ],
)
def test_structured(hits, others, chance, words):
    found = np.repeat([True, False, True, False], (hits, 10 - hits, others, 10 - others))
    claim = claims.structured("odd and even lie apart", mixed(10, 10), found, chance)
    assert claim.verdict == words and f"{hits} of 10; of the others: {others} of 10" in claim.measured
    assert claims.structured("odd", mixed(10, 10, 2), found, chance).verdict == "not shown"


def with_model(seed, ood, embedding):
    model = Transformer(preset("laptop", seed=seed))
    model.embed.weight.data = torch.as_tensor(embedding, dtype=torch.float)
    run = made_up((ood,), seed=seed)
    run.model = lambda: model
    return run


def test_parity_asks_the_embedding_and_waves_the_heads(monkeypatch):
    rng, log = np.random.default_rng(0), discrete_log(P)
    noise = rng.normal(size=(P, 64))
    odd = np.where(log % 2, 1.0, -1.0)[:, None] + 0.1 * noise
    runs = [*(with_model(i, ALL, odd) for i in range(6)), *(with_model(i, NOTHING, noise) for i in range(6))]
    claim = claims.parity(runs)
    assert claim.verdict == "shown" and "of 10 ways to halve the numbers 1 … 6" in claim.claim
    assert "of runs that solve: 6 of 6; of the others: 0 of 6; by chance 0.1" in claim.measured

    x, angles = grid(P)[:, 0], 2 * np.pi * log / (P - 1)
    circle = np.stack([np.cos(angles), np.sin(angles)], -1)[x]  # (p², 2)
    monkeypatch.setattr(
        claims.interpret,
        "head_features",
        lambda model, *_: (
            0.1 * rng.normal(size=(2, 2, 3, P * P, 2))
            + (circle if (model.embed.weight.std(0).mean() > 0.9) else 0) * np.eye(3)[1][:, None, None]
        ),
    )
    assert claims.wave_probability(runs[0]) < 0.05 < claims.wave_probability(with_model(0, ALL, 0.01 * noise))
    assert claims.waves(runs[:1]).verdict == "not shown"


def test_a_run_and_its_beginning_are_one():
    short, long, other = made_up(steps=2000), made_up(steps=4000), made_up(steps=2000, depth=4)
    assert claims.distinct(np.array([short, long, other])) == [long, other]


def test_exact_probabilities():
    assert claims._upper_tail(2, 2, 0.1) == pytest.approx(0.01)
    assert claims._upper_tail(0, 5, 0.1) == pytest.approx(1)
    found = np.array([True, True, False, False])
    assert claims._shared(2, 2, found) == pytest.approx(1 / 6)
    assert claims._shared(1, 2, found) == pytest.approx(5 / 6)


@pytest.mark.parametrize(
    ("two", "four", "words"),
    [
        (RATIOS, COMBINES, "shown"),
        (COMBINES, RATIOS, "contrary"),
        (COMBINES, COMBINES, "not shown"),
        (RATIOS, (1, 1, 0.22, 0.1), "not shown"),  # above, by less than 0.1
        ((1, 1, 0, 0), (1, 1, 0.12, 0.1), "not shown"),  # 0.1 above two blocks, not above chance
    ],
)
def test_algorithms(two, four, words):
    pair = seeds(last=two, depth=2), seeds(last=four, depth=4)
    assert claims.algorithms(*pair).verdict == words
    if words != "not shown":
        untaught = seeds(3, known=(NOTHING, NOTHING), last=four, depth=4)
        assert claims.algorithms(pair[0], untaught).verdict == "not shown"


def test_algorithms_tells_the_shift_with_shots():
    later = np.stack([np.full(K, accuracy) for accuracy in COMBINES])
    later[2, K // 2 :] += 0.05
    claim = claims.algorithms(seeds(last=RATIOS, depth=2), seeds(last=later, depth=4))
    assert "later half of the shots less the earlier: 0.05 (0.05 to 0.05)" in claim.measured
    assert (
        "two blocks 0.14 (0.14 to 0.14), four 0.9" in claim.measured
        and "multiples: two blocks 1.00" in claim.measured
    )


# --- tables -----------------------------------------------------------------------------------------------


def test_the_table_has_a_row_a_claim():
    claim = claims.two_blocks(seeds(1, depth=1), seeds(1))._replace(setting="a | b")
    head, line, *rows = claims.table([claim, claim]).splitlines()
    assert len(rows) == 2 and {row.count(" | ") for row in (head, *rows)} == {5} and set(line) == set("|- ")
    assert r"a \| b" in rows[0] and "**not shown**" in rows[0] and rows[0].endswith("| 12 |")
    assert "d = 1, 2" in claims.two_blocks(seeds(1, depth=1), seeds(1)).setting


def test_the_rules_say_what_counts_once_each():
    claim = claims.in_context(seeds())
    (item,) = claims.rules([claim, claim]).splitlines()
    assert (
        item.startswith("- *2. Out-of-") and "Agrees: the model" in item and "Contradicts: it solves" in item
    )


def test_the_table_counts_who_learned_who_solved_and_who_lost_it():
    kept, lost, never = (made_up(curve) for curve in (STAYS, FALLS, NEVER))
    untaught = made_up(NEVER, (NOTHING, NOTHING))
    *_, one, four = claims.lasting_table({1: [untaught], 4: [kept, lost, lost, never]}).splitlines()
    assert one == "| 1 | 0.00 | 0.00 | 0 of 1 | 0 of 1 | 0 of 1 |"
    assert four.endswith("| 4 of 4 | 3 of 4 | 2 of 4 |")


def test_an_interval_is_over_units():
    assert claims.interval([0.1, 0.2, 0.3]) == "0.20 (-0.05 to 0.45)" and claims.interval([0.5]) == "0.50"
