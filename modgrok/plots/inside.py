"""What heads attend to, and what interventions do to a model's answers (F6, A3, A7; chapters 7, 10 and 16)."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.collections import PatchCollection
from matplotlib.figure import Figure
from matplotlib.patches import Polygon, Rectangle
from numpy.typing import ArrayLike

from modgrok.plots import style
from modgrok.plots.answers import LOOK_UP


@style.styled
def attention_maps(patterns: ArrayLike, matches: ArrayLike, n_tokens: int = 48) -> Figure:
    """The attention of every head on one sequence, (depth, H, T, T), a row a block (F6, A3).

    Only the first `n_tokens` are drawn. The earlier examples that match a query's ratio, (K, K) bool, are ringed at
    their z.
    """
    patterns = np.asarray(patterns)[:, :, :n_tokens, :n_tokens]
    depth, n_heads, size, _ = patterns.shape
    side = min(3.1, 10 / n_heads)
    fig = style.figure(side * n_heads + 0.9, (side + 0.05) * depth)
    axes = fig.subplots(depth, n_heads, squeeze=False, sharex=True, sharey=True)
    query, example = (np.argwhere(np.asarray(matches)) * 3 + (1, 2)).T
    is_inside = (query < size) & (example < size)
    token_colors = [style.Z if position % 3 == 2 else style.SOFT for position in range(size)]
    ticks, corners = range(2, size, 6), [(-0.5, -0.5), (size - 0.5, -0.5), (size - 0.5, size - 0.5)]
    for (layer, head), ax in np.ndenumerate(axes):
        ax.add_patch(Polygon(corners, color=style.FAINT, lw=0, zorder=0))  # the future
        past = np.ma.array(patterns[layer, head], mask=np.triu(np.ones((size, size), dtype=bool), 1))
        image = ax.imshow(past, cmap=style.ATTENTION, vmin=0, vmax=1, interpolation="none", zorder=1)
        ring = {
            "s": 2400 / size,
            "facecolors": "none",
            "edgecolors": style.MATCH,
            "linewidths": 1.6,
            "zorder": 3,
        }
        ax.scatter(example[is_inside], query[is_inside], **ring)
        below = [Rectangle((position - 0.5, size - 0.3), 1, size / 30) for position in range(size)]
        margin = [Rectangle((-0.7 - size / 30, position - 0.5), size / 30, 1) for position in range(size)]
        ax.add_collection(PatchCollection(below + margin, facecolors=token_colors * 2, linewidths=0))
        ax.set(xlim=(-0.7 - size / 30, size - 0.5), ylim=(size - 0.3 + size / 30, -0.5), aspect="equal")
        ax.set(title=f"block {layer}, head {head}")
        for axis in (ax.xaxis, ax.yaxis):
            axis.set_ticks(ticks, [str(token // 3 + 1) for token in ticks])
        style.bare(ax)
    fig.supxlabel("attended example", fontsize=11)
    fig.supylabel("attending example", fontsize=11)
    fig.colorbar(image, ax=axes, label="attention", shrink=0.5, aspect=30)
    return fig


@style.styled
def head_habits(distances: ArrayLike, matching: ArrayLike, errors: ArrayLike) -> Figure:
    """What each head attends to: how far back, and whether an example matches the query's ratio (F6).

    Args:
        distances: (depth, H, reach + 1) mean attention to the token so many places back.
        matching: (depth, H, 2) mean attention to a matching and to another example.
        errors: (depth, H, 2) half-widths of their 95 % intervals.
    """
    depth, n_heads, reach = np.shape(distances)
    names = [f"block {i}, head {h}" for i, h in np.ndindex(depth, n_heads)]
    rows = np.arange(len(names))
    fig = style.figure(5.8, 2.4 + 0.56 * len(names))
    back, match = fig.subplots(2, 1)
    style.share_map(back, np.reshape(distances, (-1, reach)), names, 9)
    back.set(xlabel="places back (0: itself)", xticks=range(reach), title="mean attention by distance")
    for kind, (color, label) in enumerate(
        ((style.MATCH, "matches the query's ratio"), (style.GREY, "does not"))
    ):
        value, error = (np.reshape(values, (-1, 2))[:, kind] for values in (matching, errors))
        match.errorbar(value, rows, xerr=error, fmt="o", color=color, ms=7, capsize=3, label=label)
    match.set(xlabel="attention from the query's y", yticks=rows, yticklabels=names)
    match.set(title="mean attention to an example that …", ylim=(len(names) - 0.5, -0.5))
    match.set_xlim(0, max(0.02, np.nanmax(np.asarray(matching) + errors)) * 1.1)
    match.grid(axis="y", color=style.FAINT)
    style.bare(match)
    style.legend_below(fig, 2, match.get_legend_handles_labels()[0])
    return fig


OUTCOMES = {
    "the predicted number": style.MATCH,
    "the query's usual answer": LOOK_UP,
    "the donor's answer": "#D55E00",
    "another number": style.SOFT,
}
"""Outcomes of a query swap, in the order of `mechanisms.query_swap`, and their colours."""


@style.styled
def swap_outcomes(shares: Mapping[str, ArrayLike]) -> Figure:
    """How often a model gives each answer after a swap of query vectors, a bar a case; on a phone below its label.

    shares: label of the case → (4,) shares in the order of OUTCOMES.
    """
    fig = style.figure(7.2, 1.0 + 0.36 * len(shares))
    ax = fig.subplots(shape=(1.0 + 0.42 * len(shares)) / style.NARROW)
    rows, starts = np.arange(len(shares)), np.zeros(len(shares))
    thickness, places = (0.4, rows + 0.2) if fig.stacked else (0.7, rows)
    for (outcome, color), widths in zip(OUTCOMES.items(), np.transpose(list(shares.values())), strict=True):
        ax.barh(places, widths, left=starts, color=color, label=outcome, height=thickness)
        starts += widths
    ax.set_yticks(rows, list(shares))
    if fig.stacked:
        ax.set_yticks([])
        for row, label in enumerate(shares):
            ax.text(0, row - 0.1, label, fontsize=10)
    ax.set(xlim=(0, 1), ylim=(len(shares) - 0.5, -0.5), xlabel="share of answers")
    ax.spines["left"].set_visible(False)
    ax.tick_params(axis="y", length=0)
    style.legend_below(fig, 2, fontsize=10)
    return fig


@style.styled
def effect_maps(
    panels: Mapping[str, Mapping[str, ArrayLike]], columns: Sequence, label: str, xlabel: str = ""
) -> Figure:
    """How well interventions move the answer, from 0 to 1: a row an intervention, a column a variant of it.

    panels: title → row → (columns,) effects; nan where there is nothing to measure. The label names what is measured.
    Numbers are written where there are at most six columns.
    """
    n_columns = 2 if len(panels) == 4 else min(3, len(panels))
    size = (5.0, 3.9, 2.9)[n_columns - 1], 2.5
    fig, axes = style.panels(panels, size, (0.9, 0.6), n_columns, {"fontsize": 11}, shape=0.8)
    ticks = range(0, len(columns), max(1, len(columns) // 9))
    for ax, rows in zip(axes, panels.values(), strict=True):
        effects = np.stack(list(rows.values()))
        image = style.share_map(ax, effects, list(rows), 8 if len(columns) <= 6 else 0)
        ax.set_xticks(ticks, [str(columns[i]).replace(" ", "\n", 1) for i in ticks])
        ax.tick_params(labelsize=9)
        if np.isnan(effects).all():
            ax.text(
                0.5, 0.5, "nothing moves the answer", transform=ax.transAxes, ha="center", color=style.INK
            )
    fig.supxlabel(xlabel, fontsize=11)
    fig.colorbar(image, ax=axes, label=label, shrink=0.8, aspect=30)
    return fig


MEASURES = {
    name: {"label": label, "color": color, "ls": dashes, "lw": 2}
    for name, label, color, dashes in (
        ("circle", "the circle of $x$", "#0072B2", "-"),
        ("circle_by_chance", "the circle, numbers renamed", "#0072B2", ":"),
        ("attention", "attention to matches, less to others", "#D55E00", "-"),
        ("swap", "swaps that succeed", style.MATCH, "-"),
        ("multiples", "accuracy, other multiples", style.INK, "-"),
        ("repeats", "accuracy, repeats", style.GREY, "--"),
    )
}
"""Measures along training, as `mechanisms.measure_progress` names them → how their curves are drawn."""


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
        ax.set_yticks(range(len(ordered)), ordered, fontsize=9)
        ax.set_ylim(len(ordered) - 0.4, -0.6)
        ax.grid(axis="y", color=style.FAINT, lw=0.8)
        ax.set_axisbelow(True)
        ax.tick_params(axis="y", length=0)
        ax.spines["left"].set_visible(False)
    for ax in axes[-columns:]:
        ax.set_xlabel("accuracy without the part")
    style.legend_below(fig, min(2, columns))
    return fig
