"""A circle of circles is clearest where it is put, and not where it is not."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiny import tiny

from modgrok.analysis import circles, structure
from modgrok.data import grid
from modgrok.model import Transformer

P = 11
LOG = structure.discrete_log(P)
X, Y = grid(P).T


def ring(numbers, stride=1):
    """(N, 2) on a circle in the order of the logarithm; 0 at the centre."""
    angle = 2 * np.pi * stride * LOG[numbers] / (P - 1)
    return np.where(numbers > 0, [np.cos(angle), np.sin(angle)], 0).T


def outputs(plane, n_contexts=3, noise=0.02):
    """What one head writes in several contexts: (contexts, 1, p², C), the plane turned, and noise."""
    rng = np.random.default_rng(0)
    turn, _ = np.linalg.qr(rng.normal(size=(8, 8)))
    planes = np.pad(plane, ((0, 0), (0, 6))) @ turn
    return planes + noise * rng.normal(size=(n_contexts, 1, P * P, 8))


@pytest.mark.parametrize(
    ("plane", "groups", "places"),
    [
        (ring(X) + 0.3 * ring(Y), "x", 10),
        (ring(Y, 3) + 0.3 * ring(X, 3), "y", 10),
        (ring(X, 2) + 0.3 * ring(Y, 2), "x", 5),  # a pentagon of pentagons: x and -x share a place
    ],
)
def test_planted_circles_are_found(plane, groups, places):
    clearest = circles.clearest_circles(outputs(plane), LOG)
    assert clearest.score.value > 0.95 and clearest.score.p_value <= 0.005 and clearest.score.is_significant
    assert (clearest.groups, clearest.places) == (groups, places)
    assert clearest.plane.shape == (P * P, 2)


def test_the_drawn_plane_is_the_scored_one_wherever_pairs_with_a_0_lie():
    offsets = np.where((X == 0) | (Y == 0), 50.0, 0.0)[:, None] * np.random.default_rng(6).normal(
        size=(P * P, 2)
    )
    vectors = np.pad(ring(X) + 0.3 * ring(Y), ((0, 0), (0, 2))) + np.pad(offsets, ((0, 0), (2, 0)))
    projections = circles.clearest_circles(vectors[None, None], LOG).plane[(X > 0) & (Y > 0)]
    middle = np.stack([projections[X[(X > 0) & (Y > 0)] == x].mean(0) for x in range(1, P)])
    radii = np.linalg.norm(middle - middle.mean(0), axis=1)
    assert radii.min() > 0.9 * radii.max() > 0.5


@pytest.mark.parametrize(
    "plane",
    [
        ring(X) + 0.3 * np.random.default_rng(1).normal(size=(P * P, 2)),  # an outer circle alone
        ring(X) + 0.3 * np.random.default_rng(2).normal(size=(P, 2))[Y],  # the y in groups, in no order
        np.random.default_rng(3).normal(size=(P, 2))[X] + 0.3 * ring(Y),  # the groups in no order
        np.random.default_rng(4).normal(size=(P * P, 2)),
    ],
)
def test_half_a_structure_is_none(plane):
    clearest = circles.clearest_circles(outputs(plane), LOG)
    assert clearest.score.value < 0.8 and clearest.score.p_value > 0.01


def test_chance_chooses_the_best_head_too():
    """P of the best of several heads of noise is uniform, and one clear head is clearest among them."""
    rng = np.random.default_rng(0)
    p_values = [
        circles.clearest_circles(rng.normal(size=(1, 3, P * P, 4)), LOG).score.p_value for _ in range(40)
    ]
    assert 0.35 < np.mean(p_values) < 0.65
    heads = np.concatenate([rng.normal(size=(3, 2, P * P, 8)), outputs(ring(X) + 0.3 * ring(Y))], 1)
    clearest = circles.clearest_circles(heads, LOG)
    assert clearest.head == 2 and clearest.score.p_value <= 0.005


def test_waves_are_found_in_all_dimensions():
    noise = np.random.default_rng(5).normal(size=(3, 2, P * P, 8))
    assert circles.wave_p_value(noise, LOG) > 0.01
    noise[:, 1, :, 6:] += 3 * ring(X, 4)
    assert circles.wave_p_value(noise, LOG) < 0.01


def test_structures_of_a_run():
    config = tiny(p=P, n_tasks=12, n_examples=8, alpha=0.8)
    model = Transformer(config).init_weights(torch.Generator().manual_seed(0)).eval()
    run = SimpleNamespace(config=config, model=lambda: model)
    _, p_value, rank, n_splits = circles.structures(run, n_contexts=2, shots=30)
    assert circles.outputs_at_y(run, 2).shape == (2, 2, P * P, 8)
    assert 0 < p_value <= 1 and n_splits == 126 and 1 <= rank <= 126
