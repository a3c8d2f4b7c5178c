"""A model's answers beside those of exact predictors, query by query and kind by kind (F1c, F5, A4, A5)."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray

from modgrok.plots import style

CORRECT, INCORRECT = "#F5EBD0", "#40356B"  # sand and violet: apart in lightness for every eye
LOOK_UP, MATCHING, REGRESSION, ZERO_LINE = "#7A828C", "#CC79A7", "#009E73", "#D55E00"

ALGORITHMS = {
    name: {"color": color, "ls": dashes, "lw": width}
    for name, color, dashes, width in (
        ("look-up", LOOK_UP, "-.", 1.8),
        ("ratio matching", MATCHING, "-", 1.8),
        ("regression", REGRESSION, "-", 1.8),
        ("Bayes, pre-training tasks", style.INK, (0, (1.2, 1.2)), 1.8),
        ("zero line", ZERO_LINE, (0, (4, 1.2)), 1.8),
        ("the model", style.INK, "-", 2.6),
    )
}
"""How the curve of an exact predictor is drawn, and that of a model beside it, for matplotlib."""

KINDS = {
    label: {"color": color, "ls": "-", "lw": 2}
    for label, color in (
        ("repeated pair (look-up)", LOOK_UP),
        ("multiple of an earlier pair (ratio matching)", MATCHING),
        ("combination of earlier pairs (regression)", REGRESSION),
    )
}
"""Label of the first three of `evaluate.KINDS` → how its curve is drawn, in the colour of the weakest algorithm that
answers it."""

TASK_KINDS = {
    name: {"color": color, "ls": "-", "lw": 1.8}
    for name, color in (("z = b·y", "#882255"), ("z = a·x", "#44AA99"), ("both numbers", "#332288"))
}
"""Each of `order.TASK_KINDS` → how its curve is drawn, for matplotlib."""

TRUTH = {"incorrect": INCORRECT, "correct": CORRECT}
DIFFERENCE = {"ratio matching only": MATCHING, "same": "#D3D7DC", "model only": REGRESSION}


@style.styled
def query_grids(
    correct: Mapping[str, ArrayLike], is_matched: ArrayLike, tokens: ArrayLike, shots: Sequence[int]
) -> Figure:
    """Which queries are answered correctly, which ratio matching could answer, and the difference (F5).

    A column is a number of shots. `correct` is model → (shots, p, p) bool, indexed [shot, x, y]; `is_matched` is as by
    `predictors.ratio_matches`; the tokens (3·k,) are those of the context, k ≥ max(shots).
    """
    matched, answers = (
        np.asarray(is_matched, dtype=int),
        {n: np.asarray(grids) for n, grids in correct.items()},
    )
    rows = [
        *((f"{name}:\ncorrect answers", grids, TRUTH) for name, grids in answers.items()),
        ("ratio matching:\nwhat it can answer", matched, TRUTH),
        *((f"{name} minus\nratio matching", 1 + grids - matched, DIFFERENCE) for name, grids in answers.items()),
    ]  # fmt: skip
    fig = style.figure(max(6.2, 0.9 + 1.7 * len(shots)), 1.66 * len(rows) + 1.2)  # room for the legend
    axes = fig.subplots(len(rows), len(shots), sharex=True, sharey=True, squeeze=False)
    for (label, grids, colors), row_axes in zip(rows, axes, strict=True):
        for grid, ax in zip(grids, row_axes, strict=True):
            colored_grid(ax, grid, colors)
        row_axes[0].set_ylabel(f"{label}\n\ny", fontsize=9)
    examples = [f"({x} {y} {z})" for x, y, z in np.asarray(tokens).reshape(-1, 3)]
    for ax, k in zip(axes[0], shots, strict=True):
        context = examples[:k] if k < 3 else [examples[0], "…", examples[k - 1]]
        ax.set_title(f"shots: {k}\n{' '.join(context) or '(x y ?)'}", fontsize=9.5)
    for ax in axes[-1]:
        ax.set_xlabel("x")
    colors = [*reversed(TRUTH.items()), *reversed(DIFFERENCE.items())]
    keys = style.color_keys(dict(colors), edgecolor=style.GREY, lw=0.5)
    style.legend_below(fig, 5, keys, fontsize=10, columnspacing=1.2, handlelength=1.2)
    return fig


@style.styled
def correct_by_context(panels: Mapping[str, tuple[ArrayLike, ArrayLike]], n_queries: int) -> Figure:
    """Histograms over contexts of how many of n queries a model answers correctly, one panel a model.

    panels: title → (contexts,) correct answers, and (contexts,) bool whether an example has z = 0.
    """
    columns, title = min(3, len(panels)), {"loc": "left", "fontsize": 11}
    fig, axes = style.panels(
        panels, (2.9 if columns > 1 else 5, 2.2), (0, 0.7), columns, title, f"correct of {n_queries} queries",
        "contexts", sharex=True, sharey=True, shape=0.7,
    )  # fmt: skip
    bins = np.linspace(0, n_queries, 23)
    colors = {"no example has z = 0": "#8A93A0", "an example has z = 0": ZERO_LINE}
    for ax, (n_correct, is_zero_seen) in zip(axes, panels.values(), strict=True):
        n_correct, is_zero_seen = np.asarray(n_correct), np.asarray(is_zero_seen)
        groups = [n_correct[~is_zero_seen], n_correct[is_zero_seen]]
        ax.hist(groups, bins, stacked=True, color=list(colors.values()))
    style.legend_below(fig, 2, style.color_keys(colors), fontsize=10)
    return fig


SCALES = {
    "accuracy": ("accuracy", "cividis", 0, 1),
    "change": ("change in accuracy", "PRGn", -0.5, 0.5),
    "loss": ("loss (nats)", "cividis_r", 0, None),
}
"""What `shot_maps` shows → its name, its colours, and the ends of their scale; None stands for the largest value."""


@style.styled
def shot_maps(maps: Mapping[str, ArrayLike], xlabel: str, ylabel: str, measure: str = "accuracy") -> Figure:
    """Maps of a measure, one of SCALES, by two numbers of examples, counted from 0 (A5).

    maps: title, or the name of a set → (rows, columns) values; cells that are nan stay empty.
    """
    label, cmap, low, high = SCALES[measure]
    high = high or max(np.nanmax(values) for values in maps.values())
    columns = 2 if len(maps) == 4 else min(3, len(maps))
    titles = [style.LABELS.get(name, name) for name in maps]
    axis = {"xlabel": xlabel, "ylabel": ylabel, "sharex": True, "sharey": True}
    fig, axes = style.panels(titles, (8.4 / columns, 3.6 if columns == 2 else 3.2), columns=columns, **axis)
    for ax, values in zip(axes, maps.values(), strict=True):
        image = ax.imshow(values, origin="lower", aspect="auto", cmap=cmap, vmin=low, vmax=high)
        style.whole_ticks(ax, 6)
        ax.yaxis.set_major_locator(MaxNLocator(6, integer=True))
    fig.colorbar(image, ax=axes, label=label, extend="both" if low < 0 else "neither", shrink=0.7)
    return fig


WALL = {
    "right, ratio matching can": CORRECT,
    "right beyond ratio matching": DIFFERENCE["model only"],
    "wrong, though ratio matching can": DIFFERENCE["ratio matching only"],
    "wrong": INCORRECT,
}
"""Colours of a query in `grid_wall`."""


@style.styled
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
    wall = np.full((rows * height, columns * width), -1)  # one picture draws much faster than many axes
    fig = style.figure(8.4, 8.4 * rows * height / (columns * width) + 0.6)
    ax = fig.add_subplot()  # a wall has no other form for phones
    titles = {}
    for place, i in enumerate(order):
        top, start = place // columns * height, place % columns * width
        wall[top + height - p : top + height, start : start + p] = state[i].T[::-1]  # y upwards
        titles[start + (p - 1) / 2, top - 0.5 + 0.6 * (height - p)] = f"({tasks[i][0]}, {tasks[i][1]})"
    inks = np.where(held_out[order], style.COLORS["ood_train"], style.COLORS["id_train"])
    style.Written(ax, titles, 8.5, inks)
    cmap = ListedColormap(["none", *WALL.values()])
    ax.imshow(wall, cmap=cmap, vmin=-1.5, vmax=3.5, interpolation="none")
    ax.axis("off")
    style.legend_below(fig, 2, style.color_keys(WALL, edgecolor=style.GREY, lw=0.5), fontsize=9)
    return fig


def colored_grid(ax: Axes, grid: NDArray, colors: Mapping[str, str]) -> None:
    """A p × p grid of cells, indexed [x, y], each value 0, 1 … in the colour at its place in `colors`."""
    p = len(grid)
    cmap = ListedColormap(list(colors.values()))
    ax.imshow(np.asarray(grid).T, cmap=cmap, vmin=-0.5, vmax=len(colors) - 0.5, origin="lower")
    style.square(ax, p, "", "")
    if p <= 13:  # with more cells the lines would be all one sees
        edges = np.arange(p + 1) - 0.5
        ax.vlines(edges, -0.5, p - 0.5, color=style.PAPER, lw=0.8)
        ax.hlines(edges, -0.5, p - 0.5, color=style.PAPER, lw=0.8)
