"""Figures of plots/inside.py, read back from their Axes: the right values in the right place and way round."""

import numpy as np
from axes import assert_line, image, keys, ticks, values, words
from matplotlib.collections import PathCollection
from matplotlib.colors import to_hex

from modgrok import plots


def test_attention_maps_have_the_attending_token_in_rows():
    patterns = values(2, 3, 12, 12)  # (depth, heads, T, T)
    matches = np.zeros((4, 4), dtype=bool)
    matches[2, 0] = matches[3, 1] = True  # the query of example 2 matches example 0 …
    figure = plots.attention_maps(patterns, matches, n_tokens=9)
    for (layer, head), ax in zip(np.ndindex(2, 3), figure.axes[:6], strict=True):
        past = np.tril(np.ones((9, 9), dtype=bool))
        np.testing.assert_array_equal(image(ax), np.where(past, patterns[layer, head, :9, :9], np.nan))
        assert ax.get_title() == f"block {layer}, head {head}" and ax.yaxis_inverted()
        assert ax.images[0].get_clim() == (0, 1) and ax.images[0].origin == "upper"
        # … at the z of example 0, seen from the y of example 2; 3 is not shown
        for rings in ax.findobj(PathCollection):
            np.testing.assert_array_equal(rings.get_offsets(), [(2, 7)])
        assert ticks(ax.xaxis) == ticks(ax.yaxis) == ["1", "3"] and list(ax.get_xticks()) == [2, 8]
    assert (figure.get_supxlabel(), figure.get_supylabel()) == ("attended example", "attending example")
    assert figure.axes[6].get_ylabel() == "attention"


def test_head_habits_list_heads_block_by_block():
    distances, matching, errors = values(2, 3, 5), values(2, 3, 2), values(2, 3, 2) / 9
    figure = plots.head_habits(distances, matching, errors)
    back, match = figure.axes
    heads = [f"block {layer}, head {head}" for layer, head in np.ndindex(2, 3)]
    np.testing.assert_array_equal(image(back), distances.reshape(6, 5))
    assert words(back) == {(j, i): f"{distances.reshape(6, 5)[i, j]:.2f}" for i, j in np.ndindex(6, 5)}
    assert ticks(back.yaxis) == ticks(match.yaxis) == heads and match.yaxis_inverted()
    for column, color in enumerate((plots.MATCH, plots.GREY)):
        middle, half = matching[..., column].ravel(), errors[..., column].ravel()
        assert_line(match, middle, range(6), color, marker="o")
        (bars,) = (b for b in match.collections if to_hex(b.get_color()[0]) == to_hex(color))
        ends = [(m - h, m + h) for m, h in zip(middle, half, strict=True)]
        np.testing.assert_allclose([segment[:, 0] for segment in bars.get_segments()], ends)
        assert match.get_xlim()[1] > np.max(ends)
    assert keys(figure).keys() == {"matches the query's ratio", "does not"}
    assert (
        back.get_xlabel().startswith("places back") and match.get_xlabel() == "attention from the query's y"
    )


def test_bars_of_outcomes_sum_to_one():
    shares = {"a": (0.9, 0.05, 0.0, 0.05), "b": (0.1, 0.6, 0.2, 0.1)}
    ax = plots.swap_outcomes(shares).axes[0]
    widths = np.reshape([bar.get_width() for bar in ax.patches], (4, 2)).T
    np.testing.assert_allclose(widths, list(shares.values()))
    assert [label.get_text() for label in ax.get_yticklabels()] == ["a", "b"]


def test_effects_have_a_row_an_intervention_and_a_column_a_variant():
    rows = {"all waves": values(9), "random": np.full(9, 0.2)}
    ax = plots.effect_maps({"seed 0": rows}, range(1, 10), "share").axes[0]
    np.testing.assert_allclose(ax.images[0].get_array(), np.stack(list(rows.values())))
    assert ticks(ax.yaxis) == list(rows) and ticks(ax.xaxis) == [str(k) for k in range(1, 10)]
    assert not ax.texts  # too many columns for numbers


def test_few_effects_are_written():
    effects = {"embedding": [0.0, 1.0], "after block 0": [-0.001, 0.33]}
    ax = plots.effect_maps({"model": effects}, ["match z", "query y"], "effect").axes[0]
    assert [text.get_text() for text in ax.texts] == ["0.00", "1.00", "0.00", "0.33"]
    assert ticks(ax.xaxis) == ["match\nz", "query\ny"]


def test_effects_on_an_answer_that_does_not_move_are_a_sentence():
    ax = plots.effect_maps({"model": {"embedding": [np.nan, np.nan]}}, ["match z", "query y"], "effect").axes[
        0
    ]
    assert [text.get_text() for text in ax.texts if text.get_text()] == ["nothing moves the answer"]


def test_parts_are_sorted_by_what_is_left():
    accuracies = {"x": {"id_train": 0.9, "ood_train": 0.8}, "y": {"id_train": 0.5, "ood_train": 0.2}}
    figure = plots.parts_lost(
        {"a": accuracies, "b": accuracies}, {key: {"id_train": 1.0, "ood_train": 0.9} for key in "ab"}, 0.2, 2
    )
    ax = figure.axes[0]
    assert ticks(ax.yaxis) == ["y", "x"] and ax.yaxis_inverted()
    np.testing.assert_array_equal(
        [line.get_xdata() for line in ax.lines if len(line.get_xdata()) == 2 and line.get_marker() == "o"],
        [[0.5, 0.9], [0.2, 0.8]],
    )
