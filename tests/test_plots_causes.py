"""Figures of interventions, from made-up numbers."""

import numpy as np

from modgrok import plots
from modgrok.plots.causes import MEASURES


def test_bars_of_outcomes_sum_to_one():
    shares = {"a": (0.9, 0.05, 0.0, 0.05), "b": (0.1, 0.6, 0.2, 0.1)}
    ax = plots.swap_outcomes(shares).axes[0]
    widths = np.reshape([bar.get_width() for bar in ax.patches], (4, 2)).T
    np.testing.assert_allclose(widths, list(shares.values()))
    assert [label.get_text() for label in ax.get_yticklabels()] == ["a", "b"]


def test_turns_show_all_waves_the_control_and_each_wave():
    turned, control = np.linspace(0, 1, 12).reshape(4, 3), np.full(3, 0.2)
    ax = plots.turned_waves({"seed 0": (turned, control)}).axes[0]
    np.testing.assert_allclose(ax.images[0].get_array(), np.vstack([turned[0], control, turned[1:]]))
    assert [label.get_text() for label in ax.get_yticklabels()][:3] == ["all waves", "random", "wave 1"]


def test_patching_writes_every_effect():
    effects = np.array([[0.0, 1.0], [-0.001, 0.33]])
    ax = plots.patching_maps({"model": effects}, ["match z", "query y"]).axes[0]
    assert [text.get_text() for text in ax.texts] == ["0.00", "1.00", "0.00", "0.33"]


def test_progress_draws_every_measure_of_every_run():
    measures = {"steps": [0, 1, 2]} | {name: [0, 0.5, 1] for name in MEASURES}
    figure = plots.progress_curves({"seed 0": measures, "seed 1": measures}, 0.2)
    assert all(len(ax.lines) == len(MEASURES) + 1 for ax in figure.axes)
