"""Figures of plots/structure.py, read back from their Axes: the right values in the right place and way round."""

import numpy as np
import pytest
from axes import P, image, names, ticks, values
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle

from modgrok import plots
from modgrok.analysis.stats import NullComparison

LOG = np.array([0, 4, 1, 3, 2])  # powers of 2 modulo 5: none for 0, then 2, 4, 3, 1
X, Y = np.divmod(np.arange(P * P), P)


def written(ax):
    """Numbers by the places that they belong to: (x, y) → text."""
    return {tuple(map(float, text.xy)): text.get_text() for text in ax.texts}


def assert_log_plane(ax, points, numbers):
    """Points in the colours of their numbers' logarithms, which stand at the middles of their points."""
    dots, colors = ax.collections[0], plots.log_colors(P)
    np.testing.assert_array_equal(dots.get_offsets(), points)
    assert [to_hex(color) for color in dots.get_facecolor()] == [to_hex(colors[k]) for k in LOG[numbers]]
    for number in np.unique(numbers):
        place = tuple(map(float, points[numbers == number].mean(0)))
        assert written(ax)[place] == str(LOG[number])
    assert names(ax) == ("PC 1", "PC 2")


def test_circle_of_circles_enlarges_one_group():
    points = values(P * P, 2)
    whole, part = plots.circle_of_circles(points, LOG).axes
    has_log = (X > 0) & (Y > 0)
    assert_log_plane(whole, points[has_log], X[has_log])
    group = (X == 2) & has_log
    expected = {
        tuple(map(float, place)): str(LOG[y]) for place, y in zip(points[group], Y[group], strict=True)
    }
    assert written(part) == expected
    assert part.get_title() == "the group log x = 1, by log y" and "by log x" in whole.get_title()
    (frame,) = (patch for patch in whole.patches if isinstance(patch, Rectangle))
    assert frame.get_x() == pytest.approx(part.get_xlim()[0]) and frame.get_height() == pytest.approx(
        np.ptp(part.get_ylim())
    )


def test_numbers_that_would_lie_on_each_other_are_moved_apart():
    points = values(P * P, 2)
    points[X == 2] = (5, 5) + 1e-3 * values(P, 2)
    points[np.flatnonzero(X == 2)[1]] = (0, 0)
    _, part = plots.circle_of_circles(points, LOG).axes
    spots = np.array([text.get_position() for text in part.texts])
    apart = np.linalg.norm(spots[:, None] - spots, axis=2)[~np.eye(P - 1, dtype=bool)]
    assert apart.min() > 0.03 * np.ptp(part.get_xlim()) and (spots[0] == (0, 0)).all()


def test_log_planes_colour_each_by_its_own_number():
    numbers = (X, Y, X, Y, X)
    planes = values(5, P * P, 2) + np.stack(numbers)[..., None]
    figure = plots.log_planes(planes, numbers, LOG, list("abcde"))
    for ax, points, number, title in zip(figure.axes, planes, numbers, "abcde", strict=False):
        assert_log_plane(ax, points, number)
        assert ax.get_title() == title
    assert [ax.axison for ax in figure.axes] == [True] * 5 + [False]


def test_numbers_whose_points_have_one_middle_are_not_written_over_each_other():
    around = np.array([(1, 0), (0, 1), (-1, 0), (0, -1), (0, 0)])[Y]  # the same for each x
    figure = plots.log_planes([around] * 2, (X, Y), LOG, ["a", "b"])
    assert [len(ax.texts) for ax in figure.axes] == [0, P]


def test_parity_planes_part_odd_from_even():
    view = values(5, 3)  # in the order of the logarithm, the number 0 first
    (ax,) = plots.parity_planes(view).axes
    for text, log in zip(ax.texts, (2, 4, 1, 3, 0), strict=True):
        np.testing.assert_array_equal(text.get_position_3d(), view[log])
        color = plots.PARITY[1 - log % 2] if log else plots.GREY
        assert (text.get_text(), to_hex(text.get_color())) == (str(log), to_hex(color))
    for line, log in zip(ax.lines, (2, 4, 1, 3), strict=True):  # from the sheet to the number
        assert line.get_data_3d()[2] == pytest.approx([view[2 - log % 2 :: 2, 2].mean(), view[log, 2]])


def test_similarity_matrices_border_their_groups():
    matrices = [values(5, 5)] * 3
    figure = plots.similarity_matrices(matrices, [3, 3, 1, 1, 1], ["a", "b", "c"], columns=2)
    for ax, matrix in zip(figure.axes[:3], matrices, strict=True):
        np.testing.assert_allclose(image(ax), matrix)
        across, down = (np.reshape(border.get_segments(), (-1, 4)).tolist() for border in ax.collections)
        assert across == [[-0.5, 1.5, 4.5, 1.5]] and down == [[1.5, -0.5, 1.5, 4.5]]
        assert ax.images[0].get_extent() == [-0.5, 4.5, 4.5, -0.5] and ax.images[0].get_clim() == (-1, 1)
    assert [ax.get_title() for ax in figure.axes[:3]] == ["a", "b", "c"]
    assert figure.axes[-1].get_ylabel() == "cosine similarity" and list(figure.axes[2].get_xticks()) == [
        0.5,
        3,
    ]
    named = [(ticks(ax.xaxis), ticks(ax.yaxis)) for ax in figure.axes[:3]]
    assert named == [([], ["3", "1"]), (["3", "1"], []), (["3", "1"], ["3", "1"])]  # b has nothing below it
    large = values(384, 384)
    ax, _ = plots.similarity_matrices([large], np.arange(384), ["c"]).axes
    np.testing.assert_allclose(image(ax), large.reshape(128, 3, 128, 3).mean((1, 3)))
    assert ax.images[0].get_extent() == [-0.5, 383.5, 383.5, -0.5]


def test_group_scores_fill_the_dots_that_count():
    stages = ["embedding", "after block 0", "after block 1"]
    scores = {
        name: [NullComparison(v, 0.0, -0.1, 0.2, 0.5, (v - 0.1, v + 0.2)) for v in numbers]
        for name, numbers in (
            ("by ratio", (0.05, 0.6, -0.3)),
            ("by x", (0.4, 0.1, 0.0)),
            ("by y", (0.3, 0.2, 0.1)),
        )
    }
    figure = plots.group_scores(scores, stages)
    for ax, (name, column) in zip(figure.axes, scores.items(), strict=False):
        band, lines, dots = ax.collections
        contrasts = [value for value, _ in dots.get_offsets()]
        ends = [segment[:, 0] for segment in lines.get_segments()]
        np.testing.assert_allclose(ends, [(value - 0.1, value + 0.2) for value in contrasts])
        rows = [ticks(ax.yaxis)[list(ax.get_yticks()).index(y)] for _, y in dots.get_offsets()]
        assert dict(zip(rows, contrasts, strict=True)) == {
            stage: s.value for stage, s in zip(stages, column, strict=True)
        }
        filled = [to_hex(color) == to_hex(plots.MATCH) for color in dots.get_facecolor()]
        assert filled == [value > 0.2 for value in contrasts]  # one below chance does not count
        assert all(segment[:, 0].tolist() == [-0.1, 0.2] for segment in band.get_segments())
        assert ax.get_title() == name and dots.get_offsets()[0][1] == 2  # from the top
    assert figure.get_supxlabel() == "mean similarity\nwithin groups less between groups"
