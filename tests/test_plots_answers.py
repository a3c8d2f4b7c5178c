"""Figures of plots/answers.py, read back from their Axes: the right values in the right place and way round."""

import numpy as np
import pytest
from axes import (
    PREDICTORS,
    RNG,
    STEPS,
    P,
    assert_band,
    assert_line,
    context,
    image,
    keys,
    names,
    of_sets,
    values,
    words,
)
from matplotlib.colors import to_hex

from modgrok import plots
from modgrok.config import SETS


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
    assert made.get_suptitle() == "above"
    for ax, of in zip(made.axes, (far, same), strict=True):
        named = {text.get_text().replace("\n", " ").replace("- ", "-"): text for text in ax.texts}
        assert set(named) == set(PREDICTORS)
        by_curve = sorted(PREDICTORS, key=lambda who: of[who][0, -1])
        heights = [named[who].xyann[1] for who in by_curve]
        assert np.all(np.diff(heights) > 0.15) and heights[-1] < 1.05  # in the order of their curves, apart


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


def assert_kinds(ax, x, curves):
    """One banded line a kind, in its colour; lines of the last are darker than its bars."""
    colors = list(plots.KINDS.values())
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
