"""How representations are ordered: circles and waves in the logarithm, parity, similar pairs (F1d, F1e, F6, F7)."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from mpl_toolkits.mplot3d.art3d import Poly3DCollection
from numpy.typing import ArrayLike

from modgrok.plots import style


@style.styled
def embedding_ring(points: ArrayLike, log: ArrayLike) -> Figure:
    """The numbers at points (p, 2), coloured by their logarithm, and a line through them in its order (F1d)."""
    points, log = np.asarray(points), np.asarray(log)
    fig = style.figure(4.6, 3.8)
    ax = fig.subplots()
    colors, ring = log_colors(len(log)), np.argsort(log)[1:]
    ax.plot(*points[[*ring, ring[0]]].T, color=style.SOFT, lw=1.4, zorder=1)
    for number, point in enumerate(points):
        ax.text(
            *point, number, color=colors[log[number]], weight="bold", ha="center", va="center", fontsize=15,
            path_effects=[withStroke(linewidth=5, foreground=style.PAPER)],
        )  # fmt: skip
    ax.scatter(*points.T, s=0)  # texts alone do not set the limits
    _plane_axes(ax)
    return fig


@style.styled
def circle_of_circles(points: ArrayLike, log: ArrayLike, groups: str = "x") -> Figure:
    """The pairs without a 0 in a plane, labelled by logarithm, and the group of the logarithm 1 enlarged (F1d).

    Points (p², 2) are those of all pairs (x, y), y running fastest. Pairs that share the number `groups`, "x" or "y",
    form a group and have one colour.
    """
    points, log = np.asarray(points), np.asarray(log)
    fig = style.figure(7.6, 4.3)
    whole, part = fig.subplots(1, 2)
    first, second = np.divmod(np.arange(len(points)), len(log))
    first, second, names = (first, second, "xy") if groups == "x" else (second, first, "yx")
    has_log = (first > 0) & (second > 0)
    _log_plane(whole, points[has_log], first[has_log], log)
    group = (log[first] == 1) & has_log
    colors, labels = log_colors(len(log)), log[second[group]]
    low, high = points[group].min(0), points[group].max(0)
    corner, size = (low + high) / 2 - (high - low).max() * 0.6, (high - low).max() * 1.2
    _numbers(part, points[group], labels, colors, 17 / max(1, len(log) / 12) ** 0.5, size)
    part.set(xlim=(corner[0], corner[0] + size), ylim=(corner[1], corner[1] + size), aspect="equal")
    part.set(xticks=[], yticks=[], xlabel="enlarged")
    part.set_title(f"the group log {names[0]} = 1, by log {names[1]}")
    part.spines[:].set_visible(True)
    whole.add_patch(Rectangle(corner, size, size, fill=False, edgecolor=style.INK, lw=1))
    whole.set_title(f"pairs (x, y) without a 0, by log {names[0]}")
    return fig


@style.styled
def log_planes(
    planes: Sequence[ArrayLike], numbers: Sequence[ArrayLike], log: ArrayLike, titles: Sequence[str]
) -> Figure:
    """All pairs in several planes, (p², 2) each, coloured by the logarithm of one of their numbers, (p²,) each (F6).

    Of more than 400 pairs every second, third … is drawn, for lighter pages.
    """
    fig, axes = style.panels(titles, (2.5, 2.9), columns=2 if len(planes) == 4 else 3)
    for ax, points, number in zip(axes, planes, numbers, strict=True):
        _log_plane(ax, np.asarray(points), np.asarray(number), np.asarray(log), limit=400)
    return fig


@style.styled
def parity_planes(view: ArrayLike) -> Figure:
    """Numbers by the parity of their logarithm: one plane through the odd, one through the even (F1e).

    view: (p, 3) coordinates in the order of the logarithm, the number 0 first; the last tells parity.
    """
    view = np.asarray(view)
    fig = style.figure(6.4, 4.6)
    ax = fig.add_subplot(projection="3d", computed_zorder=False)
    reach = 1.25 * max(np.abs(view[:, :2]).max(), 1e-9)
    corners = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) * reach
    for first, color in ((2, style.PARITY[1]), (1, style.PARITY[0])):
        plane = view[first::2]
        height = plane[:, 2].mean()
        sheet = np.column_stack([corners, np.full(4, height)])
        ax.add_collection3d(Poly3DCollection([sheet], facecolor=color, alpha=0.12, edgecolor=color, lw=0.8))
        for x, y, z in plane:
            ax.plot([x, x], [y, y], [height, z], color=color, lw=0.8, alpha=0.6)
        for label, place in zip(range(first, len(view), 2), plane, strict=True):
            ax.text(*place, label, color=color, weight="bold", ha="center", va="center", fontsize=13)
    ax.text(*view[0], 0, color=style.GREY, weight="bold", ha="center", va="center", fontsize=13)
    depths = min(view[:, 2].min(), -reach / 2), max(view[:, 2].max(), reach / 2)
    ax.set(xlim=(-reach, reach), ylim=(-reach, reach), zlim=depths)
    ax.view_init(elev=18, azim=-58)
    ax.set_box_aspect((1, 1, 0.8), zoom=1.3)
    ax.axis("off")
    return fig


@style.styled
def similarity_matrices(
    matrices: Sequence[ArrayLike], group: ArrayLike, titles: Sequence[str], columns: int = 3
) -> Figure:
    """Matrices (N, N) of cosine similarities, rows sorted into groups, (N,), whose borders are drawn (F7).

    Large ones are drawn coarser.
    """
    fig, axes = style.panels(titles, (2.3, 2.4), (0.7, 0), columns, {"fontsize": 10})
    group, size = np.asarray(group), len(group)
    starts = np.flatnonzero(np.diff(group, prepend=group[0] - 1))
    middles = (starts + np.append(starts[1:], size) - 1) / 2
    ticks = (middles, group[starts]) if len(starts) <= 13 else ([],)
    border = {"color": style.ON_LIGHT, "lw": 6 / (len(starts) + 4) ** 1.1}
    for i, (ax, matrix) in enumerate(zip(axes, matrices, strict=True)):
        image = ax.imshow(
            _pooled(matrix), vmin=-1, vmax=1, interpolation="none", extent=(-0.5, size - 0.5, size - 0.5, -0.5),
            cmap=colormaps["RdBu_r"].resampled(64),  # finer shades cannot be told apart, and make pages heavy
        )  # fmt: skip
        ax.hlines(starts[1:] - 0.5, -0.5, size - 0.5, **border)
        ax.vlines(starts[1:] - 0.5, -0.5, size - 0.5, **border)
        is_outer = ax.get_subplotspec().is_first_col(), i + columns >= len(matrices)
        for axis, is_labelled in zip((ax.yaxis, ax.xaxis), is_outer, strict=True):
            axis.set_ticks(*(ticks if is_labelled else ([],)))
        ax.tick_params(labelsize=9)
        style.bare(ax)
    fig.colorbar(image, ax=axes, label="cosine similarity", shrink=0.7, aspect=30)
    return fig


@style.styled
def group_scores(scores: Mapping[str, Sequence], stages: Sequence[str]) -> Figure:
    """Similarity within less between groups at every stage of the model, beside chance groups (F7).

    Scores are grouping → a `stats.NullComparison` for each stage. A thin line is its interval; the dot of a significant
    one is filled.
    """
    fig, axes = style.panels(scores, (3, 0.7 + 0.27 * len(stages)), (0, 0.8), sharey=True, sharex=True)
    rows = np.arange(len(stages))[::-1]
    for ax, column in zip(axes, scores.values(), strict=True):
        ax.axvline(0, color=style.GREY, lw=0.8)
        ax.hlines(rows, [s.low for s in column], [s.high for s in column], color=style.SOFT, lw=7)
        ax.hlines(rows, *zip(*(s.interval for s in column), strict=True), color=style.MATCH, lw=1.6)
        faces = [style.MATCH if s.is_significant else style.PAPER for s in column]
        ax.scatter([s.value for s in column], rows, s=46, zorder=3, color=style.MATCH, facecolors=faces)
        ax.set(yticks=rows, yticklabels=stages, ylim=(-0.6, len(stages) - 0.4))
        ax.grid(axis="y", color=style.FAINT)
        ax.tick_params(length=0, axis="y")
        ax.spines["left"].set_visible(False)
    fig.supxlabel("mean similarity\nwithin groups less between groups", fontsize=11)
    return fig


def _pooled(matrix: ArrayLike) -> np.ndarray:
    """A square matrix shrunk by averaging neighbours to at most 128 rows, so that a page stays light."""
    edges = np.linspace(0, len(matrix), min(len(matrix), 128) + 1).round().astype(int)
    sums = np.add.reduceat(np.add.reduceat(np.asarray(matrix), edges[:-1], 0), edges[:-1], 1)
    return sums / np.outer(np.diff(edges), np.diff(edges))


def log_colors(p: int) -> list[str | tuple]:
    """A colour for each logarithm 0 … p - 1: grey for none, then once round the hues at equal lightness (OKLCH)."""
    hue = 2 * np.pi * np.arange(p - 1) / (p - 1) + 0.5
    a, b = 0.13 * np.cos(hue), 0.13 * np.sin(hue)
    cones = np.array([0.3963377774 * a + 0.2158037573 * b, -0.1055613458 * a - 0.0638541728 * b])
    cones = (0.62 + np.stack([cones[0], cones[1], -0.0894841775 * a - 1.2914855480 * b])) ** 3
    matrix = ((4.0767, -3.3077, 0.2310), (-1.2684, 2.6098, -0.3413), (-0.0042, -0.7034, 1.7076))
    linear = np.clip(np.array(matrix) @ cones, 0, 1).T
    colors = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return [style.GREY, *map(tuple, colors)]


def _plane_axes(ax: Axes) -> None:
    """A plane of two principal components, whose units say nothing."""
    ax.set(aspect="equal", adjustable="datalim", xticks=[], yticks=[], xlabel="PC 1", ylabel="PC 2")
    ax.margins(0.12)
    ax.spines[:].set_visible(False)


def _log_plane(
    ax: Axes, points: np.ndarray, numbers: np.ndarray, log: np.ndarray, limit: int | None = None
) -> None:
    """Points coloured by the logarithm of a number, which is written at the middle of its points if these differ."""
    colors = log_colors(len(log))
    labels = log[numbers]
    step = -(-len(points) // (limit or len(points)))
    inks = [colors[k] for k in labels[::step]]
    ax.scatter(*points[::step].T, c=inks, s=max(3, 150 / len(log)), alpha=0.75, lw=0)
    present = np.unique(labels)
    middles = np.stack([points[labels == k].mean(0) for k in present])
    if np.ptp(middles, axis=0).max() < 0.2 * np.ptp(points, axis=0).max():
        middles, present = middles[:0], []  # all in one place: the plane does not carry this number
    across = 1.24 * np.ptp(points, axis=0).max()  # with the margins below
    _numbers(ax, middles, present, colors, 14 if len(log) < 14 else 9, across)
    _plane_axes(ax)


def _numbers(
    ax: Axes, places: ArrayLike, labels: Iterable[int], colors: list, size: float, across: float
) -> None:
    """Write numbers at their places (n, 2), or beside them where they would overlap, with a line from there.

    Each has the colour at its index and a size in points; the square panel is `across` wide in the data's units.
    """
    point = across / (72 * ax.get_window_extent().width / ax.get_figure().dpi)
    room = size * point * np.array((1.25, 1))  # of two digits
    spots = np.asarray(places) / room
    for _ in range(100):  # those that overlap push each other away
        gaps = spots[:, None] - spots
        overlap = np.clip(1 - np.linalg.norm(gaps, axis=-1, keepdims=True), 0, None)
        spots = spots + (0.5 * overlap * gaps).sum(1)
    for place, spot, label in zip(places, spots * room, labels, strict=True):
        ax.annotate(
            label, place, spot, color=colors[label], weight="bold", ha="center", va="center", fontsize=size,
            path_effects=[withStroke(linewidth=3, foreground=style.PAPER)],
            arrowprops={"arrowstyle": "-", "color": colors[label], "lw": 1, "shrinkA": 0, "shrinkB": 0},
        )  # fmt: skip
