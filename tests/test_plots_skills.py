"""Figures of plots/skills.py, read back from their Axes: the right values in the right place."""

import numpy as np
from axes import ticks

from modgrok import plots


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
