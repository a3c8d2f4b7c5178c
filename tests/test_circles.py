"""Structures of a run by chance: found where they are put, and not where they are not."""

from types import SimpleNamespace

import numpy as np
import torch
from tiny import one_thread, tiny  # noqa: F401 (a fixture)

from modgrok import circles, structure
from modgrok.data import grid
from modgrok.model import Transformer


def test_a_circle_in_the_embedding_is_found_there():
    config = tiny(p=11, n_tasks=12, n_examples=8, alpha=0.8)
    model = Transformer(config).init_weights(torch.Generator().manual_seed(0)).eval()
    run = SimpleNamespace(config=config, model=lambda: model)
    nothing = circles.probabilities(run, contexts=2)
    assert nothing.keys() == circles.MEASURES.keys() and all(0 < of <= 1 for of in nothing.values())
    turn = 2 * np.pi * structure.discrete_log(11) / 10
    with torch.no_grad():
        model.embed.weight[:, :2] += torch.from_numpy(9 * np.stack([np.cos(turn), np.sin(turn)], 1)).float()
    found = circles.probabilities(run, contexts=2)
    assert found["circle, embedding"] < 0.01


def test_the_clearest_head_is_the_one_with_most_order(monkeypatch):
    config = tiny(p=11, n_tasks=12, n_examples=8, alpha=0.8)
    model = Transformer(config).init_weights(torch.Generator().manual_seed(0)).eval()
    angle = 2 * np.pi * structure.discrete_log(11)[grid(11)[:, 0]] / 10
    circle = np.stack([np.cos(angle), np.sin(angle)], 1)  # (p², 2)
    rng = np.random.default_rng(0)

    def written(model, context, task):
        outputs = rng.normal(size=(2, 2, 3, 121, 2))
        outputs[0, 1, 1] = circle + 0.01 * outputs[0, 1, 1]
        return outputs

    monkeypatch.setattr(circles.interpret, "head_features", written)
    run = SimpleNamespace(config=config, model=lambda: model)
    head, plane, of = circles.clearest(run, contexts=2)
    assert head == 1 and plane.shape == (121, 2)
    assert of.order.value > 0.99 > of.order.high and of.circle.value > 0.9
