"""Loss and accuracy along training, over numbers of tasks and inputs, and by number of shots (F1b, F1c, F3, F4)."""

import re
from collections.abc import Mapping

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
    styled,
)


@styled
def training_curves(metrics: dict[str, ArrayLike], chance: float, mark: int | None = None) -> Figure:
    """Loss and last-shot accuracy on the four sets against training step (F3).

    Repeated pairs can be copied, so the accuracy that counts is that on queries that are no repeat.

    Args:
        metrics: name → values at each evaluation, as `Run.metrics`.
        chance: accuracy of a blind guess, 1/p.
        mark: a step to point out.
    """
    fig = figure(9.6, 3.6)
    loss, accuracy = fig.subplots(1, 2)
    for name in COLORS:
        style = {"color": COLORS[name], "ls": DASHES[name], "lw": 1.8, "label": LABELS[name]}
        loss.plot(metrics["step"], metrics[f"{name}_loss"], **style)
        accuracy.plot(metrics["step"], metrics[f"{name}_acc"], **style | {"lw": 1, "alpha": 0.4})
        accuracy.plot(metrics["step"], metrics[f"{name}_novel"], **style)
    chance_line(accuracy, chance)
    loss.axhline(-np.log(chance), color=GREY, lw=1, ls=":")
    loss.set(xlabel="training step", ylabel="loss (nats per z)")
    accuracy.set(xlabel="training step", ylabel="accuracy, last shot", ylim=(0, 1.02))
    for ax in (loss, accuracy):
        ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        if mark is not None:
            ax.axvline(mark, color=INK, lw=1)
    handles = [
        *loss.get_legend_handles_labels()[0],
        Line2D([], [], color=INK, lw=1.8, label="accuracy on queries that are no repeat"),
        Line2D([], [], color=INK, lw=1, alpha=0.4, label="accuracy on all queries"),
    ]
    fig.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False)
    return fig


PHASE_COLORS = ("#D5D9DE", "#BCDDF2", "#4E9FD6", "#F6C38F", "#DD6A14")
"""Of `skill.PHASES`, in its order: blue what stays with i.d. tasks, orange what reaches o.o.d. ones."""


@styled
def phase_diagram(
    panels: dict[str, ArrayLike], columns: ArrayLike, rows: ArrayLike, names: tuple[str, ...], across: int = 2
) -> Figure:
    """The phase of every seed at every point, side by side in the point's cell (F1b, F4).

    Args:
        panels: title → (seeds, rows, columns) indices of `names`, -1 where there is no run: nothing is drawn.
        columns: numbers of pre-training tasks.
        rows: fractions α.
        names: of the phases.
        across: panels side by side.
    """
    down = len(panels) // across
    fig = figure(9.6, 0.8 + 3.6 * down)
    axes = fig.subplots(down, across, shape=0.65, sharex=True, sharey=True, squeeze=False)
    for ax, (title, phases) in zip(axes.flat, panels.items(), strict=True):
        phases = np.asarray(phases)
        for seed, row, column in np.ndindex(phases.shape):
            if phases[seed, row, column] < 0:
                continue
            corner, width = (column - 0.5 + seed / len(phases), row - 0.5), 1 / len(phases)
            color = PHASE_COLORS[phases[seed, row, column]]
            ax.add_patch(Rectangle(corner, width, 1, facecolor=color, edgecolor=color, lw=0.6))  # no seams
        for phase, (row, column) in _middles(phases).items():
            ax.text(
                column,
                row,
                names[phase].replace(" ", "\n"),
                ha="center",
                va="center",
                fontsize=9,
                color=ON_LIGHT,
            )
        _map_axes(ax, columns, rows)
        ax.set_xticks(np.arange(len(columns) - 1) + 0.5, minor=True)
        ax.set_yticks(np.arange(len(rows) - 1) + 0.5, minor=True)
        ax.grid(which="minor", color=PAPER, lw=3)
        ax.set_title(title)
        ax.label_outer()
    keys = [Rectangle((0, 0), 1, 1, facecolor=color) for color in PHASE_COLORS]
    fig.legend(keys, names, loc="outside lower center", ncols=3, frameon=False)
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
    most: float = 1.0,
) -> Figure:
    """Accuracy, or skill, on the four sets over numbers of tasks and fractions of inputs (F3).

    Args:
        values: set → (rows, columns); nothing is drawn where there is none (nan).
        columns: numbers of pre-training tasks.
        rows: fractions α.
        label: what the values are.
        most: end of the colour scale, which starts at 0.
    """
    fig = figure(8.4, 6.6)
    axes = fig.subplots(2, 2, sharex=True, sharey=True)
    for ax, (name, of_set) in zip(axes.flat, values.items(), strict=True):
        image = ax.imshow(of_set, origin="lower", vmin=0, vmax=most, cmap="cividis", aspect="auto")
        there = {(column, row): of_set[row][column] for row, column in np.argwhere(np.isfinite(of_set))}
        inks = [ON_DARK if value < 0.6 * most else ON_LIGHT for value in there.values()]
        Written(ax, {place: f"{value:z.2f}" for place, value in there.items()}, 10, inks)
        _map_axes(ax, columns, rows)
        ax.set_title(LABELS[name])
        ax.label_outer()
    fig.colorbar(image, ax=axes, label=label, shrink=0.7)
    return fig


def _map_axes(ax: Axes, columns: ArrayLike, rows: ArrayLike) -> None:
    ax.set_xticks(range(len(columns)), [str(n) for n in columns])
    ax.set_yticks(range(len(rows)), [f"{alpha:g}" for alpha in rows])
    ax.set(xlim=(-0.5, len(columns) - 0.5), ylim=(-0.5, len(rows) - 0.5))
    ax.set(xlabel="pre-training tasks", ylabel="fraction α of inputs")
    ax.tick_params(length=0, which="both")
    ax.spines[:].set_visible(False)


SEEDS = (INK, "#009E73", "#CC79A7", "#8A8F98")
"""Of single runs; none of them is the colour of a set."""


@styled
def seed_curves(runs: dict[str, dict[str, ArrayLike]], chance: float) -> Figure:
    """Last-shot accuracy on o.o.d. tasks against training step, one line a run.

    Args:
        runs: label → metrics of a run, as `Run.metrics`.
        chance: accuracy of a blind guess, 1/p.
    """
    fig = figure(9.6, 3.4)
    axes = fig.subplots(1, 2, sharey=True)
    for ax, name in zip(axes, ("ood_train", "ood_test"), strict=True):
        for i, (label, metrics) in enumerate(runs.items()):
            style = {"color": SEEDS[i % len(SEEDS)], "ls": ("-", "--", "-.")[i // len(SEEDS) % 3], "lw": 1.8}
            ax.plot(metrics["step"], metrics[f"{name}_acc"], **style, label=label)
        chance_line(ax, chance)
        ax.set(xlabel="training step", ylabel="accuracy, last shot", title=LABELS[name], ylim=(0, 1.02))
        ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        ax.label_outer()
    fig.legend(
        *axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(runs), frameon=False
    )
    return fig


@styled
def with_spread(
    panels: dict[str, dict[str, ArrayLike]], places: ArrayLike, xlabel: str, chance: float, mark: bool = False
) -> Figure:
    """Accuracy on the four sets against anything: the mean over seeds, and a thin line a seed (F3, F4, A1).

    Args:
        panels: title → set → (seeds, len(places)) accuracies.
        places: along the x axis, such as training steps.
        xlabel: what the places are.
        chance: accuracy of a blind guess, 1/p.
        mark: draw a line where the mean on o.o.d. tasks, training inputs, is largest.
    """
    fig = figure(max(7, 2.6 * len(panels) + 0.6), 3.8)
    axes = np.atleast_1d(fig.subplots(1, len(panels), sharey=True))
    few = {"marker": "o", "markersize": 4.5} if len(places) < 15 else {}
    for ax, (title, accuracy) in zip(axes, panels.items(), strict=True):
        for name, values in accuracy.items():
            style = few | {"color": COLORS[name], "ls": DASHES[name], "lw": 1.8, "label": LABELS[name]}
            ax.plot(places, np.mean(values, axis=0), **style)
            if len(values) > 1:
                ax.plot(places, np.transpose(values), color=COLORS[name], ls=DASHES[name], lw=0.8, alpha=0.5)
        if mark:
            ax.axvline(places[np.mean(accuracy["ood_train"], axis=0).argmax()], color=INK, lw=1)
        chance_line(ax, chance)
        ax.set(title=title, xlabel=xlabel, ylabel="accuracy", ylim=(0, 1.02))
        ax.xaxis.set_major_locator(FixedLocator(places) if len(places) < 8 else MaxNLocator(5, integer=True))
        ax.label_outer()
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
    return fig


@styled
def steps_and_work(curves: dict[str, tuple[ArrayLike, ArrayLike, ArrayLike]]) -> Figure:
    """One accuracy of several models against training step and against computation: means over seeds, seeds thin.

    Args:
        curves: label → steps (evaluations,), operations in trillions (evaluations,), accuracies (seeds, evaluations).
    """
    fig = figure(9.6, 3.7)
    axes = fig.subplots(1, 2, sharey=True)
    for i, (label, (*places, accuracy)) in enumerate(curves.items()):
        color = DEPTHS[min(i, len(DEPTHS) - 1)]
        for ax, x in zip(axes, places, strict=True):
            ax.plot(x, np.transpose(accuracy), color=color, lw=0.6, alpha=0.5)
            ax.plot(x, np.mean(accuracy, axis=0), color=color, lw=1.8, label=label)
    axes[0].set(xlabel="training step", ylabel="accuracy, last shot", ylim=(0, 1.02))
    axes[1].set(xlabel="trillions of floating-point operations")
    for ax in axes:
        ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    fig.legend(
        *axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(curves), frameon=False
    )
    return fig


@styled
def accuracy_by_shot(curves: dict[str, ArrayLike], chance: float, title: str = "") -> Figure:
    """Accuracy against the number of shots on the four sets (F1c).

    Args:
        curves: set → (n_examples,) accuracies after 0 … n_examples-1 shots, or (3, n_examples) with the ends of their
            interval.
        chance: accuracy of a blind guess, 1/p.
        title: above the axes.
    """
    fig = figure(7, 3.9)
    ax = fig.subplots()
    for name, curve in curves.items():
        style = {"color": COLORS[name], "ls": DASHES[name], "marker": "o", "markersize": 4.5, "lw": 1.8}
        banded(ax, np.arange(np.shape(curve)[-1]), curve, label=LABELS[name], **style)
    chance_line(ax, chance)
    ax.set(xlabel="number of shots", ylabel="accuracy", ylim=(0, 1.02), title=title)
    ax.set_xlim(-0.3, np.shape(next(iter(curves.values())))[-1] - 0.7)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    fig.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
    return fig


@styled
def ladder(
    panels: dict[str, tuple[ArrayLike, ArrayLike]], p: ArrayLike, at: ArrayLike, lines: dict[str, ArrayLike]
) -> Figure:
    """What it takes to solve the unseen tasks, against p, on logarithmic axes: every run, and power laws.

    Args:
        panels: label of the y axis → (n,) values, one a run; a run without one (nan) is not drawn.
        p: (n,) their moduli.
        at: (m,) places of the lines, primes, the last of which is pointed out.
        lines: label of the y axis → (3, m) a line and its interval.
    """
    fig = figure(9.6, 4.0)
    for ax, (label, values) in zip(fig.subplots(1, len(panels)), panels.items(), strict=True):
        banded(ax, np.asarray(at), lines[label], color=COLORS["ood_train"], lw=1.4, ls=":")
        ax.plot(p, values, "o", color=COLORS["ood_train"], mec=PAPER, mew=0.8, ms=7)
        ax.axvline(at[-1], color=GREY, lw=1)
        ax.annotate(
            f"the paper's p = {at[-1]}", (at[-1], 0.02), xycoords=("data", "axes fraction"), xytext=(-4, 0),
            textcoords="offset points", ha="right", fontsize=9, color=INK,
        )  # fmt: skip
        scale = "log" if np.isfinite(values).any() else "linear"  # of nothing there is no logarithm
        ax.set(xscale="log", yscale=scale, xlabel="p", ylabel=label)
        ax.xaxis.set_minor_locator(FixedLocator([]))
        named = sorted({*p, at[-1]})
        ax.set_xticks(named, [str(one) for one in named])
        if scale == "log":
            ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
            ax.yaxis.set_minor_formatter(NullFormatter())
    return fig


@styled
def factor_panels(panels: Mapping[str, Mapping[str, ArrayLike]], steps: int) -> Figure:
    """What each setting does to how soon and how well a model learns, one changed at a time (A8).

    Args:
        panels: setting → value, in words, the base point's first → (seeds, 4): the step at which the plateau is left,
            nan if never; the final accuracy on novel queries; what ratio matching and look-up have of these. No rows
            without a run.
        steps: of every run.
    """
    fig = figure(7.4, 1.45 * len(panels) + 0.9)
    axes = fig.subplots(len(panels), 2, shape=0.3, squeeze=False)
    for (name, values), (left, right) in zip(panels.items(), axes, strict=True):
        base, shown = next(iter(values)), list(values)
        if all(re.fullmatch(r"[\d.e+]+", value) for value in shown):
            shown.sort(key=float)
        for ax in (left, right):
            at = shown.index(base)
            ax.axvspan(at - 0.4, at + 0.4, color=FAINT, lw=0, zorder=0)
        for place, value in enumerate(shown):
            when, accuracy, matched, guess = np.reshape(values[value], (-1, 4)).T
            beside = place + 0.12 * (np.arange(len(when)) - (len(when) - 1) / 2)
            never = np.isnan(when)
            left.plot(beside[~never], when[~never], "o", ms=6, color=COLORS["id_train"])
            left.plot(
                beside[never], [1.3 * steps] * never.sum(), "o", ms=6, mfc="none", color=COLORS["id_train"]
            )
            right.plot(beside, accuracy, "o", ms=6, color=COLORS["ood_train"])
            if len(matched):
                for control, style in ((matched, "-"), (guess, ":")):
                    right.plot(
                        place + np.array([-0.3, 0.3]), [control.mean()] * 2, color=INK, lw=1.4, ls=style
                    )
            else:
                left.annotate("no run", (place, 0.06 * steps), ha="center", fontsize=8.5, color=GREY)
        for ax in (left, right):
            ax.set_xticks(range(len(shown)), shown)
            ax.set_xlim(-0.6, max(len(shown), 4) - 0.4)
            ax.tick_params(axis="x", length=0)
        left.axhline(steps, color=GREY, lw=1, ls=":")
        left.set(ylim=(0, 1.45 * steps), yticks=[0, steps / 2, steps, 1.3 * steps])
        left.set_yticklabels(["0", f"{steps // 2:,}", f"{steps:,}", "never"])
        right.set(ylim=(0, 1.04), yticks=[0, 0.5, 1])
        left.set_title(name, loc="left", fontsize=10.5)
        left.set_ylabel("plateau left\nat step", fontsize=9)
        right.set_ylabel("accuracy", fontsize=9)
    keys = [
        Line2D([], [], color=INK, lw=1.4, label="ratio matching"),
        Line2D([], [], color=INK, lw=1.4, ls=":", label="look-up, a guess"),
        Rectangle((0, 0), 1, 1, color=FAINT, label="base point"),
    ]
    fig.legend(handles=keys, loc="outside lower center", ncols=3, frameon=False)
    return fig
