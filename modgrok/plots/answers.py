"""A model's answers beside those of exact predictors, query by query and kind by kind (F1c, F5, A5)."""

from collections.abc import Iterable
from textwrap import fill

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray

from modgrok.plots.style import (
    COLORS,
    GREY,
    INK,
    LABELS,
    PAPER,
    SOFT,
    banded,
    chance_line,
    figure,
    square,
    styled,
)

CORRECT, INCORRECT = "#F5EBD0", "#40356B"  # sand and violet: apart in lightness for every eye
ALGORITHM_COLORS = {
    "look-up": "#7A828C",
    "ratio matching": "#CC79A7",
    "regression": "#009E73",
    "Bayes, pre-training tasks": INK,
}
"""Colour of each of `evaluate.REFERENCES`, in its order."""
INCORRECT_CONTEXT, ZERO_LINE = "#8A93A0", "#D55E00"  # contexts without and with z = 0; `algorithm.zero_line`
ALGORITHM_DASHES = {
    "zero line": (0, (4, 1.2)),
    "look-up": "-.",
    "Bayes, pre-training tasks": (0, (1.2, 1.2)),
}  # others solid

KINDS = {
    "repeated pair (look-up)": ALGORITHM_COLORS["look-up"],
    "multiple of an earlier pair (ratio matching)": ALGORITHM_COLORS["ratio matching"],
    "combination of earlier pairs (regression)": ALGORITHM_COLORS["regression"],
    "not determined by the examples": SOFT,
}
"""Label of each of `evaluate.KINDS`, in its order → colour of the weakest algorithm that answers it."""

TRUTH = {0: INCORRECT, 1: CORRECT}
DIFFERENCE = {-1: ALGORITHM_COLORS["ratio matching"], 0: "#D3D7DC", 1: ALGORITHM_COLORS["regression"]}


@styled
def model_and_predictors(
    curves: dict[str, ArrayLike],
    references: dict[str, dict[str, ArrayLike]],
    chance: float,
    label: str = "the model (band: 95 %)",
) -> Figure:
    """Accuracy by shot of the model and of exact predictors, one panel for each set (F1c).

    Args:
        curves: set → (3, K) the model's accuracy, low and high end of its interval, or (K,) without interval.
        references: set → predictor → (K',) accuracy of the exact predictor.
        chance: accuracy of a blind guess, 1/p.
        label: name of the model's curve in the legend.
    """
    rows, columns = -(-len(curves) // 2), min(len(curves), 2)
    fig = figure(7.8 if columns == 2 else 6.4, 2.7 * rows + 0.9)
    axes = fig.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for ax, (name, curve) in zip(axes.flat, curves.items(), strict=False):
        for predictor, reference in references[name].items():
            ax.plot(reference, **_algorithm(predictor))
        color = COLORS[name]
        banded(
            ax, np.arange(np.shape(curve)[-1]), curve, color=color, lw=2.4, marker="o", markersize=5, zorder=4
        )
        chance_line(ax, chance)
        ax.set_title(LABELS[name], loc="left", fontsize=11)
        ax.set(ylim=(0, 1.04))
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    for ax in axes[-1]:
        ax.set_xlabel("number of shots")
    for ax in axes[:, 0]:
        ax.set_ylabel("accuracy")
    label_color = COLORS[next(iter(curves))] if len(curves) == 1 else INK
    _algorithm_legend(fig, next(iter(references.values())), label, label_color)
    return fig


@styled
def distance_and_agreement(distances: dict[str, ArrayLike], agreements: dict[str, ArrayLike]) -> Figure:
    """How near the model's answers are to those of each exact predictor, by shot.

    Args:
        distances: predictor → (3, K) relative entropy in nats, low and high end of its interval.
        agreements: predictor → (3, K) share of equal answers, low and high end of its interval.
    """
    fig = figure(7.8, 3.7)
    axes = fig.subplots(1, 2)
    for ax, curves in zip(axes, (distances, agreements), strict=True):
        for name, curve in curves.items():
            banded(ax, np.arange(np.shape(curve)[-1]), curve, **_algorithm(name), marker="o", markersize=4)
        ax.set_xlabel("number of shots")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes[0].set(ylabel="relative entropy (nats)", ylim=(0, None))
    axes[0].set_title("distance: lower is nearer", loc="left", fontsize=11)
    axes[1].set(ylabel="share of queries", ylim=(0, 1.04))
    axes[1].set_title("same answer: higher is nearer", loc="left", fontsize=11)
    _name_ends(axes[0], distances)
    _name_ends(axes[1], agreements)
    return fig


@styled
def distance_curves(steps: ArrayLike, panels: dict[str, ArrayLike]) -> Figure:
    """How far the model's answers are from those of each exact predictor, along training, a panel a set.

    Args:
        steps: (E,) training steps.
        panels: title → (E, 4) mean relative entropy in nats from each of `evaluate.REFERENCES`.
    """
    columns = len(panels) if len(panels) < 4 else 2
    rows = -(-len(panels) // columns)
    fig = figure((6.4, 7.8, 9.6)[columns - 1], 2.6 * rows + 0.9)
    axes = fig.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for ax, (title, distances) in zip(axes.flat, panels.items(), strict=True):
        for i, name in enumerate(ALGORITHM_COLORS):
            ax.plot(steps, np.asarray(distances)[:, i], **_algorithm(name))
        ax.set_title(title, loc="left", fontsize=11)
        ax.set(xlabel="training step", ylabel="relative entropy (nats):\nlower is nearer")
        ax.label_outer()
    axes[0, 0].set_ylim(0, None)  # all panels share this axis
    _algorithm_legend(fig, ALGORITHM_COLORS)
    return fig


@styled
def query_grids(
    correct: dict[str, ArrayLike], is_matched: ArrayLike, tokens: ArrayLike, shots: list[int]
) -> Figure:
    """Which queries are answered correctly, which ratio matching could answer, and the difference (F5).

    Args:
        correct: name of a model → (S, p, p) bool, indexed [shot, x, y].
        is_matched: (S, p, p) bool, as by `predictors.ratio_matches`.
        tokens: (3·k,) the context, k ≥ max(shots).
        shots: the S numbers of examples, one for each column.
    """
    matched = np.asarray(is_matched, dtype=int)
    rows = [
        (f"{name}:\ncorrect answers", np.asarray(grid, dtype=int), False) for name, grid in correct.items()
    ]
    rows += [("ratio matching:\nwhat it can answer", matched, False)]
    rows += [(f"{name} minus\nratio matching", grid - matched, True) for (name, _), (_, grid, _) in
             zip(correct.items(), rows, strict=False)]  # fmt: skip
    fig = figure(max(6.2, 0.9 + 1.7 * len(shots)), 1.66 * len(rows) + 1.2)  # room for the legend
    axes = fig.subplots(len(rows), len(shots), sharex=True, sharey=True, squeeze=False)
    for (label, grids, is_difference), row_axes in zip(rows, axes, strict=True):
        for grid, ax in zip(grids, row_axes, strict=True):
            _cells(ax, grid, DIFFERENCE if is_difference else TRUTH)
        row_axes[0].set_ylabel(f"{label}\n\ny", fontsize=9)
    for ax, k in zip(axes[0], shots, strict=True):
        ax.set_title(f"shots: {k}\n{_context(tokens, k)}", fontsize=9.5)
    for ax in axes[-1]:
        ax.set_xlabel("x")
    _cell_legend(fig)
    return fig


@styled
def algorithm_agreement(panels: dict[str, dict[str, ArrayLike]]) -> Figure:
    """Share of a model's answers that each exact predictor foretells, by number of shots, one panel a model (claim 6).

    Args:
        panels: title → predictor → (K,) shares, nan where the predictors do not differ.
    """
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    fig = figure(2.9 * columns if columns > 1 else 5, 2.4 * rows + 0.7)
    axes = fig.subplots(rows, columns, sharex=True, sharey=True, squeeze=False, shape=0.7)
    for ax, (title, curves) in zip(axes.flat, panels.items(), strict=False):
        for name, curve in curves.items():
            ax.plot(curve, **_algorithm(name))
        ax.set_title(title, loc="left", fontsize=11)
        ax.set(ylim=(0, 1.04), xlabel="number of shots", ylabel="answers foretold")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.label_outer()
    for ax in axes.flat[len(panels) :]:
        ax.remove()
    _algorithm_legend(fig, next(iter(panels.values())))
    return fig


@styled
def correct_by_context(panels: dict[str, tuple[ArrayLike, ArrayLike]], n_queries: int) -> Figure:
    """Histograms over contexts of how many queries a model answers correctly, one panel a model.

    Args:
        panels: title → (n,) correct answers of each context, and (n,) bool whether an example of it has z = 0.
        n_queries: queries of a context, p².
    """
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    fig = figure(2.9 * columns if columns > 1 else 5, 2.2 * rows + 0.7)
    axes = fig.subplots(rows, columns, sharex=True, sharey=True, squeeze=False, shape=0.7)
    bins = np.linspace(0, n_queries, 23)
    colors = (INCORRECT_CONTEXT, ZERO_LINE)
    for ax, (title, (n_correct, is_zero_seen)) in zip(axes.flat, panels.items(), strict=False):
        n_correct, is_zero_seen = np.asarray(n_correct), np.asarray(is_zero_seen)
        ax.hist([n_correct[~is_zero_seen], n_correct[is_zero_seen]], bins, stacked=True, color=colors)
        ax.set_title(title, loc="left", fontsize=11)
        ax.set(xlabel=f"correct of {n_queries} queries", ylabel="contexts")
        ax.label_outer()
    for ax in axes.flat[len(panels) :]:
        ax.remove()
    labels = ("no example has z = 0", "an example has z = 0")
    handles = [Patch(facecolor=color, label=label) for color, label in zip(colors, labels, strict=True)]
    fig.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False, fontsize=10)
    return fig


@styled
def shot_maps(
    maps: dict[str, ArrayLike], xlabel: str, ylabel: str, change: bool = False, loss: bool = False
) -> Figure:
    """Maps of accuracy, of its change or of loss by two numbers of examples (A5); cells that are nan stay empty.

    Args:
        maps: title, or the name of a set → (rows, columns) values.
        xlabel: quantity that the columns count from 0.
        ylabel: quantity that the rows count from 0.
        change: the values are changes of accuracy, coloured from -0.5 to 0.5.
        loss: the values are losses in nats, coloured from 0 to the largest.
    """
    columns = 2 if len(maps) == 4 else min(3, len(maps))
    rows = -(-len(maps) // columns)
    fig = figure(8.4, (3.6 if columns == 2 else 3.2) * rows)
    axes = fig.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    if change:
        scale = {"vmin": -0.5, "vmax": 0.5, "cmap": "PRGn"}
    elif loss:
        scale = {"vmin": 0, "vmax": max(np.nanmax(values) for values in maps.values()), "cmap": "cividis_r"}
    else:
        scale = {"vmin": 0, "vmax": 1, "cmap": "cividis"}
    for ax, (name, values) in zip(axes.flat, maps.items(), strict=True):
        image = ax.imshow(values, origin="lower", aspect="auto", **scale)
        ax.set(title=LABELS.get(name, name), xlabel=xlabel, ylabel=ylabel)
        ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        ax.yaxis.set_major_locator(MaxNLocator(6, integer=True))
        ax.label_outer()
    label = "change in accuracy" if change else "loss (nats)" if loss else "accuracy"
    fig.colorbar(image, ax=axes, label=label, extend="both" if change else "neither", shrink=0.7)
    return fig


def _cells(ax: Axes, grid: NDArray, colors: dict[int, str]) -> None:
    """A p × p grid of cells, indexed [x, y], each value in its colour."""
    p, values = len(grid), sorted(colors)
    cmap = ListedColormap([colors[value] for value in values])
    ax.imshow(np.asarray(grid).T, cmap=cmap, vmin=values[0] - 0.5, vmax=values[-1] + 0.5, origin="lower")
    square(ax, p, "", "")
    if p <= 13:  # with more cells the lines would be all one sees
        edges = np.arange(p + 1) - 0.5
        ax.vlines(edges, -0.5, p - 0.5, color=PAPER, lw=0.8)
        ax.hlines(edges, -0.5, p - 0.5, color=PAPER, lw=0.8)


def _cell_legend(fig: Figure) -> None:
    patches = {
        "correct": CORRECT, "incorrect": INCORRECT,
        "model only": DIFFERENCE[1], "same": DIFFERENCE[0], "ratio matching only": DIFFERENCE[-1],
    }  # fmt: skip
    handles = [
        Patch(facecolor=color, edgecolor=GREY, lw=0.5, label=label) for label, color in patches.items()
    ]
    fig.legend(handles=handles, loc="outside lower center", ncols=5, frameon=False, fontsize=10,
               columnspacing=1.2, handlelength=1.2)  # fmt: skip


def _context(tokens: ArrayLike, shots: int) -> str:
    """The first and the last example before a query as text, such as "(4 21 5) … (2 6 1)"."""
    examples = [f"({x} {y} {z})" for x, y, z in np.asarray(tokens).reshape(-1, 3)[:shots]]
    if len(examples) > 2:
        examples = [examples[0], "…", examples[-1]]
    return " ".join(examples) or "(x y ?)"


def _algorithm(name: str) -> dict:
    return {"color": ALGORITHM_COLORS.get(name, ZERO_LINE), "ls": ALGORITHM_DASHES.get(name, "-"), "lw": 1.8}


def _algorithm_legend(fig: Figure, names: Iterable[str], label: str = "", label_color: str = INK) -> None:
    handles = [Line2D([], [], label=name, **_algorithm(name)) for name in names]
    if label:
        handles.append(Line2D([], [], color=label_color, lw=2.4, marker="o", markersize=5, label=label))
    fig.legend(
        handles=handles, loc="outside lower center", ncols=3 if label else 2, frameon=False, fontsize=10
    )


def _name_ends(ax: Axes, curves: dict[str, ArrayLike]) -> None:
    """Write the names of predictors beside the ends of their curves (3, K), moved apart where these are close."""
    low, high = ax.get_ylim()
    ends = {name: (np.asarray(curve)[0, -1] - low) / (high - low) for name, curve in curves.items()}
    name_y, last_shot = -np.inf, np.shape(next(iter(curves.values())))[-1] - 1
    room = 0.155 * len(ends)  # the highest name must not leave the axes
    for name, end in sorted(ends.items(), key=lambda item: item[1]):
        name_y, room = max(min(end, 1.04 - room), name_y + 0.155), room - 0.155
        ax.annotate(
            fill(name, 14), (last_shot, low + end * (high - low)), xytext=(1.05, name_y), textcoords="axes fraction",
            va="center", fontsize=9, linespacing=0.95,
            arrowprops={"arrowstyle": "-", "color": ALGORITHM_COLORS[name], "lw": 1, "shrinkA": 1, "shrinkB": 3},
        )  # fmt: skip
