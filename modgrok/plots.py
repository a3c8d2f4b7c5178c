"""One function a figure: arrays in, a matplotlib Figure out. No training, no files, no global state.

Colours mean the same everywhere: blue for pre-training tasks, orange for held-out ones; dark and solid for
training inputs, light and dashed for test inputs (Okabe and Ito's palette, safe for colour-blind readers).
"""

from collections.abc import Iterable

import numpy as np
from matplotlib import rcParams
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import FancyBboxPatch, Patch, Polygon, Rectangle
from matplotlib.ticker import MaxNLocator
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


def depth_curves(runs: dict[int, list[dict[str, ArrayLike]]], chance: float) -> Figure:
    """Last-shot accuracy against training step, a panel a depth: mean over seeds in a band from least to most (F4).

    Args:
        runs: depth → metrics of runs that differ in their seed, as `Run.metrics`, evaluated at the same steps.
        chance: accuracy of a blind guess, 1/p.
    """
    fig = figure(2.6 * len(runs) + 0.6, 3.7)
    axes = np.atleast_1d(fig.subplots(1, len(runs), sharey=True))
    for ax, (depth, group) in zip(axes, runs.items(), strict=True):
        step = group[0]["step"]
        for name in COLORS:
            accuracy = np.array([metrics[f"{name}_acc"] for metrics in group])
            ax.plot(step, accuracy.mean(0), color=COLORS[name], ls=DASHES[name], lw=1.8, label=LABELS[name])
            ax.fill_between(step, accuracy.min(0), accuracy.max(0), color=COLORS[name], alpha=0.15, lw=0)
        best = np.mean([metrics["ood_train_acc"] for metrics in group], axis=0).argmax()
        ax.axvline(step[best], color=INK, lw=1)
        _chance(ax, chance)
        ax.set(title=f"{depth} block{'s' if depth > 1 else ''}", xlabel="training step", ylim=(0, 1.02))
    axes[0].set_ylabel("accuracy, last shot")
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
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


# Model against exact predictors (F1c, F5) ---------------------------------------------------------------------

CORRECT, INCORRECT = "#F5EBD0", "#40356B"  # sand and violet: apart in lightness for every eye
ALGORITHM_COLORS = {
    "look-up": "#7A828C",
    "ratio matching": "#CC79A7",
    "regression": "#009E73",
    "Bayes, pre-training tasks": INK,
}
ALGORITHM_DASHES = {"look-up": "-.", "Bayes, pre-training tasks": (0, (1.2, 1.2))}  # others solid
KINDS = {
    "repeated pair (look-up)": ALGORITHM_COLORS["look-up"],
    "multiple of an earlier pair (ratio matching)": ALGORITHM_COLORS["ratio matching"],
    "combination of earlier pairs (regression)": ALGORITHM_COLORS["regression"],
    "not determined by the examples": "#D9DDE2",
}
"""Kinds of queries by the weakest algorithm that knows the answer, as `evaluate.query_kinds` numbers them."""


def against_predictors(
    curves: dict[str, ArrayLike], references: dict[str, dict[str, ArrayLike]], chance: float, title: str = ""
) -> Figure:
    """Accuracy by shot of the model and of exact predictors, a panel a set (F1c).

    Args:
        curves: set → (3, K) the model's accuracy, low and high end of its interval, or (K,) without interval.
        references: set → predictor → (K',) accuracies.
        chance: accuracy of a blind guess, 1/p.
        title: above the panels.
    """
    rows, columns = -(-len(curves) // 2), min(len(curves), 2)
    fig = figure(4.7 * columns + (columns == 1) * 2, 2.9 * rows + 0.9)
    axes = np.atleast_1d(fig.subplots(rows, columns, sharex=True, sharey=True)).flat
    for ax, (name, curve) in zip(axes, curves.items(), strict=False):
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
    fig.supxlabel("number of shots", fontsize=11)
    fig.supylabel("accuracy", fontsize=11)
    fig.suptitle(title, fontsize=12)
    _algorithm_legend(fig, next(iter(references.values())), [("the model (band: 95 %)", "o")])
    return fig


def nearest_predictor(
    divergences: dict[str, ArrayLike], agreements: dict[str, ArrayLike], title: str = ""
) -> Figure:
    """How far the model's answers are from those of each exact predictor, by shot.

    Args:
        divergences: predictor → (3, K) relative entropy in nats with its interval.
        agreements: predictor → (3, K) share of equal answers with its interval.
        title: above the panels.
    """
    fig = figure(9.4, 3.9)
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
    fig = figure(1.0 + 2.05 * len(shots), 2.0 * len(rows) + 1.3)
    axes = fig.subplots(len(rows), len(shots), sharex=True, sharey=True, squeeze=False)
    for (label, grids, signed), line in zip(rows, axes, strict=True):
        for grid, ax in zip(grids, line, strict=True):
            _cells(ax, grid, DIFFERENCE if signed else TRUTH)
        line[0].set_ylabel(f"{label}\n\ny", fontsize=10)
    for ax, k in zip(axes[0], shots, strict=True):
        ax.set_title(f"{k} shot{'s' * (k != 1)}\n{_context(tokens, k)}", fontsize=10)
    for ax in axes[-1]:
        ax.set_xlabel("x")
    _cell_legend(fig)
    return fig


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
    fig = figure(9.4, 3.1 * len(answers) + 0.75)
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


def explained(known: dict[str, ArrayLike], agreeing: dict[str, ArrayLike]) -> Figure:
    """On how many queries an exact predictor is sure, and how often the model then gives its answer.

    Args:
        known: predictor → (3, K) share of queries on which it is certain, with its interval.
        agreeing: predictor → (3, K) share of those with the model's answer.
    """
    fig = figure(9.4, 4.2)
    share, where_sure = fig.subplots(1, 2, sharex=True, sharey=True)
    for who in known:
        style, sure = _algorithm(who), np.asarray(known[who])[0]
        both = np.nan_to_num(sure * np.asarray(agreeing[who])[0])
        share.fill_between(range(len(sure)), both, sure, color=style["color"], alpha=0.13, lw=0)
        share.plot(sure, **style | {"lw": 1.1})
        share.plot(both, **style | {"lw": 2.4}, marker="o", markersize=4)
        _banded(where_sure, np.arange(len(sure)), agreeing[who], **style, marker="o", markersize=4)
    title = "share of all queries: predictor certain (thin),\ncertain and the model agrees (thick)"
    share.set_title(title, loc="left", fontsize=11)
    where_sure.set_title("of the queries where it is certain:\nthe model agrees", loc="left", fontsize=11)
    share.set(ylim=(0, 1.04), ylabel="share of queries")
    for ax in (share, where_sure):
        ax.set_xlabel("number of shots")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    _algorithm_legend(fig, known)
    return fig


def kinds_by_shot(
    composition: ArrayLike, right: dict[str, ArrayLike], chance: float, title: str = ""
) -> Figure:
    """What kinds of queries come at each number of shots, and how many of each the model gets right (F5).

    Args:
        composition: (4, K) share of each kind, in the order of KINDS.
        right: name of a model → (4, 3, K) accuracy on each kind with its interval.
        chance: accuracy of a blind guess, 1/p.
        title: above the panels.
    """
    fig = figure(9.4, 4.3) if len(right) == 1 else figure(4.2 * (1 + len(right)), 4.3)
    mix, *panels = fig.subplots(1, 1 + len(right), sharex=True, sharey=True)
    places = np.arange(np.shape(composition)[1])
    bottom = np.zeros(len(places))
    for color, share in zip(KINDS.values(), composition, strict=True):
        mix.bar(places, share, 0.86, bottom, color=color)
        bottom += share
    mix.set(ylim=(0, 1.04), ylabel="share of queries")
    mix.set_title("the queries", loc="left", fontsize=11)
    for ax, (name, curves) in zip(panels, right.items(), strict=True):
        _by_kind(ax, places, curves, chance)
        ax.set(ylabel="accuracy")
        ax.set_title(f"{name}, accuracy on each kind", loc="left", fontsize=11)
    for ax in (mix, *panels):
        ax.set_xlabel("number of shots")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    fig.suptitle(title, fontsize=12)
    _kind_legend(fig)
    return fig


def kinds_by_step(steps: ArrayLike, panels: dict[str, ArrayLike], chance: float) -> Figure:
    """Accuracy on each kind of query, all shots together, along training (F5).

    Args:
        steps: (S,) training steps.
        panels: title → (4, 3, S) accuracy on each kind with its interval.
        chance: accuracy of a blind guess, 1/p.
    """
    fig = figure(9.4, 3.3 * -(-len(panels) // 2) + 1)
    axes = np.atleast_1d(
        fig.subplots(-(-len(panels) // 2), min(2, len(panels)), sharex=True, sharey=True)
    ).flat
    for ax, (title, curves) in zip(axes, panels.items(), strict=False):
        _by_kind(ax, np.asarray(steps), curves, chance)
        ax.set_title(title, loc="left", fontsize=11)
        ax.set(xlabel="training step", ylim=(0, 1.04))
    fig.supylabel("accuracy", fontsize=11)
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
    edges = np.arange(p + 1) - 0.5
    lines = {"color": "white", "lw": min(1.0, 6 / p)}
    ax.vlines(edges, -0.5, p - 0.5, **lines)
    ax.hlines(edges, -0.5, p - 0.5, **lines)


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


def _algorithm_legend(fig: Figure, names: Iterable[str], more: Iterable[tuple[str, str]] = ()) -> None:
    handles = [Line2D([], [], label=who, **_algorithm(who)) for who in names]
    handles += [
        Line2D([], [], color=INK, lw=2.4, marker=marker, markersize=5, label=label) for label, marker in more
    ]
    fig.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False)


def _by_kind(ax: Axes, places: NDArray, curves: ArrayLike, chance: float) -> None:
    for color, curve in zip(KINDS.values(), curves, strict=True):
        color = (
            "#A9B0B8" if color == KINDS["not determined by the examples"] else color
        )  # lines need more ink
        _banded(ax, places, curve, color=color, lw=2, marker="o", markersize=4)
    _chance(ax, chance)


def _kind_legend(fig: Figure) -> None:
    handles = [Patch(facecolor=color, label=kind) for kind, color in KINDS.items()]
    fig.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False)


def _banded(ax: Axes, places: NDArray, curve: ArrayLike, **style) -> None:
    """A curve (n,), or (3, n) with the ends of its interval drawn as a band."""
    curve = np.atleast_2d(curve)
    ax.plot(places, curve[0], **style)
    if len(curve) == 3:
        ax.fill_between(places, curve[1], curve[2], color=style["color"], alpha=0.2, lw=0)
