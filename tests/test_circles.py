"""Structures of a run by chance: found where they are put, and not where they are not."""

from types import SimpleNamespace

import numpy as np
import torch
from tiny import one_thread, tiny  # noqa: F401 (a fixture)

from modgrok import circles, structure
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
