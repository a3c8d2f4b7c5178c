"""What answers are explained by, where they fail, and when each skill is learned (F5; chapters 6 and 13)."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from matplotlib.collections import PatchCollection
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray

from modgrok.plots.answers import ALGORITHM_COLORS, CORRECT, DIFFERENCE, INCORRECT, KINDS
from modgrok.plots.style import (
    COLORS,
    DEPTHS,
    FAINT,
    GREY,
    INK,
    LABELS,
    PAPER,
    Written,
    chance_line,
    figure,
    styled,
)

EXPLAINED = {
    "look-up": ALGORITHM_COLORS["look-up"],
    "ratio matching": ALGORITHM_COLORS["ratio matching"],
    "regression": ALGORITHM_COLORS["regression"],
    "luck": "#D9DDE2",
}
"""The weakest algorithm that gives a right answer, in the order of `evaluate.KINDS`."""


@styled
def explained_areas(
    rows: Sequence[tuple[str, Mapping[str, tuple[ArrayLike, ArrayLike, ArrayLike]]]],
) -> Figure:
    """Share of all answers that each algorithm explains, stacked, a panel a depth: the mean over seeds (F5).

    Thin lines are the seeds, one by one; the dotted line is what ratio matching could explain, were every query that it
    can answer right.

    Args:
        rows: what is along the x axis, and title → places (n,), right answers as shares of all (seeds, 4, n) by kind,
            and the kinds' shares of the queries (4, n).
    """
    columns = len(rows[0][1])
    fig = figure(max(4.6, 3.6 * columns), 2.6 * len(rows) + 0.8)
    axes = fig.subplots(len(rows), columns, squeeze=False, sharey=True, sharex="row")
    for line, (xlabel, panels) in zip(axes, rows, strict=True):
        for ax, (title, (places, right, asked)) in zip(line, panels.items(), strict=True):
            places, tops = np.asarray(places), np.cumsum(right, 1)  # (seeds, 4, n)
            bottom = np.zeros(len(places))
            for i, color in enumerate(EXPLAINED.values()):
                top = tops[:, i].mean(0)
                ax.fill_between(places, bottom, top, color=color, alpha=0.85, lw=0)
                bottom = top
            for of_seed in tops[:, :3].reshape(-1, len(places)):
                ax.plot(places, of_seed, color=INK, lw=0.6, alpha=0.6)
            ax.plot(places, np.asarray(asked)[:2].sum(0), color=INK, lw=1.6, ls=":")
            ax.set(title=title, xlabel=xlabel, ylim=(0, 1), xlim=(places[0], places[-1]))
            ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    for ax in axes[:, 0]:
        ax.set_ylabel("share of all answers")
    handles = [Patch(facecolor=color, label=f"right: {name}") for name, color in EXPLAINED.items()]
    handles.append(Patch(facecolor="white", edgecolor=GREY, label="wrong"))
    handles.append(Line2D([], [], color=INK, lw=1.6, ls=":", label="in reach of ratio matching"))
    fig.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False, fontsize=10)
    return fig


@styled
def right_by_place(
    panels: Mapping[str, Mapping[str, ArrayLike]], places: Sequence[str], chance: float
) -> Figure:
    """Accuracy by where the query lies in the plane of inputs, a dot a seed, a panel a kind of query.

    Args:
        panels: kind of query → name of a group of runs → (seeds, places) accuracies, nan where too few were asked.
        places: their names.
        chance: accuracy of a blind guess, 1/p.
    """
    fig = figure(max(4.6, 3.8 * len(panels)), 3.7)
    axes = np.atleast_1d(fig.subplots(1, len(panels), sharey=True))
    groups = list(next(iter(panels.values())))
    for ax, (title, of_groups) in zip(axes, panels.items(), strict=True):
        for g, (name, accuracy) in enumerate(of_groups.items()):
            accuracy = np.asarray(accuracy)
            at = np.arange(len(places)) + (g - (len(groups) - 1) / 2) * 0.24
            color = DEPTHS[min(g, len(DEPTHS) - 1)]
            for i, of_seed in enumerate(accuracy):
                near = at + (i - (len(accuracy) - 1) / 2) * 0.05
                ax.plot(
                    near, of_seed, "o", color=color, ms=6, alpha=0.85, clip_on=False, label="" if i else name
                )
            measured = np.isfinite(accuracy).any(0)
            middle = np.nanmean(accuracy[:, measured], 0)
            ax.hlines(middle, at[measured] - 0.1, at[measured] + 0.1, color=color, lw=2)
        chance_line(ax, chance)
        ax.set_title(title, loc="left", fontsize=11)
        ax.set(ylim=(0, 1.03), xlim=(-0.5, len(places) - 0.5))
        ax.set_xticks(range(len(places)), places)
    axes[0].set_ylabel("accuracy")
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    return fig


def _accuracies(
    titles: Iterable[str], chance: float, columns: int, height: float
) -> tuple[Figure, NDArray[np.object_]]:
    """A figure with a panel for an accuracy under each title, so many in a row, and the panels in a row: (titles,)."""
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
"""Of `order.TASK_KINDS`, in its order."""


@styled
def task_kind_curves(
    panels: Mapping[str, Sequence[tuple[ArrayLike, ArrayLike]]], chance: float, columns: int = 2
) -> Figure:
    """Accuracy along training on tasks by the numbers that they depend on, a line a run.

    Args:
        panels: title → for each run its steps (S,) and accuracies (3, S) by kind of task.
        chance: accuracy of a blind guess, 1/p.
        columns: panels in a row.
    """
    fig, axes = _accuracies(panels, chance, columns, 2.5)
    for ax, runs in zip(axes, panels.values(), strict=True):
        for steps, accuracy in runs:
            for color, curve in zip(TASK_COLORS.values(), accuracy, strict=True):
                ax.plot(steps, curve, color=color, lw=1.8, marker="o", ms=3.5, alpha=0.9)
        ax.set(xlabel="training step")
        ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    handles = [Line2D([], [], color=color, lw=2, label=name) for name, color in TASK_COLORS.items()]
    fig.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False)
    return fig


@styled
def arrival_steps(steps: Mapping[str, ArrayLike], groups: ArrayLike, names: Sequence[str]) -> Figure:
    """When each skill arrives, a row a skill, a dot a run, a bar the median; at the right the runs that never learn it.

    Args:
        steps: skill → (runs,) steps, inf where it never arrives, nan where it was not looked for.
        groups: (runs,) indices of `names`.
        names: of the groups of runs, such as depths.
    """
    groups, table = np.asarray(groups), np.stack(list(steps.values()))
    end = 1.06 * table[np.isfinite(table)].max(initial=1)
    fig = figure(8.2, 1.4 + 0.66 * len(table))
    ax = fig.subplots(shape=0.17 * len(table))
    for g, name in enumerate(names):
        color = DEPTHS[min(g, len(DEPTHS) - 1)]
        rows = np.arange(len(table))[:, None] + (g - (len(names) - 1) / 2) * 0.27
        of_group = table[:, groups == g]
        ax.plot(of_group, np.broadcast_to(rows, of_group.shape), "o", color=color, ms=6, alpha=0.65)
        ax.plot([], [], "o", color=color, label=name)
        for row, of_skill in zip(rows[:, 0], of_group, strict=True):
            learned = of_skill[np.isfinite(of_skill)]
            if len(learned):
                ax.plot(np.median(learned), row, "|", color=color, ms=12, mew=2.5)
            if never := int(np.isinf(of_skill).sum()):
                asked = int((~np.isnan(of_skill)).sum())
                ax.text(end, row, f"{never} of {asked}", color=color, fontsize=9, va="center")
    ax.set(xlim=(0, end), xlabel="training step")
    ax.text(end, -0.6, "never", fontsize=9, color=INK, va="bottom")
    ax.set_yticks(range(len(table)), list(steps))
    ax.set_ylim(len(table) - 0.5, -0.6)
    ax.grid(axis="y", color=FAINT)
    ax.set_axisbelow(True)
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    fig.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=len(names), frameon=False)
    return fig


WALL = {
    "right, ratio matching can": CORRECT,
    "right beyond ratio matching": DIFFERENCE[1],
    "wrong, though ratio matching can": DIFFERENCE[-1],
    "wrong": INCORRECT,
}
"""What a cell of `grid_wall` says of a query."""


@styled
def grid_wall(
    right: ArrayLike, matched: ArrayLike, tasks: ArrayLike, held_out: ArrayLike, links: Sequence[str] = ()
) -> Figure:
    """A small query grid for each of many tasks, sorted by how much is right beyond ratio matching (A4).

    Args:
        right: (n, p, p) bool, indexed [x, y].
        matched: (p, p) bool, what ratio matching can answer.
        tasks: (n, 2) task vectors (a, b).
        held_out: (n,) bool; held-out tasks come first, their names are orange.
        links: an address for each task, which a click on its grid opens.
    """
    right, matched, held_out = np.asarray(right), np.asarray(matched), np.asarray(held_out)
    n = len(right)
    state = np.where(right, np.where(matched, 0, 1), np.where(matched, 2, 3))
    order = np.lexsort((-(state == 0).sum((1, 2)), -(state == 1).sum((1, 2)), ~held_out))
    p, columns = right.shape[1], 13 if n > 60 else 10
    rows, step = -(-n // columns), p + 1  # with a gap at the right
    high = step + max(1, round(0.28 * p))  # with a name above
    wall = np.full((rows * high, columns * step), -1)  # one picture, which draws much faster than many axes
    fig = figure(8.4, 8.4 * rows * high / (columns * step) + 0.6)
    ax = fig.add_subplot()  # a wall has no other form for phones
    titles, areas = {}, []
    for place, i in enumerate(order):
        top, left = place // columns * high, place % columns * step
        wall[top + high - p : top + high, left : left + p] = state[i].T[::-1]  # y upwards
        titles[left + (p - 1) / 2, top - 0.5 + 0.6 * (high - p)] = f"({tasks[i][0]}, {tasks[i][1]})"
        areas.append(Rectangle((left - 0.5, top - 0.5), step, high))
    Written(ax, titles, 8.5, np.where(held_out[order], COLORS["ood_train"], COLORS["id_train"]))
    if len(links):  # over grid and name; what has no colour at all would not be hit
        ax.add_collection(PatchCollection(areas, alpha=0.002, lw=0, urls=[links[i] for i in order]))
    cmap = ListedColormap(["none", *WALL.values()])
    ax.imshow(wall, cmap=cmap, vmin=-1.5, vmax=3.5, interpolation="none")
    ax.axis("off")
    handles = [Patch(facecolor=color, edgecolor=GREY, lw=0.5, label=name) for name, color in WALL.items()]
    fig.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    return fig


@styled
def readout_by_kind(panels: Mapping[str, ArrayLike], chance: float, columns: int = 2) -> Figure:
    """Accuracy of the answer read off after so many blocks, by kind of query: mean and range over seeds (A6).

    Args:
        panels: title → (seeds, 3, stages) accuracy on repeats, other multiples and combinations, the embedding first.
        chance: accuracy of a blind guess, 1/p.
        columns: panels in a row.
    """
    fig, axes = _accuracies(panels, chance, columns, 2.4)
    for ax, accuracy in zip(axes, panels.values(), strict=True):
        stages = np.arange(np.shape(accuracy)[-1])
        for color, of_kind in zip(KINDS.values(), np.swapaxes(accuracy, 0, 1), strict=False):
            ax.plot(stages, of_kind.mean(0), color=color, lw=2, marker="o", ms=5)
            ax.fill_between(stages, of_kind.min(0), of_kind.max(0), color=color, alpha=0.2, lw=0)
        ax.set(xticks=stages, xlabel="blocks passed")
    handles = [Patch(facecolor=color, label=kind) for kind, color in list(KINDS.items())[:3]]
    fig.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False, fontsize=10)
    return fig


@styled
def parts_lost(
    panels: Mapping[str, Mapping[str, Mapping[str, float]]], whole: Mapping[str, Mapping[str, float]],
    chance: float, columns: int,
) -> Figure:  # fmt: skip
    """Accuracy without each part of a model, the part that costs most on o.o.d. tasks on top, a panel a run (A7).

    Args:
        panels: title of a run → part → set → accuracy without the part.
        whole: title → set → accuracy of the whole model, a line.
        chance: accuracy of a blind guess, 1/p.
        columns: panels in a row.
    """
    rows = -(-len(panels) // columns)
    most = [max(map(len, list(panels.values())[i : i + columns])) for i in range(0, len(panels), columns)]
    fig = figure(max(4.6, 3.0 * columns), 0.21 * sum(most) + 0.75 * rows + 0.5)
    axes = fig.subplots(rows, columns, squeeze=False, sharex=True, height_ratios=most)
    for ax, (title, parts) in zip(axes.flat, panels.items(), strict=False):
        ordered = sorted(parts, key=lambda part: parts[part].get("ood_train", 0))
        places = np.arange(len(ordered))
        for name in next(iter(parts.values())):
            ax.axvline(whole[title][name], color=COLORS[name], lw=1.2)
            left = [parts[part][name] for part in ordered]
            ax.plot(left, places, "o", color=COLORS[name], ms=5, label=LABELS[name], clip_on=False)
        ax.axvline(chance, color=GREY, ls=":", lw=1)
        ax.grid(axis="y", color=FAINT, lw=0.8)
        ax.set_axisbelow(True)
        ax.set_title(title, fontsize=11)
        ax.set_yticks(places, ordered, fontsize=9)
        ax.set(ylim=(len(ordered) - 0.4, -0.6), xlim=(0, 1.02))
        ax.spines["left"].set_visible(False)
        ax.tick_params(axis="y", length=0)
    for ax in axes.flat[len(panels) :]:
        ax.axis("off")
    for ax in axes[-1]:
        ax.set_xlabel("accuracy without the part")
    fig.legend(
        *axes[0, 0].get_legend_handles_labels(),
        loc="outside lower center",
        ncols=min(2, columns),
        frameon=False,
    )
    return fig


@styled
def alternation(panels: Mapping[str, tuple[ArrayLike, ArrayLike]], periods: ArrayLike) -> Figure:
    """What makes a head read every other example: attention and its rotary pairs, by distance, a column a run (A5).

    Args:
        panels: title → attention to the z of the example so many back (reach,), and what each rotary pair adds to the
            attention's logits (pairs, reach), distances from 1.
        periods: (pairs,) examples in which each pair turns once.
    """
    fig = figure(max(4.6, 3.0 * len(panels)), 5.2)
    axes = fig.subplots(2, len(panels), squeeze=False, sharex=True, sharey="row")
    for (above, below), (title, (paid, logits)) in zip(axes.T, panels.items(), strict=True):
        back, logits = np.arange(1, len(paid) + 1), np.asarray(logits)
        above.bar(back, paid, 0.7, color=COLORS["id_train"])
        above.set_title(title, fontsize=11)
        for i, color in ((1, GREY), (0, "#D55E00")):
            label = f"fastest pair, a turn in {periods[0]:.2f} examples" if i == 0 else "all other pairs"
            of = logits[0] if i == 0 else logits[1:].sum(0)
            below.plot(back, of - of.mean(), "o-", color=color, lw=1.8, ms=4, label=label)
        below.set(xlabel="examples back")
        below.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes[0, 0].set_ylabel("attention from $y$ to $z$")
    axes[1, 0].set_ylabel("logit, less its mean")
    fig.legend(
        *axes[1, 0].get_legend_handles_labels(),
        loc="outside lower center",
        ncols=min(2, len(panels)),
        frameon=False,
    )
    return fig


MARKS = ("o", "s", "^", "D")
"""In the order of DEPTHS."""


@styled
def chance_by_run(
    values: Mapping[str, ArrayLike], groups: ArrayLike, names: Sequence[str], solved: ArrayLike
) -> Figure:
    """How probable by chance each structure of each run would be, a row a structure, a dot a run (claim 5).

    Args:
        values: structure → (runs,) probabilities, nan where a run has no such part.
        groups: (runs,) indices of `names`.
        names: of the groups, such as depths.
        solved: (runs,) whether the run solves o.o.d. tasks; its dot is filled then.
    """
    groups, solved = np.asarray(groups), np.asarray(solved)
    fig = figure(8.2, 1.3 + 0.55 * len(values))
    ax = fig.subplots()
    for row, of in enumerate(np.asarray(list(values.values()))):
        for g in range(len(names)):
            color, mark = DEPTHS[min(g, len(DEPTHS) - 1)], MARKS[min(g, len(MARKS) - 1)]
            for filled in (True, False):
                here = of[(groups == g) & (solved == filled)]
                level = np.full(len(here), row + (g - (len(names) - 1) / 2) * 0.2)
                ax.plot(here, level, mark, color=color, mfc=color if filled else PAPER, ms=6, alpha=0.75)
    for g, name in enumerate(names):
        color, mark = DEPTHS[min(g, len(DEPTHS) - 1)], MARKS[min(g, len(MARKS) - 1)]
        ax.plot([], [], mark, color=color, mfc=color if solved[groups == g].any() else PAPER, label=name)
    ax.plot([], [], "o", color=GREY, mfc=PAPER, label="does not solve o.o.d. tasks")
    ax.axvline(0.05, color=GREY, ls=":", lw=1.2)
    least = min(0.04, 0.7 * np.nanmin(list(values.values())))
    ticks = [tick for tick in (0.001, 0.01, 0.05, 0.2, 1) if tick > least]
    ax.set(xscale="log", xlim=(least, 1.15), xlabel="probability by chance (dotted: 0.05)")
    ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    ax.minorticks_off()
    ax.set_yticks(range(len(values)), list(values))
    ax.set_ylim(len(values) - 0.4, -0.6)
    ax.grid(axis="y", color=FAINT)
    ax.set_axisbelow(True)
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    fig.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    return fig
