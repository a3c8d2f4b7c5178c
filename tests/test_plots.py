"""Every figure, read back from its Axes: the right values in the right place, the right way round."""

import importlib
import io
import sys
from itertools import pairwise

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.patches import FancyBboxPatch, Polygon, Rectangle

import modgrok
from modgrok import plots
from modgrok.algorithms import consistent
from modgrok.config import SETS
from modgrok.structure import Score

RNG = np.random.default_rng(0)
P = 5
STEPS = np.array([0, 10, 30, 40])
EVEN_ROWS, ODD_COLUMNS = [0.25, 0.75], [4, 8, 16]  # a map of 2 rows and 3 columns: none is its own transpose
PREDICTORS = tuple(plots.ALGORITHM_COLORS)


def values(*shape):
    return RNG.random(shape)


def of_sets(*shape):
    return {name: values(*shape) for name in SETS}


def context(task, pairs, p=P):
    """Tokens (3·k,) of a task's examples at some pairs."""
    x, y = np.asarray(pairs).T
    return np.column_stack([x, y, (task[0] * x + task[1] * y) % p]).ravel()


def lines(ax, color, **wanted):
    """The lines of a colour, of those with the wanted properties."""
    return [
        line
        for line in ax.lines
        if to_hex(line.get_color()) == to_hex(color)
        and all(getattr(line, f"get_{name}")() == value for name, value in wanted.items())
    ]


def assert_line(ax, x, y, color, **wanted):
    (line,) = lines(ax, color, **wanted)
    np.testing.assert_allclose(line.get_xdata(), x)
    np.testing.assert_allclose(line.get_ydata(), y)


def assert_band(ax, x, low, high, color):
    """There is a band of the colour between two curves."""
    edges = []
    for area in ax.collections:
        if to_hex(area.get_facecolor()[0]) == to_hex(color) and len(area.get_paths()) == 1:
            corners = area.get_paths()[0].vertices
            edges += [[(f(corners[corners[:, 0] == at, 1])) for at in x] for f in (np.min, np.max)]
    np.testing.assert_allclose(edges, [low, high])


def words(ax):
    """What is written where: (x, y) → text."""
    return {tuple(map(float, text.get_position())): text.get_text() for text in ax.texts}


def boxes(ax):
    """Middles and colours of the rectangles: (x, y) → colour."""
    return {
        tuple(np.round(box.get_center(), 3).tolist()): to_hex(box.get_facecolor())
        for box in ax.patches
        if isinstance(box, Rectangle)
    }


def image(ax):
    return np.ma.filled(ax.images[0].get_array(), np.nan)


def ticks(axis):
    return [str(text) for text in axis.get_major_formatter().format_ticks(axis.get_majorticklocs())]


def names(ax):
    return ax.get_xlabel(), ax.get_ylabel()


def keys(made):
    """The legend of a figure or of axes: label → colour."""
    legend = made.legends[0] if hasattr(made, "legends") else made.get_legend()
    return {
        text.get_text(): to_hex(
            handle.get_color() if hasattr(handle, "get_color") else handle.get_facecolor()
        )
        for text, handle in zip(legend.get_texts(), legend.legend_handles, strict=True)
    }


SET_KEYS = {plots.LABELS[name]: to_hex(plots.COLORS[name]) for name in SETS}


# The style ----------------------------------------------------------------------------------------------------


def test_importing_and_drawing_leave_matplotlibs_settings_alone(monkeypatch):
    matplotlib.get_backend()  # chosen when first asked for
    before = matplotlib.rcParams.copy()
    monkeypatch.setattr(modgrok, "plots", plots)  # put back what the import below puts in its place
    for name in [name for name in sys.modules if name.startswith("modgrok.plots")]:
        monkeypatch.delitem(sys.modules, name)
    fresh = importlib.import_module("modgrok.plots")
    assert fresh is not plots
    fresh.accuracy_by_shot(of_sets(4), 0.2).savefig(io.BytesIO())
    with pytest.raises(KeyError):
        fresh.accuracy_by_shot({"no set": [1]}, 0.2)
    assert matplotlib.rcParams == before


def test_a_figure_looks_the_same_wherever_it_is_made_and_saved():
    curves = of_sets(4)

    def svg(made):
        saved = io.StringIO()
        with matplotlib.rc_context({"svg.hashsalt": "a"}):
            made.savefig(saved, format="svg", metadata={"Date": None})
        return saved.getvalue()

    with matplotlib.rc_context(plots.STYLE):
        wanted = svg(plots.accuracy_by_shot(curves, 0.2))
    assert svg(plots.accuracy_by_shot(curves, 0.2)) == wanted
    other = {"font.size": 20, "xtick.color": "red", "axes.spines.top": True, "svg.fonttype": "none"}
    with matplotlib.rc_context(other):
        assert svg(plots.accuracy_by_shot(curves, 0.2)) == wanted


def test_the_tables_of_colours_follow_the_lists_that_they_colour():
    from modgrok import evaluate, skill

    assert len(plots.PHASE_COLORS) == len(skill.PHASES)
    assert PREDICTORS == evaluate.REFERENCES
    for kind, meaning in zip(evaluate.KINDS, plots.KINDS, strict=True):
        assert kind == "open" or kind in meaning
    assert plots.blocks(1) == "1 block" and plots.blocks(2) == "2 blocks"


# Tasks, inputs and sequences ----------------------------------------------------------------------------------


def test_task_tables_cover_held_out_inputs():
    seen = [(0, 1), (2, 3), (4, 0)]
    made = plots.task_tables([[1, 2], [3, 0]], P, seen)
    for ax, (a, b) in zip(made.axes, [(1, 2), (3, 0)], strict=True):
        assert words(ax) == {(x, y): str((a * x + b * y) % P) for x, y in seen}
        assert {cell for cell, color in boxes(ax).items() if color == "#ffffff"} == set(seen)
        assert set(boxes(ax).values()) == {"#ffffff", to_hex(plots.HELD_OUT)} and len(boxes(ax)) == P * P
        assert ax.get_title() == f"a = {a}, b = {b}"
    assert names(made.axes[0]) == ("x", "y")


def test_sequence_strips_ask_for_the_last_z():
    tokens = np.stack([np.arange(15), np.arange(15) + 20])
    (ax,) = plots.sequence_strips(tokens, ["first", "second"], shown=2).axes
    for row, (sequence, label) in enumerate(zip(tokens, ("first", "second"), strict=True)):
        written = [text for (_, y), text in sorted(words(ax).items()) if y == -row]
        assert written == [label, *map(str, sequence[:6]), "…", str(sequence[-3]), str(sequence[-2]), "?"]
    orange = {x for (x, y), color in boxes(ax).items() if color == to_hex(plots.TARGET)}
    assert orange == {2, 5, 10} and words(ax)[10, 0] == "?"


def test_four_sets_colour_tasks_by_a_and_b():
    corners = np.array([(0, 1), (2, 1), (0, 2), (2, 2)])
    tasks, inputs, sets = plots.four_sets(corners, [(1, 0), (2, 0)], 3, corners).axes
    assert names(tasks) == ("a", "b") and names(inputs) == ("x", "y")
    blue = {cell for cell, color in boxes(tasks).items() if color == to_hex(plots.COLORS["id_train"])}
    assert blue == set(map(tuple, corners.tolist()))
    assert {cell for cell, color in boxes(inputs).items() if color == "#ffffff"} == {(1, 0), (2, 0)}
    (outline,) = (patch for patch in tasks.patches if isinstance(patch, Polygon))
    assert all((np.diff(side, axis=0) == 0).any() for side in pairwise(outline.get_xy()))  # no diagonals
    np.testing.assert_array_equal(np.ravel(tasks.lines[0].get_data()), corners[0])
    of = {
        (box.get_x(), box.get_y()): to_hex(box.get_facecolor())
        for box in sets.patches
        if isinstance(box, FancyBboxPatch)
    }
    assert of == dict(
        zip([(0, 1), (1, 1), (0, 0), (1, 0)], (to_hex(plots.COLORS[name]) for name in SETS), strict=True)
    )
    assert ticks(sets.xaxis) == ["training inputs", "test inputs"]
    assert ticks(sets.yaxis) == ["o.o.d.\ntasks", "i.d.\ntasks"]
    assert ["o.o.d." in text for _, text in sorted(words(sets).items())] == [True, False, True, False]


@pytest.mark.parametrize("shots", [0, 1, 2])
def test_consistent_tasks_are_those_that_fit(shots):
    task, pairs = (2, 3), [(1, 2), (0, 4), (3, 3)]
    tokens = context(task, pairs)
    strip, plane = plots.consistent_tasks(tokens, shots, *consistent(tokens, shots, P), task).axes
    fitting = {
        (a, b)
        for a, b in np.ndindex(P, P)
        if all((a * x + b * y) % P == (2 * x + 3 * y) % P for x, y in pairs[:shots])
    }
    assert {
        cell for cell, color in boxes(plane).items() if color == to_hex(plots.COLORS["id_test"])
    } == fitting
    (star,) = plane.lines
    assert (*star.get_xdata(), *star.get_ydata()) == task and names(plane) == ("a", "b")
    what = {0: "25 tasks of 25 fit; 5 answers possible", 1: "5 tasks of 25 fit; 5 answers possible"}
    assert plane.get_title() == what.get(shots, "1 task of 25 fit; z must be 0")
    written = list(words(strip).values())
    assert written[-3:] == [*map(str, pairs[shots]), "?"] and len(written) == 3 * (shots + 1)


# Training -----------------------------------------------------------------------------------------------------


def a_run():
    metrics = {f"{name}_{what}": values(4) for name in SETS for what in ("loss", "acc", "novel")}
    return metrics | {"step": STEPS}


def test_training_curves_tell_loss_novel_queries_and_all_queries_apart():
    metrics = a_run()
    made = plots.training_curves(metrics, 0.2, mark=30)
    loss, accuracy = made.axes
    for name, color in plots.COLORS.items():
        of = {"color": color, "linestyle": plots.DASHES[name]}
        assert_line(loss, STEPS, metrics[f"{name}_loss"], **of)
        assert_line(accuracy, STEPS, metrics[f"{name}_novel"], **of, linewidth=1.8, alpha=None)
        assert_line(accuracy, STEPS, metrics[f"{name}_acc"], **of, linewidth=1, alpha=0.4)
    assert names(loss) == ("training step", "loss (nats per z)")
    assert names(accuracy) == ("training step", "accuracy, last shot")
    assert_line(loss, [0, 1], [np.log(5)] * 2, plots.GREY)
    assert_line(accuracy, [0, 1], [0.2] * 2, plots.GREY)
    for ax in made.axes:
        assert_line(ax, [30, 30], [0, 1], plots.INK)
    *sets, novel, every = zip(keys(made).items(), made.legends[0].legend_handles, strict=True)
    assert dict(item for item, _ in sets) == SET_KEYS
    assert novel[0][0] == "accuracy on queries that are no repeat" and novel[1].get_alpha() is None
    assert every[0][0] == "accuracy on all queries" and every[1].get_alpha() == 0.4


def test_phase_diagram_puts_tasks_across_and_inputs_up():
    phases = np.array([[[0, 1, 2], [3, 4, 0]], [[4, 1, 3], [2, 2, 1]]])  # (seeds, rows, columns)
    phase_names = ("none", "memory", "i.d.", "o.o.d.", "all")
    made = plots.phase_diagram(
        {"one": phases, "two": phases[::-1]}, ODD_COLUMNS, EVEN_ROWS, phase_names, across=2
    )
    for ax, title, drawn in zip(made.axes, ("one", "two"), (phases, phases[::-1]), strict=True):
        assert ax.get_title() == title
        wanted = {
            (column - 0.25 + 0.5 * seed, row): to_hex(plots.PHASE_COLORS[drawn[seed, row, column]])
            for seed, row, column in np.ndindex(2, 2, 3)
        }
        assert boxes(ax) == wanted and not ax.yaxis_inverted()
    assert names(made.axes[0]) == ("pre-training tasks", "fraction α of inputs")
    assert ticks(made.axes[0].xaxis) == ["4", "8", "16"] and ticks(made.axes[0].yaxis) == ["0.25", "0.75"]
    assert keys(made) == dict(zip(phase_names, map(to_hex, plots.PHASE_COLORS), strict=True))


@pytest.mark.parametrize("scale", [{}, {"label": "skill", "most": 2.0}])
def test_accuracy_maps_put_tasks_across_and_inputs_up(scale):
    maps = of_sets(2, 3)
    maps["id_test"][1, 0] = np.nan
    made = plots.accuracy_maps(maps, ODD_COLUMNS, EVEN_ROWS, **scale)
    *axes, bar = made.axes
    for ax, name in zip(axes, SETS, strict=True):
        np.testing.assert_array_equal(image(ax), maps[name])
        assert ax.images[0].origin == "lower" and not ax.yaxis_inverted()
        assert ax.images[0].get_clim() == (0, scale.get("most", 1))
        there = np.argwhere(np.isfinite(maps[name])).tolist()
        assert words(ax) == {(column, row): f"{maps[name][row, column]:.2f}" for row, column in there}
        assert ax.get_title() == plots.LABELS[name]
    assert names(axes[2]) == ("pre-training tasks", "fraction α of inputs")
    assert ticks(axes[2].xaxis) == ["4", "8", "16"] and ticks(axes[2].yaxis) == ["0.25", "0.75"]
    assert bar.get_ylabel() == scale.get("label", "accuracy, last shot")


def test_seed_curves_draw_held_out_tasks():
    runs = {"seed 0": a_run(), "seed 1": a_run()}
    made = plots.seed_curves(runs, 0.2)
    for ax, name in zip(made.axes, ("ood_train", "ood_test"), strict=True):
        for label, metrics in runs.items():
            assert_line(ax, STEPS, metrics[f"{name}_acc"], plots.COLORS[name], label=label)
        assert_line(ax, [0, 1], [0.2] * 2, plots.GREY)
        assert ax.get_title() == plots.LABELS[name] and list(keys(ax)) == list(runs)
    assert names(made.axes[0]) == ("training step", "accuracy, last shot")


def test_with_spread_draws_mean_least_and_most():
    panels = {"2 blocks": of_sets(3, 4), "4 blocks": of_sets(3, 4)}
    made = plots.with_spread(panels, STEPS, "training step", 0.2, mark=True)
    for ax, (title, sets) in zip(made.axes, panels.items(), strict=True):
        assert ax.get_title() == title
        for name, of in sets.items():
            assert_line(ax, STEPS, of.mean(0), plots.COLORS[name], linestyle=plots.DASHES[name])
            assert_band(ax, STEPS, of.min(0), of.max(0), plots.COLORS[name])
        assert_line(ax, [STEPS[sets["ood_train"].mean(0).argmax()]] * 2, [0, 1], plots.INK)
        assert_line(ax, [0, 1], [0.2] * 2, plots.GREY)
    assert names(made.axes[0]) == ("training step", "accuracy") and keys(made) == SET_KEYS
    assert not lines(plots.with_spread(panels, STEPS, "training step", 0.2).axes[0], plots.INK)


def test_steps_and_minutes_have_a_panel_each():
    curves = {"2 blocks": (STEPS, STEPS / 7, values(3, 4)), "4 blocks": (STEPS, STEPS / 3, values(3, 4))}
    made = plots.steps_and_minutes(curves)
    for ax, which in zip(made.axes, (0, 1), strict=True):
        for end, (label, of) in zip((0.0, 1.0), curves.items(), strict=True):
            assert_line(ax, of[which], of[2].mean(0), plots.DEPTHS(end), label=label)
    assert [ax.get_xlabel() for ax in made.axes] == ["training step", "minutes of one core"]
    assert made.axes[0].get_ylabel() == "accuracy, last shot" and list(keys(made)) == list(curves)


def test_accuracy_by_shot_starts_without_examples():
    curves = of_sets(6)
    made = plots.accuracy_by_shot(curves, 0.2, "above")
    (ax,) = made.axes
    for name, curve in curves.items():
        assert_line(ax, range(6), curve, plots.COLORS[name], linestyle=plots.DASHES[name])
    assert_line(ax, [0, 1], [0.2] * 2, plots.GREY)
    assert names(ax) == ("number of shots", "accuracy") and ax.get_title() == "above"
    assert keys(made) == SET_KEYS


# Model against exact predictors -------------------------------------------------------------------------------


def with_interval(*shape):
    """(…, 3, n): a value and the ends of its interval."""
    *before, n = shape
    middle = values(*before, 1, n)
    return np.concatenate([middle, middle - 0.1, middle + 0.2], axis=-2)


def by_predictor(n):
    return {who: with_interval(n) for who in PREDICTORS}


def test_against_predictors_draws_each_set_beside_its_references():
    curves = {name: with_interval(6) for name in SETS}
    references = {name: {who: values(6) for who in PREDICTORS} for name in SETS}
    made = plots.against_predictors(curves, references, 0.2, "a model")
    for ax, name in zip(made.axes, SETS, strict=True):
        assert_line(ax, range(6), curves[name][0], plots.COLORS[name])
        assert_band(ax, range(6), *curves[name][1:], plots.COLORS[name])
        for who, line in references[name].items():
            of = {"linestyle": plots.ALGORITHM_DASHES[who]} if who == "look-up" else {}
            assert_line(ax, range(6), line, plots.ALGORITHM_COLORS[who], **of)
        assert ax.get_title(loc="left") == plots.LABELS[name]
    assert names(made.axes[2]) == ("number of shots", "accuracy")
    assert {who: keys(made)[who] for who in PREDICTORS} == {
        who: to_hex(color) for who, color in plots.ALGORITHM_COLORS.items()
    }
    assert list(keys(made))[-1] == "a model"
    (bare,) = plots.against_predictors({"id_test": curves["id_test"][0]}, references, 0.2).axes
    assert_line(bare, range(6), curves["id_test"][0], plots.COLORS["id_test"])
    assert not bare.collections


def test_nearest_predictor_keeps_distance_and_agreement_apart():
    far, same = by_predictor(6), by_predictor(6)
    made = plots.nearest_predictor(far, same, "above")
    for ax, of in zip(made.axes, (far, same), strict=True):
        for who, (middle, low, high) in of.items():
            assert_line(ax, range(6), middle, plots.ALGORITHM_COLORS[who])
            assert_band(ax, range(6), low, high, plots.ALGORITHM_COLORS[who])
    assert names(made.axes[0]) == ("number of shots", "relative entropy (nats)")
    assert names(made.axes[1]) == ("number of shots", "share of queries")
    assert "lower is nearer" in made.axes[0].get_title(loc="left")
    assert "higher is nearer" in made.axes[1].get_title(loc="left")
    assert made.get_suptitle() == "above" and tuple(keys(made)) == PREDICTORS


@pytest.mark.parametrize("panels", [1, 3, 4])
def test_which_algorithm_takes_the_references_in_their_order(panels):
    distances = values(panels, 3, 4, 4)  # (…, interval, steps, references)
    distances = np.sort(distances, axis=1)[:, [1, 0, 2]] * (1 + np.arange(panels)[:, None, None, None])
    titles = [f"{i} blocks" for i in range(panels)]
    made = plots.which_algorithm(STEPS, distances, titles)
    for ax, title, of in zip(made.axes, titles, distances, strict=True):
        assert ax.get_title(loc="left") == title
        for i, color in enumerate(plots.ALGORITHM_COLORS.values()):
            assert_line(ax, STEPS, of[0, :, i], color)
            assert_band(ax, STEPS, of[1, :, i], of[2, :, i], color)
        assert ax.get_ylim()[0] == 0 and ax.get_ylim()[1] >= np.max(distances)  # later panels reach higher
    assert made.axes[-1].get_xlabel() == "training step" and tuple(keys(made)) == PREDICTORS
    assert made.axes[0].get_ylabel() == "relative entropy (nats):\nlower is nearer"
    bare = plots.which_algorithm(STEPS, distances[:, 0], titles).axes[0]
    assert_line(bare, STEPS, distances[0, 0, :, 1], plots.ALGORITHM_COLORS["ratio matching"])
    assert not bare.collections


def shown_colours(ax, key):
    """A grid's colours, indexed [x, y], by their names in the legend."""
    of = {color: name for name, color in key.items()}
    drawn = ax.images[0]
    return np.vectorize(lambda value: of[to_hex(drawn.to_rgba(value))])(image(ax)).T


def judged(right, matched):
    """Names of the colours of a model's grid, of ratio matching's, and of the difference."""
    return (
        np.where(right, "correct", "incorrect"),
        np.where(matched, "correct", "incorrect"),
        np.where(right == matched, "same", np.where(right, "model only", "ratio matching only")),
    )


def test_query_grids_colour_what_only_the_model_and_only_ratio_matching_can():
    pairs = [(1, 2), (0, 4), (3, 3)]
    right, matched = values(2, P, P) < 0.5, values(2, P, P) < 0.5
    made = plots.query_grids({"model": right}, matched, context((2, 3), pairs), [1, 3])
    key = keys(made)
    rows = ("model:\ncorrect answers", "ratio matching:\nwhat it can answer", "model minus\nratio matching")
    for row, (label, wanted) in enumerate(zip(rows, judged(right, matched), strict=True)):
        for column in range(2):
            ax = made.axes[2 * row + column]
            np.testing.assert_array_equal(shown_colours(ax, key), wanted[column])
            assert ax.images[0].origin == "lower" and not ax.yaxis_inverted()
        assert made.axes[2 * row].get_ylabel() == f"{label}\n\ny"
    assert made.axes[0].get_title() == "1 shot\n(1 2 3)"
    assert made.axes[1].get_title() == "3 shots\n(1 2 3) … (3 3 0)"
    assert [ax.get_xlabel() for ax in made.axes] == [""] * 4 + ["x"] * 2


def test_query_answers_write_the_answer_at_its_query():
    task, ringed = (2, 3), np.array([(1, 2), (0, 4)])
    x, y = np.mgrid[:P, :P]
    given, matched = (2 * x + 3 * y + (values(P, P) < 0.4)) % P, values(P, P) < 0.5
    right = given == (2 * x + 3 * y) % P
    made = plots.query_answers({"model": given}, task, matched, ringed)
    for ax, wanted in zip(made.axes, judged(right, matched), strict=True):
        np.testing.assert_array_equal(shown_colours(ax, keys(made)), wanted)
        np.testing.assert_array_equal(np.transpose(ax.lines[0].get_data()), ringed)
    assert words(made.axes[0]) == {(i, j): str(given[i, j]) for i, j in np.ndindex(P, P)}
    titles = [f"model: {right.sum()} of 25 correct", f"ratio matching can: {matched.sum()}", "difference"]
    assert [ax.get_title() for ax in made.axes] == titles and names(made.axes[0]) == ("x", "y")


def test_explained_is_the_share_known_and_agreed():
    known, agreeing = by_predictor(6), by_predictor(6)
    agreeing["look-up"][0, 0] = np.nan  # certain of nothing yet: nothing is explained
    made = plots.explained(known, agreeing)
    share, where_sure = made.axes
    for who, color in plots.ALGORITHM_COLORS.items():
        both = np.nan_to_num(known[who][0] * agreeing[who][0])
        assert_line(share, range(6), known[who][0], color, linewidth=1.1)
        assert_line(share, range(6), both, color, linewidth=2.4)
        assert_line(where_sure, range(6), agreeing[who][0], color)
    assert names(share) == ("number of shots", "share of queries") and tuple(keys(made)) == PREDICTORS
    assert "certain (thin)" in share.get_title(loc="left")
    assert "where it is certain" in where_sure.get_title(loc="left")


def assert_kinds(ax, x, curves):
    """One banded line a kind, in its colour; lines of the last are darker than its bars."""
    colors = [*list(plots.KINDS.values())[:3], "#A9B0B8"]
    for color, (middle, low, high) in zip(colors, curves, strict=True):
        assert_line(ax, x, middle, color)
        assert_band(ax, x, low, high, color)


def test_kinds_by_shot_stack_to_one():
    mix = RNG.dirichlet(np.ones(4), 6).T
    right = {"o.o.d.": with_interval(4, 6), "i.d.": with_interval(4, 6)}
    made = plots.kinds_by_shot(mix, right, 0.2, "above")
    bars, *panels = made.axes
    for i, (group, color) in enumerate(zip(bars.containers, plots.KINDS.values(), strict=True)):
        np.testing.assert_allclose([bar.get_height() for bar in group], mix[i])
        np.testing.assert_allclose([bar.get_y() for bar in group], mix[:i].sum(0), atol=1e-12)
        np.testing.assert_allclose([bar.get_center()[0] for bar in group], range(6))
        assert {to_hex(bar.get_facecolor()) for bar in group} == {to_hex(color)}
    for ax, (title, curves) in zip(panels, right.items(), strict=True):
        assert_kinds(ax, range(6), curves)
        assert ax.get_title(loc="left") == title
    assert names(bars) == ("number of shots", "share or accuracy") and made.get_suptitle() == "above"
    assert keys(made) == {kind: to_hex(color) for kind, color in plots.KINDS.items()}


def test_kinds_by_step_have_a_line_a_kind():
    right = {"o.o.d.": with_interval(4, 4), "i.d.": with_interval(4, 4)}
    made = plots.kinds_by_step(STEPS, right, 0.2)
    for ax, (title, curves) in zip(made.axes, right.items(), strict=True):
        assert_kinds(ax, STEPS, curves)
        assert_line(ax, [0, 1], [0.2] * 2, plots.GREY)
        assert ax.get_title(loc="left") == title
    assert names(made.axes[0]) == ("training step", "accuracy") and list(keys(made)) == list(plots.KINDS)


# Heads and representations ------------------------------------------------------------------------------------


def test_attention_maps_have_the_attending_token_in_rows():
    patterns = values(2, 3, 12, 12)  # (depth, heads, T, T)
    matches = np.zeros((4, 4), dtype=bool)
    matches[2, 0] = matches[3, 1] = True  # the query of example 2 matches example 0 …
    made = plots.attention_maps(patterns, matches, shown=9)
    for (layer, head), ax in zip(np.ndindex(2, 3), made.axes[:6], strict=True):
        past = np.tril(np.ones((9, 9), dtype=bool))
        np.testing.assert_array_equal(image(ax), np.where(past, patterns[layer, head, :9, :9], np.nan))
        assert ax.get_title() == f"block {layer}, head {head}" and ax.yaxis_inverted()
        assert ax.images[0].get_clim() == (0, 1) and ax.images[0].origin == "upper"
        for rings in ax.collections:  # … at the z of example 0, seen from the y of example 2; 3 is not shown
            np.testing.assert_array_equal(rings.get_offsets(), [(2, 7)])
        assert ticks(ax.xaxis) == ticks(ax.yaxis) == ["1", "3"] and list(ax.get_xticks()) == [2, 8]
    assert (made.get_supxlabel(), made.get_supylabel()) == ("attended example", "attending example")
    assert made.axes[6].get_ylabel() == "attention"


def test_head_habits_list_heads_block_by_block():
    distances, matching, errors = values(2, 3, 5), values(2, 3, 2), values(2, 3, 2) / 9
    made = plots.head_habits(distances, matching, errors)
    back, match = made.axes
    heads = [f"block {layer}, head {head}" for layer, head in np.ndindex(2, 3)]
    np.testing.assert_array_equal(image(back), distances.reshape(6, 5))
    assert words(back) == {(j, i): f"{distances.reshape(6, 5)[i, j]:.2f}" for i, j in np.ndindex(6, 5)}
    assert ticks(back.yaxis) == ticks(match.yaxis) == heads and match.yaxis_inverted()
    for which, color in enumerate((plots.MATCH, plots.GREY)):
        middle, half = matching[..., which].ravel(), errors[..., which].ravel()
        assert_line(match, middle, range(6), color, marker="o")
        (bars,) = (b for b in match.collections if to_hex(b.get_color()[0]) == to_hex(color))
        ends = [(m - h, m + h) for m, h in zip(middle, half, strict=True)]
        np.testing.assert_allclose([segment[:, 0] for segment in bars.get_segments()], ends)
        assert match.get_xlim()[1] > np.max(ends)
    assert keys(made).keys() == {"matches the query's ratio", "does not"}
    assert (
        back.get_xlabel().startswith("places back") and match.get_xlabel() == "attention from the query's y"
    )


LOG = np.array([0, 4, 1, 3, 2])  # powers of 2 modulo 5: none for 0, then 2, 4, 3, 1
X, Y = np.divmod(np.arange(P * P), P)


def assert_log_plane(ax, points, numbers):
    """Points in the colours of their numbers' logarithms, which stand at the middles of their points."""
    dots, colors = ax.collections[0], plots.log_colors(P)
    np.testing.assert_array_equal(dots.get_offsets(), points)
    assert [to_hex(color) for color in dots.get_facecolor()] == [to_hex(colors[k]) for k in LOG[numbers]]
    for number in range(P):
        place = tuple(map(float, points[numbers == number].mean(0)))
        assert words(ax)[place] == str(LOG[number])
    assert names(ax) == ("PC 1", "PC 2")


def test_circle_of_circles_enlarges_one_group():
    points = values(P * P, 2)
    whole, part = plots.circle_of_circles(points, X, Y, LOG, zoom=3, names="xy").axes
    assert_log_plane(whole, points, X)
    group = X == 3
    wanted = {tuple(map(float, place)): str(LOG[y]) for place, y in zip(points[group], Y[group], strict=True)}
    assert words(part) == wanted
    assert part.get_title() == "the group log x = 3, by log y" and "by log x" in whole.get_title()
    (frame,) = (patch for patch in whole.patches if isinstance(patch, Rectangle))
    assert frame.get_x() == pytest.approx(part.get_xlim()[0]) and frame.get_height() == pytest.approx(
        np.ptp(part.get_ylim())
    )


def test_log_planes_colour_each_by_its_own_number():
    planes = values(4, P * P, 2)
    made = plots.log_planes(planes, (X, Y, X, Y), LOG, list("abcd"))
    for ax, points, numbers, title in zip(made.axes, planes, (X, Y, X, Y), "abcd", strict=False):
        assert_log_plane(ax, points, numbers)
        assert ax.get_title() == title
    assert [ax.axison for ax in made.axes] == [True] * 4 + [False] * 2


def test_log_spectra_show_the_true_labels_beside_the_others():
    shares = RNG.dirichlet(np.ones(3), (3, 50))  # (panels, shuffles, waves)
    made = plots.log_spectra(shares, list("abc"))
    for ax, panel, title in zip(made.axes, shares, "abc", strict=False):
        bands, stems, dots = ax.collections
        np.testing.assert_allclose(dots.get_offsets(), np.column_stack([[1, 2, 3], panel[0]]))
        ends = np.array([segment[:, 1] for segment in stems.get_segments()])
        np.testing.assert_allclose(ends, np.column_stack([np.zeros(3), panel[0]]))
        ends = np.array([segment[:, 1] for segment in bands.get_segments()])
        np.testing.assert_allclose(ends, np.quantile(panel[1:], (0.025, 0.975), axis=0).T)
        parity = [to_hex(color) == to_hex(plots.PARITY[0]) for color in dots.get_facecolor()]
        assert parity == [False, False, True] and ax.get_title() == title
    assert made.get_supylabel() == "share of variance" and "times round the circle" in made.get_supxlabel()
    assert [ax.axison for ax in made.axes] == [True] * 3 + [False]


def test_parity_planes_part_odd_from_even():
    view = values(5, 3)  # in the order of the logarithm, the number 0 first
    (ax,) = plots.parity_planes(view).axes
    for text, log in zip(ax.texts, (2, 4, 1, 3, 0), strict=True):
        np.testing.assert_array_equal(text.get_position_3d(), view[log])
        color = plots.PARITY[1 - log % 2] if log else plots.GREY
        assert (text.get_text(), to_hex(text.get_color())) == (str(log), to_hex(color))
    for line, log in zip(ax.lines, (2, 4, 1, 3), strict=True):  # from the sheet to the number
        assert line.get_data_3d()[2] == pytest.approx([view[2 - log % 2 :: 2, 2].mean(), view[log, 2]])


@pytest.mark.parametrize("change", [False, True])
def test_shot_maps_keep_rows_and_columns(change):
    maps = of_sets(3, 4)
    made = plots.shot_maps(maps, "of which wrong", "examples seen", change)
    *axes, bar = made.axes
    for ax, name in zip(axes, SETS, strict=True):
        np.testing.assert_array_equal(image(ax), maps[name])
        assert ax.images[0].origin == "lower" and ax.get_title() == plots.LABELS[name]
        assert ax.images[0].get_clim() == ((-0.5, 0.5) if change else (0, 1))
    assert names(axes[2]) == ("of which wrong", "examples seen")
    assert bar.get_ylabel() == ("change in accuracy" if change else "accuracy")


def test_what_remains_has_a_row_a_part_and_a_line_for_the_whole():
    left = {part: dict(zip(SETS, values(4), strict=True)) for part in ("block 0", "block 1", "head 0")}
    whole = dict(zip(SETS, values(4), strict=True))
    made = plots.what_remains(left, whole, 0.2)
    for ax, sets in zip(made.axes, (SETS[:2], SETS[2:]), strict=True):
        for name in sets:
            accuracies = [of[name] for of in left.values()]
            assert_line(ax, accuracies, range(3), plots.COLORS[name], marker="o")
            assert_line(ax, [whole[name]] * 2, [0, 1], plots.COLORS[name], marker="None")
        assert_line(ax, [0.2] * 2, [0, 1], plots.GREY)
        assert ax.get_xlabel() == "accuracy, last shot" and ax.yaxis_inverted()
    assert ticks(made.axes[0].yaxis) == list(left) and keys(made) == SET_KEYS


def test_similarity_matrices_border_their_groups():
    matrices = [values(5, 5), values(5, 5)]
    groups = [np.array([3, 3, 1, 1, 1]), np.array([0, 2, 2, 2, 4])]
    made = plots.similarity_matrices(matrices, groups, ["a", "b"], columns=3)
    borders, middles = ([1.5], [0.5, 3.5]), ([0.5, 3], [0, 2, 4])
    for ax, matrix, group, at, middle in zip(made.axes[:2], matrices, groups, borders, middles, strict=True):
        np.testing.assert_allclose(image(ax), matrix)
        drawn = [line.get_ydata()[0] for line in ax.lines if line.get_xdata() == [0, 1]]
        assert drawn == at and list(ax.get_xticks()) == list(ax.get_yticks()) == middle
        assert ticks(ax.xaxis) == ticks(ax.yaxis) == [str(name) for name in dict.fromkeys(group.tolist())]
        assert ax.images[0].get_extent() == [-0.5, 4.5, 4.5, -0.5] and ax.images[0].get_clim() == (-1, 1)
    assert [ax.get_title() for ax in made.axes] == ["a", "b", ""]
    assert made.axes[2].get_ylabel() == "cosine similarity"
    large = values(336, 336)
    ax, _ = plots.similarity_matrices([large], [np.arange(336)], ["c"]).axes
    np.testing.assert_allclose(image(ax), large.reshape(112, 3, 112, 3).mean((1, 3)))
    assert ax.images[0].get_extent() == [-0.5, 335.5, 335.5, -0.5]


def test_group_scores_fill_the_dots_that_count():
    stages = ["embedding", "after block 0", "after block 1"]
    scores = {
        name: [Score(v, 0.0, -0.1, 0.2, 0.5, (v - 0.1, v + 0.2)) for v in of]
        for name, of in (
            ("by ratio", (0.05, 0.6, -0.3)),
            ("by x", (0.4, 0.1, 0.0)),
            ("by y", (0.3, 0.2, 0.1)),
        )
    }
    made = plots.group_scores(scores, stages)
    for ax, (name, column) in zip(made.axes, scores.items(), strict=False):
        band, lines, dots = ax.collections
        shown = [value for value, _ in dots.get_offsets()]
        ends = [segment[:, 0] for segment in lines.get_segments()]
        np.testing.assert_allclose(ends, [(value - 0.1, value + 0.2) for value in shown])
        rows = [ticks(ax.yaxis)[list(ax.get_yticks()).index(y)] for _, y in dots.get_offsets()]
        assert dict(zip(rows, shown, strict=True)) == {
            stage: s.value for stage, s in zip(stages, column, strict=True)
        }
        filled = [to_hex(color) == to_hex(plots.MATCH) for color in dots.get_facecolor()]
        assert filled == [value > 0.2 for value in shown]  # one below chance does not count
        assert all(segment[:, 0].tolist() == [-0.1, 0.2] for segment in band.get_segments())
        assert ax.get_title() == name and dots.get_offsets()[0][1] == 2  # from the top
    assert made.get_supxlabel() == "mean similarity within groups less between groups"
