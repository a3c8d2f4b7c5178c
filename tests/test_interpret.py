"""Activations against the model's own numbers, and scores on structures that were planted."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close as same

from modgrok import interpret
from modgrok.config import Config
from modgrok.data import Data, grid
from modgrok.evaluate import accuracy_by_shot
from modgrok.model import Transformer

PRIMES = [3, 5, 7, 11, 29]
each_p = pytest.mark.parametrize("p", PRIMES)


@pytest.fixture(scope="module")
def config():
    return Config(
        p=5, n_tasks=8, alpha=0.8, n_examples=6, depth=2, n_embd=16, n_head=2, batch_size=16, init_std=0.3
    )


@pytest.fixture(scope="module")
def model(config):
    return Transformer(config).init_weights(torch.Generator().manual_seed(0)).eval()


@pytest.fixture(scope="module")
def tokens(config):
    return Data(config).batch(0)


def hooks(model):
    return sum(len(module._forward_hooks) for module in model.modules())


# --- activations


def test_activations_match_logits(model, tokens):
    kept = interpret.activations(model, tokens, list(interpret.hook_points(model)))
    logits = model.logits_everywhere(tokens)
    same(torch.nn.functional.linear(model.ln_f(kept["blocks.1.resid_post"]), model.embed.weight), logits)
    added = sum(kept[f"blocks.{i}.{part}.out"] for i in range(2) for part in ("attn", "mlp"))
    same(kept["embed"] + added, kept["blocks.1.resid_post"])
    same(kept["blocks.0.attn.pattern"].sum(-1), torch.ones(16, 2, 17))
    same(interpret.plain(model)(tokens), model(tokens))


def test_activations_at_some_positions_of_many_sequences(model, tokens):
    many = tokens.repeat(40, 1)  # more than one chunk
    whole = interpret.activations(model, tokens, ["blocks.0.attn.pattern", "blocks.1.attn.mix"])
    part = interpret.activations(model, many, list(whole), [3, 4])
    same(part["blocks.0.attn.pattern"][-16:], whole["blocks.0.attn.pattern"][:, :, [3, 4]])
    same(part["blocks.1.attn.mix"][-16:], whole["blocks.1.attn.mix"][:, [3, 4]])


def test_heads_sum_to_the_attention_output(model, tokens):
    whole = interpret.activations(model, tokens, ["blocks.1.attn.out"])["blocks.1.attn.out"]
    same(sum(interpret.head_output(model, tokens, 1, head) for head in range(2)), whole)


def test_hooks_are_removed(model, tokens):
    before = model(tokens)
    with interpret.ablated(model, "blocks.0", "blocks.1.head.0"):
        assert hooks(model) == 3
    with pytest.raises(RuntimeError), interpret.ablated(model, "blocks.0"):
        raise RuntimeError
    with pytest.raises(ValueError, match="no activation of this model; choose one of embed, "):
        interpret.activations(model, tokens, ["embed", "blocks.2.mlp.out"])
    assert hooks(model) == 0
    same(model(tokens), before)


@pytest.mark.parametrize(
    "parts",
    [("blocks.0", "blocks.1"), tuple(f"blocks.{i}.{p}" for i in (0, 1) for p in ("head.0", "head.1", "mlp"))],
)
def test_without_heads_and_mlps_the_residual_stream_is_the_embedding(model, tokens, parts):
    with interpret.ablated(model, *parts) as predict:
        kept = interpret.activations(model, tokens, ["embed", "blocks.1.resid_post"])
        same(predict(tokens), interpret.layer_readout(model, tokens)[0])
    assert torch.equal(kept["embed"], kept["blocks.1.resid_post"])


def test_ablating_every_head_is_ablating_attention(model, tokens):
    with interpret.ablated(model, "blocks.0.head.0", "blocks.0.head.1") as predict:
        heads = predict(tokens)
    with interpret.ablated(model, "blocks.0.attn") as predict:
        same(predict(tokens), heads)
    assert not torch.allclose(heads, model(tokens))


def test_mean_ablation_keeps_what_all_sequences_share(model, tokens):
    alike = tokens[:1].repeat(3, 1)
    with interpret.ablated(model, "blocks.0.head.1", "blocks.1.mlp", mean=True) as predict:
        same(predict(alike), model(alike))
        assert accuracy_by_shot(predict, tokens).shape == (6,)


def test_unknown_part(model):
    with (
        pytest.raises(
            ValueError, match=r"'blocks.0.head.2' is no part of this model; choose from blocks.0, "
        ),
        interpret.ablated(model, "blocks.0.head.2"),
    ):
        pass


def test_readout_ends_in_the_models_answer(model, tokens):
    logits = interpret.layer_readout(model, tokens)
    assert logits.shape == (3, 16, 6, 5)
    same(logits[-1], model(tokens))


def test_pairs_after_a_context(model):
    tokens = interpret.pair_tokens([(1, 2), (3, 4)], (2, 3), 5)
    x, y, z = tokens[:, 6:9].T.numpy()
    assert tokens[:, :6].unique(dim=0).tolist() == [[1, 2, 3, 3, 4, 3]]
    assert (np.stack([x, y], 1) == grid(5)).all() and (z == (2 * x + 3 * y) % 5).all()
    heads = interpret.head_features(model, [(1, 2), (3, 4)], (2, 3))
    assert heads.shape == (2, 2, 3, 25, 16)
    direct = interpret.head_output(model, tokens, 1, 0)[:, 7]
    np.testing.assert_allclose(heads[1, 0, 1], direct, atol=1e-5)
    blocks = interpret.block_features(model, np.empty((0, 2)), (2, 3))
    assert blocks.shape == (2, 3, 25, 16)
    np.testing.assert_allclose(blocks[0, 0, :5], np.repeat(blocks[0, 0, :1], 5, axis=0), atol=1e-6)  # x alone
    with pytest.raises(ValueError, match="shots=5 must lie between 0 and 4"):
        interpret.head_features(model, [(0, 1)] * 5, (2, 3))


# --- attention


def test_look_back_finds_a_previous_token_head():
    pattern = torch.diag_embed(torch.ones(16), offset=-1).expand(2, 3, 17, 17)
    found = interpret.look_back(pattern, reach=4)
    assert found.shape == (3, 3, 5)
    assert (found[..., 1] == 1).all() and found.sum() == 9


def test_matching_attention_on_a_head_that_matches():
    tokens = torch.tensor([[1, 2, 0, 3, 3, 0, 2, 4, 0]])  # the third input is twice the first
    pattern = torch.zeros(1, 1, 8, 8)
    pattern[0, 0, 7, 2] = 1  # from the last y to the first z
    assert interpret.matching_attention(pattern, tokens, 5).tolist() == [[[1.0, 0.0]]]
    assert np.isnan(interpret.matching_attention(pattern, tokens.flip(1), 5)).all()
    tokens[0, 6:8] = tokens[0, :2]  # a repeat is no other multiple
    assert np.isnan(interpret.matching_attention(pattern, tokens, 5)).all()


# --- numbers modulo p


@given(st.sampled_from(PRIMES), st.data())
def test_logarithm_of_a_product(p, data):
    roots = [b for b in range(1, p) if interpret.is_primitive_root(b, p)]
    log = interpret.discrete_log(p, data.draw(st.sampled_from(roots)))
    x, y = (data.draw(st.integers(1, p - 1)) for _ in range(2))
    assert (log[x] + log[y] - log[x * y % p]) % (p - 1) == 0
    assert sorted(log) == list(range(p)) and log[0] == 0 and log[1] == p - 1


def test_bases():
    assert [interpret.primitive_root(p) for p in (2, *PRIMES)] == [1, 2, 2, 3, 2, 2]
    assert interpret.discrete_log(29, 27)[27] == 1  # the paper's
    with pytest.raises(ValueError, match="base=2 is no primitive root modulo 7; choose one of 3, 5"):
        interpret.discrete_log(7, 2)


@each_p
def test_ratio_classes_are_the_lines_through_the_origin(p):
    classes = interpret.ratio_classes(p)
    assert (np.bincount(classes[1:]) == p - 1).all() and classes[0] == -1
    (x1, y1), (x2, y2) = grid(p).T[:, :, None], grid(p).T[:, None, :]
    parallel = ((x1 * y2 - x2 * y1) % p == 0)[1:, 1:]
    assert (parallel == (classes[1:, None] == classes[1:])).all()


# --- geometry and scores


@given(st.integers(2, 12), st.integers(1, 12), st.integers(0, 99))
def test_pca_reconstructs(n, width, seed):
    features = np.random.default_rng(seed).normal(size=(n, width))
    found = interpret.pca(features)
    np.testing.assert_allclose(found.mean + found.coordinates @ found.components, features, atol=1e-9)
    assert found.share.sum() == pytest.approx(1) and (np.diff(found.share) < 1e-12).all()
    turned = interpret.aligned(found.coordinates, -found.coordinates[:, ::-1])
    np.testing.assert_allclose(turned, -found.coordinates[:, ::-1], atol=1e-8)


def test_pca_of_nothing():
    assert (interpret.pca(np.ones((4, 3))).share == 0).all()


def test_cosines():
    found = interpret.cosine_similarity([[1, 0], [2, 0], [0, 3], [0, 0]])
    np.testing.assert_allclose(found, [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]])
    np.testing.assert_allclose(
        interpret.cosine_similarity([[5, 1], [5, -1]], center=True), [[1, -1], [-1, 1]]
    )


def test_relabellings():
    assert len(np.unique(interpret.relabellings(4), axis=0)) == 24
    for n in (4, 28):
        some = interpret.relabellings(n, 50)
        assert (some[0] == np.arange(n)).all() and (np.sort(some, axis=1) == np.arange(n)).all()


def planted(p, base, rng, stride=1, noise=0.0):
    """Features of all pairs: x on a wide circle by its logarithm, y on a narrow one, 0 at the centre, turned."""
    log = interpret.discrete_log(p, base)
    angle = 2 * np.pi * stride * log / (p - 1) + 1
    circle = np.where(log > 0, [np.cos(angle), np.sin(angle)], 0).T
    x, y = grid(p).T
    plane = np.concatenate([circle[x] + 0.1 * circle[y], noise * rng.normal(size=(p * p, 6))], axis=1)
    turn, _ = np.linalg.qr(rng.normal(size=(8, 8)))
    return plane @ turn, log


@settings(max_examples=20, deadline=None)
@given(st.sampled_from([11, 29]), st.integers(0, 99), st.sampled_from([1, -1]))
def test_planted_circle_scores_high(p, seed, stride):
    rng = np.random.default_rng(seed)
    features, log = planted(p, None, rng, stride, noise=0.01)
    found = interpret.structure(features, grid(p)[:, 0], log)
    assert found.circle.value > 0.9 > found.circle.high and found.order.value > 0.99 > found.order.high
    assert found.stride == 1 and found.order.p_value < 0.01 and found.carried > 0.9 and found.share > 0.99
    other = interpret.structure(features, grid(p)[:, 1], log)
    assert other.order.value > 0.9 and other.carried < 0.1  # the circles in the circle
    means = interpret.class_means(features, log[grid(p)[:, 0]])[1:]
    shares = interpret.log_spectrum(means)
    assert shares[0, 0] > 0.98 and shares[1:, 0].mean() < 0.3


def test_noise_scores_like_its_baseline():
    low = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        found = interpret.structure(rng.normal(size=(121, 8)), grid(11)[:, 0], interpret.discrete_log(11), 50)
        low += found.order.p_value < 0.05
        assert found.carried < 0.2
    assert low <= 4


def test_small_p_cannot_be_significant():
    features, log = planted(5, None, np.random.default_rng(0))
    found = interpret.structure(features, grid(5)[:, 0], log)
    assert found.order.value > 0.99 and found.order.p_value >= 1 / 3  # 4 points have 3 circular orders


@given(st.sampled_from([5, 7, 11]), st.integers(0, 99))
@settings(max_examples=20, deadline=None)
def test_spectrum_is_a_distribution_and_knows_parity(p, seed):
    rng = np.random.default_rng(seed)
    shares = interpret.log_spectrum(rng.normal(size=(p - 1, 9)), 30)
    assert shares.shape[1] == (p - 1) // 2
    np.testing.assert_allclose(shares.sum(1), 1)
    parity = np.outer(np.arange(1, p) % 2, rng.normal(size=4))
    np.testing.assert_allclose(interpret.log_spectrum(parity, 30)[0, -1], 1)


@each_p
def test_ratio_groupings_share_no_number(p):
    x, y = grid(p).T
    for groups in interpret.ratio_groupings(p, 5):
        assert (np.bincount(groups[groups >= 0]) == p - 1).all()
        assert ((groups < 0) == (x * y == 0)).all()
        assert len({*zip(groups[groups >= 0], x[groups >= 0], strict=True)}) == (p - 1) ** 2


def test_group_contrast():
    rng = np.random.default_rng(0)
    groupings = interpret.ratio_groupings(7)
    blocks = np.where(groupings[0][:, None] == groupings[0], 0.7, 0.2)
    found = interpret.compare(interpret.contrast(blocks, groupings))
    assert found.value == pytest.approx(0.5) and found.high < 0.2 and found.p_value <= 0.05
    assert found.significant
    x, y = grid(7).T
    additive = rng.normal(size=(7, 8))[x] + rng.normal(size=(7, 8))[y]
    similarity = interpret.cosine_similarity(additive)
    found = interpret.compare(interpret.contrast(similarity, groupings))
    assert found.low <= found.value <= found.high
    for numbers in (x, y):
        by_number = interpret.contrast(similarity, interpret.number_groupings(numbers))
        assert interpret.compare(by_number).significant
    stacked = interpret.contrast(np.stack([[blocks, similarity]]), groupings)
    np.testing.assert_allclose(stacked[0, 1], interpret.contrast(similarity, groupings))


def test_contrast_is_the_mean_over_pairs_of_rows():
    similarity, groups = np.random.default_rng(0).normal(size=(6, 6)), np.array([0, 0, 1, -1, 1, 1])
    rows = [(i, j) for i in range(6) for j in range(6) if i != j and groups[i] >= 0 and groups[j] >= 0]
    within = [similarity[i, j] for i, j in rows if groups[i] == groups[j]]
    between = [similarity[i, j] for i, j in rows if groups[i] != groups[j]]
    assert interpret.contrast(similarity, groups[None]) == pytest.approx(np.mean(within) - np.mean(between))


@each_p
def test_two_pairs_of_one_answer_share_no_number(p):
    x, y = grid(p).T
    for groups in interpret.answer_groupings((2, 1), p, 5):
        assert len({*zip(groups, x, strict=True)}) == len({*zip(groups, y, strict=True)}) == p * p
    assert (interpret.answer_groupings((2, 1), p)[0] == (2 * x + y) % p).all()
    assert (interpret.number_groupings(y)[0] == y).all()


@pytest.mark.parametrize("task", [(0, 1), (2, 0), (7, 1)])
def test_an_answer_of_one_number_is_refused(task):
    with pytest.raises(ValueError, match=r"choose a task with a and b from 1 to 6, such as \[1, 2\]"):
        interpret.answer_groupings(task, 7)


P, SIMULATIONS = 7, 100


def judged(code, groupings, simulations=SIMULATIONS):
    """The scores of simulated features of all pairs, code(rng, x, y), each on noise, by groupings(seed)."""
    found = []
    for seed in range(simulations):
        rng = np.random.default_rng((1, seed))
        features = code(rng, *grid(P).T)
        features = features + 0.3 * rng.normal(size=features.shape)
        similarity = interpret.cosine_similarity(features, center=True)
        found.append(interpret.compare(interpret.contrast(similarity, groupings(seed))))
    return found


def by_answer(seed):
    return interpret.answer_groupings((2, 3), P, seed=seed)


def by_ratio(seed):
    return interpret.ratio_groupings(P, seed=seed)


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
    return additive(rng, x, y) + rng.normal(size=(P + 2, 16))[interpret.ratio_classes(P)]


@pytest.mark.parametrize("code", [additive, circles])
@pytest.mark.parametrize("groupings", [by_answer, by_ratio])
def test_what_is_known_of_each_number_alone_is_no_grouping(code, groupings):
    found = judged(code, groupings)
    assert np.mean([score.significant for score in found]) <= 0.1
    if (
        code is additive
    ):  # then even the null alone, without the sign, is right: neither too bold nor too cautious
        assert np.mean([score.p_value <= 0.05 for score in found]) <= 0.1
        assert 0.3 <= np.mean([score.p_value <= 0.5 for score in found]) <= 0.7


@pytest.mark.parametrize(("code", "groupings"), [(with_answer, by_answer), (with_ratio, by_ratio)])
def test_a_planted_grouping_is_found(code, groupings):
    assert np.mean([score.significant for score in judged(code, groupings)]) >= 0.95


@pytest.mark.parametrize(("code", "groupings"), [(with_answer, by_ratio), (with_ratio, by_answer)])
def test_a_planted_grouping_is_not_taken_for_the_other(code, groupings):
    assert np.mean([score.significant for score in judged(code, groupings)]) <= 0.1


def test_contexts_sharpen_a_faint_grouping():
    """Contexts share the additive code and differ in task; only together do they show the code of the answers."""

    def p_values(seed, strength, contexts=12):
        """Of all contexts together, and of the first alone."""
        rng, (x, y), each = np.random.default_rng((2, seed)), grid(P).T, []
        shared, tasks = additive(rng, x, y), rng.integers(1, P, size=(contexts, 2))
        for a, b in tasks:
            features = shared + strength * rng.normal(size=(P, 16))[(a * x + b * y) % P]
            features = features + rng.normal(size=features.shape)
            groupings = interpret.answer_groupings((a, b), P, 100, seed)
            each.append(interpret.contrast(interpret.cosine_similarity(features, center=True), groupings))
        return [interpret.compare(scores).p_value for scores in (each, each[0])]

    assert np.mean([p_values(seed, 0.0)[0] <= 0.05 for seed in range(30)]) <= 0.15
    together, alone = np.median([p_values(seed, 0.2) for seed in range(10)], axis=0)
    assert together <= 0.01 and alone > 0.05


def test_a_score_counts_only_if_positive_and_above_chance():
    score = interpret.Score(value=-0.14, baseline=-0.2, low=-0.2, high=-0.16, p_value=0.005)
    assert not score.significant
    assert score._replace(value=0.1).significant
    assert not score._replace(value=0.1, high=0.2).significant


def test_scores_over_contexts():
    each = np.random.default_rng(0).normal(size=(24, 50))
    found = interpret.compare(each)
    assert found.value == pytest.approx(each[:, 0].mean()) and found.baseline == pytest.approx(
        each[:, 1:].mean()
    )
    half = 2.069 * each[:, 0].std(ddof=1) / 24**0.5  # Student's t with 23 degrees of freedom
    np.testing.assert_allclose(found.interval, [found.value - half, found.value + half], rtol=1e-3)
    assert np.isnan(interpret.compare(each[0]).interval).all()
    assert interpret.compare(each[0])[:5] == interpret.compare(each[:1])[:5]


def test_contexts_are_prefixes_and_their_tasks_need_both_numbers(config):
    sample = Data(config)
    pairs, tasks = interpret.draw_contexts(sample, 12)
    assert pairs.shape == (12, 6, 2) and tasks.shape == (12, 2) and (tasks != 0).all()
    held_out = {tuple(task) for task in sample.tasks["ood"].tolist()}
    assert {tuple(task) for task in tasks.tolist()} <= held_out
    for some, all_ in zip(interpret.draw_contexts(sample, 5), (pairs, tasks), strict=True):
        assert (some == all_[:5]).all()
    assert (interpret.draw_contexts(sample, 3, (0, 1))[1] == (0, 1)).all()


def test_contrasts_over_contexts_are_those_of_each(model, config):
    pairs, tasks = interpret.draw_contexts(Data(config), 3)
    groupings = interpret.all_groupings(tasks, 5, shuffles=7)
    found = interpret.contrast_over_contexts(model, pairs[:, :2], tasks, groupings)
    assert {name: each.shape for name, each in found.items()} == dict.fromkeys(groupings, (3, 3, 6, 7))
    after = interpret.stage_features(model, pairs[1, :2], tasks[1])["block 1, head 0"][2]
    similarity = interpret.cosine_similarity(after, center=True)
    for name, of in groupings.items():
        direct = interpret.contrast(similarity, of[1 if len(of) > 1 else 0])
        np.testing.assert_allclose(found[name][1, 2, 3], direct, atol=1e-6)


def test_structure_over_contexts_finds_what_one_context_hides():
    log, x = interpret.discrete_log(11), grid(11)[:, 0]
    features = np.stack([planted(11, None, np.random.default_rng(i), 1, noise=0.5)[0] for i in range(12)])
    together, alone = interpret.structure(features, x, log, 20), interpret.structure(features[0], x, log, 20)
    assert together.order.p_value <= 0.01 and together.stride == 1
    assert together.spectrum.shape == (12, 1000, 5) and alone.spectrum.shape == (1, 1000, 5)
    assert together.wave.value == pytest.approx(together.spectrum[:, 0].mean(0).max())
    assert together.parity.value == pytest.approx(together.spectrum[:, 0, -1].mean())
    assert together.order.interval[0] < together.order.value < together.order.interval[1]
    assert np.isnan(alone.order.interval).all()


def test_parity_view_is_centred():
    """What all pairs have in common does not move it, and its origin lies half-way between the parities."""
    rng, (x, _), log = np.random.default_rng(0), grid(7).T, interpret.discrete_log(7)
    features = rng.normal(size=(7, 5))[x] + 4 * np.outer(log[x] % 2, [0, 1, 0, 0, 0])
    view = interpret.parity_view(features + 10, x, log)
    odd, even = view[1::2], view[2::2]
    assert odd[:, 2].mean() > 1 and odd[:, 2].mean() + even[:, 2].mean() == pytest.approx(0)
    np.testing.assert_allclose(view[1:, :2].mean(0), 0, atol=1e-9)
    np.testing.assert_allclose(np.abs(view), np.abs(interpret.parity_view(features, x, log)), atol=1e-9)


@pytest.mark.parametrize(("p", "splits"), [(3, 1), (5, 3), (7, 10), (11, 126), (29, 10_000)])
def test_parity_among_all_splits(p, splits):
    rng, log = np.random.default_rng(p), interpret.discrete_log(p)
    features = np.outer(log % 2, rng.normal(size=6)) + 0.01 * rng.normal(size=(p, 6))
    assert interpret.parity_rank(features, p) == (1, splits)
    first_half = np.outer(np.arange(p) > (p - 1) // 2, rng.normal(size=6))
    assert interpret.parity_rank(first_half, p)[0] > 1 or p == 3
    assert interpret.parity_rank(np.ones((p, 6)), p) == (splits, splits)  # ties count against it


def test_rank_of_the_parity_is_that_of_its_wave():
    features, log = np.random.default_rng(3).normal(size=(7, 4)), interpret.discrete_log(7)
    parity = interpret.log_spectrum(features[np.argsort(log)[1:]])[:, -1]
    better = np.unique(parity[parity > parity[0] + 1e-9].round(9))  # 72 orders make the same split
    assert interpret.parity_rank(features, 7) == (1 + len(better), 10) and len(better) > 0
