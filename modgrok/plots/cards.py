"""Small figures that say one thing: the findings at a glance, and the picture that stands for the book elsewhere."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from modgrok.plots import style
from modgrok.plots.answers import CORRECT, INCORRECT, TRUTH, colored_grid


@style.styled
def seed_dots(groups: Mapping[str, ArrayLike], ylabel: str, reference: float, label: str) -> Figure:
    """A dot for each seed of each group, and their mean as a bar.

    Args:
        groups: name → (seeds,) values.
        ylabel: what the values are.
        reference: a value to compare with, drawn as a line across.
        label: of that line, or "".
    """
    fig, ax = _small(ylabel, reference, label)
    for i, values in enumerate(groups.values()):
        values = np.asarray(values, dtype=float)
        ax.plot([i - 0.28, i + 0.28], [values.mean() if len(values) else np.nan] * 2, color=style.INK, lw=2)
        places = i + np.linspace(-0.12, 0.12, len(values) + 2)[1:-1]
        ax.plot(places, values, "o", color=style.COLORS["ood_train"], markersize=6, mec=style.PAPER, mew=0.6)
    ax.set(xticks=range(len(groups)), xticklabels=list(groups), xlim=(-0.6, len(groups) - 0.4))
    return fig


@style.styled
def seed_lines(
    groups: Mapping[str, tuple[ArrayLike, ArrayLike]], xlabel: str, ylabel: str, reference: float, label: str
) -> Figure:
    """A line for each seed, the groups told apart by their strokes.

    Args:
        groups: name → places (n,) along the horizontal axis, and (seeds, n) values; two groups at most.
        xlabel: what the places are.
        ylabel, reference, label: as for `seed_dots`.
    """
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


@style.styled
def question_card(
    title: str, lines: Sequence[str], answers: Mapping[str, ArrayLike], truth: ArrayLike, query: ArrayLike
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
    fig = style.figure(12, 6.3)
    fig.set_layout_engine("none")
    fig.text(0.04, 0.88, title, fontsize=33, fontweight="bold", va="center")
    for i, line in enumerate(lines):
        fig.text(0.04, 0.765 - 0.075 * i, line, fontsize=18, va="center", color=style.INK)
    side = 0.5 / 12 * 6.3  # of a grid: half of the height
    for i, (name, answer) in enumerate(answers.items()):
        ax = fig.add_axes((0.985 - (len(answers) - i) * (side + 0.035), 0.07, side, 0.5))
        is_correct = (np.asarray(answer) == truth).astype(int)
        colored_grid(ax, is_correct, TRUTH)
        inks = np.where(is_correct, style.INK, "white").ravel()
        style.Written(ax, {(x, y): answer[x][y] for x, y in np.ndindex(p, p)}, 105 / p, inks)
        ax.plot(*query, "s", mfc="none", mec=style.COLORS["ood_train"], mew=3, markersize=205 / p)
        ax.set(xticks=[], yticks=[])
        ax.set_title(f"{name}: {is_correct.sum()} of {p * p} right", fontsize=16)
    for y, name, color in ((0.2, "right", CORRECT), (0.13, "wrong", INCORRECT)):
        fig.text(0.04, y, "■", color=color, fontsize=20, va="center")
        fig.text(0.07, y, name, fontsize=16, va="center")
    return fig
