"""How representations are ordered: circles and waves in the logarithm, parity, similar pairs (F1d, F1e, F6, F7)."""

from collections.abc import Iterable

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from mpl_toolkits.mplot3d.art3d import Poly3DCollection
from numpy.typing import ArrayLike

from modgrok.plots.style import FAINT, GREY, INK, MATCH, ON_LIGHT, PAPER, PARITY, SOFT, figure, styled


@styled
def embedding_ring(points: ArrayLike, log: ArrayLike) -> Figure:
    """The numbers 0 … p - 1 in a plane, coloured by their logarithm, and a line through them in its order (F1d).

    Args:
        points: (p, 2) coordinates.
        log: (p,) the log table, 0 for the number 0.
    """
    points, log = np.asarray(points), np.asarray(log)
    fig = figure(4.6, 3.8)
    ax = fig.subplots()
    colors, ring = log_colors(len(log)), np.argsort(log)[1:]
    ax.plot(*points[[*ring, ring[0]]].T, color=SOFT, lw=1.4, zorder=1)
    for number, point in enumerate(points):
        ax.text(
            *point, number, color=colors[log[number]], weight="bold", ha="center", va="center", fontsize=15,
            path_effects=[withStroke(linewidth=5, foreground=PAPER)],
        )  # fmt: skip
    ax.scatter(*points.T, s=0)  # texts alone do not set the limits
    ax.set(aspect="equal", adjustable="datalim", xticks=[], yticks=[], xlabel="PC 1", ylabel="PC 2")
    ax.margins(0.12)
    ax.spines[:].set_visible(False)
    return fig


@styled
def circle_of_circles(points: ArrayLike, log: ArrayLike, groups: str = "x") -> Figure:
    """All pairs in the plane of two principal components, labelled by logarithm, and one group enlarged (F1d).

    Args:
        points: (p², 2) coordinates of all pairs (x, y), y running fastest.
        log: (p,) the log table, 0 for the number 0. The group of the number with logarithm 1 is enlarged.
        groups: the number that gives colour and group, "x" or "y".
    """
    points, log = np.asarray(points), np.asarray(log)
    fig = figure(7.6, 4.3)
    whole, part = fig.subplots(1, 2)
    first, second = np.divmod(np.arange(len(points)), len(log))
    first, second, names = (first, second, "xy") if groups == "x" else (second, first, "yx")
    _log_plane(whole, points, first, log)
    group = log[first] == 1
    colors, labels = log_colors(len(log)), log[second[group]]
    low, high = points[group].min(0), points[group].max(0)
    corner, size = (low + high) / 2 - (high - low).max() * 0.6, (high - low).max() * 1.2
    _numbers(part, points[group], labels, colors, 17 / max(1, len(log) / 12) ** 0.5, size)
    part.set(xlim=(corner[0], corner[0] + size), ylim=(corner[1], corner[1] + size), aspect="equal")
    part.set(xticks=[], yticks=[], xlabel="enlarged")
    part.set_title(f"the group log {names[0]} = 1, by log {names[1]}")
    part.spines[:].set_visible(True)
    whole.add_patch(Rectangle(corner, size, size, fill=False, edgecolor=INK, lw=1))
    whole.set_title(f"all pairs (x, y), by log {names[0]}")
    return fig


@styled
def log_planes(planes: ArrayLike, numbers: ArrayLike, log: ArrayLike, titles: list[str]) -> Figure:
    """All pairs in several planes, each coloured by the logarithm of one of their numbers (F6).

    Args:
        planes: (n, p², 2) coordinates; of more than 400 pairs every second, third … is drawn, so that pages stay light.
        numbers: (n, p²) the number that gives the colour.
        log: (p,) the log table, 0 for the number 0.
        titles: n of them.
    """
    columns = 2 if len(planes) == 4 else min(3, len(planes))
    rows = -(-len(planes) // columns)
    fig = figure(2.5 * columns, 2.9 * rows)
    axes = np.ravel(fig.subplots(rows, columns, squeeze=False))
    for ax, points, number, title in zip(axes, planes, numbers, titles, strict=False):
        _log_plane(ax, np.asarray(points), np.asarray(number), np.asarray(log), limit=400)
        ax.set_title(title)
    for ax in axes[len(planes) :]:
        ax.axis("off")
    return fig


@styled
def log_spectra(shares: ArrayLike, titles: list[str], columns: int = 2) -> Figure:
    """How the variance between numbers divides among waves in their logarithm, beside relabelled numbers (F1d, F1e).

    Args:
        shares: (n, shuffles, waves) for each panel, the true labels first.
        titles: n of them.
        columns: panels in a row.
    """
    shares = np.asarray(shares)
    waves = np.arange(1, shares.shape[2] + 1)
    top = min(1, 1.15 * max(shares[:, 0].max(), np.quantile(shares, 0.975, axis=1).max()))
    rows = -(-len(shares) // columns)
    fig = figure(min(9.6, 3.3 * columns), 0.7 + 1.8 * rows)
    axes = fig.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for ax, panel, title in zip(axes.flat, shares, titles, strict=False):
        low, high = np.quantile(panel[1:], (0.025, 0.975), axis=0)
        colors = [PARITY[0] if s == waves[-1] else INK for s in waves]
        ax.vlines(waves, low, high, color=SOFT, lw=min(22, 150 / len(waves)))
        ax.vlines(waves, 0, panel[0], color=colors, lw=2)
        ax.scatter(waves, panel[0], color=colors, s=min(60, 500 / len(waves)), zorder=3, clip_on=False)
        ax.set(ylim=(0, top), xlim=(0.4, len(waves) + 0.6), title=title)
        ax.set_xticks(waves if len(waves) <= 8 else [1, *range(2, len(waves) + 1, 2)])
    for ax in axes.flat[len(shares) :]:
        ax.axis("off")
    fig.supxlabel("times round the circle\nwhile the logarithm runs through once", fontsize=11)
    fig.supylabel("share of variance", fontsize=11)
    return fig


@styled
def parity_planes(view: ArrayLike) -> Figure:
    """Numbers by the parity of their logarithm: one plane through the odd, one through the even (F1e).

    Args:
        view: (p, 3) coordinates in the order of the logarithm, the number 0 first; the last tells parity.
    """
    view = np.asarray(view)
    fig = figure(6.4, 4.6)
    ax = fig.add_subplot(projection="3d", computed_zorder=False)
    reach = 1.25 * max(np.abs(view[:, :2]).max(), 1e-9)
    corners = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) * reach
    for first, color in ((2, PARITY[1]), (1, PARITY[0])):
        plane = view[first::2]
        height = plane[:, 2].mean()
        sheet = np.column_stack([corners, np.full(4, height)])
        ax.add_collection3d(Poly3DCollection([sheet], facecolor=color, alpha=0.12, edgecolor=color, lw=0.8))
        for x, y, z in plane:
            ax.plot([x, x], [y, y], [height, z], color=color, lw=0.8, alpha=0.6)
        for label, place in zip(range(first, len(view), 2), plane, strict=True):
            ax.text(*place, label, color=color, weight="bold", ha="center", va="center", fontsize=13)
    ax.text(*view[0], 0, color=GREY, weight="bold", ha="center", va="center", fontsize=13)
    ax.set(xlim=(-reach, reach), ylim=(-reach, reach), xticklabels=[], yticklabels=[], zticklabels=[])
    ax.set_zlim(min(view[:, 2].min(), -reach / 2), max(view[:, 2].max(), reach / 2))
    ax.view_init(elev=18, azim=-58)
    ax.set_box_aspect((1, 1, 0.8), zoom=1.3)
    ax.axis("off")
    return fig


@styled
def similarity_matrices(
    matrices: list[ArrayLike], groups: list[ArrayLike], titles: list[str], columns: int = 3
) -> Figure:
    """Cosine similarities, rows sorted into groups whose borders are drawn (F7).

    Args:
        matrices: (N, N) each, sorted; large ones are drawn coarser.
        groups: (N,) each, the group of a row.
        titles: one each.
        columns: panels in a row.
    """
    columns = min(columns, len(matrices))
    rows = -(-len(matrices) // columns)
    fig = figure(2.3 * columns + 0.7, 2.4 * rows)
    axes = fig.subplots(rows, columns, squeeze=False)
    has_same_groups = all(
        np.array_equal(group, groups[0]) for group in groups
    )  # outer panels name them for all
    for i, (ax, matrix, group, title) in enumerate(zip(axes.flat, matrices, groups, titles, strict=False)):
        size = len(matrix)
        image = ax.imshow(
            _pooled(matrix),
            cmap=colormaps["RdBu_r"].resampled(64),  # finer shades cannot be told apart, and make pages heavy
            vmin=-1,
            vmax=1,
            interpolation="none",
            extent=(-0.5, size - 0.5, size - 0.5, -0.5),
        )
        starts = np.flatnonzero(np.diff(np.asarray(group), prepend=np.asarray(group)[0] - 1))
        border = {"color": ON_LIGHT, "lw": 6 / (len(starts) + 4) ** 1.1}
        ax.hlines(starts[1:] - 0.5, -0.5, size - 0.5, **border)
        ax.vlines(starts[1:] - 0.5, -0.5, size - 0.5, **border)
        ends = [*starts, len(matrix)]
        has_labels = len(starts) <= 13
        middles = (np.array(ends[:-1]) + ends[1:] - 1) / 2 if has_labels else []
        names = np.asarray(group)[starts] if has_labels else []
        outer = ax.get_subplotspec().is_first_col(), i + columns >= len(matrices)
        for axis, labelled in zip((ax.yaxis, ax.xaxis), outer, strict=True):
            axis.set_ticks(*((middles, names) if labelled or not has_same_groups else ([],)))
        ax.set_title(title, fontsize=10)
        ax.tick_params(length=0, labelsize=9)
        ax.spines[:].set_visible(False)
    for ax in axes.flat[len(matrices) :]:
        ax.axis("off")
    fig.colorbar(image, ax=axes, label="cosine similarity", shrink=0.7, aspect=30)
    return fig


@styled
def group_scores(scores: dict[str, list], stages: list[str]) -> Figure:
    """Similarity within less between groups at every stage of the model, beside chance groups (F7).

    Args:
        scores: name of a grouping → a score (`stats.NullComparison`) for each stage; a line is its
            interval, if it has one, and a dot is filled where the score is significant.
        stages: their names.
    """
    down = -(-len(scores) // 2)
    fig = figure(6, (0.7 + 0.27 * len(stages)) * down + 0.8)
    axes = np.ravel(fig.subplots(down, 2, sharey=True, sharex=True, squeeze=False))
    rows = np.arange(len(stages))[::-1]
    for ax in axes[len(scores) :]:
        ax.axis("off")
    for ax, (name, column) in zip(axes, scores.items(), strict=False):
        ax.axvline(0, color=GREY, lw=0.8)
        ax.hlines(rows, [s.low for s in column], [s.high for s in column], color=SOFT, lw=7)
        values = [s.value for s in column]
        ax.hlines(rows, *zip(*(s.interval for s in column), strict=True), color=MATCH, lw=1.6)
        faces = [MATCH if s.is_significant else PAPER for s in column]
        ax.scatter(values, rows, s=46, zorder=3, color=MATCH, facecolors=faces)
        ax.set(title=name, yticks=rows, yticklabels=stages, ylim=(-0.6, len(stages) - 0.4))
        ax.grid(axis="y", color=FAINT)
        ax.tick_params(length=0, axis="y")
        ax.spines["left"].set_visible(False)
    fig.supxlabel("mean similarity\nwithin groups less between groups", fontsize=11)
    return fig


def _pooled(matrix: ArrayLike, limit: int = 128) -> np.ndarray:
    """A square matrix shrunk by averaging neighbours to at most so many rows, so that a page stays light."""
    edges = np.linspace(0, len(matrix), min(len(matrix), limit) + 1).round().astype(int)
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
    return [
        GREY,
        *map(tuple, np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)),
    ]


def _log_plane(
    ax: Axes, points: np.ndarray, numbers: np.ndarray, log: np.ndarray, limit: int | None = None
) -> None:
    """Points coloured by the logarithm of a number, which is written at the middle of its points if these differ."""
    colors = log_colors(len(log))
    labels = log[numbers]
    step = -(-len(points) // (limit or len(points)))
    ax.scatter(
        *points[::step].T, c=[colors[k] for k in labels[::step]], s=max(3, 150 / len(log)), alpha=0.75, lw=0
    )
    middles = np.stack([points[labels == k].mean(0) for k in range(len(log))])
    if np.ptp(middles, axis=0).max() < 0.2 * np.ptp(points, axis=0).max():
        middles = middles[:0]  # all in one place: the plane does not carry this number
    across = 1.24 * np.ptp(points, axis=0).max()  # with the margins below
    _numbers(ax, middles, range(len(middles)), colors, 14 if len(log) < 14 else 9, across)
    ax.set(aspect="equal", adjustable="datalim", xticks=[], yticks=[], xlabel="PC 1", ylabel="PC 2")
    ax.margins(0.12)
    ax.spines[:].set_visible(False)


def _numbers(
    ax: Axes, places: ArrayLike, labels: Iterable[int], colors: list, size: float, across: float
) -> None:
    """Write numbers at their places, or beside them where they would lie on each other, with a line from there.

    Args:
        ax: square panel.
        places: (n, 2).
        labels: n of them, each written in its color.
        colors: of the numbers from 0.
        size: in points.
        across: width of the panel in the data's units.
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
            path_effects=[withStroke(linewidth=3, foreground=PAPER)],
            arrowprops={"arrowstyle": "-", "color": colors[label], "lw": 1, "shrinkA": 0, "shrinkB": 0},
        )  # fmt: skip
