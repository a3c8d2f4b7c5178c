"""One function a figure: arrays in, a matplotlib Figure out. No training, no files, no global state.

Colours mean the same everywhere: blue for pre-training tasks, orange for held-out ones; dark and solid for
training inputs, light and dashed for test inputs (Okabe and Ito's palette, safe for colour-blind readers).
"""

import numpy as np
from matplotlib import rcParams
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Polygon, Rectangle
from numpy.typing import ArrayLike, NDArray

COLORS = {"id_train": "#0072B2", "id_test": "#56B4E9", "ood_train": "#D55E00", "ood_test": "#E69F00"}
DASHES = {"id_train": "-", "id_test": "--", "ood_train": "-", "ood_test": "--"}
LABELS = {
    "id_train": "i.d. tasks, training inputs",
    "id_test": "i.d. tasks, test inputs",
    "ood_train": "o.o.d. tasks, training inputs",
    "ood_test": "o.o.d. tasks, test inputs",
}
INPUT, TARGET, HELD_OUT, INK, GREY = "#CFE6F5", "#FBD9B5", "#22262B", "#22262B", "#8A8F98"

rcParams.update(
    {
        "font.size": 11,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.edgecolor": GREY,
        "axes.titlesize": 12,
        "text.color": INK,
        "axes.labelcolor": INK,
        "xtick.color": INK,
        "ytick.color": INK,
        "svg.fonttype": "path",
    }
)


def figure(width: float, height: float) -> Figure:
    """An empty figure, inches."""
    return Figure(figsize=(width, height), layout="constrained")


def task_tables(tasks: ArrayLike, p: int, train_pairs: ArrayLike) -> Figure:
    """The value tables of some tasks, held-out inputs blacked out (F1a, top).

    Args:
        tasks: (n, 2) task vectors (a, b).
        p: the modulus.
        train_pairs: (m, 2) training inputs (x, y); the other cells are covered.
    """
    tasks = np.asarray(tasks)
    fig = figure(2.9 * len(tasks), 3.1)
    axes = np.atleast_1d(fig.subplots(1, len(tasks), sharey=True))
    seen = np.zeros((p, p), dtype=bool)
    seen[tuple(np.asarray(train_pairs).T)] = True
    x, y = np.divmod(np.arange(p * p), p)
    for ax, (a, b) in zip(axes, tasks, strict=True):
        for i, j, z in zip(x, y, (a * x + b * y) % p, strict=True):
            color = "white" if seen[i, j] else HELD_OUT
            ax.add_patch(Rectangle((i - 0.5, j - 0.5), 1, 1, facecolor=color, edgecolor=GREY, lw=0.7))
            if seen[i, j]:
                ax.text(i, j, z, ha="center", va="center", fontsize=min(12, 60 / p))
        _square(ax, p, "x", "y" if ax is axes[0] else "")
        ax.set_title(f"a = {a}, b = {b}")
    return fig


def sequence_strips(tokens: ArrayLike, labels: list[str], shown: int = 4) -> Figure:
    """Token sequences as strips of boxes: x and y blue, z orange, the last z asked for (F1a, bottom).

    Args:
        tokens: (n, 3·K) sequences.
        labels: a name for each.
        shown: the examples in front of the dots.
    """
    tokens = np.asarray(tokens)
    fig = figure(9, 0.55 * len(tokens) + 0.3)
    ax = fig.subplots()
    for row, (sequence, label) in enumerate(zip(tokens, labels, strict=True)):
        ax.text(-0.3, -row, label, ha="right", va="center")
        for place, token in enumerate(sequence[: 3 * shown]):
            _token(ax, place, -row, token, place % 3 == 2)
        ax.text(3 * shown + 0.5, -row, "…", ha="center", va="center", fontsize=16)
        for place, token in enumerate([*sequence[-3:-1], "?"]):
            _token(ax, 3 * shown + 2 + place, -row, token, place == 2)
    ax.set(xlim=(-3.6, 3 * shown + 4.8), ylim=(0.5 - len(tokens), 0.6), aspect="equal")
    ax.axis("off")
    return fig


def four_sets(
    id_tasks: ArrayLike, train_pairs: ArrayLike, p: int, rectangle: ArrayLike | None = None
) -> Figure:
    """The planes of tasks and of inputs, and the four sets that they make (F2).

    Args:
        id_tasks: (n, 2) pre-training tasks (a, b).
        train_pairs: (m, 2) training inputs (x, y).
        p: the modulus.
        rectangle: (4, 2) corners to outline in the task plane, in the rule's order.
    """
    fig = figure(9.6, 3.5)
    tasks, inputs, sets = fig.subplots(1, 3)
    _plane(tasks, id_tasks, p, (COLORS["id_train"], COLORS["ood_train"]))
    _square(tasks, p, "a", "b")
    tasks.set_title("tasks (a, b)")
    if rectangle is not None:
        corners = np.asarray(rectangle)[[0, 1, 3, 2]]
        tasks.add_patch(Polygon(corners, closed=True, fill=False, edgecolor=INK, lw=2, joinstyle="round"))
        tasks.plot(*corners[0], "o", color=INK, markersize=7)
    _plane(inputs, train_pairs, p, ("white", HELD_OUT))
    _square(inputs, p, "x", "y")
    inputs.set_title("inputs (x, y)")
    for i, which in enumerate(("id", "ood")):
        for j, part in enumerate(("train", "test")):
            box = FancyBboxPatch(
                (j, 1 - i), 0.9, 0.88, boxstyle="round,pad=0,rounding_size=.06", lw=0,
                facecolor=COLORS[f"{which}_{part}"],
            )  # fmt: skip
            sets.add_patch(box)
            ink = "black" if part == "test" else "white"
            name = f"$S_{{\\mathrm{{{part}}}}}^{{\\mathrm{{{'i.d.' if which == 'id' else 'o.o.d.'}}}}}$"
            sets.text(j + 0.45, 1.44 - i, name, ha="center", va="center", fontsize=18, color=ink)
    sets.set(xlim=(-0.05, 2), ylim=(-0.1, 2), xticks=[0.45, 1.45], yticks=[0.44, 1.44], title="the four sets")
    sets.set_xticklabels(["training inputs", "test inputs"])
    sets.set_yticklabels(["o.o.d.\ntasks", "i.d.\ntasks"])
    sets.tick_params(length=0)
    sets.spines[:].set_visible(False)
    return fig


def consistent_tasks(tokens: ArrayLike, shots: int, p: int, task: ArrayLike) -> Figure:
    """A sequence up to its query, and the tasks that could have produced it.

    Args:
        tokens: (3·K,) a sequence.
        shots: examples in front of the query.
        p: the modulus.
        task: (2,) the true (a, b).
    """
    x, y, z = np.asarray(tokens).reshape(-1, 3).T
    a, b = np.divmod(np.arange(p * p), p)
    fits = ((np.outer(a, x[:shots]) + np.outer(b, y[:shots]) - z[:shots]) % p == 0).all(axis=1)
    answers = np.unique((a * x[shots] + b * y[shots])[fits] % p)
    fig = figure(8.4, 3.4)
    strip, plane = fig.subplots(1, 2, width_ratios=(1.25, 1))
    columns = 3
    for k in range(len(x)):
        left, top = 3.5 * (k % columns), -1.35 * (k // columns)
        for place, token in enumerate((x[k], y[k], "?" if k == shots else z[k])):
            if k <= shots:
                _token(strip, left + place, top, token, place == 2)
    strip.set(
        xlim=(-0.6, 3.5 * columns), ylim=(-1.35 * -(-len(x) // columns), 0.9), aspect="equal", anchor="N"
    )
    strip.axis("off")
    _plane(plane, np.stack([a, b], 1)[fits], p, (COLORS["id_test"], "white"))
    plane.plot(*task, "*", color=INK, markersize=13)
    _square(plane, p, "a", "b")
    count = f"{fits.sum()} task{'s' if fits.sum() > 1 else ''} of {p * p} fit"
    verdict = f"z must be {answers[0]}" if len(answers) == 1 else f"{len(answers)} answers possible"
    plane.set_title(f"{count}; {verdict}")
    return fig


def training_curves(metrics: dict[str, ArrayLike], chance: float, mark: int | None = None) -> Figure:
    """Loss and last-shot accuracy on the four sets against training step (F3).

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
        accuracy.plot(metrics["step"], metrics[f"{name}_acc"], **style)
    _chance(accuracy, chance)
    loss.axhline(-np.log(chance), color=GREY, lw=1, ls=":")
    loss.set(xlabel="training step", ylabel="loss (nats per z)")
    accuracy.set(xlabel="training step", ylabel="accuracy, last shot", ylim=(0, 1.02))
    if mark is not None:
        for ax in (loss, accuracy):
            ax.axvline(mark, color=INK, lw=1)
    fig.legend(*loss.get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
    return fig


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
            shade = 1 - 0.65 * i / max(1, len(runs) - 1)
            ax.plot(metrics["step"], metrics[f"{name}_acc"], color=COLORS[name], alpha=shade, lw=1.8, label=label)
        _chance(ax, chance)
        ax.set(xlabel="training step", title=LABELS[name], ylim=(0, 1.02))
        ax.legend(frameon=False, loc="upper left")
    axes[0].set_ylabel("accuracy, last shot")
    return fig


def accuracy_by_shot(curves: dict[str, ArrayLike], chance: float, title: str = "") -> Figure:
    """Accuracy against the number of shots on the four sets (F1c).

    Args:
        curves: set → (n_examples,) accuracies after 0 … n_examples-1 shots.
        chance: accuracy of a blind guess, 1/p.
        title: above the axes.
    """
    fig = figure(7, 3.9)
    ax = fig.subplots()
    for name, curve in curves.items():
        style = {"color": COLORS[name], "ls": DASHES[name], "marker": "o", "markersize": 4.5, "lw": 1.8}
        ax.plot(range(len(curve)), curve, label=LABELS[name], **style)
    _chance(ax, chance)
    ax.set(xlabel="number of shots", ylabel="accuracy", ylim=(0, 1.02), title=title)
    ax.set_xlim(-0.3, len(next(iter(curves.values()))) - 0.7)
    fig.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
    return fig


def _square(ax: Axes, p: int, xlabel: str, ylabel: str) -> None:
    """A p × p plane of numbers."""
    ticks = range(0, p, 1 if p <= 13 else 5)
    ax.set(xlim=(-0.5, p - 0.5), ylim=(-0.5, p - 0.5), aspect="equal", xticks=ticks, yticks=ticks)
    ax.set(xlabel=xlabel, ylabel=ylabel)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)


def _plane(ax: Axes, points: ArrayLike, p: int, colors: tuple[str, str]) -> None:
    """Colour the cells of a p × p plane by whether they are among the points."""
    inside: NDArray[np.bool_] = np.zeros((p, p), dtype=bool)
    inside[tuple(np.asarray(points).T)] = True
    for i, j in np.ndindex(p, p):
        color = colors[0] if inside[i, j] else colors[1]
        ax.add_patch(Rectangle((i - 0.5, j - 0.5), 1, 1, facecolor=color, edgecolor="#D5D8DC", lw=0.7))


def _token(ax: Axes, x: float, y: float, token: int | str, is_target: bool) -> None:
    color = TARGET if is_target else INPUT
    ax.add_patch(Rectangle((x - 0.5, y - 0.45), 1, 0.9, facecolor=color, edgecolor=INK, lw=0.7))
    ax.text(x, y, token, ha="center", va="center")


def _chance(ax: Axes, chance: float) -> None:
    ax.axhline(chance, color=GREY, lw=1, ls=":")
    ax.annotate(
        "chance", (1, chance), xycoords=("axes fraction", "data"), xytext=(-2, 3), textcoords="offset points",
        ha="right", fontsize=9, color=GREY,
    )  # fmt: skip
