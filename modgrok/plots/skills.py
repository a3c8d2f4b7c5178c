"""What explains the answers, where they fail, and when each skill is learned (F5; chapters 6, 7, 10, 11 and 13)."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray

from modgrok.plots.answers import CORRECT, DIFFERENCE, INCORRECT, KINDS
from modgrok.plots.style import (
    COLORS,
    DEPTHS,
    FAINT,
    GREY,
    INK,
    LABELS,
    Written,
    blocks,
    chance_line,
    figure,
    legend_below,
    styled,
)

MARKERS = ("o", "s", "^", "D")
"""Markers that go with DEPTHS."""


def _group_style(group: int) -> dict:
    """Colour and marker of a group of runs, such as a depth, by its index."""
    last = len(DEPTHS) - 1
    return {"color": DEPTHS[min(group, last)], "marker": MARKERS[min(group, last)], "ls": "", "ms": 6}


def _named_rows(ax: Axes, names: Iterable[str], fontsize: float | None = None) -> None:
    """Rows from the top, each with its name and a faint line."""
    names = list(names)
    ax.set_yticks(range(len(names)), names, fontsize=fontsize)
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.grid(axis="y", color=FAINT, lw=0.8)
    ax.set_axisbelow(True)
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)


def _accuracy_panels(
    titles: Iterable[str], chance: float, columns: int, height: float
) -> tuple[Figure, NDArray[np.object_]]:
    """A figure with a panel of accuracies for each title, `columns` in a row, and its panels (titles,)."""
    titles = list(titles)
    rows = -(-len(titles) // columns)
    fig = figure(max(4.6, 3.9 * columns), height * rows + 0.9)
    axes = fig.subplots(rows, columns, squeeze=False, sharey=True)
    for ax in axes.flat[len(titles) :]:
        ax.axis("off")
    for ax in axes[:, 0]:
        ax.set_ylabel("accuracy")
    for ax, title in zip(axes.flat, titles, strict=False):
        chance_line(ax, chance)
        ax.set_title(title, loc="left", fontsize=11)
        ax.set(ylim=(0, 1.03))
    return fig, axes.ravel()[: len(titles)]


TASK_COLORS = {"z = b·y": "#882255", "z = a·x": "#44AA99", "both numbers": "#332288"}
"""Colours of `order.TASK_KINDS`, in its order."""


@styled
def task_kind_curves(
    curves: Sequence[tuple[int, ArrayLike, Mapping[str, ArrayLike]]], chance: float
) -> Figure:
    """Accuracy along training on tasks by the numbers that their answer depends on, a line a run.

    A column is a depth; i.d. tasks stand above o.o.d. tasks.

    Args:
        curves: for each run its depth, steps (S,), and "id" and "ood" → accuracies (3, S) by kind of task.
        chance: accuracy of a blind guess, 1/p.
    """
    depths = sorted({depth for depth, *_ in curves})
    panels = [(task_set, depth) for task_set in ("id", "ood") for depth in depths]
    titles = [f"{'.'.join(task_set)}. tasks, {blocks(depth)}" for task_set, depth in panels]
    fig, axes = _accuracy_panels(titles, chance, len(depths), 2.5)
    for ax, (task_set, column) in zip(axes, panels, strict=True):
        for steps, accuracy in (row[1:] for row in curves if row[0] == column):
            for color, curve in zip(TASK_COLORS.values(), accuracy[task_set], strict=True):
                ax.plot(steps, curve, color=color, lw=1.8, marker="o", ms=3.5, alpha=0.9)
        ax.set(xlabel="training step")
        ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    keys = [Line2D([], [], color=color, lw=2, label=name) for name, color in TASK_COLORS.items()]
    legend_below(fig, 3, keys)
    return fig


@styled
def readout_by_kind(panels: Mapping[str, ArrayLike], chance: float, columns: int = 2) -> Figure:
    """Accuracy of the answer read off after so many blocks, by kind of query: mean and range over seeds (A6).

    Args:
        panels: title → (seeds, 3, stages) accuracy on repeats, other multiples and combinations, the embedding first.
        chance: accuracy of a blind guess, 1/p.
        columns: panels in a row.
    """
    fig, axes = _accuracy_panels(panels, chance, columns, 2.4)
    for ax, accuracy in zip(axes, panels.values(), strict=True):
        stages = np.arange(np.shape(accuracy)[-1])
        for color, curves in zip(KINDS.values(), np.swapaxes(accuracy, 0, 1), strict=False):
            ax.plot(stages, curves.mean(0), color=color, lw=2, marker="o", ms=5)
            ax.fill_between(stages, curves.min(0), curves.max(0), color=color, alpha=0.2, lw=0)
        ax.set(xticks=stages, xlabel="blocks passed")
    handles = [Patch(facecolor=color, label=kind) for kind, color in list(KINDS.items())[:3]]
    legend_below(fig, 2, handles, fontsize=10)
    return fig


@styled
def arrival_steps(steps: Mapping[str, ArrayLike], groups: ArrayLike, names: Sequence[str]) -> Figure:
    """When each skill arrives, a row a skill, a dot a run, a bar the median; at the right the runs that never learn it.

    Args:
        steps: skill → (runs,) steps, inf where it never arrives, nan where it was not measured.
        groups: (runs,) indices of `names`.
        names: names of the groups of runs, such as depths.
    """
    groups, table = np.asarray(groups), np.stack(list(steps.values()))
    end = 1.06 * table[np.isfinite(table)].max(initial=1)
    fig = figure(8.2, 1.4 + 0.66 * len(table))
    ax = fig.subplots(shape=0.17 * len(table))
    for group, name in enumerate(names):
        style = _group_style(group)
        rows = np.arange(len(table)) + (group - (len(names) - 1) / 2) * 0.27
        ax.plot([], [], **style, label=name)
        for row, arrivals in zip(rows, table[:, groups == group], strict=True):
            ax.plot(arrivals, np.full(len(arrivals), row), **style, alpha=0.65)
            if np.isfinite(arrivals).any():
                median = np.median(arrivals[np.isfinite(arrivals)])
                ax.plot(median, row, "|", color=style["color"], ms=12, mew=2.5)
            if n_never := np.isinf(arrivals).sum():
                text = f"{n_never} of {(~np.isnan(arrivals)).sum()}"
                ax.text(end, row, text, color=style["color"], fontsize=9, va="center")
    ax.set(xlim=(0, end), xlabel="training step")
    ax.text(end, -0.6, "never", fontsize=9, color=INK, va="bottom")
    _named_rows(ax, steps)
    legend_below(fig, len(names))
    return fig


WALL = {
    "right, ratio matching can": CORRECT,
    "right beyond ratio matching": DIFFERENCE[1],
    "wrong, though ratio matching can": DIFFERENCE[-1],
    "wrong": INCORRECT,
}
"""Colours of a query in `grid_wall`."""


@styled
def grid_wall(right: ArrayLike, matched: ArrayLike, tasks: ArrayLike, held_out: ArrayLike) -> Figure:
    """A small query grid for each of many tasks, sorted by how much is right beyond ratio matching (A4).

    Args:
        right: (n, p, p) bool, indexed [x, y].
        matched: (p, p) bool, queries that ratio matching can answer.
        tasks: (n, 2) task vectors (a, b).
        held_out: (n,) bool; held-out tasks come first, their names are orange.
    """
    right, matched, held_out = np.asarray(right), np.asarray(matched), np.asarray(held_out)
    n = len(right)
    state = np.where(right, np.where(matched, 0, 1), np.where(matched, 2, 3))
    order = np.lexsort((-(state == 0).sum((1, 2)), -(state == 1).sum((1, 2)), ~held_out))
    p, columns = right.shape[1], 13 if n > 60 else 10
    rows, width = -(-n // columns), p + 1  # with a gap at the right
    height = width + max(1, round(0.28 * p))  # with a name above
    wall = np.full(
        (rows * height, columns * width), -1
    )  # one picture, which draws much faster than many axes
    fig = figure(8.4, 8.4 * rows * height / (columns * width) + 0.6)
    ax = fig.add_subplot()  # a wall has no other form for phones
    titles = {}
    for place, i in enumerate(order):
        top, start = place // columns * height, place % columns * width
        wall[top + height - p : top + height, start : start + p] = state[i].T[::-1]  # y upwards
        titles[start + (p - 1) / 2, top - 0.5 + 0.6 * (height - p)] = f"({tasks[i][0]}, {tasks[i][1]})"
    Written(ax, titles, 8.5, np.where(held_out[order], COLORS["ood_train"], COLORS["id_train"]))
    cmap = ListedColormap(["none", *WALL.values()])
    ax.imshow(wall, cmap=cmap, vmin=-1.5, vmax=3.5, interpolation="none")
    ax.axis("off")
    handles = [Patch(facecolor=color, edgecolor=GREY, lw=0.5, label=name) for name, color in WALL.items()]
    legend_below(fig, 2, handles, fontsize=9)
    return fig


@styled
def parts_lost(
    panels: Mapping[str, Mapping[str, Mapping[str, float]]], whole: Mapping[str, Mapping[str, float]],
    chance: float, columns: int,
) -> Figure:  # fmt: skip
    """Accuracy without each part of a model, the part that costs most on o.o.d. tasks on top, a panel a run (A7).

    Args:
        panels: title of a run → part → set → accuracy without the part.
        whole: title → set → accuracy of the whole model, drawn as a line.
        chance: accuracy of a blind guess, 1/p.
        columns: panels in a row.
    """
    rows = -(-len(panels) // columns)
    n_parts = list(map(len, panels.values()))
    heights = [max(n_parts[i : i + columns]) for i in range(0, len(panels), columns)]
    fig = figure(max(4.6, 3.0 * columns), 0.21 * sum(heights) + 0.75 * rows + 0.5)
    axes = fig.subplots(rows, columns, squeeze=False, sharex=True, height_ratios=heights)
    for ax, (title, parts) in zip(axes.flat, panels.items(), strict=False):
        ordered = sorted(parts, key=lambda part: parts[part].get("ood_train", 0))
        for set_name, accuracy in whole[title].items():
            ax.axvline(accuracy, color=COLORS[set_name], lw=1.2)
            style = {"color": COLORS[set_name], "ms": 5, "label": LABELS[set_name], "clip_on": False}
            ax.plot([parts[part][set_name] for part in ordered], range(len(ordered)), "o", **style)
        ax.axvline(chance, color=GREY, ls=":", lw=1)
        ax.set_title(title, fontsize=11)
        ax.set_xlim(0, 1.02)
        _named_rows(ax, ordered, fontsize=9)
    for ax in axes.flat[len(panels) :]:
        ax.axis("off")
    for ax in axes[-1]:
        ax.set_xlabel("accuracy without the part")
    legend_below(fig, min(2, columns))
    return fig


@styled
def alternation(panels: Mapping[str, tuple[ArrayLike, ArrayLike]], periods: ArrayLike) -> Figure:
    """What makes a head read every other example: attention and its rotary pairs, by distance, a column a run (A5).

    Args:
        panels: title → attention to the z of the example so many back (reach,), and what each rotary pair adds to the
            attention's logits (pairs, reach), distances from 1.
        periods: (pairs,) number of examples in which each pair turns once.
    """
    fig = figure(max(4.6, 3.0 * len(panels)), 5.2)
    axes = fig.subplots(2, len(panels), squeeze=False, sharex=True, sharey="row")
    for (above, below), (title, (attention, logits)) in zip(axes.T, panels.items(), strict=True):
        distances, logits = np.arange(1, len(attention) + 1), np.asarray(logits)
        above.bar(distances, attention, 0.7, color=COLORS["id_train"])
        above.set_title(title, fontsize=11)
        fastest = f"fastest pair, a turn in {periods[0]:.2f} examples"
        for curve, color, label in (
            (logits[1:].sum(0), GREY, "all other pairs"),
            (logits[0], COLORS["ood_train"], fastest),
        ):
            below.plot(distances, curve - curve.mean(), "o-", color=color, lw=1.8, ms=4, label=label)
        below.set(xlabel="examples back")
        below.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes[0, 0].set_ylabel("attention from $y$ to $z$")
    axes[1, 0].set_ylabel("logit, less its mean")
    legend_below(fig, min(2, len(panels)), axes[1, 0].get_legend_handles_labels()[0])
    return fig
