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
    ON_DARK,
    ON_LIGHT,
    PAPER,
    SOFT,
    Written,
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
"""Of `evaluate.REFERENCES`, in its order."""
ALGORITHM_DASHES = {"look-up": "-.", "Bayes, pre-training tasks": (0, (1.2, 1.2))}  # others solid

KINDS = {
    "repeated pair (look-up)": ALGORITHM_COLORS["look-up"],
    "multiple of an earlier pair (ratio matching)": ALGORITHM_COLORS["ratio matching"],
    "combination of earlier pairs (regression)": ALGORITHM_COLORS["regression"],
    "not determined by the examples": SOFT,
}
"""What `evaluate.KINDS` are called, in its order, each in the colour of the weakest algorithm that answers it."""

TRUTH = {0: INCORRECT, 1: CORRECT}
DIFFERENCE = {-1: ALGORITHM_COLORS["ratio matching"], 0: "#D3D7DC", 1: ALGORITHM_COLORS["regression"]}


@styled
def against_predictors(
    curves: dict[str, ArrayLike],
    references: dict[str, dict[str, ArrayLike]],
    chance: float,
    label: str = "the model (band: 95 %)",
) -> Figure:
    """Accuracy by shot of the model and of exact predictors, a panel a set (F1c).

    Args:
        curves: set → (3, K) the model's accuracy, low and high end of its interval, or (K,) without interval.
        references: set → predictor → (K',) accuracies.
        chance: accuracy of a blind guess, 1/p.
        label: what the curves are, for the legend.
    """
    rows, columns = -(-len(curves) // 2), min(len(curves), 2)
    fig = figure(7.8 if columns == 2 else 6.4, 2.7 * rows + 0.9)
    axes = fig.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for ax, (name, curve) in zip(axes.flat, curves.items(), strict=False):
        for who, reference in references[name].items():
            ax.plot(reference, **_algorithm(who))
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
    _algorithm_legend(fig, next(iter(references.values())), label)
    return fig


@styled
def nearest_predictor(
    divergences: dict[str, ArrayLike], agreements: dict[str, ArrayLike], title: str = ""
) -> Figure:
    """How far the model's answers are from those of each exact predictor, by shot.

    Args:
        divergences: predictor → (3, K) relative entropy in nats with its interval.
        agreements: predictor → (3, K) share of equal answers with its interval.
        title: above the panels.
    """
    fig = figure(7.8, 3.7)
    far, same = fig.subplots(1, 2)
    for who in divergences:
        style = _algorithm(who) | {"marker": "o", "markersize": 4}
        banded(far, np.arange(np.shape(divergences[who])[-1]), divergences[who], **style)
        banded(same, np.arange(np.shape(agreements[who])[-1]), agreements[who], **style)
    far.set(ylabel="relative entropy (nats)", ylim=(0, None))
    far.set_title("distance: lower is nearer", loc="left", fontsize=11)
    same.set(ylabel="share of queries", ylim=(0, 1.04))
    same.set_title("same answer: higher is nearer", loc="left", fontsize=11)
    for ax, curves in ((far, divergences), (same, agreements)):
        ax.set_xlabel("number of shots")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        _name_ends(ax, curves)
    fig.suptitle(title, fontsize=12)
    return fig


@styled
def which_algorithm(steps: ArrayLike, divergence: Iterable[ArrayLike], titles: list[str]) -> Figure:
    """How far the model's answers are from those of each exact predictor, along training, a panel a set or a depth.

    Args:
        steps: (E,) training steps.
        divergence: for each panel (E, 4), mean relative entropy in nats from `evaluate.REFERENCES`, or (3, E, 4)
            with its interval.
        titles: one each.
    """
    columns = len(titles) if len(titles) < 4 else 2
    rows = -(-len(titles) // columns)
    fig = figure((6.4, 7.8, 9.6)[columns - 1], 2.6 * rows + 0.9)
    axes = fig.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for ax, panel, title in zip(axes.flat, divergence, titles, strict=True):
        for i, who in enumerate(ALGORITHM_COLORS):
            banded(ax, np.asarray(steps), np.asarray(panel)[..., i], **_algorithm(who))
        ax.set_title(title, loc="left", fontsize=11)
        ax.set(xlabel="training step", ylabel="relative entropy (nats):\nlower is nearer")
        ax.label_outer()
    axes[0, 0].set_ylim(0, None)  # of all panels, whose lines are drawn
    _algorithm_legend(fig, ALGORITHM_COLORS)
    return fig


@styled
def query_grids(
    correct: dict[str, ArrayLike], matched: ArrayLike, tokens: ArrayLike, shots: list[int]
) -> Figure:
    """Which queries are answered correctly, which ratio matching could answer, and the difference (F5).

    Args:
        correct: name of a model → (S, p, p) bool, indexed [shot, x, y].
        matched: (S, p, p) bool, as `algorithms.ratio_matches`.
        tokens: (3·k,) the context, k ≥ max(shots).
        shots: the S numbers of examples, a column each.
    """
    matched = np.asarray(matched, dtype=int)
    rows = [
        (f"{name}:\ncorrect answers", np.asarray(grid, dtype=int), False) for name, grid in correct.items()
    ]
    rows += [("ratio matching:\nwhat it can answer", matched, False)]
    rows += [(f"{name} minus\nratio matching", grid - matched, True) for (name, _), (_, grid, _) in
             zip(correct.items(), rows, strict=False)]  # fmt: skip
    fig = figure(max(6.2, 0.9 + 1.7 * len(shots)), 1.66 * len(rows) + 1.2)  # room for the legend
    axes = fig.subplots(len(rows), len(shots), sharex=True, sharey=True, squeeze=False)
    for (label, grids, signed), line in zip(rows, axes, strict=True):
        for grid, ax in zip(grids, line, strict=True):
            _cells(ax, grid, DIFFERENCE if signed else TRUTH)
        line[0].set_ylabel(f"{label}\n\ny", fontsize=9)
    for ax, k in zip(axes[0], shots, strict=True):
        ax.set_title(f"{k} shot{'s' * (k != 1)}\n{_context(tokens, k)}", fontsize=9.5)
    for ax in axes[-1]:
        ax.set_xlabel("x")
    _cell_legend(fig)
    return fig


@styled
def query_answers(
    answers: dict[str, ArrayLike], task: ArrayLike, matched: ArrayLike, pairs: ArrayLike
) -> Figure:
    """One number of shots: the answers written into the grid, what ratio matching could answer, the difference.

    Args:
        answers: name of a model → (p, p) its answers, indexed [x, y].
        task: (2,) the true (a, b).
        matched: (p, p) bool.
        pairs: (k, 2) the context's (x, y), ringed.
    """
    matched, p = np.asarray(matched, dtype=int), len(matched)
    x, y = np.mgrid[:p, :p]
    truth = (task[0] * x + task[1] * y) % p
    fig = figure(7.8, 2.6 * len(answers) + 1.1)  # with room for the titles
    axes = fig.subplots(len(answers), 3, sharex=True, sharey=True, squeeze=False)
    for line, (name, given) in zip(axes, answers.items(), strict=True):
        right = (np.asarray(given) == truth).astype(int)
        grids = {
            f"{name}: {right.sum()} of {p * p} correct": (right, TRUTH),
            f"ratio matching can: {matched.sum()}": (matched, TRUTH),
            "difference": (right - matched, DIFFERENCE),
        }
        for ax, (title, (grid, colors)) in zip(line, grids.items(), strict=True):
            _cells(ax, grid, colors)
            ax.plot(*np.asarray(pairs).reshape(-1, 2).T, "o", mfc="none", mec="#D55E00", mew=1.6,
                    markersize=min(20, 130 / p))  # fmt: skip
            ax.set_title(title, fontsize=11)
        if p <= 13:
            inks = np.where(right, ON_LIGHT, ON_DARK).ravel()
            Written(line[0], {(i, j): given[i][j] for i, j in np.ndindex(p, p)}, min(10, 75 / p), inks)
        line[0].set_ylabel("y")
    for ax in axes[-1]:
        ax.set_xlabel("x")
    _cell_legend(fig)
    return fig


@styled
def kinds_by_shot(
    composition: ArrayLike, right: dict[str, ArrayLike], chance: float, title: str = ""
) -> Figure:
    """What kinds of queries come at each number of shots, and how many of each the model gets right (F5).

    Args:
        composition: (4, K) share of each kind, in the order of KINDS.
        right: title of a panel → (4, 3, K) accuracy on each kind with its interval.
        chance: accuracy of a blind guess, 1/p.
        title: above the panels.
    """
    fig = figure(7.8, 4.1)
    mix, *panels = fig.subplots(1, 1 + len(right), sharex=True, sharey=True)
    places = np.arange(np.shape(composition)[1])
    bottom = np.zeros(len(places))
    for color, share in zip(KINDS.values(), composition, strict=True):
        mix.bar(places, share, 0.86, bottom, color=color)
        bottom += share
    mix.set(xlim=(-0.6, len(places) - 0.4), ylim=(0, 1.04), ylabel="share or accuracy")
    mix.set_title("share of queries", loc="left", fontsize=11)
    for ax, (name, curves) in zip(panels, right.items(), strict=True):
        _by_kind(ax, places, curves, chance)
        ax.set_title(name, loc="left", fontsize=11)
    for ax in (mix, *panels):
        ax.set_xlabel("number of shots")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    fig.suptitle(title, fontsize=12)
    _kind_legend(fig)
    return fig


@styled
def kinds_by_step(steps: ArrayLike, panels: dict[str, ArrayLike], chance: float) -> Figure:
    """Accuracy on each kind of query, all shots together, along training (F5).

    Args:
        steps: (S,) training steps.
        panels: title → (4, 3, S) accuracy on each kind with its interval.
        chance: accuracy of a blind guess, 1/p.
    """
    rows, columns = -(-len(panels) // 2), min(2, len(panels))
    fig = figure(7.8, 2.9 * rows + 1)
    axes = fig.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for ax, (title, curves) in zip(axes.flat, panels.items(), strict=False):
        _by_kind(ax, np.asarray(steps), curves, chance)
        ax.set_title(title, loc="left", fontsize=11)
        ax.set(ylim=(0, 1.04))
        ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    for ax in axes[-1]:
        ax.set_xlabel("training step")
    for ax in axes[:, 0]:
        ax.set_ylabel("accuracy")
    _kind_legend(fig)
    return fig


@styled
def shot_maps(
    maps: dict[str, ArrayLike], xlabel: str, ylabel: str, change: bool = False, loss: bool = False
) -> Figure:
    """Accuracies by two numbers of examples, such as on the four sets (A5); nothing is drawn where there is none (nan).

    Args:
        maps: set, or another title → (rows, columns) accuracies, or changes of it.
        xlabel: what the columns count from 0.
        ylabel: what the rows count from 0.
        change: whether they are changes, on a scale from -0.5 to 0.5, beyond which colours stay the same.
        loss: whether they are losses in nats, on a scale from 0 to the largest.
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
    """The context in front of a query, its middle left out: "(4 21 5) … (x y ?)"."""
    examples = [f"({x} {y} {z})" for x, y, z in np.asarray(tokens).reshape(-1, 3)[:shots]]
    if len(examples) > 2:
        examples = [examples[0], "…", examples[-1]]
    return " ".join(examples) or "(x y ?)"


def _algorithm(who: str) -> dict:
    return {"color": ALGORITHM_COLORS[who], "ls": ALGORITHM_DASHES.get(who, "-"), "lw": 1.8}


def _algorithm_legend(fig: Figure, names: Iterable[str], label: str | None = None) -> None:
    handles = [Line2D([], [], label=who, **_algorithm(who)) for who in names]
    if label:
        handles.append(Line2D([], [], color=INK, lw=2.4, marker="o", markersize=5, label=label))
    fig.legend(
        handles=handles, loc="outside lower center", ncols=3 if label else 2, frameon=False, fontsize=10
    )


def _name_ends(ax: Axes, curves: dict[str, ArrayLike]) -> None:
    """Write the names of predictors beside the ends of their curves (3, K), moved apart where these are close."""
    low, high = ax.get_ylim()
    ends = {who: (np.asarray(curve)[0, -1] - low) / (high - low) for who, curve in curves.items()}
    place, last = -np.inf, np.shape(next(iter(curves.values())))[-1] - 1
    room = 0.155 * len(ends)  # the highest name must not leave the axes
    for who, end in sorted(ends.items(), key=lambda item: item[1]):
        place, room = max(min(end, 1.04 - room), place + 0.155), room - 0.155
        ax.annotate(
            fill(who, 14), (last, low + end * (high - low)), xytext=(1.05, place), textcoords="axes fraction",
            va="center", fontsize=9, linespacing=0.95,
            arrowprops={"arrowstyle": "-", "color": ALGORITHM_COLORS[who], "lw": 1, "shrinkA": 1, "shrinkB": 3},
        )  # fmt: skip


def _by_kind(ax: Axes, places: NDArray, curves: ArrayLike, chance: float) -> None:
    for color, curve in zip(KINDS.values(), curves, strict=True):
        banded(ax, places, curve, color=color, lw=2, marker="o", markersize=4)
    chance_line(ax, chance)


def _kind_legend(fig: Figure) -> None:
    handles = [Patch(facecolor=color, label=kind) for kind, color in KINDS.items()]
    fig.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False, fontsize=10)
