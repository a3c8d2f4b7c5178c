"""Loss and accuracy along training, over numbers of tasks and inputs, and by number of shots (F1b, F1c, F3, F4, A8)."""

import re
from collections.abc import Iterable, Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from numpy.typing import ArrayLike

from modgrok.plots.style import (
    COLORS,
    DASHES,
    DEPTHS,
    FAINT,
    GREY,
    INK,
    LABELS,
    ON_DARK,
    ON_LIGHT,
    PAPER,
    Written,
    banded,
    chance_line,
    figure,
    legend_below,
    styled,
)


def _set_style(set_name: str) -> dict:
    """How the curve of a set is drawn, for matplotlib."""
    return {"color": COLORS[set_name], "ls": DASHES[set_name], "lw": 1.8, "label": LABELS[set_name]}


@styled
def training_curves(metrics: dict[str, ArrayLike], chance: float) -> Figure:
    """Loss and last-shot accuracy on the four sets against training step (F3).

    Strong accuracy lines count only queries that repeat no earlier pair; faint ones count all queries.

    Args:
        metrics: column → values at each evaluation, as `Run.metrics`.
        chance: accuracy of a blind guess, 1/p.
    """
    fig = figure(9.6, 3.6)
    loss, accuracy = fig.subplots(1, 2)
    for set_name in COLORS:
        style = _set_style(set_name)
        loss.plot(metrics["step"], metrics[f"{set_name}_loss"], **style)
        accuracy.plot(metrics["step"], metrics[f"{set_name}_acc"], **style | {"lw": 1, "alpha": 0.4})
        accuracy.plot(metrics["step"], metrics[f"{set_name}_novel"], **style)
    chance_line(accuracy, chance)
    loss.axhline(-np.log(chance), color=GREY, lw=1, ls=":")
    loss.set(xlabel="training step", ylabel="loss (nats per z)")
    accuracy.set(xlabel="training step", ylabel="accuracy, last shot", ylim=(0, 1.02))
    for ax in (loss, accuracy):
        ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    handles = [
        *loss.get_legend_handles_labels()[0],
        Line2D([], [], color=INK, lw=1.8, label="accuracy on queries that are no repeat"),
        Line2D([], [], color=INK, lw=1, alpha=0.4, label="accuracy on all queries"),
    ]
    legend_below(fig, 3, handles)
    return fig


PHASE_COLORS = ("#D5D9DE", "#BCDDF2", "#4E9FD6", "#F6C38F", "#DD6A14")
"""Colours of `skill.PHASES`, in its order: blue where only i.d. tasks are solved, orange where o.o.d. tasks are."""


@styled
def phase_diagram(
    panels: dict[str, ArrayLike], columns: ArrayLike, rows: ArrayLike, names: tuple[str, ...], across: int = 2
) -> Figure:
    """The phase of every seed at every point, side by side in the point's cell (F1b, F4).

    Args:
        panels: title → (seeds, rows, columns) indices of `names`; −1 marks a missing run, which is left blank.
        columns: numbers of pre-training tasks.
        rows: fractions α.
        names: names of the phases.
        across: number of panels side by side.
    """
    n_rows = len(panels) // across
    fig = figure(9.6, 0.8 + 3.6 * n_rows)
    axes = fig.subplots(n_rows, across, shape=0.65, sharex=True, sharey=True, squeeze=False)
    for ax, (title, phases) in zip(axes.flat, panels.items(), strict=True):
        phases = np.asarray(phases)
        for seed, row, column in np.argwhere(phases >= 0):
            corner, width = (column - 0.5 + seed / len(phases), row - 0.5), 1 / len(phases)
            color = PHASE_COLORS[phases[seed, row, column]]
            ax.add_patch(Rectangle(corner, width, 1, facecolor=color, edgecolor=color, lw=0.6))  # no seams
        style = {"ha": "center", "va": "center", "fontsize": 9, "color": ON_LIGHT}
        for phase, (row, column) in _middles(phases).items():
            ax.text(column, row, names[phase].replace(" ", "\n"), **style)
        _map_axes(ax, columns, rows)
        ax.set_xticks(np.arange(len(columns) - 1) + 0.5, minor=True)
        ax.set_yticks(np.arange(len(rows) - 1) + 0.5, minor=True)
        ax.grid(which="minor", color=PAPER, lw=3)
        ax.set_title(title)
        ax.label_outer()
    keys = [
        Rectangle((0, 0), 1, 1, facecolor=color, label=name)
        for color, name in zip(PHASE_COLORS, names, strict=True)
    ]
    legend_below(fig, 3, keys)
    return fig


def _middles(phases: np.ndarray) -> dict[int, tuple[int, int]]:
    """Phase → (row, column) of the point in the middle of those where all seeds are in it."""
    middles = {}
    for phase in np.unique(phases[phases >= 0]):
        points = np.argwhere((phases == phase).all(axis=0))
        if len(points):
            middle = points[np.square(points - points.mean(0)).sum(1).argmin()]
            middles[int(phase)] = tuple(map(int, middle))
    return middles


@styled
def accuracy_maps(
    values: dict[str, ArrayLike],
    columns: ArrayLike,
    rows: ArrayLike,
    label: str = "accuracy, last shot",
    highest: float = 1.0,
) -> Figure:
    """Accuracy, or skill, on the four sets over numbers of tasks and fractions of inputs (F3).

    Args:
        values: set → (rows, columns); nan marks a missing value, which is left blank.
        columns: numbers of pre-training tasks.
        rows: fractions α.
        label: name of the values.
        highest: end of the colour scale, which starts at 0.
    """
    fig = figure(8.4, 6.6)
    axes = fig.subplots(2, 2, sharex=True, sharey=True)
    for ax, (set_name, table) in zip(axes.flat, values.items(), strict=True):
        image = ax.imshow(table, origin="lower", vmin=0, vmax=highest, cmap="cividis", aspect="auto")
        numbers = {(column, row): table[row][column] for row, column in np.argwhere(np.isfinite(table))}
        inks = [ON_DARK if number < 0.6 * highest else ON_LIGHT for number in numbers.values()]
        Written(ax, {place: f"{number:z.2f}" for place, number in numbers.items()}, 10, inks)
        _map_axes(ax, columns, rows)
        ax.set_title(LABELS[set_name])
        ax.label_outer()
    fig.colorbar(image, ax=axes, label=label, shrink=0.7)
    return fig


def _map_axes(ax: Axes, columns: ArrayLike, rows: ArrayLike) -> None:
    ax.set_xticks(range(len(columns)), [str(n_tasks) for n_tasks in columns])
    ax.set_yticks(range(len(rows)), [f"{alpha:g}" for alpha in rows])
    ax.set(xlim=(-0.5, len(columns) - 0.5), ylim=(-0.5, len(rows) - 0.5))
    ax.set(xlabel="pre-training tasks", ylabel="fraction α of inputs")
    ax.tick_params(length=0, which="both")
    ax.spines[:].set_visible(False)


@styled
def with_spread(
    panels: dict[str, dict[str, ArrayLike]], places: ArrayLike, xlabel: str, chance: float, mark: bool = False
) -> Figure:
    """Accuracy by set along any axis: a thick line for the mean over seeds, a thin line for each seed (F3, F4, A1).

    Args:
        panels: title → set → (seeds, len(places)) accuracies.
        places: positions along the x axis, such as training steps.
        xlabel: name of the x axis.
        chance: accuracy of a blind guess, 1/p.
        mark: draw a vertical line where the mean on o.o.d. tasks with training inputs is highest.
    """
    fig = figure(max(7, 2.6 * len(panels) + 0.6), 3.8)
    axes = np.atleast_1d(fig.subplots(1, len(panels), sharey=True))
    markers = {"marker": "o", "markersize": 4.5} if len(places) < 15 else {}
    for ax, (title, accuracy) in zip(axes, panels.items(), strict=True):
        for set_name, curves in accuracy.items():
            _mean_and_seeds(ax, places, curves, **_set_style(set_name), **markers)
        if mark:
            ax.axvline(places[np.mean(accuracy["ood_train"], axis=0).argmax()], color=INK, lw=1)
        chance_line(ax, chance)
        ax.set(title=title, xlabel=xlabel, ylabel="accuracy", ylim=(0, 1.02))
        ticks = MaxNLocator(5 if len(panels) < 3 else 3, integer=True)
        ax.xaxis.set_major_locator(FixedLocator(places) if len(places) < 8 else ticks)
        ax.label_outer()
    legend_below(fig, 2)
    return fig


def _mean_and_seeds(ax: Axes, places: ArrayLike, curves: ArrayLike, **style) -> None:
    """Draw the mean of curves (seeds, n), and each of several as a thin line."""
    ax.plot(places, np.mean(curves, axis=0), **style)
    if len(curves) > 1:
        ax.plot(places, np.transpose(curves), color=style["color"], ls=style["ls"], lw=0.8, alpha=0.5)


@styled
def steps_and_work(curves: dict[str, tuple[ArrayLike, ArrayLike, ArrayLike]]) -> Figure:
    """One accuracy of several models against training step and against computation: mean over seeds, seeds thin.

    Args:
        curves: label → steps (evaluations,), operations in trillions (evaluations,), accuracies (seeds, evaluations).
    """
    fig = figure(9.6, 3.7)
    axes = fig.subplots(1, 2, sharey=True)
    for i, (label, (*places, accuracy)) in enumerate(curves.items()):
        for ax, positions in zip(axes, places, strict=True):
            color = DEPTHS[min(i, len(DEPTHS) - 1)]
            _mean_and_seeds(ax, positions, accuracy, color=color, lw=1.8, ls="-", label=label)
    axes[0].set(xlabel="training step", ylabel="accuracy, last shot", ylim=(0, 1.02))
    axes[1].set(xlabel="trillions of floating-point operations")
    for ax in axes:
        ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    legend_below(fig, len(curves))
    return fig


@styled
def accuracy_by_shot(curves: dict[str, ArrayLike], chance: float) -> Figure:
    """Accuracy against the number of shots on the four sets (F1c).

    Args:
        curves: set → (n_examples,) accuracies after 0 … n_examples − 1 shots, or (3, n_examples) with the two ends of
            their interval.
        chance: accuracy of a blind guess, 1/p.
    """
    fig = figure(7, 3.9)
    ax = fig.subplots()
    for set_name, curve in curves.items():
        n_examples = np.shape(curve)[-1]
        banded(ax, np.arange(n_examples), curve, **_set_style(set_name), marker="o", markersize=4.5)
    chance_line(ax, chance)
    ax.set(xlabel="number of shots", ylabel="accuracy", xlim=(-0.3, n_examples - 0.7), ylim=(0, 1.02))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    legend_below(fig, 2)
    return fig


@styled
def ladder(
    panels: Mapping[str, ArrayLike], p: ArrayLike, primes: ArrayLike, lines: Mapping[str, ArrayLike]
) -> Figure:
    """Cost of solving the unseen tasks against p, on logarithmic axes: every run, and power laws.

    Args:
        panels: label of the y axis → (runs,) values; a run whose value is nan is not drawn.
        p: (runs,) moduli.
        primes: (n,) places of the lines; the last one is marked as the paper's.
        lines: label of the y axis → (3, n) a line and its interval.
    """
    fig = figure(9.6, 4.0)
    for ax, (label, values) in zip(fig.subplots(1, len(panels)), panels.items(), strict=True):
        banded(ax, np.asarray(primes), lines[label], color=COLORS["ood_train"], lw=1.4, ls=":")
        ax.plot(p, values, "o", color=COLORS["ood_train"], mec=PAPER, mew=0.8, ms=7)
        ax.axvline(primes[-1], color=GREY, lw=1)
        ax.annotate(
            f"the paper's p = {primes[-1]}", (primes[-1], 0.02), xycoords=("data", "axes fraction"),
            xytext=(-4, 0), textcoords="offset points", ha="right", fontsize=9, color=INK,
        )  # fmt: skip
        scale = "log" if np.isfinite(values).any() else "linear"  # an empty axis cannot be logarithmic
        ax.set(xscale="log", yscale=scale, xlabel="p", ylabel=label)
        ax.xaxis.set_minor_locator(FixedLocator([]))
        ticks = sorted({*p, primes[-1]})
        ax.set_xticks(ticks, map(str, ticks))
        if scale == "log":
            ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
            ax.yaxis.set_minor_formatter(NullFormatter())
    return fig


@styled
def factor_panels(panels: Mapping[str, Mapping[str, ArrayLike]], steps: int) -> Figure:
    """How soon and how well a model learns when one setting is changed at a time (A8).

    Args:
        panels: setting → value, as text, the base point's first → (4, seeds): the step at which the plateau is left,
            nan if never; the final accuracy on queries that are no repeat; the accuracies there of ratio matching and
            of look-up. A value without a run has no seeds.
        steps: length of every run.
    """
    fig = figure(7.4, 1.45 * len(panels) + 0.9)
    axes = fig.subplots(len(panels), 2, shape=0.3, squeeze=False)
    for (setting, measurements), (step_ax, accuracy_ax) in zip(panels.items(), axes, strict=True):
        values = _in_order(measurements)
        base = values.index(next(iter(measurements)))
        for ax in (step_ax, accuracy_ax):
            ax.axvspan(base - 0.4, base + 0.4, color=FAINT, lw=0, zorder=0)
            ax.set_xticks(range(len(values)), values)
            ax.set_xlim(-0.6, max(len(values), 4) - 0.4)
            ax.tick_params(axis="x", length=0)
        for place, value in enumerate(values):
            _factor_value(step_ax, accuracy_ax, place, np.reshape(measurements[value], (4, -1)), steps)
        step_ax.axhline(steps, color=GREY, lw=1, ls=":")
        step_ax.set(ylim=(0, 1.45 * steps), yticks=[0, steps / 2, steps, 1.3 * steps])
        step_ax.set_yticklabels(["0", f"{steps // 2:,}", f"{steps:,}", "never"])
        accuracy_ax.set(ylim=(0, 1.04), yticks=[0, 0.5, 1])
        step_ax.set_title(setting, loc="left", fontsize=10.5)
        step_ax.set_ylabel("plateau left\nat step", fontsize=9)
        accuracy_ax.set_ylabel("accuracy", fontsize=9)
    keys = [
        Line2D([], [], color=INK, lw=1.4, label="ratio matching"),
        Line2D([], [], color=INK, lw=1.4, ls=":", label="look-up, a guess"),
        Rectangle((0, 0), 1, 1, color=FAINT, label="base point"),
    ]
    legend_below(fig, 3, keys)
    return fig


def _in_order(values: Iterable[str]) -> list[str]:
    """Values of a setting, as text: numbers by size, words as they come."""
    values = list(values)
    are_numbers = all(re.fullmatch(r"[\d.e+]+", value) for value in values)
    return sorted(values, key=float) if are_numbers else values


def _factor_value(step_ax: Axes, accuracy_ax: Axes, place: int, measurements: np.ndarray, steps: int) -> None:
    """Draw the runs at one value of a setting, (4, seeds) as in `factor_panels`, a dot a seed."""
    left_at, accuracy, matched, guess = measurements
    if not len(left_at):
        step_ax.annotate("no run", (place, 0.06 * steps), ha="center", fontsize=8.5, color=GREY)
        return
    places, is_never = place + 0.12 * (np.arange(len(left_at)) - (len(left_at) - 1) / 2), np.isnan(left_at)
    style = {"marker": "o", "ls": "", "ms": 6}
    step_ax.plot(places[~is_never], left_at[~is_never], color=COLORS["id_train"], **style)
    step_ax.plot(
        places[is_never], np.full(is_never.sum(), 1.3 * steps), color=COLORS["id_train"], mfc="none", **style
    )
    accuracy_ax.plot(places, accuracy, color=COLORS["ood_train"], **style)
    for control, line in ((matched, "-"), (guess, ":")):
        accuracy_ax.plot([place - 0.3, place + 0.3], [control.mean()] * 2, color=INK, lw=1.4, ls=line)
