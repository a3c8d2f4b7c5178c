"""Figures of plots/learning.py, read back from their Axes: the right values in the right place and way round."""

import io

import numpy as np
import pytest
from axes import (
    A_RUN,
    SET_KEYS,
    STEPS,
    assert_line,
    boxes,
    image,
    keys,
    lines,
    names,
    of_sets,
    ticks,
    values,
    words,
)
from matplotlib.colors import to_hex

from modgrok import plots
from modgrok.config import SETS

EVEN_ROWS, ODD_COLUMNS = [0.25, 0.75], [4, 8, 16]  # a map of 2 rows and 3 columns: none is its own transpose


def test_training_curves_tell_loss_novel_queries_and_all_queries_apart():
    metrics, figure = A_RUN, plots.training_curves(A_RUN, 0.2)
    loss, accuracy = figure.axes
    for name, color in plots.COLORS.items():
        style = {"color": color, "linestyle": plots.DASHES[name]}
        assert_line(loss, STEPS, metrics[f"{name}_loss"], **style)
        assert_line(accuracy, STEPS, metrics[f"{name}_novel"], **style, linewidth=1.8, alpha=None)
        assert_line(accuracy, STEPS, metrics[f"{name}_acc"], **style, linewidth=1, alpha=0.4)
    assert names(loss) == ("training step", "loss (nats per z)")
    assert names(accuracy) == ("training step", "accuracy, last shot")
    assert_line(loss, [0, 1], [np.log(5)] * 2, plots.GREY)
    assert_line(accuracy, [0, 1], [0.2] * 2, plots.GREY)
    *sets, novel, total = zip(keys(figure).items(), figure.legends[0].legend_handles, strict=True)
    assert dict(item for item, _ in sets) == SET_KEYS
    assert novel[0][0] == "accuracy on queries that are no repeat" and novel[1].get_alpha() is None
    assert total[0][0] == "accuracy on all queries" and total[1].get_alpha() == 0.4


def test_phase_diagram_puts_tasks_across_and_inputs_up():
    phases = np.array([[[0, 1, 2], [3, 4, 0]], [[4, 1, 3], [2, 2, 1]]])  # (seeds, rows, columns)
    phase_names = ("none", "memory", "i.d.", "o.o.d.", "all")
    figure = plots.phase_diagram(
        {"one": phases, "two": phases[::-1]}, ODD_COLUMNS, EVEN_ROWS, phase_names, across=2
    )
    for ax, title, phase_maps in zip(figure.axes, ("one", "two"), (phases, phases[::-1]), strict=True):
        assert ax.get_title() == title
        tiles = {
            (column - 0.25 + 0.5 * seed, row): to_hex(plots.PHASE_COLORS[phase_maps[seed, row, column]])
            for seed, row, column in np.ndindex(2, 2, 3)
        }
        assert boxes(ax) == tiles and not ax.yaxis_inverted()
    assert names(figure.axes[0]) == ("pre-training tasks", "fraction α of inputs")
    assert ticks(figure.axes[0].xaxis) == ["4", "8", "16"] and ticks(figure.axes[0].yaxis) == ["0.25", "0.75"]
    assert words(figure.axes[0]) == {(1, 0): "memory"}  # the seeds agree there only
    assert keys(figure) == dict(zip(phase_names, map(to_hex, plots.PHASE_COLORS), strict=True))


def test_a_phase_is_named_in_the_middle_of_the_points_whose_seeds_agree():
    two_levels = np.array([[1, 1, 1], [1, 1, 0]])
    one_level = np.array([[1, 1, 1], [1, 1, 1]])
    figure = plots.phase_diagram(
        {"a": [two_levels, one_level]}, ODD_COLUMNS, EVEN_ROWS, ("none", "i.d. memory", *"234"), across=1
    )
    assert words(figure.axes[0]) in [{(column, row): "i.d.\nmemory"} for column, row in ((1, 0), (1, 1))]


def test_accuracy_maps_put_tasks_across_and_inputs_up():
    maps = of_sets(2, 3)
    maps["id_test"][1, 0] = np.nan
    figure = plots.accuracy_maps(maps, ODD_COLUMNS, EVEN_ROWS, "skill", 2.0)
    *axes, bar = figure.axes
    for ax, name in zip(axes, SETS, strict=True):
        np.testing.assert_array_equal(image(ax), maps[name])
        assert ax.images[0].origin == "lower" and not ax.yaxis_inverted()
        assert ax.images[0].get_clim() == (0, 2)
        cells = np.argwhere(np.isfinite(maps[name])).tolist()
        assert words(ax) == {(column, row): f"{maps[name][row, column]:.2f}" for row, column in cells}
        assert ax.get_title() == plots.LABELS[name]
    assert names(axes[2]) == ("pre-training tasks", "fraction α of inputs")
    assert ticks(axes[2].xaxis) == ["4", "8", "16"] and ticks(axes[2].yaxis) == ["0.25", "0.75"]
    assert bar.get_ylabel() == "skill"


def test_curves_draw_the_mean_and_every_seed_and_mark_the_peak():
    panels = {"2 blocks": of_sets(3, 4), "4 blocks": of_sets(3, 4)}
    for sets in panels.values():
        sets["ood_train"][:, 0] = 0  # what is best before training is not marked
    axis = {"xlabel": "training step", "places": STEPS, "chance": 0.2}
    figure = plots.curves(panels, **axis, peak="ood_train")
    for ax, (title, sets) in zip(figure.axes, panels.items(), strict=True):
        assert ax.get_title() == title and ax.get_ylim() == (0, 1.03)
        for name, accuracy in sets.items():
            assert_line(
                ax, STEPS, accuracy.mean(0), plots.COLORS[name], linestyle=plots.DASHES[name], linewidth=1.8
            )
            thin = lines(ax, plots.COLORS[name], linewidth=0.8)
            np.testing.assert_allclose([line.get_ydata() for line in thin], accuracy)
        assert_line(ax, [STEPS[sets["ood_train"].mean(0).argmax()]] * 2, [0, 1], plots.INK)
        assert_line(ax, [0, 1], [0.2] * 2, plots.GREY)
    assert names(figure.axes[0]) == ("training step", "accuracy") and keys(figure) == SET_KEYS
    assert not lines(plots.curves(panels, **axis).axes[0], plots.INK)
    fallen = {"1 block": {"ood_train": np.array([[0.3, 0.2, 0.1, 0.1]])}}  # best before training
    assert not lines(plots.curves(fallen, **axis, peak="ood_train").axes[0], plots.INK)


@pytest.mark.parametrize("n_panels", [1, 3, 4, 5])
@pytest.mark.parametrize("looks", [plots.ALGORITHMS, plots.KINDS, plots.MEASURES])
def test_curves_draw_a_line_for_each_name_in_its_look(n_panels, looks):
    panels = {f"seed {i}": {name: (1 + i) * values(4) for name in looks} for i in range(n_panels)}
    figure = plots.curves(
        panels, "shots", "share", looks=looks, limits=(0, None), starts={"seed 0": [1.5, 2]}
    )
    highest = max(curve.max() for curves in panels.values() for curve in curves.values())
    for ax, (title, by_name) in zip(figure.axes, panels.items(), strict=False):
        assert ax.get_title() == title and ax.get_ylim()[0] == 0 and ax.get_ylim()[1] >= highest
        for name, curve in by_name.items():
            assert_line(ax, range(4), curve, looks[name]["color"], linestyle=_drawn(looks[name]["ls"]))
        starts = [line.get_xdata()[0] for line in ax.lines if line.get_zorder() == 0]
        assert starts == ([1.5, 2] if title == "seed 0" else [])
    assert list(keys(figure)) == [look.get("label", name) for name, look in looks.items()]
    assert names(figure.axes[n_panels - 1])[0] == "shots" and names(figure.axes[0])[1] == "share"
    assert [ax.axison for ax in figure.axes[n_panels:]] == [False] * (n_panels == 5)


def _drawn(dashes):
    """A style of dashes as matplotlib returns it: its name, or "--" for a pattern of one's own."""
    return dashes if isinstance(dashes, str) else "--"


def test_curves_have_places_and_chance_by_title():
    panels, places = {"a": {"id_test": values(3)}, "b": {"id_test": values(2)}}, {"a": [0, 5, 9], "b": [1, 2]}
    figure = plots.curves(panels, "step", places=places, chance={"a": 0.2, "b": 0.1})
    for ax, (title, by_name) in zip(figure.axes, panels.items(), strict=True):
        assert_line(ax, places[title], by_name["id_test"], plots.COLORS["id_test"])
    assert [lines(ax, plots.GREY)[0].get_ydata()[0] for ax in figure.axes] == [0.2, 0.1]


def test_ladder_draws_every_run_and_the_law():
    p, primes, steps = [5, 7, 7], [5, 7, 11], [100.0, 200.0, np.nan]
    line = np.array([90, 180, 500.0])
    figure = plots.ladder(
        {"steps": steps, "hours": values(3)}, p, primes, {"steps": line, "hours": line / 100}
    )
    ax = figure.axes[0]
    assert_line(ax, primes, line, plots.COLORS["ood_train"], linestyle=":")
    assert_line(ax, p, steps, plots.COLORS["ood_train"], marker="o")
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    assert names(ax) == ("p", "steps") and names(figure.axes[1]) == ("p", "hours")
    assert_line(ax, [11, 11], [0, 1], plots.GREY)
    assert "the paper's p = 11" in words(ax).values()


def test_ladder_of_runs_that_never_solve_is_empty():
    nothing = np.full(2, np.nan)
    figure = plots.ladder(
        {"steps": nothing, "hours": nothing},
        [5, 7],
        [5, 7],
        {"steps": nothing, "hours": nothing},
    )
    figure.savefig(io.BytesIO())  # matplotlib makes the ticks only now
    assert not np.isfinite(figure.axes[0].lines[1].get_ydata()).any()
    assert "no run\ngets there" in words(figure.axes[0]).values() and not len(figure.axes[0].get_yticks())


def test_no_run_is_drawn_as_nothing_in_a_phase_diagram():
    figure = plots.phase_diagram({"one": [[[0, -1, 2]]]}, ODD_COLUMNS, [0.5], tuple("abcde"), across=1)
    assert sorted(boxes(figure.axes[0])) == [(0, 0), (2, 0)]


def test_factor_panels_sort_values_and_tell_never_from_no_run():
    base_runs, unsolved, base, no_runs = (
        np.reshape(columns, (-1, 4)).T
        for columns in (
            [(200, 0.4, 0.7, 0.14), (500, 0.6, 0.7, 0.14)],
            [(np.nan, 0.2, 0.7, 0.14)],
            [(200, 0.4, 0.7, 0.14)],
            [],
        )
    )
    figure = plots.factor_panels(
        {"width": {"64": base_runs, "32": unsolved, "128": no_runs}, "by": {"muon": base, "adamw": no_runs}},
        1000,
    )
    steps_by_width, accuracy_by_width, steps_by_optimizer, _ = figure.axes
    assert ticks(steps_by_width.xaxis) == ["32", "64", "128"] and ticks(steps_by_optimizer.xaxis) == [
        "muon",
        "adamw",
    ]
    steps = [line.get_ydata() for line in steps_by_width.lines if line.get_marker() == "o"]
    assert np.concatenate(steps).tolist() == [1300, 200, 500] and ticks(steps_by_width.yaxis)[-1] == "never"
    assert list(words(steps_by_width).values()) == ["no run"]
    accuracy = [line.get_ydata() for line in accuracy_by_width.lines if line.get_marker() == "o"]
    assert np.concatenate(accuracy).tolist() == [0.2, 0.4, 0.6]
    controls = sorted(line.get_ydata()[0] for line in accuracy_by_width.lines if line.get_marker() == "None")
    assert controls == pytest.approx([0.14, 0.14, 0.7, 0.7])
    assert list(keys(figure)) == ["ratio matching", "look-up, a guess", "base point"]


def test_pairs_of_panels_stand_below_each_other_on_a_phone():
    panels = {name: {"1": [[200], [0.4], [0.7], [0.14]]} for name in "abcde"}
    figure = plots.factor_panels(panels, 1000)
    phone = figure.narrow()
    assert phone.get_figwidth() == plots.NARROW and len(phone.axes) == len(figure.axes) == 10
    assert {ax.get_subplotspec().get_gridspec().ncols for ax in phone.axes} == {1}
    assert [ax.get_ylim()[1] for ax in phone.axes] == [ax.get_ylim()[1] for ax in figure.axes]
    six = {title: [[[0]]] for title in "abcdef"}
    assert plots.phase_diagram(six, [4], [0.5], tuple("abcde")).narrow().get_figwidth() == plots.NARROW


def test_chance_is_named_beside_the_last_axes_of_a_row():
    figure = plots.curves({"a": of_sets(2, 4), "b": of_sets(2, 4)}, "training step", places=STEPS, chance=0.2)
    assert [[text.get_text() for text in ax.texts] for ax in figure.axes] == [[], ["chance"]]
    figure.draw_without_rendering()
    last = figure.axes[1]
    assert last.texts[0].get_window_extent().x0 > last.get_window_extent().x1
    assert [len(ax.texts) for ax in figure.narrow().axes] == [1, 1]
