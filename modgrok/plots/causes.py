"""What interventions do to a model's answers (chapter 16)."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from modgrok.plots.answers import ALGORITHM_COLORS
from modgrok.plots.style import (
    ATTENTION,
    GREY,
    INK,
    MATCH,
    ON_DARK,
    ON_LIGHT,
    SOFT,
    chance_line,
    figure,
    legend_below,
    styled,
)

OUTCOMES = {
    "the predicted number": MATCH,
    "the query's usual answer": ALGORITHM_COLORS["look-up"],
    "the donor's answer": "#D55E00",
    "another number": SOFT,
}
"""Outcomes of a query swap, in the order of `mechanisms.Shares`, and their colours."""


@styled
def swap_outcomes(shares: Mapping[str, ArrayLike]) -> Figure:
    """How often a model gives each answer after a swap of query vectors, a bar a case.

    Args:
        shares: label of the case → (4,) shares in the order of OUTCOMES.
    """
    fig = figure(7.2, 1.0 + 0.36 * len(shares))
    ax = fig.subplots()
    bar_starts = np.zeros(len(shares))
    for (outcome, color), widths in zip(OUTCOMES.items(), np.transpose(list(shares.values())), strict=True):
        ax.barh(range(len(shares)), widths, left=bar_starts, color=color, label=outcome, height=0.7)
        bar_starts += widths
    ax.set_yticks(range(len(shares)), list(shares))
    ax.set(xlim=(0, 1), ylim=(len(shares) - 0.5, -0.5), xlabel="share of answers")
    ax.spines["left"].set_visible(False)
    ax.tick_params(axis="y", length=0)
    legend_below(fig, 2, fontsize=10)
    return fig


@styled
def turned_waves(panels: Mapping[str, tuple]) -> Figure:
    """How often the answer is that of the turned number: a row a wave, a column a turn.

    Args:
        panels: title → a `mechanisms.Turn`: (1 + waves, p - 2) share of predicted answers, all waves and each alone,
            and (p - 2,) the same of the control.
    """
    fig = figure(2.9 * min(3, len(panels)) + 0.9, 2.5 * -(-len(panels) // 3) + 0.4)
    axes = fig.subplots(-(-len(panels) // 3), min(3, len(panels)), squeeze=False, shape=0.8)
    for ax, (title, (turned, control)) in zip(axes.flat, panels.items(), strict=True):
        rows = np.vstack([turned[0], control, turned[1:]])
        image = _share_map(ax, rows)
        names = ["all waves", "random", *(f"wave {wave}" for wave in range(1, len(turned)))]
        ax.set_yticks(range(len(rows)), names, fontsize=9)
        turns = np.arange(0, rows.shape[1], max(1, rows.shape[1] // 5))
        ax.set_xticks(turns, turns + 1)
        ax.axhline(1.5, color=INK, lw=1)
        ax.set_title(title, fontsize=11)
    fig.supxlabel("steps $k$ of the turn", fontsize=11)
    fig.colorbar(image, ax=axes, label="share of predicted answers", shrink=0.8, aspect=30)
    return fig


@styled
def patching_maps(panels: Mapping[str, ArrayLike], places: Sequence[str]) -> Figure:
    """How far the answer moves if the stream at some positions comes from another task: a row a stage.

    Args:
        panels: title → (stages, places) effects, the embedding first.
        places: names of the groups of positions.
    """
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    fig = figure(3.9 * columns + 0.4, 2.5 * rows + 0.9)
    axes = fig.subplots(rows, columns, squeeze=False, shape=0.8)
    for ax in axes.flat[len(panels) :]:
        ax.axis("off")
    for ax, (title, effects) in zip(axes.flat, panels.items(), strict=False):
        image = _share_map(ax, np.asarray(effects), written=True)
        stages = ["embedding", *(f"after block {block}" for block in range(len(effects) - 1))]
        ax.set_yticks(range(len(stages)), stages, fontsize=9)
        ax.set_xticks(range(len(places)), [place.replace(" ", "\n", 1) for place in places], fontsize=9)
        ax.set_title(title, fontsize=11)
    fig.colorbar(image, ax=axes, label="effect on the answer", shrink=0.7, aspect=30)
    return fig


MEASURES = {
    "circle": ("the circle of $x$", "#0072B2", "-"),
    "circle_by_chance": ("the circle, numbers renamed", "#0072B2", ":"),
    "attention": ("attention to matches, less to others", "#D55E00", "-"),
    "swap": ("swaps that succeed", MATCH, "-"),
    "multiples": ("accuracy, other multiples", INK, "-"),
    "repeats": ("accuracy, repeats", GREY, "--"),
}
"""Measures along training, as `mechanisms.measure_progress` names them: label, colour, dashes."""


@styled
def progress_curves(panels: Mapping[str, Mapping[str, ArrayLike]], chance: float) -> Figure:
    """Measures of a mechanism against the training step, a panel a run.

    Args:
        panels: title → "steps" and each of MEASURES → (checkpoints,).
        chance: accuracy of a blind guess, 1/p.
    """
    fig = figure(2.9 * len(panels) + 0.4, 3.6)
    axes = fig.subplots(1, len(panels), squeeze=False, sharey=True)[0]
    for ax, (title, measures) in zip(axes, panels.items(), strict=True):
        for name, (label, color, dashes) in MEASURES.items():
            ax.plot(measures["steps"], measures[name], dashes, color=color, label=label, lw=2)
        chance_line(ax, chance)
        ax.set(xlabel="training step", ylim=(-0.05, 1.05), title=title)
        ax.locator_params(axis="x", nbins=4)
    axes[0].set_ylabel("share or score")
    legend_below(fig, 2, fontsize=10)
    return fig


def _share_map(ax, shares: np.ndarray, written: bool = False):
    """A map of shares (rows, columns) from 0 to 1, with its numbers written if wanted; returns the image."""
    image = ax.imshow(shares, cmap=ATTENTION, vmin=0, vmax=1, aspect="auto", interpolation="none")
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)
    for (row, column), share in np.ndenumerate(shares if written else shares[:0]):
        color = ON_DARK if share > 0.5 else ON_LIGHT
        ax.text(column, row, f"{abs(share) if abs(share) < 0.005 else share:.2f}", ha="center", va="center",
                fontsize=8, color=color)  # fmt: skip
    return image
