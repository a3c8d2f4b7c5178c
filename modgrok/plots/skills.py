"""What explains the answers, where they fail, and when each skill is learned (chapters 10, 11 and 13)."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from modgrok.plots import style

TASK_KINDS = {
    name: {"color": color, "ls": "-", "lw": 1.8}
    for name, color in (("z = b·y", "#882255"), ("z = a·x", "#44AA99"), ("both numbers", "#332288"))
}
"""Each of `order.TASK_KINDS` → how its curve is drawn, for matplotlib."""

MARKERS = ("o", "s", "^", "D")
"""Markers that go with `style.DEPTHS`."""


def _named_rows(ax: Axes, names: Iterable[str], fontsize: float | None = None) -> None:
    """Rows from the top, each with its name and a faint line."""
    names = list(names)
    ax.set_yticks(range(len(names)), names, fontsize=fontsize)
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.grid(axis="y", color=style.FAINT, lw=0.8)
    ax.set_axisbelow(True)
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)


@style.styled
def arrival_steps(steps: Mapping[str, ArrayLike], groups: ArrayLike, names: Sequence[str]) -> Figure:
    """When each skill arrives, a row a skill, a dot a run, a bar the median; at the right the runs that never learn it.

    Steps are skill → (runs,), inf where it never arrives, nan where it was not measured. Groups, (runs,) indices of
    their names, have a colour each.
    """
    groups, table = np.asarray(groups), np.stack(list(steps.values()))
    end = 1.06 * table[np.isfinite(table)].max(initial=1)
    fig = style.figure(8.2, 1.4 + 0.66 * len(table))
    ax = fig.subplots(shape=0.17 * len(table))
    for group, name in enumerate(names):
        color, marker = (looks[min(group, len(looks) - 1)] for looks in (style.DEPTHS, MARKERS))
        dots = {"color": color, "marker": marker, "ls": "", "ms": 6}
        rows = np.arange(len(table)) + (group - (len(names) - 1) / 2) * 0.27
        ax.plot([], [], **dots, label=name)
        for row, arrivals in zip(rows, table[:, groups == group], strict=True):
            ax.plot(arrivals, np.full(len(arrivals), row), **dots, alpha=0.65)
            if np.isfinite(arrivals).any():
                ax.plot(np.median(arrivals[np.isfinite(arrivals)]), row, "|", color=color, ms=12, mew=2.5)
            if n_never := np.isinf(arrivals).sum():
                text = f"{n_never} of {(~np.isnan(arrivals)).sum()}"
                ax.text(end, row, text, color=color, fontsize=9, va="center")
    ax.set(xlim=(0, end), xlabel="training step")
    ax.text(end, -0.6, "never", fontsize=9, color=style.INK, va="bottom")
    _named_rows(ax, steps)
    style.legend_below(fig, len(names))
    return fig


@style.styled
def parts_lost(
    panels: Mapping[str, Mapping[str, Mapping[str, float]]], whole: Mapping[str, Mapping[str, float]],
    chance: float, columns: int,
) -> Figure:  # fmt: skip
    """Accuracy without each part of a model, the part that costs most on o.o.d. tasks on top, a panel a run (A7).

    Panels are title → part → set → accuracy without the part; that of the whole model, title → set, is a line.
    """
    n_parts = list(map(len, panels.values()))
    heights = [max(n_parts[i : i + columns]) for i in range(0, len(panels), columns)]
    size = 3.0, 0.21 * sum(heights) / len(heights) + 0.75
    fig, axes = style.panels(
        panels, size, (0, 0.5), columns, {"fontsize": 11}, sharex=True, height_ratios=heights
    )
    for ax, (title, parts) in zip(axes, panels.items(), strict=True):
        ordered = sorted(parts, key=lambda part: parts[part].get("ood_train", 0))
        for set_name, accuracy in whole[title].items():
            color, label = style.COLORS[set_name], style.LABELS[set_name]
            ax.axvline(accuracy, color=color, lw=1.2)
            values = [parts[part][set_name] for part in ordered]
            ax.plot(values, range(len(ordered)), "o", color=color, ms=5, label=label, clip_on=False)
        ax.axvline(chance, color=style.GREY, ls=":", lw=1)
        ax.set_xlim(0, 1.02)
        _named_rows(ax, ordered, fontsize=9)
    for ax in axes[-columns:]:
        ax.set_xlabel("accuracy without the part")
    style.legend_below(fig, min(2, columns))
    return fig
