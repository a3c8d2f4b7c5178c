"""Interventions on a transformer built by hand, whose algorithm is known."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from ratio_matcher import P, ratio_matcher
from tiny import tiny

from modgrok.analysis import mechanisms
from modgrok.data import Data
from modgrok.evaluate import MULTIPLE, query_kinds, targets
from modgrok.model import Transformer
from modgrok.train import train


@pytest.fixture(scope="module")
def matcher():
    return ratio_matcher()


@pytest.fixture(scope="module")
def sample(matcher):
    return Data(matcher.config)


@pytest.mark.parametrize("heads", [[], [(0, 0), (1, 0)]])
def test_a_wave_is_turned_in_the_heads_of_one_block(heads, matcher, sample):
    with pytest.raises(ValueError, match="must be heads of one block"):
        mechanisms.turned_slopes(matcher, sample, heads)


def test_the_matcher_matches_ratios(matcher, sample):
    tokens = sample.evaluation_set("ood_train", 200)
    is_correct = matcher.plain_logits(tokens).argmax(-1) == targets(tokens)
    without_zero = (tokens[:, 0::3] * tokens[:, 1::3] > 0) & (query_kinds(tokens, P) == MULTIPLE)
    assert without_zero.sum() > 50 and is_correct[without_zero].all()


def test_matching_heads_are_found_by_rule(matcher):
    run = SimpleNamespace(config=matcher.config, model=lambda: matcher)
    assert mechanisms.reading_heads(run) == {"matching heads": [(1, 0)], "the other heads": [(1, 1)]}


def test_where_no_head_matches_all_of_the_last_block_are_read(model, config):
    run = SimpleNamespace(config=config, model=lambda: model)
    assert mechanisms.reading_heads(run) == {"all heads of block 1": [(1, 0), (1, 1)]}


def test_swapped_queries_fetch_another_example(matcher, sample):
    swap = mechanisms.draw_swaps(sample, 6, 3)
    p, (x, y) = P, swap.tokens[:, -2:].T
    examples, donors = swap.tokens[:, :-2].unflatten(1, (-1, 3)), swap.donors[:, -2:]
    assert len(swap.tokens) > 20 and torch.equal(swap.tokens[:, :-2], swap.donors[:, :-2])
    for row in range(len(x)):  # the definition, example by example
        (u, v), (a, b) = donors[row].tolist(), (int(x[row]), int(y[row]))
        matches = [
            (z * pow(j, -1, p) * b) % p
            for i, j, z in examples[row].tolist()
            if j and (i * v - j * u) % p == 0
        ]
        assert matches and set(matches) == {int(swap.predicted[row])}
        assert (a * v - b * u) % p != 0 and b != v and b and v
        assert len({int(number[row]) for number in swap[2:]}) == 3
    matching = mechanisms.query_swap(matcher, swap, [(1, 0)])
    other_shares = mechanisms.query_swap(matcher, swap, [(1, 1)])
    rows = (x > 0) & (donors[:, 0] > 0)
    without_zero = mechanisms.Swap(*(part[rows] for part in swap))
    assert mechanisms.query_swap(matcher, without_zero, [(1, 0)])[0] == 1
    assert matching[0] > 0.9 and other_shares[0] == 0 and other_shares[1] > 0.9
    assert sum(matching) == pytest.approx(1)


def test_turned_waves_stand_for_other_numbers(matcher, sample):
    for turned in (
        mechanisms.turned_inputs(matcher, sample, 8, 4),
        mechanisms.turned_slopes(matcher, sample, [(1, 0)], 8, 4),
    ):
        assert list(turned)[:3] == ["all waves", "random", "wave 1"] and len(turned) == 2 + P // 2
        assert turned["all waves"].tolist() == [1] * (P - 2)
        assert turned["random"].max() < 0.7


def test_patching_follows_the_answer_to_the_query(matcher, sample):
    pairs = mechanisms.draw_pairs(sample, MULTIPLE, 40, 3)
    by_place, by_head = mechanisms.patching(matcher, pairs)
    assert list(by_place) == ["embedding", "after block 0", "after block 1"] and by_head.shape == (2, 2)
    by_place = np.stack(list(by_place.values()))  # (stages, places)
    assert (abs(by_place[0, [0, 2, 4, 5]]) < 1e-6).all()  # x and y are the same under both tasks
    assert by_place[0, 1] > 0.95 and by_place[1, 1] > 0.95 and by_place[2, 5] == pytest.approx(1)
    assert by_head[1, 0] > 0.95 and abs(by_head[1, 1]) < 1e-6
    assert (query_kinds(torch.cat([pairs.tokens, pairs.usual[:, None]], 1), P)[:, -1] == MULTIPLE).all()


def test_without_matching_heads_nothing_is_matched(matcher, sample):
    tokens = sample.evaluation_set("ood_train", 200)
    ablation, controls = mechanisms.joint_ablation(matcher, tokens, [(1, 0)])
    assert controls.shape == (1, 3) and controls[0, 1] > ablation[1] + 0.3


def test_as_many_other_heads_or_none(model, config):
    tokens = Data(config).evaluation_set("ood_train", 20)
    assert mechanisms.joint_ablation(model, tokens, [(0, 0), (0, 1)])[1].shape == (0, 3)


def test_progress_measures_are_shares_at_each_checkpoint(tmp_path):
    run = train(tiny(steps=4, eval_every=2, n_checkpoints=2, eval_sequences=8, p=7, depth=2), tmp_path)
    progress = mechanisms.measure_progress(run, run.steps, 20)
    for name in ("swap", "circle", "circle_by_chance"):
        measure = progress[name]
        assert measure.shape == (len(run.steps),) and ((measure >= 0) & (measure <= 1)).all()
    assert mechanisms.measure_progress(run, run.steps[-1:], 20)["circle"] == progress["circle"][-1]


def test_parts_of_an_answer_that_does_not_move_have_no_share(sample):
    model = Transformer(sample.config).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.zero_()  # every logit is 0, whatever the task
    by_place, by_head = mechanisms.patching(model, mechanisms.draw_pairs(sample, MULTIPLE, 4, 3))
    assert np.isnan(list(by_place.values())).all() and np.isnan(by_head).all()
    assert mechanisms.carrying_heads(by_head) == []
