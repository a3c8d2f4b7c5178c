"""Structures of a run by chance: found where they are put, and not where they are not."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiny import one_thread, tiny  # noqa: F401 (a fixture)

from modgrok.analysis import activations, circles, structure
from modgrok.data import grid
from modgrok.model import Transformer

LOG = structure.discrete_log(11)
RING = np.stack(
    [np.cos(2 * np.pi * LOG / 10), np.sin(2 * np.pi * LOG / 10)], 1
)  # in the order of the logarithm


def fake_run(depth=2):
    config = tiny(p=11, n_tasks=12, n_examples=8, alpha=0.8, depth=depth)
    model = Transformer(config).init_weights(torch.Generator().manual_seed(0)).eval()
    return SimpleNamespace(config=config, model=lambda: model)


def test_a_circle_in_the_embedding_is_found_there():
    run = fake_run()
    nothing = circles.probabilities(run, contexts=2)
    assert nothing.keys() == {(measure, place) for measure in circles.MEASURES for place in circles.PLACES}
    assert all(0 < of <= 1 for of in nothing.values())
    with torch.no_grad():
        run.model().embed.weight[:, :2] += torch.from_numpy(9 * RING).float()
    found = circles.probabilities(run, contexts=2)
    assert found["circle", "embedding"] < 0.01


def test_one_block_has_no_later_blocks():
    found = circles.probabilities(fake_run(depth=1), contexts=2)
    assert np.isnan(found["wave", "later blocks at y"]) and found["wave", "block 0 at y"] > 0


@pytest.mark.parametrize(
    ("block", "position", "number"), [(0, 0, "x"), (1, 1, "x"), (1, 1, "y"), (1, 2, "z")]
)
def test_what_one_head_writes_is_found_where_it_writes_it(block, position, number, monkeypatch):
    """One of several heads, in noise; z is another number in every context."""
    rng = np.random.default_rng(0)

    def written(model, context, task):
        outputs = rng.normal(size=(2, 2, 3, 121, 8))
        x, y = grid(11).T
        value = {"x": x, "y": y, "z": (np.asarray(task) @ (x, y)) % 11}[number]
        outputs[block, 1, position, :, :2] += 2 * RING[value]
        return outputs

    monkeypatch.setattr(activations, "head_features", written)
    found = circles.probabilities(fake_run(), contexts=3)
    place = f"{('block 0', 'later blocks')[block]} at {'xyz'[position]}"
    assert found["circle", place] < 0.01 and found["wave", place] < 0.01
    others = [of for (measure, where), of in found.items() if where not in (place, "embedding")]
    assert min(others) > 0.005 and np.mean(others) > 0.3


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

    monkeypatch.setattr(circles.activations, "head_features", written)
    run = SimpleNamespace(config=config, model=lambda: model)
    head, plane, of = circles.clearest(run, contexts=2)
    assert head == 1 and plane.shape == (121, 2)
    assert of.value > 0.99 > of.high


def test_chance_chooses_the_clearest_head_too(monkeypatch):
    """With more heads of noise chance finds a clearer one, and the model's is one of them."""
    rng, noise = np.random.default_rng(0), []
    monkeypatch.setattr(circles.activations, "head_features", lambda *_: next(drawn))
    for heads in (1, 8):
        run = SimpleNamespace(config=tiny(p=11, n_tasks=12, n_examples=8, alpha=0.8, n_embd=32, n_head=heads))
        run.model = lambda: None
        drawn = iter([rng.normal(size=(2, heads, 3, 121, 4)) for _ in range(2)])
        noise.append(circles.clearest(run, contexts=2)[2])
    one, eight = noise
    assert eight.baseline > one.baseline + 0.1 and eight.low < eight.value < eight.high
