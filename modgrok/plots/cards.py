"""Small figures that say one thing: the findings at a glance."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from modgrok.plots import style


@style.styled
def seed_dots(groups: Mapping[str, ArrayLike], ylabel: str, reference: float, label: str) -> Figure:
    """A dot for each seed of each group, name → (seeds,) values, and their mean as a bar.

    A labelled line across marks a reference value.
    """
    fig, ax = _small(ylabel, reference, label)
    for i, values in enumerate(groups.values()):
        values = np.asarray(values, dtype=float)
        if not len(values):
            ax.text(i, 0.5, "none", transform=ax.get_xaxis_transform(), ha="center", va="center", fontsize=9)
            continue
        ax.plot([i - 0.28, i + 0.28], [values.mean()] * 2, color=style.INK, lw=2)
        places = i + np.linspace(-0.12, 0.12, len(values) + 2)[1:-1]
        ax.plot(places, values, "o", color=style.COLORS["ood_train"], markersize=6, mec=style.PAPER, mew=0.6)
    ax.set(xticks=range(len(groups)), xticklabels=list(groups), xlim=(-0.6, len(groups) - 0.4))
    return fig


@style.styled
def seed_lines(
    groups: Mapping[str, tuple[ArrayLike, ArrayLike]], xlabel: str, ylabel: str, reference: float, label: str
) -> Figure:
    """A line for each seed of one or two groups, name → places (n,) and (seeds, n) values, and a reference line."""
    fig, ax = _small(ylabel, reference, label)
    colors = (style.GREY, style.COLORS["ood_train"])[-len(groups) :]
    for (name, (places, curves)), color, dashes in zip(groups.items(), colors, ("-", "--"), strict=False):
        lines = ax.plot(places, np.transpose(curves), color=color, ls=dashes, lw=1.5)
        lines[0].set_label(name)
    ax.set_xlabel(xlabel, fontsize=9, labelpad=1)
    style.whole_ticks(ax, 3)
    if len(groups) > 1:
        ax.legend(fontsize=9, frameon=False, loc="best", handlelength=1.6, borderaxespad=0)
    return fig


def _small(ylabel: str, reference: float, label: str) -> tuple[Figure, Axes]:
    """A small figure with one axis and a dotted line at the reference."""
    fig = style.figure(3.1, 1.5)
    ax = fig.subplots()
    ax.set_ylabel(ylabel, fontsize=9, labelpad=2)
    ax.yaxis.set_major_locator(MaxNLocator(3))
    ax.tick_params(labelsize=9)
    ax.axhline(reference, color=style.GREY, lw=1, ls=":")
    corner = {"xycoords": ("axes fraction", "data"), "ha": "right", "va": "bottom"}
    ax.annotate(label, (1, reference), fontsize=9, color=style.GREY, **corner)
    return fig, ax
