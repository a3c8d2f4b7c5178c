"""Loss and accuracy along training, over numbers of tasks and inputs, and by number of shots (F1b, F1c, F3, F4, A8)."""

import re
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter
from numpy.typing import ArrayLike

from modgrok.plots import style


@style.styled
def curves(
    panels: Mapping[str, Mapping[str, ArrayLike]], xlabel: str, ylabel: str = "accuracy",
    places: ArrayLike | Mapping[str, ArrayLike] | None = None, looks: Mapping[str, Mapping] = style.SETS,
    chance: float | Mapping[str, float] | None = None, limits: tuple[float, float | None] = (0, 1.03), peak: str = "",
    starts: Mapping[str, Sequence] | None = None,
) -> Figure:  # fmt: skip
    """Measurements along training, by number of shots or block by block: a panel a model, a curve a name.

    Args:
        panels: title → name → (n,) values, which may be nan, or (runs, n): a thick line for the mean, a thin one a run.
        places: (n,) along the x axis, or title → (n,); by default 0, 1, 2 …
        looks: name → how its curve is drawn, for matplotlib: such as `SETS`, `ALGORITHMS`, `KINDS` or `MEASURES`.
        limits: of the y axis; None leaves its end to matplotlib.
        peak: name of a curve; a vertical line stands where its mean is highest, none if that is the first place.
        starts: title → places of faint vertical lines, such as the steps at which phases of a curriculum begin.
    """
    columns = 2 if len(panels) == 4 else min(3, len(panels))
    size, axis = ((7, 3.9, 3)[columns - 1], 2.6), {"sharex": True, "sharey": True, "shape": 0.7}
    fig, axes = style.panels(panels, size, (0, 0.9), columns, None, xlabel, ylabel, **axis)
    for ax, (title, by_name) in zip(axes, panels.items(), strict=True):
        x = places[title] if isinstance(places, Mapping) else places
        x = range(np.shape(next(iter(by_name.values())))[-1]) if x is None else x
        for name, values in by_name.items():
            marker = {"marker": "o", "ms": 4.5} if len(x) <= 16 else {}
            runs, look = np.atleast_2d(values), {"label": name} | looks[name] | marker
            ax.plot(x, np.mean(runs, axis=0), **look)
            if len(runs) > 1:
                ax.plot(x, np.transpose(runs), color=look["color"], ls=look["ls"], lw=0.8, alpha=0.5)
        if peak and (best := np.mean(by_name[peak], axis=0).argmax()) > 0:
            ax.axvline(x[best], color=style.INK, lw=1)
        for start in (starts or {}).get(title, ()):
            ax.axvline(start, color=style.FAINT, lw=1.2, zorder=0)
        if chance is not None:
            style.chance_line(ax, chance[title] if isinstance(chance, Mapping) else chance)
        if len(x) < 8:
            ax.xaxis.set_major_locator(FixedLocator(x))
        else:
            style.whole_ticks(ax, 8 if np.max(x) < 100 else 4)  # steps have five figures
    axes[0].set_ylim(limits)  # all panels share this axis
    style.legend_below(fig, 2, fontsize=10)
    return fig


@style.styled
def training_curves(metrics: Mapping[str, ArrayLike], chance: float) -> Figure:
    """Loss and last-shot accuracy on the four sets against training step, from `Run.metrics` (F3).

    Strong accuracy lines count only queries that repeat no earlier pair; faint ones count all queries.
    """
    fig = style.figure(9.6, 3.6)
    loss, accuracy = fig.subplots(1, 2)
    steps = metrics["step"]
    for set_name, line in style.SETS.items():
        loss.plot(steps, metrics[f"{set_name}_loss"], **line)
        accuracy.plot(steps, metrics[f"{set_name}_acc"], **line | {"lw": 1, "alpha": 0.4})
        accuracy.plot(steps, metrics[f"{set_name}_novel"], **line)
    style.chance_line(accuracy, chance)
    loss.axhline(-np.log(chance), color=style.GREY, lw=1, ls=":")
    loss.set(xlabel="training step", ylabel="loss (nats per z)")
    accuracy.set(xlabel="training step", ylabel="accuracy, last shot", ylim=(0, 1.02))
    for ax in (loss, accuracy):
        style.whole_ticks(ax, 5)
    handles = [
        *loss.get_legend_handles_labels()[0],
        Line2D([], [], color=style.INK, lw=1.8, label="accuracy on queries that are no repeat"),
        Line2D([], [], color=style.INK, lw=1, alpha=0.4, label="accuracy on all queries"),
    ]
    style.legend_below(fig, 3, handles)
    return fig


PHASE_COLORS = ("#D5D9DE", "#BCDDF2", "#4E9FD6", "#F6C38F", "#DD6A14")
"""Colours of `skill.PHASES`, in its order: blue where only i.d. tasks are solved, orange where o.o.d. tasks are."""


@style.styled
def phase_diagram(
    maps: Mapping[str, ArrayLike], n_tasks: Sequence, alphas: Sequence, names: Sequence[str], across: int = 2
) -> Figure:
    """The phase of every seed at every point, side by side in the point's cell (F1b, F4).

    Maps are title → (seeds, alphas, n_tasks) indices of the phases' names; a missing run is −1 and left blank. The
    page is as wide as `across` panels.
    """
    fig, axes = style.panels(
        maps, (9.6 / across, 3.6), (0, 0.8), across, shape=0.65, sharex=True, sharey=True
    )
    for ax, phases in zip(axes, map(np.asarray, maps.values()), strict=True):
        for seed, row, column in np.argwhere(phases >= 0):
            corner, width = (column - 0.5 + seed / len(phases), row - 0.5), 1 / len(phases)
            color = PHASE_COLORS[phases[seed, row, column]]
            ax.add_patch(Rectangle(corner, width, 1, facecolor=color, edgecolor=color, lw=0.6))  # no seams
        centred = {"ha": "center", "va": "center", "fontsize": 9, "color": style.ON_LIGHT}
        for phase, (row, column) in _middles(phases).items():
            ax.text(column, row, names[phase].replace(" ", "\n"), **centred)
        _map_axes(ax, n_tasks, alphas)
        ax.set_xticks(np.arange(len(n_tasks) - 1) + 0.5, minor=True)
        ax.set_yticks(np.arange(len(alphas) - 1) + 0.5, minor=True)
        ax.grid(which="minor", color=style.PAPER, lw=3)
    style.legend_below(fig, 3, style.color_keys(dict(zip(names, PHASE_COLORS, strict=True))))
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


@style.styled
def accuracy_maps(
    maps: Mapping[str, ArrayLike], n_tasks: Sequence, alphas: Sequence, label: str, highest: float
) -> Figure:
    """Accuracy, or skill, on the four sets over numbers of tasks and fractions of inputs (F3).

    Maps are set → (alphas, n_tasks) values, left blank where nan, in colours from 0 to `highest`.
    """
    titles = [style.LABELS[set_name] for set_name in maps]
    fig, axes = style.panels(titles, (4.2, 3.3), sharex=True, sharey=True)
    for ax, table in zip(axes, maps.values(), strict=True):
        image = ax.imshow(table, origin="lower", vmin=0, vmax=highest, cmap="cividis", aspect="auto")
        numbers = {(column, row): table[row][column] for row, column in np.argwhere(np.isfinite(table))}
        inks = [style.ON_DARK if number < 0.6 * highest else style.ON_LIGHT for number in numbers.values()]
        style.Written(ax, {place: f"{number:z.2f}" for place, number in numbers.items()}, 10, inks)
        _map_axes(ax, n_tasks, alphas)
    fig.colorbar(image, ax=axes, label=label, shrink=0.7)
    return fig


def _map_axes(ax: Axes, n_tasks: Sequence, alphas: Sequence) -> None:
    """Ticks and labels of a map, whose columns are numbers of tasks and whose rows are fractions of inputs."""
    ax.set_xticks(range(len(n_tasks)), [str(n) for n in n_tasks])
    ax.set_yticks(range(len(alphas)), [f"{alpha:g}" for alpha in alphas])
    ax.set(xlim=(-0.5, len(n_tasks) - 0.5), ylim=(-0.5, len(alphas) - 0.5))
    ax.set(xlabel="pre-training tasks", ylabel="fraction α of inputs")
    style.bare(ax)
    ax.label_outer()


@style.styled
def ladder(
    panels: Mapping[str, ArrayLike], p: ArrayLike, primes: ArrayLike, lines: Mapping[str, ArrayLike]
) -> Figure:
    """Cost of solving the unseen tasks against p, on logarithmic axes: every run, and power laws.

    Panels are label → (runs,) values at p, (runs,), not drawn where nan; lines are label → (n,) a law at some primes,
    of which the last is marked as the paper's.
    """
    fig, color = style.figure(9.6, 4.0), style.COLORS["ood_train"]
    for ax, (label, values) in zip(fig.subplots(1, len(panels)), panels.items(), strict=True):
        ax.plot(primes, lines[label], color=color, lw=1.4, ls=":")
        ax.plot(p, values, "o", color=color, mec=style.PAPER, mew=0.8, ms=7)
        ax.axvline(primes[-1], color=style.GREY, lw=1)
        ax.annotate(
            f"the paper's p = {primes[-1]}", (primes[-1], 0.02), xycoords=("data", "axes fraction"),
            xytext=(-4, 0), textcoords="offset points", ha="right", fontsize=9, color=style.INK,
        )  # fmt: skip
        ax.set(xscale="log", xlabel="p", ylabel=label)
        ax.xaxis.set_minor_locator(FixedLocator([]))
        ticks = sorted({*p, primes[-1]})
        ax.set_xticks(ticks, map(str, ticks))
        if not np.isfinite(values).any():
            ax.set_yticks([])
            ax.text(0.5, 0.5, "no run\ngets there", transform=ax.transAxes, ha="center", fontsize=11)
        else:
            ax.set_yscale("log")
            ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
            ax.yaxis.set_minor_formatter(NullFormatter())
    return fig


@style.styled
def factor_panels(panels: Mapping[str, Mapping[str, ArrayLike]], steps: int) -> Figure:
    """How soon and how well a model learns when one setting is changed at a time (A8).

    Args:
        panels: setting → value, as text, the base point's first → (4, seeds): the step at which the plateau is left,
            nan if never; the final accuracy on queries that are no repeat; the accuracies there of ratio matching and
            of look-up. A value without a run has no seeds.
        steps: length of every run.
    """
    fig = style.figure(7.4, 1.45 * len(panels) + 0.9)
    axes = fig.subplots(len(panels), 2, shape=0.3, squeeze=False)
    for (setting, measurements), (step_ax, accuracy_ax) in zip(panels.items(), axes, strict=True):
        values = _in_order(measurements)
        base = values.index(next(iter(measurements)))
        for ax in (step_ax, accuracy_ax):
            ax.axvspan(base - 0.4, base + 0.4, color=style.FAINT, lw=0, zorder=0)
            ax.set_xticks(range(len(values)), values)
            ax.set_xlim(-0.6, max(len(values), 4) - 0.4)
            ax.tick_params(axis="x", length=0)
        for place, value in enumerate(values):
            _factor_value(step_ax, accuracy_ax, place, np.reshape(measurements[value], (4, -1)), steps)
        step_ax.axhline(steps, color=style.GREY, lw=1, ls=":")
        step_ax.set(ylim=(0, 1.45 * steps), yticks=[0, steps / 2, steps, 1.3 * steps])
        step_ax.set_yticklabels(["0", f"{steps // 2:,}", f"{steps:,}", "never"])
        accuracy_ax.set(ylim=(0, 1.04), yticks=[0, 0.5, 1])
        step_ax.set_title(setting, loc="left", fontsize=10.5)
        step_ax.set_ylabel("plateau left\nat step", fontsize=9)
        accuracy_ax.set_ylabel("accuracy", fontsize=9)
    keys = [
        Line2D([], [], color=style.INK, lw=1.4, label="ratio matching"),
        Line2D([], [], color=style.INK, lw=1.4, ls=":", label="look-up, a guess"),
        *style.color_keys({"base point": style.FAINT}),
    ]
    style.legend_below(fig, 3, keys)
    return fig


def _in_order(values: Iterable[str]) -> list[str]:
    """Values of a setting, as text: numbers by size, words as they come."""
    values = list(values)
    are_numbers = all(re.fullmatch(r"[\d.e+]+", value) for value in values)
    return sorted(values, key=float) if are_numbers else values


def _factor_value(step_ax: Axes, accuracy_ax: Axes, place: int, measurements: np.ndarray, steps: int) -> None:
    """Draw the runs at one value of a setting, (4, seeds) as in `factor_panels`, a dot a seed."""
    left_at, accuracy, *controls = measurements
    if not len(left_at):
        step_ax.annotate("no run", (place, 0.06 * steps), ha="center", fontsize=8.5, color=style.GREY)
        return
    places, is_never = place + 0.12 * (np.arange(len(left_at)) - (len(left_at) - 1) / 2), np.isnan(left_at)
    dots, color = {"marker": "o", "ls": "", "ms": 6}, style.COLORS["id_train"]
    step_ax.plot(places[~is_never], left_at[~is_never], color=color, **dots)
    step_ax.plot(places[is_never], np.full(is_never.sum(), 1.3 * steps), color=color, mfc="none", **dots)
    accuracy_ax.plot(places, accuracy, color=style.COLORS["ood_train"], **dots)
    for control, dashes in zip(controls, ("-", ":"), strict=True):
        accuracy_ax.plot([place - 0.3, place + 0.3], [control.mean()] * 2, color=style.INK, lw=1.4, ls=dashes)
