"""The tasks, their sequences, the four sets, and the tasks that fit the examples so far (F1a, F2)."""

from textwrap import shorten

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Polygon, Rectangle
from numpy.typing import ArrayLike, NDArray

from modgrok.plots import style


@style.styled
def task_tables(tasks: ArrayLike, p: int, train_pairs: ArrayLike) -> Figure:
    """The value tables of tasks (n, 2), all but the training inputs (m, 2) blacked out (F1a, top)."""
    tasks = np.asarray(tasks)
    fig = style.figure(2.9 * len(tasks), 3.3)
    axes = np.atleast_1d(fig.subplots(1, len(tasks), sharey=True))
    is_training_input = np.zeros((p, p), dtype=bool)
    is_training_input[tuple(np.asarray(train_pairs).T)] = True
    for ax, (a, b) in zip(axes, tasks, strict=True):
        style.tiles(ax, np.where(is_training_input, style.CELL, style.HELD_OUT), style.GREY)
        answers = {(x, y): (a * x + b * y) % p for x, y in np.argwhere(is_training_input)}
        style.Written(ax, answers, min(12, 60 / p), style.INK)
        style.square(ax, p, "x", "y" if ax is axes[0] else "")
        ax.set_title(f"a = {a}, b = {b}")
    return fig


@style.styled
def sequence_strips(tokens: ArrayLike, labels: list[str], n_first: int = 4) -> Figure:
    """Sequences (n, 3·K) as strips of boxes: x and y grey, z purple, a question mark for the last z (F1a, bottom).

    The first `n_first` examples stand before the dots, the last one behind them.
    """
    tokens = np.asarray(tokens)
    fig = style.figure(9, 0.55 * len(tokens) + 0.3)
    ax = fig.add_subplot()  # phones show the same strips
    for row, (sequence, label) in enumerate(zip(tokens, labels, strict=True)):
        ax.text(-0.8, -row, label, ha="right", va="center")
        for position, token in enumerate(sequence[: 3 * n_first]):
            _token(ax, position, -row, token, position % 3 == 2)
        ax.text(3 * n_first + 0.5, -row, "…", ha="center", va="center", fontsize=16)
        for position, token in enumerate([*sequence[-3:-1], "?"]):
            _token(ax, 3 * n_first + 2 + position, -row, token, position == 2)
    ax.set(xlim=(-4.1, 3 * n_first + 4.8), ylim=(0.5 - len(tokens), 0.6), aspect="equal")
    ax.axis("off")
    return fig


@style.styled
def four_sets(id_tasks: ArrayLike, train_pairs: ArrayLike, p: int, rectangle: ArrayLike) -> Figure:
    """The planes of tasks and of inputs, and the four sets that they make (F2).

    They show pre-training tasks (n, 2), training inputs (m, 2), and the outline of a rectangle: four tasks (4, 2) in
    the order in which the rule makes them.
    """
    fig = style.figure(9.6, 3.5)
    tasks, inputs, sets = fig.subplots(1, 3)
    _plane(tasks, id_tasks, p, (style.COLORS["id_train"], style.COLORS["ood_train"]))
    style.square(tasks, p, "a", "b")
    tasks.set_title("tasks (a, b)")
    corners = np.asarray(rectangle)[[0, 1, 3, 2]]
    tasks.add_patch(Polygon(corners, closed=True, fill=False, edgecolor=style.INK, lw=2, joinstyle="round"))
    tasks.plot(*corners[0], "o", color=style.INK, markersize=7)
    _plane(inputs, train_pairs, p, (style.CELL, style.HELD_OUT))
    style.square(inputs, p, "x", "y")
    inputs.set_title("inputs (x, y)")
    for i, task_set in enumerate(("id", "ood")):
        for j, part in enumerate(("train", "test")):
            box = FancyBboxPatch(
                (j, 1 - i), 0.9, 0.88, boxstyle="round,pad=0,rounding_size=.06", lw=0,
                facecolor=style.COLORS[f"{task_set}_{part}"],
            )  # fmt: skip
            sets.add_patch(box)
            ink = style.ON_LIGHT if part == "test" else style.ON_DARK
            name = f"$S_{{\\mathrm{{{part}}}}}^{{\\mathrm{{{'i.d.' if task_set == 'id' else 'o.o.d.'}}}}}$"
            sets.text(j + 0.45, 1.44 - i, name, ha="center", va="center", fontsize=18, color=ink)
    sets.set(xlim=(-0.05, 2), ylim=(-0.1, 2), xticks=[0.45, 1.45], yticks=[0.44, 1.44], title="the four sets")
    sets.set_xticklabels(["training inputs", "test inputs"])
    sets.set_yticklabels(["o.o.d.\ntasks", "i.d.\ntasks"])
    style.bare(sets)
    return fig


@style.styled
def consistent_tasks(
    tokens: ArrayLike, shots: int, fits: ArrayLike, answers: list[int], task: ArrayLike
) -> Figure:
    """A sequence (3·K,) up to its query, and the tasks that could have produced it; the true task (2,) is a star.

    Which tasks fit after so many shots, (p, p) bool, and the answers that they give are those of
    `predictors.consistent_tasks`.
    """
    x, y, z = np.asarray(tokens).reshape(-1, 3).T
    fits = np.asarray(fits)
    p = len(fits)
    fig = style.figure(8.4, 3.4)
    strip, plane = fig.subplots(1, 2, width_ratios=(1.25, 1))
    columns = 3
    for k in range(len(x)):
        column_x, row_y = 3.5 * (k % columns), -1.35 * (k // columns)
        for position, token in enumerate((x[k], y[k], "?" if k == shots else z[k])):
            if k <= shots:
                _token(strip, column_x + position, row_y, token, position == 2)
    strip.set(
        xlim=(-0.6, 3.5 * columns), ylim=(-1.35 * -(-len(x) // columns), 0.9), aspect="equal", anchor="N"
    )
    strip.axis("off")
    _plane(plane, np.argwhere(fits), p, (style.MATCH, style.CELL))
    plane.plot(*task, "*", color=style.INK, markersize=13)
    style.square(plane, p, "a", "b")
    possible = shorten(", ".join(map(str, answers)), 24, placeholder=" …")
    plane.set_title(f"tasks that fit: {fits.sum()} of {p * p}\npossible z: {possible}")
    return fig


def _plane(ax: Axes, points: ArrayLike, p: int, colors: tuple[str, str]) -> None:
    """Colour the cells of a p × p plane: the points (n, 2) in the first colour, all others in the second."""
    is_point: NDArray[np.bool_] = np.zeros((p, p), dtype=bool)
    is_point[tuple(np.asarray(points).T)] = True
    style.tiles(ax, np.where(is_point, *colors), style.SOFT)


def _token(ax: Axes, x: float, y: float, token: int | str, is_target: bool) -> None:
    """Draw a box with a token in it, centred at (x, y), in the colour of inputs or of targets."""
    color = style.TARGET if is_target else style.INPUT
    ax.add_patch(Rectangle((x - 0.5, y - 0.45), 1, 0.9, facecolor=color, edgecolor=style.INK, lw=0.7))
    ax.text(x, y, token, ha="center", va="center")
