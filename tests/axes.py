"""What stands on the Axes of a figure, read back, and numbers to draw."""

import numpy as np
from matplotlib.collections import PatchCollection
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle

from modgrok import plots
from modgrok.config import SETS
from modgrok.plots.style import Written

RNG = np.random.default_rng(0)
P = 5
STEPS = np.array([0, 10, 30, 40])
PREDICTORS = tuple(plots.ALGORITHMS)[:4]


def values(*shape):
    return RNG.random(shape)


def of_sets(*shape):
    return {name: values(*shape) for name in SETS}


A_RUN = {f"{name}_{column}": values(4) for name in SETS for column in ("loss", "acc", "novel")} | {
    "step": STEPS
}
"""Metrics of a run, as `Run.metrics`."""


def context(task, pairs, p=P):
    """Tokens (3·k,) of a task's examples at some pairs."""
    x, y = np.asarray(pairs).T
    return np.column_stack([x, y, (task[0] * x + task[1] * y) % p]).ravel()


def lines(ax, color, **properties):
    """The lines of a colour, of those with the wanted properties."""
    return [
        line
        for line in ax.lines
        if to_hex(line.get_color()) == to_hex(color)
        and all(getattr(line, f"get_{name}")() == value for name, value in properties.items())
    ]


def assert_line(ax, x, y, color, **properties):
    (line,) = lines(ax, color, **properties)
    np.testing.assert_allclose(line.get_xdata(), x)
    np.testing.assert_allclose(line.get_ydata(), y)


def words(ax):
    """What is written where: (x, y) → text."""
    written = {place: text for artist in ax.findobj(Written) for place, text in artist.texts.items()}
    return written | {tuple(map(float, text.get_position())): text.get_text() for text in ax.texts}


def boxes(ax):
    """Middles and colours of the rectangles: (x, y) → colour."""
    tiles = {
        tuple(np.round(path.get_extents().get_points().mean(0), 3).tolist()): to_hex(color)
        for collection in ax.findobj(PatchCollection)
        for path, color in zip(collection.get_paths(), collection.get_facecolors(), strict=True)
    }
    return tiles | {
        tuple(np.round(box.get_center(), 3).tolist()): to_hex(box.get_facecolor())
        for box in ax.patches
        if isinstance(box, Rectangle)
    }


def image(ax):
    return np.ma.filled(ax.images[0].get_array(), np.nan)


def ticks(axis):
    return [str(text) for text in axis.get_major_formatter().format_ticks(axis.get_majorticklocs())]


def names(ax):
    return ax.get_xlabel(), ax.get_ylabel()


def keys(figure):
    """The legend of a figure or of axes: label → colour."""
    legend = figure.legends[0] if hasattr(figure, "legends") else figure.get_legend()
    return {
        text.get_text(): to_hex(
            handle.get_color() if hasattr(handle, "get_color") else handle.get_facecolor()
        )
        for text, handle in zip(legend.get_texts(), legend.legend_handles, strict=True)
    }


SET_KEYS = {plots.LABELS[name]: to_hex(plots.COLORS[name]) for name in SETS}
