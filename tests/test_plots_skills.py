"""Figures of plots/skills.py, read back from their Axes: the right values in the right place."""

import numpy as np
from axes import ticks, values

from modgrok import plots


def test_arrivals_tell_those_that_never_come():
    figure = plots.arrival_steps(
        {"a": [10.0, 20, np.inf], "b": [np.nan, 5, 30]}, [0, 0, 1], ["2 blocks", "4 blocks"]
    )
    (ax,) = figure.axes
    assert ticks(ax.yaxis) == ["a", "b"]
    assert [text.get_text() for text in ax.texts if " of " in text.get_text()] == ["1 of 1"]


def test_parts_are_sorted_by_what_is_left():
    accuracies = {"x": {"id_train": 0.9, "ood_train": 0.8}, "y": {"id_train": 0.5, "ood_train": 0.2}}
    figure = plots.parts_lost(
        {"a": accuracies, "b": accuracies}, {key: {"id_train": 1.0, "ood_train": 0.9} for key in "ab"}, 0.2, 2
    )
    ax = figure.axes[0]
    assert ticks(ax.yaxis) == ["y", "x"] and ax.yaxis_inverted()
    np.testing.assert_array_equal(
        [line.get_xdata() for line in ax.lines if len(line.get_xdata()) == 2 and line.get_marker() == "o"],
        [[0.5, 0.9], [0.2, 0.8]],
    )


def test_task_kinds_and_alternation_show_every_panel():
    three, pair = values(3, 2), values(3, 4)
    flat = {"id": [[0]] * 3, "ood": [[0]] * 3}
    figure = plots.task_kind_curves([(4, [1, 2], {"id": three, "ood": -three}), (2, [1], flat)], 0.2)
    titles = [ax.get_title(loc="left") for ax in figure.axes]
    assert titles == [f"{kind} tasks, {n} blocks" for kind in ("i.d.", "o.o.d.") for n in (2, 4)]
    np.testing.assert_array_equal(figure.axes[1].lines[2].get_ydata(), three[1])
    np.testing.assert_array_equal(figure.axes[3].lines[3].get_ydata(), -three[2])
    figure = plots.alternation({"seed 0": (pair[0], pair)}, [2.1, 5, 9])
    assert [bar.get_height() for bar in figure.axes[0].patches] == pair[0].tolist()
    np.testing.assert_allclose(
        figure.axes[1].lines[1].get_ydata(), pair[0] - pair[0].mean()
    )  # the fastest pair's
