"""Groupings of pairs that are planted are found, and no other is taken for them."""

from types import SimpleNamespace

import numpy as np
import pytest

from modgrok import predictors as algorithms
from modgrok.analysis import activations, similarity, stats, structure
from modgrok.data import Data, grid

PRIMES = [3, 5, 7, 11, 29]
each_p = pytest.mark.parametrize("p", PRIMES)


def test_cosines():
    similarities = similarity.cosine_similarity([[1, 0], [2, 0], [0, 3], [0, 0]], center=False)
    np.testing.assert_allclose(similarities, [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]])
    np.testing.assert_allclose(
        similarity.cosine_similarity([[5, 1], [5, -1]], center=True), [[1, -1], [-1, 1]]
    )


@each_p
def test_ratio_groupings_share_no_number(p):
    x, y = grid(p).T
    for groups in similarity.ratio_groupings(p, 5):
        assert (np.bincount(groups[groups >= 0]) == p - 1).all()
        assert ((groups < 0) == (x * y == 0)).all()
        assert len({*zip(groups[groups >= 0], x[groups >= 0], strict=True)}) == (p - 1) ** 2


def test_group_contrast():
    rng = np.random.default_rng(0)
    groupings = similarity.ratio_groupings(7)
    blocks = np.where(groupings[0][:, None] == groupings[0], 0.7, 0.2)
    score = stats.compare_with_null(similarity.contrast(blocks, groupings))
    assert score.value == pytest.approx(0.5) and score.high < 0.2 and score.p_value <= 0.05
    assert score.is_significant
    x, y = grid(7).T
    additive = rng.normal(size=(7, 8))[x] + rng.normal(size=(7, 8))[y]
    alike = similarity.cosine_similarity(additive, center=False)
    score = stats.compare_with_null(similarity.contrast(alike, groupings))
    assert score.low <= score.value <= score.high
    stacked = similarity.contrast(np.stack([[blocks, alike]]), groupings)
    np.testing.assert_allclose(stacked[0, 1], similarity.contrast(alike, groupings))


def test_contrast_is_the_mean_over_pairs_of_rows():
    alike, groups = np.random.default_rng(0).normal(size=(6, 6)), np.array([0, 0, 1, -1, 1, 1])
    rows = [(i, j) for i in range(6) for j in range(6) if i != j and groups[i] >= 0 and groups[j] >= 0]
    within_groups = [alike[i, j] for i, j in rows if groups[i] == groups[j]]
    between_groups = [alike[i, j] for i, j in rows if groups[i] != groups[j]]
    assert similarity.contrast(alike, groups[None]) == pytest.approx(
        np.mean(within_groups) - np.mean(between_groups)
    )


@each_p
def test_two_pairs_of_one_answer_share_no_number(p):
    x, y = grid(p).T
    for groups in similarity.answer_groupings((2, 1), p, 5):
        assert len({*zip(groups, x, strict=True)}) == len({*zip(groups, y, strict=True)}) == p * p
    assert (similarity.answer_groupings((2, 1), p)[0] == (2 * x + y) % p).all()


@pytest.mark.parametrize("task", [(0, 1), (2, 0), (7, 1)])
def test_an_answer_of_one_number_is_refused(task):
    with pytest.raises(ValueError, match=r"choose a task with a and b from 1 to 6, such as \[1, 2\]"):
        similarity.answer_groupings(task, 7)


P, SIMULATIONS = 7, 100


def judged(code, groupings, simulations=SIMULATIONS):
    """The scores of simulated features of all pairs, code(rng, x, y), each on noise, by groupings(seed)."""
    scores = []
    for seed in range(simulations):
        rng = np.random.default_rng((1, seed))
        features = code(rng, *grid(P).T)
        features = features + 0.3 * rng.normal(size=features.shape)
        alike = similarity.cosine_similarity(features, center=True)
        scores.append(stats.compare_with_null(similarity.contrast(alike, groupings(seed))))
    return scores


def by_answer(seed):
    return similarity.answer_groupings((2, 3), P, seed=seed)


def by_ratio(seed):
    return similarity.ratio_groupings(P, seed=seed)


def additive(rng, x, y):
    return rng.uniform(0.3, 2) * rng.normal(size=(P, 16))[x] + rng.normal(size=(P, 16))[y]


def circles(rng, x, y):
    """x and y on one circle: what is additive in them is not so any more once the vectors have one length."""
    k, m = rng.integers(1, P, 2)
    angles = 2 * np.pi * np.stack([k * x, m * y]) / P
    return np.concatenate([np.cos(angles).sum(0), np.sin(angles).sum(0)]).reshape(2, -1).T


def with_answer(rng, x, y):
    return additive(rng, x, y) + rng.normal(size=(P, 16))[(2 * x + 3 * y) % P]


def with_ratio(rng, x, y):
    return additive(rng, x, y) + rng.normal(size=(P + 2, 16))[algorithms.ratio_classes(P)]


@pytest.mark.parametrize("code", [additive, circles])
@pytest.mark.parametrize("groupings", [by_answer, by_ratio])
def test_what_is_known_of_each_number_alone_is_no_grouping(code, groupings):
    scores = judged(code, groupings)
    assert np.mean([score.is_significant for score in scores]) <= 0.1
    if (
        code is additive
    ):  # then even the null alone, without the sign, is right: neither too bold nor too cautious
        assert np.mean([score.p_value <= 0.05 for score in scores]) <= 0.1
        assert 0.3 <= np.mean([score.p_value <= 0.5 for score in scores]) <= 0.7


@pytest.mark.parametrize(("code", "groupings"), [(with_answer, by_answer), (with_ratio, by_ratio)])
def test_a_planted_grouping_is_found(code, groupings):
    assert np.mean([score.is_significant for score in judged(code, groupings)]) >= 0.95


@pytest.mark.parametrize(("code", "groupings"), [(with_answer, by_ratio), (with_ratio, by_answer)])
def test_a_planted_grouping_is_not_taken_for_the_other(code, groupings):
    assert np.mean([score.is_significant for score in judged(code, groupings)]) <= 0.1


def test_contexts_sharpen_a_faint_grouping():
    """Contexts share the additive code and differ in task; only together do they show the code of the answers."""

    def p_values(seed, strength, contexts=12):
        """Of all contexts together, and of the first alone."""
        rng, (x, y), contrasts = np.random.default_rng((2, seed)), grid(P).T, []
        shared, tasks = additive(rng, x, y), rng.integers(1, P, size=(contexts, 2))
        for a, b in tasks:
            features = shared + strength * rng.normal(size=(P, 16))[(a * x + b * y) % P]
            features = features + rng.normal(size=features.shape)
            groupings = similarity.answer_groupings((a, b), P, 100, seed)
            contrasts.append(
                similarity.contrast(similarity.cosine_similarity(features, center=True), groupings)
            )
        return [stats.compare_with_null(scores).p_value for scores in (contrasts, contrasts[0])]

    assert np.mean([p_values(seed, 0.0)[0] <= 0.05 for seed in range(30)]) <= 0.15
    together, alone = np.median([p_values(seed, 0.2) for seed in range(10)], axis=0)
    assert together <= 0.01 and alone > 0.05


def test_scores_by_stage_are_those_of_each_context(model, config):
    pairs, tasks = activations.draw_contexts(Data(config), 3)
    scores = similarity.run_scores(SimpleNamespace(config=config, model=lambda: model), 3, 2, None, True)
    stages = [activations.stage_features(model, pairs[i, :2], tasks[i]) for i in range(3)]
    assert list(scores["same ratio x/y"][0]) == list(stages[0])
    for stage, position in (("block 1, head 0", 2), ("after block 0", 1)):
        alike = [similarity.cosine_similarity(features[stage][position]) for features in stages]
        by_ratio = stats.compare_with_null(similarity.contrast(alike, similarity.ratio_groupings(5)))
        assert scores["same ratio x/y"][position - 1][stage].value == pytest.approx(by_ratio.value)
        answers = [similarity.answer_groupings(task, 5) for task in tasks]
        by_answer = [similarity.contrast(*context) for context in zip(alike, answers, strict=True)]
        score = stats.compare_with_null(by_answer)
        np.testing.assert_allclose(scores["same answer z"][position - 1][stage][:5], score[:5], atol=1e-9)
    assert len(similarity.after_blocks(scores["same answer z"][0])) == config.depth


def test_matrices_for_a_figure_are_sorted_by_ratio():
    log = structure.discrete_log(5)
    features = np.eye(8)[algorithms.ratio_classes(5)]
    (matrix,), ratio, names = similarity.ratio_matrices({"a": np.stack([features] * 3)}, 1, log, False)
    np.testing.assert_allclose(matrix, ratio[:, None] == ratio)
    assert names == ["a"] and len(ratio) == 16
