"""Verdicts from runs whose answers are made up, so that what they must say is known."""

import numpy as np
import pytest
import torch
from made_up import ALL, COMBINES, NOTHING, RATIOS, K, P, made_up, seeds, solving

from modgrok.analysis import activations, circles, similarity
from modgrok.analysis.structure import discrete_log
from modgrok.claims import rules
from modgrok.config import SETS, preset
from modgrok.data import grid
from modgrok.evaluate import MULTIPLE
from modgrok.model import Transformer
from modgrok.predictors import ratio_classes


def plane(n_solved_8, n_solved_40, n=3):
    """A map of four α and two numbers of tasks; the o.o.d. tasks are solved at so many α each."""
    runs = [
        [
            [
                made_up((ALL if a < n_solved_8 else 0.1,), n_tasks=8),
                made_up((ALL if a < n_solved_40 else 0.1,), n_tasks=40),
            ]
            for a in range(4)
        ]
        for _ in range(n)
    ]
    return np.array(runs, dtype=object)


@pytest.mark.parametrize(
    ("n_solved_8", "n_solved_40", "n", "words"),
    [
        (0, 2, 3, "shown"),
        (1, 4, 3, "shown"),
        (2, 0, 3, "contrary"),
        (0, 1, 3, "not shown"),  # at the best α only
        (4, 4, 3, "not shown"),
        (0, 4, 2, "not shown"),
    ],
)
def test_more_tasks(n_solved_8, n_solved_40, n, words):
    claim = rules.more_tasks(plane(n_solved_8, n_solved_40, n))
    assert claim.verdict == words and claim.units == f"seeds: {n}, able to tell: {n}"


def test_more_tasks_looks_at_the_whole_map():
    """The ends of the row alone do not make a trend."""
    middle = [[[made_up((level,), n_tasks=n) for n, level in zip((8, 16, 20, 32, 40), row, strict=True)]]
              for row in [(0.4, 0.3, 0.2, 0.1, 0.6)] * 3]  # fmt: skip
    assert rules.more_tasks(np.array(middle, dtype=object)).verdict == "not shown"


PHASE_SETS = [SETS[:1], SETS[:2], ("id_train", "ood_train"), SETS]


@pytest.mark.parametrize(
    ("points", "words"),
    [
        (PHASE_SETS, "shown"),
        (PHASE_SETS[1:], "not shown"),
        (PHASE_SETS[:3], "not shown"),
        ([PHASE_SETS[0], *PHASE_SETS[2:]], "needs a larger p"),  # no room between the first and the last
        ([(), ()], "not shown"),
        ([*PHASE_SETS, *[("ood_test",)] * 4], "shown"),  # half of the models are out of order, not most
        ([*PHASE_SETS, *[("ood_test",)] * 5], "contrary"),
        ([("id_train",), ("ood_train",), ("id_train", "ood_test")], "contrary"),
    ],
)
def test_four_phases(points, words):
    runs = [[[solving(*names) for names in points]] for _ in range(3)]
    assert rules.four_phases(np.array(runs, dtype=object)).verdict == words


@pytest.mark.parametrize(
    ("curve", "words"),
    [
        (np.linspace(1 / P, 1, K), "shown"),
        (np.linspace(1, 0.9, K), "contrary"),
        (np.full(K, 0.9), "contrary"),
        (np.linspace(1 / P, 0.2, K), "needs a larger p"),
    ],
)
def test_in_context(curve, words):
    assert rules.in_context(seeds(last=np.broadcast_to(curve, (4, K)))).verdict == words


def test_in_context_asks_about_queries_that_are_no_repeat():
    """Accuracy over all queries would rise here, by copying."""
    copied = np.stack([np.linspace(0, 1, K), *np.full((3, K), 0.9)])
    assert rules.in_context(seeds(last=copied)).verdict == "contrary"


@pytest.mark.parametrize(("errors", "words"), [(1.5, "contrary"), (2.5, "shown")])
def test_in_context_counts_a_rise_from_1_96_errors_on(errors, words):
    (run, *_) = seeds(1)
    n_queries = run.queries["ood_train"][MULTIPLE:, [0, -1]].sum(0)
    error = np.hypot(*np.sqrt(0.8 * 0.2 / n_queries))
    curve = np.linspace(0.8, 0.8 + errors * error, K)
    assert rules.in_context(seeds(last=np.broadcast_to(curve, (4, K)))).verdict == words


def test_two_blocks():
    can, cannot, untaught = seeds(), seeds(3, (NOTHING, NOTHING)), seeds(3, (NOTHING,) * 2, (NOTHING,) * 2)
    assert rules.two_blocks(cannot, can).verdict == "shown"
    assert rules.two_blocks(can, cannot).verdict == rules.two_blocks(can, can).verdict == "contrary"
    assert rules.two_blocks([*cannot[:2], can[2]], can).verdict == "not shown"
    assert rules.two_blocks(cannot, untaught).verdict == "needs a larger p"
    unable = rules.two_blocks(untaught, can)
    assert unable.verdict == "needs a larger p" and unable.units == "seeds: 3, able to tell: 0"
    assert unable.measured["one block, learned the training set"] == "0 of 3"
    single = rules.two_blocks(cannot[:1], can[:1])
    assert single.verdict == "not shown"


UNTAUGHT = "needs a larger p"
FALLS, STAYS, NEVER = np.repeat((0, ALL, 0.3), 7), np.repeat((0, 0.6, ALL), 7), np.zeros(21)


@pytest.mark.parametrize(
    ("shallow", "deep", "words"),
    [
        (STAYS, FALLS, "shown"),
        (FALLS, STAYS, "contrary"),
        (FALLS, FALLS, "not shown"),
        (STAYS, STAYS, "not shown"),
        (NEVER, FALLS, "needs a larger p"),
        (FALLS, NEVER, "needs a larger p"),
    ],
)
def test_transience_is_a_contrast(shallow, deep, words):
    pair = seeds(3, shallow, depth=2), seeds(3, deep, depth=4)
    assert rules.transience(*pair).verdict == words
    for group in pair:
        for run in group:
            run.correct["ood_test"], run.correct["ood_train"] = (
                run.correct["ood_train"],
                run.correct["ood_test"],
            )
    assert rules.transience(*pair, "ood_test").verdict == words
    assert rules.transience(*pair).verdict == "needs a larger p"  # on training inputs none solves them now
    if words == "shown":
        pair = seeds(3, shallow, depth=2), seeds(3, deep, depth=4)
        assert rules.transience(pair[0], seeds(3, deep, (NOTHING,) * 2, depth=4)).verdict == UNTAUGHT


def with_model(seed, ood, embedding, training=ALL):
    model = Transformer(preset("laptop", seed=seed))
    model.embed.weight.data = torch.as_tensor(embedding, dtype=torch.float)
    run = made_up((ood,), (training,), seed=seed)
    run.model = lambda: model
    return run


def test_parity_asks_the_embedding_and_waves_the_heads(monkeypatch):
    rng, log = np.random.default_rng(0), discrete_log(P)
    noise = rng.normal(size=(P, 64))
    odd = np.where(log % 2, 1.0, -1.0)[:, None] + 0.1 * noise
    runs = [*(with_model(i, ALL, odd) for i in range(6)), *(with_model(i, NOTHING, noise) for i in range(6))]
    claim = rules.parity(runs)
    assert claim.verdict == "shown" and "of 10 ways to halve the numbers 1 … 6" in claim.rule.claim
    assert claim.measured["runs that solve (d = 2)"] == "6 of 6 (0.61 to 1.00)"
    assert claim.measured["control (d = 2)"].startswith("0 of 6 (0.00 to 0.39) (P = ")

    x, angles = grid(P)[:, 0], 2 * np.pi * log / (P - 1)
    circle = np.stack([np.cos(angles), np.sin(angles)], -1)[x]  # (p², 2)

    def heads(model, *_):
        planted = circle if model.embed.weight.std(0).mean() > 0.9 else 0
        names = [f"block 0, head {h}" for h in range(model.config.n_head)]
        return {name: [None, 0.1 * rng.normal(size=(P * P, 2)) + planted] for name in names}

    monkeypatch.setattr(activations, "stage_features", heads)
    by_chance = [circles.wave_probability(with_model(0, ALL, 0.01 * noise)) for _ in range(9)]
    assert circles.wave_probability(runs[0]) < 0.05 < np.median(by_chance)
    assert rules.waves(runs[:1]).verdict == "not shown"


def test_ratios_asks_the_blocks(monkeypatch):
    """A code of the ratio is found; one of x and of y, each alone, is not."""
    rng, (x, y) = np.random.default_rng(1), grid(P).T
    of_ratio = rng.normal(size=(P + 2, 16))[ratio_classes(P)]
    of_each = rng.normal(size=(P, 16))[x] + rng.normal(size=(P, 16))[y]

    def blocks(model, *_):
        planted = of_ratio if model.embed.weight.std(0).mean() > 0.9 else of_each
        after = 0.5 * rng.normal(size=(2, P * P, 16))
        return {"after block 0": [None, after[0]], "after block 1": [None, after[1] + planted]}

    monkeypatch.setattr(activations, "stage_features", blocks)
    knows, does_not = rng.normal(size=(P, 64)), 0.01 * rng.normal(size=(P, 64))
    assert similarity.ratio_p_value(with_model(0, ALL, knows)) < 0.05
    assert similarity.ratio_p_value(with_model(0, ALL, does_not)) > 0.05
    runs = [
        *(with_model(i, ALL, knows) for i in range(5)),
        *(with_model(i, NOTHING, does_not) for i in range(5)),
    ]
    claim = rules.ratios(runs)
    assert claim.verdict == "shown" and "ratio" in claim.rule.claim


def test_a_negative_likeness_is_none_however_far_above_chance(monkeypatch):
    monkeypatch.setattr(similarity, "features_at_y", lambda *_: np.zeros((1, 2, P * P, 4)))
    chance, run = -0.2 - 0.001 * np.arange(199), with_model(0, ALL, np.zeros((P, 64)))
    for value, probability in ((-0.14, 1.0), (0.14, 2 / 200)):  # of two blocks
        scores = np.broadcast_to([value, *chance], (circles.N_CONTEXTS, 2, 200))
        monkeypatch.setattr(similarity, "contrast", lambda *_, scores=scores: scores)
        assert similarity.ratio_p_value(run) == pytest.approx(probability)


FINDS = {rules.parity: "parity", rules.waves: "waves", rules.ratios: "ratios"}


@pytest.mark.parametrize("training", [ALL, NOTHING], ids=["control", "no control"])
@pytest.mark.parametrize("judge", FINDS, ids=FINDS.values())
@pytest.mark.parametrize(
    ("n_solving", "n_control", "words"),
    [(9, 1, "shown"), (1, 9, "contrary"), (1, 1, "not shown"), (9, 9, "not shown")],
)
def test_each_structure_can_be_shown_or_not_or_contrary(
    judge, n_solving, n_control, words, training, monkeypatch
):
    """Runs of which so many, of ten that solve o.o.d. tasks and ten that do not, have the structure.

    Where the latter did not learn their training set either there is no control.
    """
    has = np.repeat([True, False, True, False], (n_solving, 10 - n_solving, n_control, 10 - n_control))
    levels = [ALL] * 10 + [NOTHING] * 10
    runs = [with_model(i % 3, level, np.zeros((P, 64)), training) for i, level in enumerate(levels)]
    has_structure = {id(run.model()): is_structured for run, is_structured in zip(runs, has, strict=True)}
    rank, probability = iter(has), lambda run: 0.01 if has_structure[id(run.model())] else 0.5
    monkeypatch.setattr(rules.structure, "parity_rank", lambda *_: (1 if next(rank) else 4, 10))
    monkeypatch.setattr(circles, "wave_probability", probability)
    monkeypatch.setattr(similarity, "ratio_p_value", probability)
    assert judge(runs).verdict == (words if training else UNTAUGHT)
    assert judge is rules.parity or judge(runs[::10]).verdict == "not shown"  # too few seeds


@pytest.mark.parametrize(
    ("two_blocks", "four_blocks", "words"),
    [
        (RATIOS, COMBINES, "shown"),
        (COMBINES, RATIOS, "contrary"),
        (COMBINES, COMBINES, "not shown"),
        (RATIOS, (1, 1, 0.22, 0.1), "not shown"),  # above, by less than 0.1
        ((1, 1, 0, 0), (1, 1, 0.12, 0.1), "not shown"),  # 0.1 above two blocks, not above chance
        ((1, 0.5, 1 / P, 1 / P), COMBINES, "not shown"),  # two blocks do not match ratios
    ],
)
def test_combination(two_blocks, four_blocks, words):
    pair = seeds(last=two_blocks, depth=2), seeds(last=four_blocks, depth=4)
    claim = rules.combination(*pair)
    assert claim.verdict == words
    if words != "not shown":
        untaught = seeds(3, training=(NOTHING, NOTHING), last=four_blocks, depth=4)
        assert rules.combination(pair[0], untaught).verdict == UNTAUGHT
    if words == "shown":
        assert claim.measured["combinations, two blocks"] == "0.14, 0.14, 0.14"
        assert claim.measured["other multiples, two blocks"] == "1.00, 1.00, 1.00"


def rising(rise, accuracy=COMBINES, middle=0.5):
    """Accuracy by kind and shot, that on combinations higher in the later half of the shots."""
    curves = np.repeat(np.array(accuracy)[:, None], K, 1)
    curves[2] = middle + rise * np.repeat((0, 1), K // 2)
    return curves


@pytest.mark.parametrize(
    ("two_blocks", "four_blocks", "words"),
    [
        (0, 0.3, "shown"),
        (0.3, 0, "contrary"),
        (0, 0, "not shown"),
        (0.3, 0.3, "not shown"),  # a matter of shots, not of depth
        (0, 0.08, "not shown"),
        (-0.3, 0, "not shown"),  # two blocks fall, four do not rise
    ],
)
def test_shift(two_blocks, four_blocks, words):
    pair = seeds(last=rising(two_blocks), depth=2), seeds(last=rising(four_blocks), depth=4)
    claim = rules.shift(*pair)
    assert claim.verdict == words and claim.measured["four"] == ", ".join([f"{four_blocks:.2f}"] * 3)
    if words != "not shown":
        untaught = seeds(3, training=(NOTHING, NOTHING), last=rising(four_blocks), depth=4)
        assert rules.shift(pair[0], untaught).verdict == UNTAUGHT


def test_rows_count_runs_that_learned_that_solved_and_that_fell():
    lasting, lost, unsolved = (made_up(curve) for curve in (STAYS, FALLS, NEVER))
    untaught = made_up(NEVER, (NOTHING, NOTHING))
    shallow, _, deep, deep_test = rules.lasting_rows({1: [untaught], 4: [lasting, lost, lost, unsolved]})
    assert shallow == [1, "training inputs", "0.00", "0.00", "0 of 1", "0 of 1", "0 of 1"]
    assert deep[:2] == [4, "training inputs"] and deep[-3:] == ["4 of 4", "3 of 4", "2 of 4"]
    assert deep_test[-3:] == ["4 of 4", "0 of 4", "0 of 4"]
    fallen = made_up(FALLS, depth=4)
    fallen.correct["ood_test"] = fallen.correct["ood_train"]
    rows = rules.fallen_rows([lasting, lost, untaught, fallen, unsolved])
    assert rows == [(7, 2, "no", 3, 2, 1, 0, 0), (7, 4, "no", 1, 1, 1, 1, 1)]
    assert len(rules.FALLEN_HEAD) == len(rows[0])
    assert len(rules.LASTING_HEAD) == len(shallow)
