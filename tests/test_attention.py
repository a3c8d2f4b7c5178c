"""What heads look at, on patterns made by hand and on a small model."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from modgrok.analysis import activations, attention
from modgrok.data import Data


@pytest.fixture(scope="module")
def tokens(config):
    return Data(config).batch(0)


def test_look_back_finds_a_previous_token_head():
    pattern = torch.diag_embed(torch.ones(16), offset=-1).expand(2, 3, 17, 17)
    shares = attention.look_back(pattern, reach=4)
    assert shares.shape == (3, 3, 5)
    assert (shares[..., 1] == 1).all() and shares.sum() == 9


def test_matching_attention_on_a_head_that_matches():
    tokens = torch.tensor([[1, 2, 0, 3, 3, 0, 2, 4, 0]])  # the third input is twice the first
    pattern = torch.zeros(1, 1, 8, 8)
    pattern[0, 0, 7, 2] = 1  # from the last y to the first z
    assert attention.matching_attention(pattern, tokens, 5).tolist() == [[[1.0, 0.0]]]
    assert np.isnan(attention.matching_attention(pattern, tokens.flip(1), 5)).all()
    tokens[0, 6:8] = tokens[0, :2]  # a repeat is no other multiple
    assert np.isnan(attention.matching_attention(pattern, tokens, 5)).all()


@pytest.mark.parametrize("taste", [1, -1])
def test_a_head_that_likes_or_dislikes_a_token_does_not_choose_by_ratio(taste):
    """Neither the query's own numbers nor 0 tell an example of its ratio from another that counts."""
    rng = np.random.default_rng(0)
    x, y = torch.from_numpy(rng.integers(0, 7, (2, 100, 12)))
    tokens = torch.stack([x, y, (x + y) % 7], -1).flatten(1)
    liked = (
        (y[:, :, None] == y[:, None]) | (x[:, :, None] == x[:, None]) | (y == 0)[:, None] | (x == 0)[:, None]
    )
    ratio = attention.matching_examples(tokens, 7)
    patterns = torch.full((100, 2, 35, 35), 0.01)
    patterns[:, 0, 1::3, 2::3] += 0.005 * taste * liked[..., :11]
    patterns[:, 1, 1::3, 2::3] += 0.005 * ratio[..., :11]
    paid = attention.matching_attention(patterns, tokens, 7)
    (mean,), (low,), (high,) = attention.preferences(paid[None])
    assert mean == pytest.approx([0, 0.005], abs=1e-6) and high[0] < 1e-6 < low[1]


def test_the_more_heads_the_wider_the_interval_of_each():
    paid = np.random.default_rng(0).normal(size=(1, 400, 2, 2))
    alone, one_of_eight = attention.preferences(paid), attention.preferences(paid.repeat(4, 0))
    wider = (one_of_eight[2] - one_of_eight[0]) / (alone[2] - alone[0])
    # 1 - 0.025/8 and 1 - 0.025/2 of the normal law
    assert wider == pytest.approx(np.full((4, 2), 2.734 / 2.241), rel=0.01)
    by_chance = [
        attention.preferences(np.random.default_rng(i).normal(size=(4, 50, 4, 2)))[1].max()
        for i in range(300)
    ]
    assert np.mean(np.array(by_chance) > 0) < 0.05  # 0.025, of all 16 heads


def test_along_a_line_of_zeros_every_example_of_the_ratio_shares_the_zero():
    tokens = torch.tensor([[1, 0, 0, 1, 2, 0, 3, 3, 0, 2, 0, 0]])  # the last query's match is the first input
    pattern = torch.zeros(1, 1, 11, 11)
    pattern[0, 0, 10, 2] = 1
    assert np.isnan(attention.matching_attention(pattern, tokens, 5)).all()


def test_patterns_are_the_activations_of_every_block(model, tokens):
    patterns = attention.patterns(model, tokens[:2])
    names = [f"blocks.{i}.attn.pattern" for i in range(model.config.depth)]
    for block, name in zip(patterns, names, strict=True):
        assert torch.equal(block, activations.activations(model, tokens[:2], [name])[name])


def test_heads_that_match_pay_half_as_much_again():
    contrasts = 0.1 + 0.01 * np.random.default_rng(0).normal(size=(2, 50, 2, 2))
    contrasts[1, :, 0, 0] += 0.2
    contrasts[0, :, 1, 0] += 0.04
    assert attention.matching_heads(contrasts) == [(1, 0)]
    assert attention.matching_heads(contrasts[:1]) == []


def test_attention_of_a_run(model, config):
    look = attention.run_attention(SimpleNamespace(config=config, model=lambda: model))
    assert look.patterns.shape == (2, 256, 2, 17, 17) and look.matching.shape == (3, 2, 2, 2)
    assert (
        look.habits.shape == (2, 2, 7) and look.matches[look.richest].sum() == look.matches.sum((1, 2)).max()
    )
    differences = look.matching[0, :, :, 0] - look.matching[0, :, :, 1]
    np.testing.assert_allclose(look.preference, differences, atol=1e-6)
    assert look.preference[look.strongest] == look.preference.max()
