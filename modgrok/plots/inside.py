"""What heads attend to, and what is left of a model without one of its parts (F6, A3, A7)."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Polygon, Rectangle
from numpy.typing import ArrayLike

from modgrok.plots.style import (
    ATTENTION,
    FAINT,
    GREY,
    INK,
    MATCH,
    ON_DARK,
    SOFT,
    Z,
    figure,
    styled,
)


@styled
def attention_maps(patterns: ArrayLike, matches: ArrayLike, n_tokens: int = 48) -> Figure:
    """The attention of every head on one sequence, a row a block (F6, A3).

    Args:
        patterns: (depth, H, T, T).
        matches: (K, K) bool, the earlier examples that match a query's ratio; ringed at their z.
        n_tokens: how many tokens are drawn.
    """
    patterns = np.asarray(patterns)[:, :, :n_tokens, :n_tokens]
    depth, n_heads, size, _ = patterns.shape
    fig = figure(*_sheet(depth, n_heads, 0.05))
    axes = fig.subplots(depth, n_heads, squeeze=False, sharex=True, sharey=True)
    query, example = (np.argwhere(np.asarray(matches)) * 3 + (1, 2)).T
    is_inside = (query < size) & (example < size)
    token_colors = [Z if position % 3 == 2 else SOFT for position in range(size)]
    ticks = range(2, size, 6)
    for (layer, head), ax in np.ndenumerate(axes):
        image = _draw_pattern(ax, patterns[layer, head], 1)
        ring = {"s": 2400 / size, "facecolors": "none", "edgecolors": MATCH, "linewidths": 1.6, "zorder": 3}
        ax.scatter(example[is_inside], query[is_inside], **ring)
        below = [Rectangle((position - 0.5, size - 0.3), 1, size / 30) for position in range(size)]
        margin = [Rectangle((-0.7 - size / 30, position - 0.5), size / 30, 1) for position in range(size)]
        ax.add_collection(PatchCollection(below + margin, facecolors=token_colors * 2, linewidths=0))
        ax.set(xlim=(-0.7 - size / 30, size - 0.5), ylim=(size - 0.3 + size / 30, -0.5), aspect="equal")
        ax.set(xticks=ticks, yticks=ticks, title=f"block {layer}, head {head}")
        ax.set_xticklabels(range(1, size // 3 + 1, 2)[: len(ticks)])
        ax.set_yticklabels(range(1, size // 3 + 1, 2)[: len(ticks)])
        ax.spines[:].set_visible(False)
        ax.tick_params(length=0)
    fig.supxlabel("attended example", fontsize=11)
    fig.supylabel("attending example", fontsize=11)
    fig.colorbar(image, ax=axes, label="attention", shrink=0.5, aspect=30)
    return fig


@styled
def head_gallery(
    maps: ArrayLike, titles: list[str], groups: list[str], n_tokens: int = 48, columns: int = 6
) -> Figure:
    """The attention of many heads, of any number of models, sorted by what they do (A3).

    Args:
        maps: (n, T, T) patterns, averages or of one sequence.
        titles: n of them.
        groups: what each head does; heads of one kind stand together, in the order in which the kinds first come.
        n_tokens: how many tokens are drawn.
    """
    maps = [np.asarray(pattern)[:n_tokens, :n_tokens] for pattern in maps]
    kinds = list(dict.fromkeys(groups))
    order = sorted(range(len(maps)), key=lambda i: kinds.index(groups[i]))
    columns = min(columns, len(maps))
    rows = -(-len(maps) // columns)
    fig = figure(1.62 * columns + 0.3, 2.15 * rows + 0.5)
    axes = fig.subplots(rows, columns, squeeze=False)
    for ax in axes.flat:
        ax.axis("off")
    for ax, i in zip(axes.flat, order, strict=False):
        _draw_pattern(ax, maps[i], 1 if np.tril(maps[i]).max() > 0.5 else 0.5)
        ax.set_title(f"{groups[i]}\n{titles[i]}", fontsize=9)
    return fig


def _draw_pattern(ax: Axes, pattern: np.ndarray, top: float) -> AxesImage:
    """One attention pattern (T, T), its future grey; the colour scale ends at `top`."""
    size = len(pattern)
    past = np.ma.array(pattern, mask=np.triu(np.ones((size, size), dtype=bool), 1))
    corners = [(-0.5, -0.5), (size - 0.5, -0.5), (size - 0.5, size - 0.5)]
    ax.add_patch(Polygon(corners, color=FAINT, lw=0, zorder=0))
    return ax.imshow(past, cmap=ATTENTION, vmin=0, vmax=top, interpolation="none", zorder=1)


@styled
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
    fig = figure(5.8, 2.4 + 0.56 * len(names))
    back, match = fig.subplots(2, 1)
    table = np.reshape(distances, (-1, reach))
    back.imshow(table, cmap=ATTENTION, vmin=0, vmax=1, aspect="auto")
    for (row, distance), value in np.ndenumerate(table):
        color = ON_DARK if value > 0.5 else INK
        back.text(distance, row, f"{value:.2f}", ha="center", va="center", fontsize=9, color=color)
    back.set(xlabel="places back (0: itself)", xticks=range(reach), yticks=rows, yticklabels=names)
    back.set_title("mean attention by distance")
    for kind, (color, label) in enumerate(((MATCH, "matches the query's ratio"), (GREY, "does not"))):
        value, error = (np.reshape(values, (-1, 2))[:, kind] for values in (matching, errors))
        match.errorbar(value, rows, xerr=error, fmt="o", color=color, ms=7, capsize=3, label=label)
    match.set(xlabel="attention from the query's y", yticks=rows, yticklabels=names)
    match.set_title("mean attention to an example that …")
    match.set_ylim(len(names) - 0.5, -0.5)
    match.set_xlim(0, max(0.02, np.nanmax(np.asarray(matching) + errors)) * 1.1)
    match.grid(axis="y", color=FAINT)
    fig.legend(*match.get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
    for ax in (back, match):
        ax.tick_params(length=0)
        ax.spines[:].set_visible(False)
    return fig


def _sheet(rows: int, columns: int, extra: float) -> tuple[float, float]:
    """Size of a sheet of square panels with titles."""
    side = min(3.1, 10 / columns)
    return side * columns + 0.9, (side + extra) * rows
