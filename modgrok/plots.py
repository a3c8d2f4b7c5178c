"""One function a figure: arrays in, a matplotlib Figure out. No training, no files, no global state.

Colours mean the same everywhere: blue for pre-training tasks, orange for held-out ones; dark and solid for
training inputs, light and dashed for test inputs (Okabe and Ito's palette, safe for colour-blind readers).
"""

from collections.abc import Callable, Iterable
from functools import wraps

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import FancyBboxPatch, Patch, Polygon, Rectangle
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FixedLocator, MaxNLocator
from mpl_toolkits.mplot3d.art3d import Poly3DCollection
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
MATCH, PARITY = "#009E73", ("#B5408B", "#00795A")
DEPTHS = LinearSegmentedColormap.from_list("depths", ["#F2B37C", "#D55E00", "#5C2400"])
ATTENTION = LinearSegmentedColormap.from_list(
    "attention", ["#FFFFFF", "#FBDCC4", "#F2937C", "#C04A7E", "#642A80", "#1B1044"]
)

STYLE = {
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
"""matplotlib's settings in these figures, and in no others."""


def styled(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    """A figure function that draws in STYLE and leaves matplotlib's settings as they were."""

    @wraps(draw)
    def drawn(*args, **kwargs) -> Figure:
        with rc_context(STYLE):
            return draw(*args, **kwargs)

    return drawn


class _Figure(Figure):
    """Keeps to STYLE when it is saved, however late: matplotlib makes some parts, such as ticks, only then."""

    def draw(self, renderer) -> None:
        with rc_context(STYLE):
            super().draw(renderer)


def figure(width: float, height: float) -> Figure:
    """An empty figure, inches."""
    return _Figure(figsize=(width, height), layout="constrained")


def blocks(depth: int) -> str:
    """A depth in words, for titles: "1 block", "2 blocks"."""
    return f"{depth} block{'s' if depth > 1 else ''}"


@styled
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


@styled
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


@styled
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


@styled
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
    _chance(accuracy, chance)
    loss.axhline(-np.log(chance), color=GREY, lw=1, ls=":")
    loss.set(xlabel="training step", ylabel="loss (nats per z)")
    accuracy.set(xlabel="training step", ylabel="accuracy, last shot", ylim=(0, 1.02))
    if mark is not None:
        for ax in (loss, accuracy):
            ax.axvline(mark, color=INK, lw=1)
    handles = [
        *loss.get_legend_handles_labels()[0],
        Line2D([], [], color=INK, lw=1.8, label="accuracy on queries that are no repeat"),
        Line2D([], [], color=INK, lw=1, alpha=0.4, label="accuracy on all queries"),
    ]
    fig.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False)
    return fig


PHASE_COLORS = ("#E6E8EB", "#E3A18C", "#BFDDF0", "#6FA8D6", "#1F4E86")
"""Of `skill.PHASES`, in its order."""


@styled
def phase_diagram(
    panels: dict[str, ArrayLike], columns: ArrayLike, rows: ArrayLike, names: tuple[str, ...], across: int = 2
) -> Figure:
    """The phase of every seed at every point, side by side in the point's cell (F1b, F4).

    Args:
        panels: title → (seeds, rows, columns) indices of `names`.
        columns: numbers of pre-training tasks.
        rows: fractions α.
        names: of the phases.
        across: panels side by side.
    """
    down = len(panels) // across
    fig = figure(9.6, 0.8 + 3.6 * down)
    axes = fig.subplots(down, across, sharex=True, sharey=True, squeeze=False)
    for ax, (title, phases) in zip(axes.flat, panels.items(), strict=True):
        phases = np.asarray(phases)
        for seed, row, column in np.ndindex(phases.shape):
            corner, width = (column - 0.5 + seed / len(phases), row - 0.5), 1 / len(phases)
            color = PHASE_COLORS[phases[seed, row, column]]
            ax.add_patch(Rectangle(corner, width, 1, facecolor=color, lw=0))
        _map_axes(ax, columns, rows)
        ax.set_xticks(np.arange(len(columns) - 1) + 0.5, minor=True)
        ax.set_yticks(np.arange(len(rows) - 1) + 0.5, minor=True)
        ax.grid(which="minor", color="white", lw=3)
        ax.set_title(title)
        ax.label_outer()
    keys = [Rectangle((0, 0), 1, 1, facecolor=color) for color in PHASE_COLORS]
    fig.legend(keys, names, loc="outside lower center", ncols=3, frameon=False)
    return fig


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
        for row, column in np.argwhere(np.isfinite(of_set)):
            value = np.asarray(of_set)[row, column]
            ink = "white" if value < 0.6 * most else "black"
            ax.text(column, row, f"{value:.2f}", ha="center", va="center", color=ink, fontsize=10)
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
            shade = 1 - 0.65 * i / max(1, len(runs) - 1)
            ax.plot(
                metrics["step"], metrics[f"{name}_acc"], color=COLORS[name], alpha=shade, lw=1.8, label=label
            )
        _chance(ax, chance)
        ax.set(xlabel="training step", title=LABELS[name], ylim=(0, 1.02))
        ax.legend(frameon=False, loc="upper left")
    axes[0].set_ylabel("accuracy, last shot")
    return fig


@styled
def with_spread(
    panels: dict[str, dict[str, ArrayLike]], places: ArrayLike, xlabel: str, chance: float, mark: bool = False
) -> Figure:
    """Accuracy on the four sets against anything: mean over seeds in a band from least to most (F3, F4, A1).

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
            ax.fill_between(
                places, np.min(values, axis=0), np.max(values, axis=0), color=COLORS[name], alpha=0.15, lw=0
            )
        if mark:
            ax.axvline(places[np.mean(accuracy["ood_train"], axis=0).argmax()], color=INK, lw=1)
        _chance(ax, chance)
        ax.set(title=title, xlabel=xlabel, ylim=(0, 1.02))
        ax.xaxis.set_major_locator(FixedLocator(places) if len(places) < 8 else MaxNLocator(5, integer=True))
    axes[0].set_ylabel("accuracy")
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
    return fig


@styled
def steps_and_minutes(curves: dict[str, tuple[ArrayLike, ArrayLike, ArrayLike]]) -> Figure:
    """One accuracy of several models against training step and against time: means over seeds.

    Args:
        curves: label → steps (evaluations,), minutes (evaluations,), accuracies (seeds, evaluations).
    """
    fig = figure(9.6, 3.7)
    axes = fig.subplots(1, 2, sharey=True)
    for i, (label, (*places, accuracy)) in enumerate(curves.items()):
        color = DEPTHS(i / max(1, len(curves) - 1))
        for ax, x in zip(axes, places, strict=True):
            ax.plot(x, np.mean(accuracy, axis=0), color=color, lw=1.8, label=label)
    axes[0].set(xlabel="training step", ylabel="accuracy, last shot", ylim=(0, 1.02))
    axes[1].set(xlabel="minutes of one core")
    fig.legend(
        *axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(curves), frameon=False
    )
    return fig


@styled
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


# Model against exact predictors (F1c, F5) ---------------------------------------------------------------------

CORRECT, INCORRECT = "#F5EBD0", "#40356B"  # sand and violet: apart in lightness for every eye
ALGORITHM_COLORS = {
    "look-up": "#7A828C",
    "ratio matching": "#CC79A7",
    "regression": "#009E73",
    "Bayes, pre-training tasks": INK,
}
"""Of `evaluate.REFERENCES`, in its order."""
ALGORITHM_DASHES = {"look-up": "-.", "Bayes, pre-training tasks": (0, (1.2, 1.2))}  # others solid
KINDS = {
    "repeated pair (look-up)": ALGORITHM_COLORS["look-up"],
    "multiple of an earlier pair (ratio matching)": ALGORITHM_COLORS["ratio matching"],
    "combination of earlier pairs (regression)": ALGORITHM_COLORS["regression"],
    "not determined by the examples": "#D9DDE2",
}
"""What `evaluate.KINDS` are called, in its order, each in the colour of the weakest algorithm that answers it."""


@styled
def against_predictors(
    curves: dict[str, ArrayLike],
    references: dict[str, dict[str, ArrayLike]],
    chance: float,
    label: str = "the model (band: 95 %)",
) -> Figure:
    """Accuracy by shot of the model and of exact predictors, a panel a set (F1c).

    Args:
        curves: set → (3, K) the model's accuracy, low and high end of its interval, or (K,) without interval.
        references: set → predictor → (K',) accuracies.
        chance: accuracy of a blind guess, 1/p.
        label: what the curves are, for the legend.
    """
    rows, columns = -(-len(curves) // 2), min(len(curves), 2)
    fig = figure(7.8 if columns == 2 else 6.4, 2.7 * rows + 0.9)
    axes = fig.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for ax, (name, curve) in zip(axes.flat, curves.items(), strict=False):
        for who, reference in references[name].items():
            ax.plot(reference, **_algorithm(who))
        color = COLORS[name]
        _banded(
            ax, np.arange(np.shape(curve)[-1]), curve, color=color, lw=2.4, marker="o", markersize=5, zorder=4
        )
        _chance(ax, chance)
        ax.set_title(LABELS[name], color=color, fontweight="bold", loc="left", fontsize=11)
        ax.set(ylim=(0, 1.04))
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    for ax in axes[-1]:
        ax.set_xlabel("number of shots")
    for ax in axes[:, 0]:
        ax.set_ylabel("accuracy")
    _algorithm_legend(fig, next(iter(references.values())), label)
    return fig


@styled
def nearest_predictor(
    divergences: dict[str, ArrayLike], agreements: dict[str, ArrayLike], title: str = ""
) -> Figure:
    """How far the model's answers are from those of each exact predictor, by shot.

    Args:
        divergences: predictor → (3, K) relative entropy in nats with its interval.
        agreements: predictor → (3, K) share of equal answers with its interval.
        title: above the panels.
    """
    fig = figure(7.8, 3.7)
    far, same = fig.subplots(1, 2)
    for who in divergences:
        style = _algorithm(who) | {"marker": "o", "markersize": 4}
        _banded(far, np.arange(np.shape(divergences[who])[-1]), divergences[who], **style)
        _banded(same, np.arange(np.shape(agreements[who])[-1]), agreements[who], **style)
    far.set(ylabel="relative entropy (nats)", ylim=(0, None))
    far.set_title("distance: lower is nearer", loc="left", fontsize=11)
    same.set(ylabel="share of queries", ylim=(0, 1.04))
    same.set_title("same answer: higher is nearer", loc="left", fontsize=11)
    for ax in (far, same):
        ax.set_xlabel("number of shots")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    fig.suptitle(title, fontsize=12)
    _algorithm_legend(fig, divergences)
    return fig


@styled
def which_algorithm(steps: ArrayLike, divergence: Iterable[ArrayLike], titles: list[str]) -> Figure:
    """How far the model's answers are from those of each exact predictor, along training, a panel a set or a depth.

    Args:
        steps: (E,) training steps.
        divergence: for each panel (E, 4), mean relative entropy in nats from `evaluate.REFERENCES`, or (3, E, 4)
            with its interval.
        titles: one each.
    """
    columns = len(titles) if len(titles) < 4 else 2
    rows = -(-len(titles) // columns)
    fig = figure((6.4, 7.8, 9.6)[columns - 1], 2.6 * rows + 0.9)
    axes = fig.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for ax, panel, title in zip(axes.flat, divergence, titles, strict=True):
        for i, who in enumerate(ALGORITHM_COLORS):
            _banded(ax, np.asarray(steps), np.asarray(panel)[..., i], **_algorithm(who))
        ax.set_title(title, loc="left", fontsize=11)
        ax.set(xlabel="training step", ylabel="relative entropy (nats):\nlower is nearer")
        ax.label_outer()
    axes[0, 0].set_ylim(0, None)  # of all panels, whose lines are drawn
    _algorithm_legend(fig, ALGORITHM_COLORS)
    return fig


@styled
def query_grids(
    correct: dict[str, ArrayLike], matched: ArrayLike, tokens: ArrayLike, shots: list[int]
) -> Figure:
    """Which queries are answered correctly, which ratio matching could answer, and the difference (F5).

    Args:
        correct: name of a model → (S, p, p) bool, indexed [shot, x, y].
        matched: (S, p, p) bool, as `algorithms.ratio_matches`.
        tokens: (3·k,) the context, k ≥ max(shots).
        shots: the S numbers of examples, a column each.
    """
    matched = np.asarray(matched, dtype=int)
    rows = [
        (f"{name}:\ncorrect answers", np.asarray(grid, dtype=int), False) for name, grid in correct.items()
    ]
    rows += [("ratio matching:\nwhat it can answer", matched, False)]
    rows += [(f"{name} minus\nratio matching", grid - matched, True) for (name, _), (_, grid, _) in
             zip(correct.items(), rows, strict=False)]  # fmt: skip
    fig = figure(max(6.2, 0.9 + 1.7 * len(shots)), 1.66 * len(rows) + 1.2)  # room for the legend
    axes = fig.subplots(len(rows), len(shots), sharex=True, sharey=True, squeeze=False)
    for (label, grids, signed), line in zip(rows, axes, strict=True):
        for grid, ax in zip(grids, line, strict=True):
            _cells(ax, grid, DIFFERENCE if signed else TRUTH)
        line[0].set_ylabel(f"{label}\n\ny", fontsize=9)
    for ax, k in zip(axes[0], shots, strict=True):
        ax.set_title(f"{k} shot{'s' * (k != 1)}\n{_context(tokens, k)}", fontsize=9.5)
    for ax in axes[-1]:
        ax.set_xlabel("x")
    _cell_legend(fig)
    return fig


@styled
def query_answers(
    answers: dict[str, ArrayLike], task: ArrayLike, matched: ArrayLike, pairs: ArrayLike
) -> Figure:
    """One number of shots: the answers written into the grid, what ratio matching could answer, the difference.

    Args:
        answers: name of a model → (p, p) its answers, indexed [x, y].
        task: (2,) the true (a, b).
        matched: (p, p) bool.
        pairs: (k, 2) the context's (x, y), ringed.
    """
    matched, p = np.asarray(matched, dtype=int), len(matched)
    x, y = np.mgrid[:p, :p]
    truth = (task[0] * x + task[1] * y) % p
    fig = figure(7.8, 2.6 * len(answers) + 0.75)
    axes = fig.subplots(len(answers), 3, sharex=True, sharey=True, squeeze=False)
    for line, (name, given) in zip(axes, answers.items(), strict=True):
        right = (np.asarray(given) == truth).astype(int)
        grids = {
            f"{name}: {right.sum()} of {p * p} correct": (right, TRUTH),
            f"ratio matching can: {matched.sum()}": (matched, TRUTH),
            "difference": (right - matched, DIFFERENCE),
        }
        for ax, (title, (grid, colors)) in zip(line, grids.items(), strict=True):
            _cells(ax, grid, colors)
            ax.plot(*np.asarray(pairs).reshape(-1, 2).T, "o", mfc="none", mec="#D55E00", mew=1.6,
                    markersize=min(20, 130 / p))  # fmt: skip
            ax.set_title(title, fontsize=11)
        for i, j in np.ndindex(p, p):
            if p <= 13:
                line[0].text(i, j, given[i][j], ha="center", va="center", fontsize=min(10, 75 / p),
                             color=INK if right[i, j] else "white")  # fmt: skip
        line[0].set_ylabel("y")
    for ax in axes[-1]:
        ax.set_xlabel("x")
    _cell_legend(fig)
    return fig


@styled
def explained(known: dict[str, ArrayLike], agreeing: dict[str, ArrayLike]) -> Figure:
    """On how many queries an exact predictor is sure, and how often the model then gives its answer.

    Args:
        known: predictor → (3, K) share of queries on which it is certain, with its interval.
        agreeing: predictor → (3, K) share of those with the model's answer.
    """
    fig = figure(7.8, 4)
    share, where_sure = fig.subplots(1, 2, sharex=True, sharey=True)
    for who in known:
        style, sure = _algorithm(who), np.asarray(known[who])[0]
        both = np.nan_to_num(sure * np.asarray(agreeing[who])[0])
        share.fill_between(range(len(sure)), both, sure, color=style["color"], alpha=0.13, lw=0)
        share.plot(sure, **style | {"lw": 1.1})
        share.plot(both, **style | {"lw": 2.4}, marker="o", markersize=4)
        _banded(where_sure, np.arange(len(sure)), agreeing[who], **style, marker="o", markersize=4)
    title = "of all queries: certain (thin),\ncertain and the model agrees (thick)"
    share.set_title(title, loc="left", fontsize=11)
    where_sure.set_title("of the queries where it is certain:\nmodel agrees", loc="left", fontsize=11)
    share.set(ylim=(0, 1.04), ylabel="share of queries")
    for ax in (share, where_sure):
        ax.set_xlabel("number of shots")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    _algorithm_legend(fig, known)
    return fig


@styled
def kinds_by_shot(
    composition: ArrayLike, right: dict[str, ArrayLike], chance: float, title: str = ""
) -> Figure:
    """What kinds of queries come at each number of shots, and how many of each the model gets right (F5).

    Args:
        composition: (4, K) share of each kind, in the order of KINDS.
        right: title of a panel → (4, 3, K) accuracy on each kind with its interval.
        chance: accuracy of a blind guess, 1/p.
        title: above the panels.
    """
    fig = figure(7.8, 4.1)
    mix, *panels = fig.subplots(1, 1 + len(right), sharex=True, sharey=True)
    places = np.arange(np.shape(composition)[1])
    bottom = np.zeros(len(places))
    for color, share in zip(KINDS.values(), composition, strict=True):
        mix.bar(places, share, 0.86, bottom, color=color)
        bottom += share
    mix.set(xlim=(-0.6, len(places) - 0.4), ylim=(0, 1.04), ylabel="share or accuracy")
    mix.set_title("share of queries", loc="left", fontsize=11)
    for ax, (name, curves) in zip(panels, right.items(), strict=True):
        _by_kind(ax, places, curves, chance)
        ax.set_title(name, loc="left", fontsize=11)
    for ax in (mix, *panels):
        ax.set_xlabel("number of shots")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    fig.suptitle(title, fontsize=12)
    _kind_legend(fig)
    return fig


@styled
def kinds_by_step(steps: ArrayLike, panels: dict[str, ArrayLike], chance: float) -> Figure:
    """Accuracy on each kind of query, all shots together, along training (F5).

    Args:
        steps: (S,) training steps.
        panels: title → (4, 3, S) accuracy on each kind with its interval.
        chance: accuracy of a blind guess, 1/p.
    """
    rows, columns = -(-len(panels) // 2), min(2, len(panels))
    fig = figure(7.8, 2.9 * rows + 1)
    axes = fig.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for ax, (title, curves) in zip(axes.flat, panels.items(), strict=False):
        _by_kind(ax, np.asarray(steps), curves, chance)
        ax.set_title(title, loc="left", fontsize=11)
        ax.set(ylim=(0, 1.04))
    for ax in axes[-1]:
        ax.set_xlabel("training step")
    for ax in axes[:, 0]:
        ax.set_ylabel("accuracy")
    _kind_legend(fig)
    return fig


TRUTH = {0: INCORRECT, 1: CORRECT}
DIFFERENCE = {-1: ALGORITHM_COLORS["ratio matching"], 0: "#F1F2F4", 1: ALGORITHM_COLORS["regression"]}


def _cells(ax: Axes, grid: NDArray, colors: dict[int, str]) -> None:
    """A p × p grid of cells, indexed [x, y], each value in its colour."""
    p, values = len(grid), sorted(colors)
    cmap = ListedColormap([colors[value] for value in values])
    ax.imshow(np.asarray(grid).T, cmap=cmap, vmin=values[0] - 0.5, vmax=values[-1] + 0.5, origin="lower")
    _square(ax, p, "", "")
    if p <= 13:  # with more cells the lines would be all one sees
        edges = np.arange(p + 1) - 0.5
        ax.vlines(edges, -0.5, p - 0.5, color="white", lw=0.8)
        ax.hlines(edges, -0.5, p - 0.5, color="white", lw=0.8)


def _cell_legend(fig: Figure) -> None:
    patches = {
        "correct": CORRECT, "incorrect": INCORRECT,
        "model only": DIFFERENCE[1], "same": DIFFERENCE[0], "ratio matching only": DIFFERENCE[-1],
    }  # fmt: skip
    handles = [
        Patch(facecolor=color, edgecolor=GREY, lw=0.5, label=label) for label, color in patches.items()
    ]
    fig.legend(handles=handles, loc="outside lower center", ncols=5, frameon=False, fontsize=10,
               columnspacing=1.2, handlelength=1.2)  # fmt: skip


def _context(tokens: ArrayLike, shots: int) -> str:
    """The context in front of a query, its middle left out: "(4 21 5) … (x y ?)"."""
    examples = [f"({x} {y} {z})" for x, y, z in np.asarray(tokens).reshape(-1, 3)[:shots]]
    if len(examples) > 2:
        examples = [examples[0], "…", examples[-1]]
    return " ".join(examples) or "(x y ?)"


def _algorithm(who: str) -> dict:
    return {"color": ALGORITHM_COLORS[who], "ls": ALGORITHM_DASHES.get(who, "-"), "lw": 1.8}


def _algorithm_legend(fig: Figure, names: Iterable[str], label: str | None = None) -> None:
    handles = [Line2D([], [], label=who, **_algorithm(who)) for who in names]
    if label:
        handles.append(Line2D([], [], color=INK, lw=2.4, marker="o", markersize=5, label=label))
    fig.legend(
        handles=handles, loc="outside lower center", ncols=3 if label else 2, frameon=False, fontsize=10
    )


def _by_kind(ax: Axes, places: NDArray, curves: ArrayLike, chance: float) -> None:
    for color, curve in zip(KINDS.values(), curves, strict=True):
        color = (
            "#A9B0B8" if color == KINDS["not determined by the examples"] else color
        )  # lines need more ink
        _banded(ax, places, curve, color=color, lw=2, marker="o", markersize=4)
    _chance(ax, chance)


def _kind_legend(fig: Figure) -> None:
    handles = [Patch(facecolor=color, label=kind) for kind, color in KINDS.items()]
    fig.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False, fontsize=10)


def _banded(ax: Axes, places: NDArray, curve: ArrayLike, **style) -> None:
    """A curve (n,), or (3, n) with the ends of its interval drawn as a band."""
    curve = np.atleast_2d(curve)
    ax.plot(places, curve[0], **style)
    if len(curve) == 3:
        ax.fill_between(places, curve[1], curve[2], color=style["color"], alpha=0.2, lw=0)


@styled
def attention_maps(patterns: ArrayLike, matches: ArrayLike, shown: int = 48) -> Figure:
    """The attention of every head on one sequence, a row a block (F6, A3).

    Args:
        patterns: (depth, H, T, T).
        matches: (K, K) bool, the earlier examples that match a query's ratio; ringed at their z.
        shown: tokens shown.
    """
    patterns = np.asarray(patterns)[:, :, :shown, :shown]
    depth, heads, T, _ = patterns.shape
    fig = figure(*_sheet(depth, heads, 0.05))
    axes = fig.subplots(depth, heads, squeeze=False, sharex=True, sharey=True)
    query, example = (np.argwhere(np.asarray(matches)) * 3 + (1, 2)).T
    future = np.triu(np.ones((T, T), dtype=bool), 1)
    for (layer, head), ax in np.ndenumerate(axes):
        image = ax.imshow(
            np.ma.array(patterns[layer, head], mask=future),
            cmap=ATTENTION,
            vmin=0,
            vmax=1,
            interpolation="none",
            zorder=1,
        )
        inside = (query < T) & (example < T)
        ring = {"s": 2400 / T, "facecolors": "none", "zorder": 3}
        ax.scatter(example[inside], query[inside], edgecolors="white", linewidths=3, **ring)
        ax.scatter(example[inside], query[inside], edgecolors=MATCH, linewidths=1.6, **ring)
        for place in range(T):  # what stands at each position: x and y blue, z orange
            color = COLORS["ood_test"] if place % 3 == 2 else COLORS["id_test"]
            ax.add_patch(Rectangle((place - 0.5, T - 0.3), 1, T / 30, color=color, lw=0))
            ax.add_patch(Rectangle((-0.7 - T / 30, place - 0.5), T / 30, 1, color=color, lw=0))
        ax.set(xlim=(-0.7 - T / 30, T - 0.5), ylim=(T - 0.3 + T / 30, -0.5), aspect="equal")
        ax.set(xticks=range(2, T, 6), yticks=range(2, T, 6), title=f"block {layer}, head {head}")
        ax.set_xticklabels(range(1, T // 3 + 1, 2)[: len(ax.get_xticks())])
        ax.set_yticklabels(range(1, T // 3 + 1, 2)[: len(ax.get_yticks())])
        ax.add_patch(
            Polygon([(-0.5, -0.5), (T - 0.5, -0.5), (T - 0.5, T - 0.5)], color="#EDEFF2", lw=0, zorder=0)
        )
        ax.spines[:].set_visible(False)
        ax.tick_params(length=0)
    fig.supxlabel("attended example", fontsize=11)
    fig.supylabel("attending example", fontsize=11)
    fig.colorbar(image, ax=axes, label="attention", shrink=0.5, aspect=30)
    return fig


@styled
def head_habits(distances: ArrayLike, matching: ArrayLike, errors: ArrayLike) -> Figure:
    """What each head attends to: how far back, and whether an example matches the query's ratio (F6).

    Args:
        distances: (depth, H, reach + 1) mean attention to the token so many places back.
        matching: (depth, H, 2) mean attention to a matching and to another example.
        errors: (depth, H, 2) half-widths of their 95 % intervals.
    """
    depth, heads, reach = np.shape(distances)
    names = [f"block {i}, head {h}" for i, h in np.ndindex(depth, heads)]
    rows = np.arange(len(names))
    fig = figure(5.8, 2.4 + 0.56 * len(names))
    back, match = fig.subplots(2, 1)
    table = np.reshape(distances, (-1, reach))
    back.imshow(table, cmap=ATTENTION, vmin=0, vmax=1, aspect="auto")
    for (row, distance), value in np.ndenumerate(table):
        color = "white" if value > 0.5 else INK
        back.text(distance, row, f"{value:.2f}", ha="center", va="center", fontsize=9, color=color)
    back.set(xlabel="places back (0: itself)", xticks=range(reach), yticks=rows, yticklabels=names)
    back.set_title("mean attention by distance")
    for which, (color, label) in enumerate(((MATCH, "matches the query's ratio"), (GREY, "does not"))):
        value, error = (np.reshape(a, (-1, 2))[:, which] for a in (matching, errors))
        match.errorbar(value, rows, xerr=error, fmt="o", color=color, ms=7, capsize=3, label=label)
    match.set(xlabel="attention from the query's y", yticks=rows, yticklabels=names)
    match.set_title("mean attention to an example that …")
    match.set_ylim(len(names) - 0.5, -0.5)
    match.set_xlim(0, max(0.02, np.nanmax(np.asarray(matching) + errors)) * 1.1)
    match.grid(axis="y", color="#E3E6EA")
    fig.legend(*match.get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
    for ax in (back, match):
        ax.tick_params(length=0)
        ax.spines[:].set_visible(False)
    return fig


@styled
def circle_of_circles(
    points: ArrayLike, first: ArrayLike, second: ArrayLike, log: ArrayLike, zoom: int, names: str = "xy"
) -> Figure:
    """All pairs in the plane of two principal components, labelled by logarithm, and one group enlarged (F1d).

    Args:
        points: (p², 2) coordinates.
        first, second: (p²,) the pair's numbers; the first gives the colour and the group.
        log: (p,) the log table, 0 for the number 0.
        zoom: the number whose group is enlarged.
        names: what the two numbers are called.
    """
    points, log = np.asarray(points), np.asarray(log)
    fig = figure(7.6, 4.3)
    whole, part = fig.subplots(1, 2)
    _log_plane(whole, points, np.asarray(first), log)
    group = np.asarray(first) == zoom
    colors, labels = _log_colors(len(log)), log[np.asarray(second)[group]]
    scale = max(1, len(log) / 12)
    for place, label in zip(points[group], labels, strict=True):
        part.text(
            *place,
            label,
            ha="center",
            va="center",
            color=colors[label],
            weight="bold",
            fontsize=17 / scale**0.5,
        )
    low, high = points[group].min(0), points[group].max(0)
    corner, size = (low + high) / 2 - (high - low).max() * 0.6, (high - low).max() * 1.2
    part.set(xlim=(corner[0], corner[0] + size), ylim=(corner[1], corner[1] + size), aspect="equal")
    part.set(xticks=[], yticks=[], xlabel="enlarged")
    part.set_title(f"the group log {names[0]} = {log[zoom]}, by log {names[1]}")
    part.spines[:].set_visible(True)
    whole.add_patch(Rectangle(corner, size, size, fill=False, edgecolor=INK, lw=1))
    whole.set_title(f"all pairs ({names[0]}, {names[1]}), by log {names[0]}")
    return fig


@styled
def log_planes(planes: ArrayLike, numbers: ArrayLike, log: ArrayLike, titles: list[str]) -> Figure:
    """All pairs in several planes, each coloured by the logarithm of one of their numbers (F6).

    Args:
        planes: (n, p², 2) coordinates.
        numbers: (n, p²) the number that gives the colour.
        log: (p,) the log table, 0 for the number 0.
        titles: n of them.
    """
    columns = min(3, len(planes))
    rows = -(-len(planes) // columns)
    fig = figure(2.5 * columns, 2.9 * rows)
    axes = np.ravel(fig.subplots(rows, columns, squeeze=False))
    for ax, points, number, title in zip(axes, planes, numbers, titles, strict=False):
        _log_plane(ax, np.asarray(points), np.asarray(number), np.asarray(log))
        ax.set_title(title)
    for ax in axes[len(planes) :]:
        ax.axis("off")
    return fig


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
    colors, ring = _log_colors(len(log)), np.argsort(log)[1:]
    ax.plot(*points[[*ring, ring[0]]].T, color="#D5D9DE", lw=1.4, zorder=1)
    for number, place in enumerate(points):
        ax.text(
            *place, number, color=colors[log[number]], weight="bold", ha="center", va="center", fontsize=15,
            path_effects=[withStroke(linewidth=5, foreground="white")],
        )  # fmt: skip
    ax.scatter(*points.T, s=0)  # texts alone do not set the limits
    ax.set(aspect="equal", adjustable="datalim", xticks=[], yticks=[], xlabel="PC 1", ylabel="PC 2")
    ax.margins(0.12)
    ax.spines[:].set_visible(False)
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
        colors = [PARITY[0] if s == waves[-1] else COLORS["id_train"] for s in waves]
        ax.vlines(waves, low, high, color="#C9CED5", lw=min(22, 150 / len(waves)))
        ax.vlines(waves, 0, panel[0], color=colors, lw=2)
        ax.scatter(waves, panel[0], color=colors, s=min(60, 500 / len(waves)), zorder=3)
        ax.set(ylim=(0, top), xlim=(0.4, len(waves) + 0.6), title=title)
        ax.set_xticks(waves if len(waves) <= 8 else [1, *range(2, len(waves) + 1, 2)])
    for ax in axes.flat[len(shares) :]:
        ax.axis("off")
    fig.supxlabel("times round the circle while the logarithm runs through once", fontsize=11)
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
def shot_maps(maps: dict[str, ArrayLike], xlabel: str, ylabel: str, change: bool = False) -> Figure:
    """Accuracies on the four sets by two numbers of examples (A5); nothing is drawn where there is none (nan).

    Args:
        maps: set → (rows, columns) accuracies, or changes of it.
        xlabel: what the columns count from 0.
        ylabel: what the rows count from 0.
        change: whether they are changes, on a scale from -0.5 to 0.5, beyond which colours stay the same.
    """
    fig = figure(8.4, 7.2)
    axes = fig.subplots(2, 2, sharex=True, sharey=True)
    scale = (
        {"vmin": -0.5, "vmax": 0.5, "cmap": "PRGn"} if change else {"vmin": 0, "vmax": 1, "cmap": "cividis"}
    )
    for ax, (name, values) in zip(axes.flat, maps.items(), strict=True):
        image = ax.imshow(values, origin="lower", aspect="auto", **scale)
        ax.set(title=LABELS[name], xlabel=xlabel, ylabel=ylabel)
        ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        ax.yaxis.set_major_locator(MaxNLocator(6, integer=True))
        ax.label_outer()
    label, beyond = ("change in accuracy", "both") if change else ("accuracy", "neither")
    fig.colorbar(image, ax=axes, label=label, extend=beyond, shrink=0.7)
    return fig


@styled
def what_remains(accuracy: dict[str, dict[str, float]], whole: dict[str, float], chance: float) -> Figure:
    """Accuracy on the four sets of a model without one of its parts, a row a part (A7).

    Args:
        accuracy: part → set → last-shot accuracy without the part.
        whole: set → that of the whole model, drawn as a line.
        chance: accuracy of a blind guess, 1/p.
    """
    fig = figure(9.6, 1.3 + 0.3 * len(accuracy))
    axes = fig.subplots(1, 2, sharey=True)
    rows = np.arange(len(accuracy))
    for ax, sets in zip(axes, (("id_train", "id_test"), ("ood_train", "ood_test")), strict=True):
        for name in sets:
            ax.axvline(whole[name], color=COLORS[name], ls=DASHES[name], lw=1.2)
            face = COLORS[name] if DASHES[name] == "-" else "none"
            left = [of_sets[name] for of_sets in accuracy.values()]
            ax.plot(
                left, rows, "o", color=COLORS[name], markerfacecolor=face, label=LABELS[name], clip_on=False
            )
        ax.axvline(chance, color=GREY, ls=":", lw=1)
        ax.grid(axis="y", color="#E6E8EB", lw=0.8)
        ax.set_axisbelow(True)
        ax.set(xlim=(0, 1.02), xlabel="accuracy, last shot")
        ax.spines["left"].set_visible(False)
        ax.tick_params(axis="y", length=0)
    axes[0].set_yticks(rows, list(accuracy))
    axes[0].invert_yaxis()
    handles = [handle for ax in axes for handle in ax.get_legend_handles_labels()[0]]
    fig.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False)
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
    for ax, matrix, group, title in zip(axes.flat, matrices, groups, titles, strict=False):
        size = len(matrix)
        image = ax.imshow(
            _pooled(matrix),
            cmap="RdBu_r",
            vmin=-1,
            vmax=1,
            interpolation="none",
            extent=(-0.5, size - 0.5, size - 0.5, -0.5),
        )
        starts = np.flatnonzero(np.diff(np.asarray(group), prepend=np.asarray(group)[0] - 1))
        for start in starts[1:] - 0.5:
            ax.axhline(start, color=INK, lw=6 / (len(starts) + 4) ** 1.1)
            ax.axvline(start, color=INK, lw=6 / (len(starts) + 4) ** 1.1)
        ends = [*starts, len(matrix)]
        few = len(starts) <= 13
        middles = (np.array(ends[:-1]) + ends[1:] - 1) / 2 if few else []
        names = np.asarray(group)[starts] if few else []
        ax.set(title=title, xticks=middles, yticks=middles, xticklabels=names, yticklabels=names)
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
        scores: name of a grouping → a score (`structure.Score`) for each stage; a line is its interval, if it has one,
            and a dot is filled where the score is significant.
        stages: their names.
    """
    down = -(-len(scores) // 2)
    fig = figure(6, (0.9 + 0.27 * len(stages)) * down)
    axes = np.ravel(fig.subplots(down, 2, sharey=True, sharex=True, squeeze=False))
    rows = np.arange(len(stages))[::-1]
    for ax in axes[len(scores) :]:
        ax.axis("off")
    for ax, (name, column) in zip(axes, scores.items(), strict=False):
        ax.axvline(0, color=GREY, lw=0.8)
        ax.hlines(rows, [s.low for s in column], [s.high for s in column], color="#B9BFC7", lw=7)
        values = [s.value for s in column]
        ax.hlines(rows, *zip(*(s.interval for s in column), strict=True), color=MATCH, lw=1.6)
        faces = [MATCH if s.significant else "white" for s in column]
        ax.scatter(values, rows, s=46, zorder=3, color=MATCH, facecolors=faces)
        ax.set(title=name, yticks=rows, yticklabels=stages)
        ax.grid(axis="y", color="#E3E6EA")
        ax.tick_params(length=0, axis="y")
        ax.spines["left"].set_visible(False)
    fig.supxlabel("mean similarity within groups less between groups", fontsize=11)
    return fig


def _pooled(matrix: ArrayLike, most: int = 112) -> np.ndarray:
    """A square matrix shrunk by averaging neighbours to at most so many rows, so that a page stays light."""
    edges = np.linspace(0, len(matrix), min(len(matrix), most) + 1).round().astype(int)
    sums = np.add.reduceat(np.add.reduceat(np.asarray(matrix), edges[:-1], 0), edges[:-1], 1)
    return sums / np.outer(np.diff(edges), np.diff(edges))


def _sheet(rows: int, columns: int, extra: float) -> tuple[float, float]:
    """Size of a sheet of square panels with titles."""
    side = min(3.1, 10 / columns)
    return side * columns + 0.9, (side + extra) * rows


def _log_colors(p: int) -> list[str | tuple]:
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


def _log_plane(ax: Axes, points: np.ndarray, numbers: np.ndarray, log: np.ndarray) -> None:
    """Points coloured by the logarithm of a number, which is written at the middle of its points."""
    colors = _log_colors(len(log))
    labels = log[numbers]
    ax.scatter(*points.T, c=[colors[k] for k in labels], s=max(3, 150 / len(log)), alpha=0.75, lw=0)
    for k in range(len(log)):
        middle = points[labels == k].mean(0)
        ax.text(
            *middle, k, color=colors[k], weight="bold", ha="center", va="center", fontsize=14 if len(log) < 14 else 9,
            path_effects=[withStroke(linewidth=3, foreground="white")],
        )  # fmt: skip
    ax.set(aspect="equal", adjustable="datalim", xticks=[], yticks=[], xlabel="PC 1", ylabel="PC 2")
    ax.margins(0.12)
    ax.spines[:].set_visible(False)
