"""Figures of plots/answers.py, read back from their Axes: the right values in the right place and way round."""

import numpy as np
import pytest
from axes import (
    P,
    context,
    image,
    keys,
    names,
    of_sets,
    values,
    words,
)
from matplotlib.colors import to_hex

from modgrok import plots
from modgrok.config import SETS


def cell_colors(ax, key):
    """A grid's colours, indexed [x, y], by their names in the legend."""
    name_of_color = {color: name for name, color in key.items()}
    cells = ax.images[0]
    return np.vectorize(lambda value: name_of_color[to_hex(cells.to_rgba(value))])(image(ax)).T


def expected_colors(is_correct, is_matched):
    """Names of the colours of a model's grid, of ratio matching's, and of the difference."""
    difference = np.where(is_correct, "model only", "ratio matching only")
    return (
        np.where(is_correct, "correct", "incorrect"),
        np.where(is_matched, "correct", "incorrect"),
        np.where(is_correct == is_matched, "same", difference),
    )


def test_query_grids_colour_what_only_the_model_and_only_ratio_matching_can():
    pairs = [(1, 2), (0, 4), (3, 3)]
    is_correct, is_matched = values(2, P, P) < 0.5, values(2, P, P) < 0.5
    figure = plots.query_grids({"model": is_correct}, is_matched, context((2, 3), pairs), [1, 3])
    key = keys(figure)
    rows = ("model:\ncorrect answers", "ratio matching:\nwhat it can answer", "model minus\nratio matching")
    for row, (label, grids) in enumerate(zip(rows, expected_colors(is_correct, is_matched), strict=True)):
        for column in range(2):
            ax = figure.axes[2 * row + column]
            np.testing.assert_array_equal(cell_colors(ax, key), grids[column])
            assert ax.images[0].origin == "lower" and not ax.yaxis_inverted()
        assert figure.axes[2 * row].get_ylabel() == f"{label}\n\ny"
    assert figure.axes[0].get_title() == "shots: 1\n(1 2 3)"
    assert figure.axes[1].get_title() == "shots: 3\n(1 2 3) … (3 3 0)"
    assert [ax.get_xlabel() for ax in figure.axes] == [""] * 4 + ["x"] * 2


def test_correct_by_context_stacks_contexts_with_and_without_a_zero():
    n_correct, is_zero_seen = np.array([3, 4, 24, 24, 25]), np.array([0, 0, 1, 1, 0], dtype=bool)
    (ax,) = plots.correct_by_context({"model": (n_correct, is_zero_seen)}, 25).axes
    heights = {to_hex(bar.get_facecolor()): 0 for bar in ax.patches}
    for bar in ax.patches:
        heights[to_hex(bar.get_facecolor())] += bar.get_height()
    assert sorted(heights.values()) == [2, 3]
    assert ax.get_xlabel() == "correct of 25 queries"


@pytest.mark.parametrize(
    "measure, scale, label",
    [
        ("accuracy", (0, 1), "accuracy"),
        ("change", (-0.5, 0.5), "change in accuracy"),
        ("loss", (0, 2.5), "loss (nats)"),
    ],
)
def test_shot_maps_keep_rows_and_columns(measure, scale, label):
    maps = of_sets(3, 4)
    maps["ood_train"][0, 0] = 2.5
    *axes, bar = plots.shot_maps(maps, "of which wrong", "examples seen", measure).axes
    for ax, name in zip(axes, SETS, strict=True):
        np.testing.assert_array_equal(image(ax), maps[name])
        assert ax.images[0].origin == "lower" and ax.get_title() == plots.LABELS[name]
        assert ax.images[0].get_clim() == scale
    assert names(axes[2]) == ("of which wrong", "examples seen")
    assert bar.get_ylabel() == label


def test_a_wall_sorts_tasks_by_what_is_beyond_ratio_matching_held_out_first():
    right = np.zeros((3, 2, 2), dtype=bool)
    right[1, 1, 0] = right[2] = True  # task 1 has one query right, task 2 all
    matched = np.array([[True, False], [False, False]])
    figure = plots.grid_wall(right, matched, [(0, 1), (1, 1), (2, 2)], [False, False, True])
    (ax,) = figure.axes
    assert list(words(ax).values()) == ["(2, 2)", "(1, 1)", "(0, 1)"]
    wall = image(ax)
    tile = wall[-2:, :2]  # y upwards: (0, 0) at the bottom left
    np.testing.assert_array_equal(tile, [[1, 1], [0, 1]])
    np.testing.assert_array_equal(wall[-2:, 3:5], [[3, 3], [2, 1]])
