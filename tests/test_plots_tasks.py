"""Figures of plots/tasks.py, read back from their Axes: the right values in the right place and way round."""

from itertools import pairwise

import numpy as np
import pytest
from axes import P, boxes, context, names, ticks, words
from matplotlib.colors import to_hex
from matplotlib.patches import FancyBboxPatch, Polygon

from modgrok import plots
from modgrok.config import SETS
from modgrok.predictors import consistent_tasks


def test_task_tables_cover_held_out_inputs():
    train_pairs = [(0, 1), (2, 3), (4, 0)]
    figure = plots.task_tables([[1, 2], [3, 0]], P, train_pairs)
    for ax, (a, b) in zip(figure.axes, [(1, 2), (3, 0)], strict=True):
        assert words(ax) == {(x, y): str((a * x + b * y) % P) for x, y in train_pairs}
        assert {cell for cell, color in boxes(ax).items() if color == to_hex(plots.CELL)} == set(train_pairs)
        assert (
            set(boxes(ax).values()) == {to_hex(plots.CELL), to_hex(plots.HELD_OUT)}
            and len(boxes(ax)) == P * P
        )
        assert ax.get_title() == f"a = {a}, b = {b}"
    assert names(figure.axes[0]) == ("x", "y")


def test_sequence_strips_ask_for_the_last_z():
    tokens = np.stack([np.arange(15), np.arange(15) + 20])
    (ax,) = plots.sequence_strips(tokens, ["first", "second"], n_first=2).axes
    for row, (sequence, label) in enumerate(zip(tokens, ("first", "second"), strict=True)):
        written = [text for (_, y), text in sorted(words(ax).items()) if y == -row]
        assert written == [label, *map(str, sequence[:6]), "…", str(sequence[-3]), str(sequence[-2]), "?"]
    targets = {x for (x, y), color in boxes(ax).items() if color == to_hex(plots.TARGET)}
    assert targets == {2, 5, 10} and words(ax)[10, 0] == "?"


def test_four_sets_colour_tasks_by_a_and_b():
    corners = np.array([(0, 1), (2, 1), (0, 2), (2, 2)])
    tasks, inputs, sets = plots.four_sets(corners, [(1, 0), (2, 0)], 3, corners).axes
    assert names(tasks) == ("a", "b") and names(inputs) == ("x", "y")
    blue = {cell for cell, color in boxes(tasks).items() if color == to_hex(plots.COLORS["id_train"])}
    assert blue == set(map(tuple, corners.tolist()))
    assert {cell for cell, color in boxes(inputs).items() if color == to_hex(plots.CELL)} == {(1, 0), (2, 0)}
    (outline,) = (patch for patch in tasks.patches if isinstance(patch, Polygon))
    assert all((np.diff(side, axis=0) == 0).any() for side in pairwise(outline.get_xy()))  # no diagonals
    np.testing.assert_array_equal(np.ravel(tasks.lines[0].get_data()), corners[0])
    colors = {
        (box.get_x(), box.get_y()): to_hex(box.get_facecolor())
        for box in sets.patches
        if isinstance(box, FancyBboxPatch)
    }
    assert colors == dict(
        zip([(0, 1), (1, 1), (0, 0), (1, 0)], (to_hex(plots.COLORS[name]) for name in SETS), strict=True)
    )
    assert ticks(sets.xaxis) == ["training inputs", "test inputs"]
    assert ticks(sets.yaxis) == ["o.o.d.\ntasks", "i.d.\ntasks"]
    assert ["o.o.d." in text for _, text in sorted(words(sets).items())] == [True, False, True, False]


@pytest.mark.parametrize("shots", [0, 1, 2])
def test_consistent_tasks_are_those_that_fit(shots):
    task, pairs = (2, 3), [(1, 2), (0, 4), (3, 3)]
    tokens = context(task, pairs)
    strip, plane = plots.consistent_tasks(tokens, shots, *consistent_tasks(tokens, shots, P), task).axes
    fitting = {
        (a, b)
        for a, b in np.ndindex(P, P)
        if all((a * x + b * y) % P == (2 * x + 3 * y) % P for x, y in pairs[:shots])
    }
    assert {cell for cell, color in boxes(plane).items() if color == to_hex(plots.MATCH)} == fitting
    (star,) = plane.lines
    assert (*star.get_xdata(), *star.get_ydata()) == task and names(plane) == ("a", "b")
    n_tasks, answers = {0: (25, "0, 1, 2, 3, 4"), 1: (5, "0, 1, 2, 3, 4"), 2: (1, "0")}[shots]
    assert plane.get_title() == f"tasks that fit: {n_tasks} of 25\npossible z: {answers}"
    written = list(words(strip).values())
    assert written[-3:] == [*map(str, pairs[shots]), "?"] and len(written) == 3 * (shots + 1)
