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
    similarities = similarity.cosine_similarity(
        [[6, 1], [6, -1], [4, 1], [4, -1], [5, 0]]
    )  # their mean is (5, 0)
    np.testing.assert_allclose(similarities[0], [1, 0, 0, -1, 0], atol=1e-12)
    assert (similarities[4] == 0).all()


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
    alike = similarity.cosine_similarity(additive)
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


P, SIMULATIONS = 7, 100


def judged(code):
    """The scores by ratio of simulated features of all pairs, code(rng, x, y), each on noise."""
    scores = []
    for seed in range(SIMULATIONS):
        rng = np.random.default_rng((1, seed))
        features = code(rng, *grid(P).T)
        features = features + 0.3 * rng.normal(size=features.shape)
        alike = similarity.cosine_similarity(features)
        groupings = similarity.ratio_groupings(P, seed=seed)
        scores.append(stats.compare_with_null(similarity.contrast(alike, groupings)))
    return scores


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
def test_what_is_known_of_each_number_alone_is_no_grouping(code):
    scores = judged(code)
    assert np.mean([score.is_significant for score in scores]) <= 0.1
    if (
        code is additive
    ):  # then even the null alone, without the sign, is right: neither too bold nor too cautious
        assert np.mean([score.p_value <= 0.05 for score in scores]) <= 0.1
        assert 0.3 <= np.mean([score.p_value <= 0.5 for score in scores]) <= 0.7


def test_a_planted_grouping_is_found():
    assert np.mean([score.is_significant for score in judged(with_ratio)]) >= 0.95


def test_pairs_of_one_answer_are_not_taken_for_pairs_of_one_ratio():
    assert np.mean([score.is_significant for score in judged(with_answer)]) <= 0.1


def test_contexts_sharpen_a_faint_grouping():
    """Contexts share the additive code and differ in noise; only together do they show the code of the ratios."""

    def p_values(seed, strength, contexts=12):
        """Of all contexts together, and of the first alone."""
        rng, (x, y), contrasts = np.random.default_rng((2, seed)), grid(P).T, []
        shared, groupings = additive(rng, x, y), similarity.ratio_groupings(P, 100, seed)
        for _ in range(contexts):
            features = shared + strength * rng.normal(size=(P + 2, 16))[algorithms.ratio_classes(P)]
            features = features + rng.normal(size=features.shape)
            contrasts.append(similarity.contrast(similarity.cosine_similarity(features), groupings))
        return [stats.compare_with_null(scores).p_value for scores in (contrasts, contrasts[0])]

    assert np.mean([p_values(seed, 0.0)[0] <= 0.05 for seed in range(30)]) <= 0.15
    together, alone = np.median([p_values(seed, 0.2) for seed in range(10)], axis=0)
    assert together <= 0.01 and alone > 0.05


def test_scores_by_stage_are_those_of_each_context(model, config, monkeypatch):
    pairs, tasks = activations.draw_contexts(Data(config), 3)
    run = SimpleNamespace(name="run", config=config, model=lambda: model)
    scores = similarity.run_scores(run, 3, 2)
    stages = [activations.stage_features(model, pairs[i, :2], tasks[i]) for i in range(3)]
    assert list(scores["y"]) == list(stages[0])
    for stage, position in (("block 1, head 0", "z"), ("after block 0", "y")):
        i = {"y": 1, "z": 2}[position]
        alike = [similarity.cosine_similarity(features[stage][i]) for features in stages]
        expected = stats.compare_with_null(similarity.contrast(alike, similarity.ratio_groupings(5)))
        np.testing.assert_allclose(scores[position][stage][:5], expected[:5], atol=1e-9)
    assert len(similarity.after_blocks(scores["y"])) == config.depth
    monkeypatch.setattr(similarity, "CHUNK", 1)  # a context at a time
    np.testing.assert_allclose(
        similarity.run_scores(run, 3, 2)["z"]["after block 1"][:5], scores["z"]["after block 1"][:5]
    )
    assert similarity.most_alike([run], {"run": scores}) is run


def test_matrices_for_a_figure_are_sorted_by_ratio():
    log = structure.discrete_log(5)
    features = np.eye(8)[algorithms.ratio_classes(5)]
    (matrix,), ratio, names = similarity.ratio_matrices({"a": np.stack([features] * 3)}, 1, log)
    assert (np.diff(ratio) >= 0).all() and names == ["a"] and len(ratio) == 16
    np.testing.assert_array_equal(matrix > 0.9, ratio[:, None] == ratio)
