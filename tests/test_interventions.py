"""Activations, ablation, read-out and attention, on a small model and on patterns made by hand."""

import numpy as np
import pytest
import torch
from torch.testing import assert_close as same

from modgrok import evaluate
from modgrok.analysis import activations, interventions
from modgrok.data import Data, grid
from modgrok.evaluate import accuracy_by_shot


@pytest.fixture(scope="module")
def tokens(config):
    return Data(config).batch(0)


def hooks(model):
    return sum(len(module._forward_hooks) for module in model.modules())


def test_activations_match_logits(model, tokens):
    outputs = activations.activations(model, tokens, list(activations.hook_points(model)))
    logits = model.logits_everywhere(tokens)
    same(torch.nn.functional.linear(model.ln_f(outputs["blocks.1.resid_post"]), model.embed.weight), logits)
    added = sum(outputs[f"blocks.{i}.{part}.out"] for i in range(2) for part in ("attn", "mlp"))
    same(outputs["embed"] + added, outputs["blocks.1.resid_post"])
    same(outputs["blocks.0.attn.pattern"].sum(-1), torch.ones(16, 2, 17))
    same(model.plain_logits(tokens), model(tokens))


def test_activations_at_some_positions_of_many_sequences(model, tokens):
    copies = tokens.repeat(40, 1)  # more than one chunk
    whole = activations.activations(model, tokens, ["blocks.0.attn.pattern", "blocks.1.attn.mix"])
    part = activations.activations(model, copies, list(whole), [3, 4])
    same(part["blocks.0.attn.pattern"][-16:], whole["blocks.0.attn.pattern"][:, :, [3, 4]])
    same(part["blocks.1.attn.mix"][-16:], whole["blocks.1.attn.mix"][:, [3, 4]])


def test_heads_sum_to_the_attention_output(model, tokens):
    outputs = activations.activations(model, tokens, ["blocks.1.attn.out", "blocks.1.attn.mix"])
    same(
        activations.through_output(model, outputs["blocks.1.attn.mix"], 1).sum(-2),
        outputs["blocks.1.attn.out"],
    )


@pytest.mark.parametrize("layer", [0, 1])
def test_the_last_position_alone_gives_the_logits_of_the_plain_path(layer, model, tokens):
    """Also of some of the sequences, and with an edit at that position."""
    name, rows = f"blocks.{layer}.attn.out", torch.tensor([2, 0])
    memory = activations.remember(model, tokens[:, :-1])

    def shift_last(output):
        output = output.clone()
        output[:, -1] += 0.5
        return output

    for edits in ({}, {name: shift_last}):
        with torch.no_grad(), activations.edited(model, edits):
            plain = model.plain_logits(tokens[rows])[:, -1]
        same(
            activations.last_logits(
                model, [[part[rows] for part in parts] for parts in memory[layer:]], edits
            ),
            plain,
            atol=1e-5,
            rtol=1e-5,
        )


def test_hooks_are_removed(model, tokens):
    before = model(tokens)
    with interventions.ablated(model, "blocks.0", "blocks.1.head.0"):
        assert hooks(model) == 3
    with pytest.raises(RuntimeError), interventions.ablated(model, "blocks.0"):
        raise RuntimeError
    with pytest.raises(ValueError, match="no activation of this model; choose one of embed, "):
        activations.activations(model, tokens, ["embed", "blocks.2.mlp.out"])
    assert hooks(model) == 0
    same(model(tokens), before)


@pytest.mark.parametrize(
    "parts",
    [("blocks.0", "blocks.1"), tuple(f"blocks.{i}.{p}" for i in (0, 1) for p in ("head.0", "head.1", "mlp"))],
)
def test_without_heads_and_mlps_the_residual_stream_is_the_embedding(model, tokens, parts):
    with interventions.ablated(model, *parts) as predict:
        outputs = activations.activations(model, tokens, ["embed", "blocks.1.resid_post"])
        same(predict(tokens), interventions.layer_readout(model, tokens)[0])
    assert torch.equal(outputs["embed"], outputs["blocks.1.resid_post"])


def test_ablating_every_head_is_ablating_attention(model, tokens):
    with interventions.ablated(model, "blocks.0.head.0", "blocks.0.head.1") as predict:
        heads = predict(tokens)
    with interventions.ablated(model, "blocks.0.attn") as predict:
        same(predict(tokens), heads)
    assert not torch.allclose(heads, model(tokens))


def test_mean_ablation_keeps_what_all_sequences_share(model, tokens):
    alike = tokens[:1].repeat(3, 1)
    whole = model(alike)
    with interventions.ablated(model, "blocks.0.head.1", "blocks.1.mlp", mean=True) as predict:
        same(predict(alike), whole)
        assert accuracy_by_shot(predict, tokens).shape == (6,)


def test_the_parts_are_all_that_can_be_taken_away(model, tokens):
    parts = interventions.parts_of(model)
    assert list(parts)[:5] == ["head 0.0", "head 0.1", "heads of block 0", "MLP of block 0", "block 0"]
    assert len(parts) == len({*parts.values()}) == 10
    whole = model(tokens)
    for part in parts.values():
        with interventions.ablated(model, part) as predict:
            assert not torch.allclose(predict(tokens), whole), part
            same(predict(tokens), model.plain_logits(tokens))


def test_unknown_part(model):
    with (
        pytest.raises(
            ValueError, match=r"'blocks.0.head.2' is no part of this model; choose from blocks.0, "
        ),
        interventions.ablated(model, "blocks.0.head.2"),
    ):
        pass


def test_readout_ends_in_the_models_answer(model, tokens):
    logits = interventions.layer_readout(model, tokens)
    assert logits.shape == (3, 16, 6, 5)
    same(logits[-1], model(tokens))


def test_pairs_after_a_context(model):
    (x, y), context = grid(5).T, [(1, 2), (3, 4)]
    before = np.broadcast_to([1, 2, 3, 3, 4, 3], (25, 6))  # z = 2·x + 3·y
    pairs = np.stack(
        [x, y, (2 * x + 3 * y) % 5, 0 * x, 0 * x], 1
    )  # the model reads a z if an example follows
    names = ["blocks.0.attn.mix", "blocks.1.attn.mix", "blocks.0.resid_post", "blocks.1.resid_post"]
    plain = activations.activations(
        model, torch.from_numpy(np.concatenate([before, pairs], 1)), names, slice(6, 9)
    )
    stages = activations.stage_features(model, context, (2, 3))
    assert list(stages)[:3] == ["block 0, head 0", "block 0, head 1", "after block 0"] and len(stages) == 6
    for i in (0, 1):
        heads = activations.through_output(model, plain[f"blocks.{i}.attn.mix"], i)  # (p², 3, H, C)
        for h in (0, 1):
            output = torch.from_numpy(stages[f"block {i}, head {h}"])
            same(output, heads[:, :, h].transpose(0, 1), atol=1e-5, rtol=1e-5)
        after = plain[f"blocks.{i}.resid_post"].transpose(0, 1)
        same(torch.from_numpy(stages[f"after block {i}"]), after, atol=1e-5, rtol=1e-5)
    assert list(activations.stage_features(model, context, (2, 3), 1)) == list(stages)[:3]
    block = activations.stage_features(model, np.empty((0, 2)), (2, 3))["after block 0"]
    np.testing.assert_allclose(block[0, :5], np.repeat(block[0, :1], 5, axis=0), atol=1e-6)  # x alone
    with pytest.raises(ValueError, match="shots=5 must lie between 0 and 4"):
        activations.stage_features(model, [(0, 1)] * 5, (2, 3))


def test_contexts_are_prefixes_and_their_tasks_need_both_numbers(config):
    sample = Data(config)
    pairs, tasks = activations.draw_contexts(sample, 12)
    assert pairs.shape == (12, 6, 2) and tasks.shape == (12, 2) and (tasks != 0).all()
    held_out = {tuple(task) for task in sample.tasks["ood"].tolist()}
    taking_turns = {tuple(task) for task in tasks.tolist()}
    usable = {task for task in held_out if all(task)}
    assert taking_turns <= usable and len(taking_turns) == min(12, len(usable))
    for some, all_ in zip(activations.draw_contexts(sample, 5), (pairs, tasks), strict=True):
        assert (some == all_[:5]).all()
    assert (activations.draw_contexts(sample, 3, (0, 1))[1] == (0, 1)).all()


def test_contexts_that_cannot_be_drawn_are_refused(config):
    for n, task, words in (
        (0, None, "contexts=0 must be"),
        (2.5, None, "contexts=2.5"),
        (1, [9, 9], "task must be"),
    ):
        with pytest.raises(ValueError, match=words):
            activations.draw_contexts(Data(config), n, task)


def test_without_nothing_it_is_the_whole_and_questions_stay_apart(model, config):
    questions = {name: Data(config).evaluation_set(name, 40) for name in ("id_train", "ood_train")}
    whole = interventions.accuracy_without(model, questions)
    kinds = evaluate.query_kinds(questions["ood_train"], 5)[:, 3:]
    right = (model(questions["ood_train"]).argmax(-1) == questions["ood_train"][:, 2::3])[:, 3:]
    assert whole["ood_train"] == pytest.approx(float(right[kinds != 0].double().mean()), abs=1e-6)
    parts = interventions.parts_of(model)
    assert interventions.accuracy_without(model, questions, parts["block 0"]) != whole


def test_readout_by_kind_ends_in_the_models_accuracy(model, tokens):
    accuracy = interventions.readout_by_kind(model, tokens)
    right, kinds = model(tokens).argmax(-1) == tokens[:, 2::3], evaluate.query_kinds(tokens, 5)
    assert accuracy.shape == (3, 3)
    assert accuracy[1, -1] == pytest.approx(float(right[kinds == 1].double().mean()))
