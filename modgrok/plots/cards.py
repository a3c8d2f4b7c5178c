"""Small figures that say one thing: the findings at a glance, and the picture that stands for the book elsewhere."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from modgrok.plots.answers import CORRECT, INCORRECT, TRUTH, _cells
from modgrok.plots.style import COLORS, GREY, INK, PAPER, Written, figure, styled

SMALL = (3.1, 1.5)  # inches


@styled
def seed_dots(groups: dict[str, ArrayLike], line: float, ylabel: str, name: str = "") -> Figure:
    """A dot a seed for each group, and their mean as a bar.

    Args:
        groups: name → (seeds,) values.
        line: a value to compare with, drawn across.
        ylabel: what the values are.
        name: of that line.
    """
    fig, ax = _small(ylabel)
    _line(ax, line, name)
    for i, values in enumerate(groups.values()):
        values = np.asarray(values, dtype=float)
        if not len(values):
            continue
        places = i + np.linspace(-0.12, 0.12, len(values)) * (len(values) > 1)
        ax.plot([i - 0.28, i + 0.28], [values.mean()] * 2, color=INK, lw=2)
        ax.plot(places, values, "o", color=COLORS["ood_train"], markersize=6, mec=PAPER, mew=0.6)
    ax.set(xticks=range(len(groups)), xticklabels=list(groups), xlim=(-0.6, len(groups) - 0.4))
    return fig


@styled
def seed_lines(
    places: ArrayLike, groups: dict[str, ArrayLike], line: float, xlabel: str, ylabel: str, name: str = ""
) -> Figure:
    """A line a seed, the groups told apart by their strokes.

    Args:
        places: (n,) along the horizontal axis, or group → (n,).
        groups: name → (seeds, n) values; two at most.
        line, ylabel, name: as in `seed_dots`; no name, no line.
        xlabel: what the places are.
    """
    fig, ax = _small(ylabel)
    if name:
        _line(ax, line, name)
    colors = (COLORS["ood_train"],) if len(groups) == 1 else (GREY, COLORS["ood_train"])
    for (group, curves), color, style in zip(groups.items(), colors, ("-", "--"), strict=False):
        at = places[group] if isinstance(places, dict) else places
        for i, curve in enumerate(curves):
            ax.plot(at, curve, color=color, ls=style, lw=1.5, label=group if i == 0 else None)
    ax.set_xlabel(xlabel, fontsize=9, labelpad=1)
    ax.xaxis.set_major_locator(MaxNLocator(3, integer=True))
    if len(groups) > 1:
        ax.legend(fontsize=9, frameon=False, loc="best", handlelength=1.6, borderaxespad=0)
    return fig


def _line(ax: Axes, line: float, name: str) -> None:
    ax.axhline(line, color=GREY, lw=1, ls=":")
    place = {"xycoords": ("axes fraction", "data"), "ha": "right", "va": "bottom"}
    ax.annotate(name, (1, line), fontsize=9, color=GREY, **place)


def _small(ylabel: str) -> tuple[Figure, Axes]:
    fig = figure(*SMALL)
    ax = fig.subplots()
    ax.set_ylabel(ylabel, fontsize=9, labelpad=2)
    ax.yaxis.set_major_locator(MaxNLocator(3))
    ax.tick_params(labelsize=9)
    return fig, ax


@styled
def question_card(
    title: str, lines: Sequence[str], answers: dict[str, ArrayLike], truth: ArrayLike, query: ArrayLike
) -> Figure:
    """One question to some models, 1,200 × 630 pixels at 100 dpi: what other sites show of the book.

    Args:
        title: of the book.
        lines: below it.
        answers: name of a model → (p, p) its answers, indexed [x, y].
        truth: (p, p) right answers.
        query: (x, y) to outline.
    """
    truth, p = np.asarray(truth), len(truth)
    fig = figure(12, 6.3)
    fig.set_layout_engine("none")
    fig.text(0.04, 0.88, title, fontsize=33, fontweight="bold", va="center")
    for i, line in enumerate(lines):
        fig.text(0.04, 0.765 - 0.075 * i, line, fontsize=18, va="center", color=INK)
    side = 0.5 / 12 * 6.3  # of a grid: half of the height
    for i, (name, given) in enumerate(answers.items()):
        ax = fig.add_axes((0.985 - (len(answers) - i) * (side + 0.035), 0.07, side, 0.5))
        right = (np.asarray(given) == truth).astype(int)
        _cells(ax, right, TRUTH)
        inks = np.where(right, INK, "white").ravel()
        Written(ax, {(x, y): given[x][y] for x, y in np.ndindex(p, p)}, 105 / p, inks)
        ax.plot(*query, "s", mfc="none", mec=COLORS["ood_train"], mew=3, markersize=205 / p)
        ax.set(xticks=[], yticks=[])
        ax.set_title(f"{name}: {right.sum()} of {p * p} right", fontsize=16)
    fig.text(0.04, 0.2, "■", color=CORRECT, fontsize=20, va="center")
    fig.text(0.07, 0.2, "right", fontsize=16, va="center")
    fig.text(0.04, 0.13, "■", color=INCORRECT, fontsize=20, va="center")
    fig.text(0.07, 0.13, "wrong", fontsize=16, va="center")
    return fig
