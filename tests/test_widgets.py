import base64
import csv
import io
import json
import re
import zlib
from xml.etree import ElementTree

import matplotlib.pyplot as plt
import numpy as np
import pytest
from axes import A_RUN, of_sets
from conftest import ROOT
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from modgrok import plots, widgets
from modgrok.plots.style import Written
from modgrok.widgets.data import figure_csv
from modgrok.widgets.svg import CSS, LEAST, picture


def figure(label="x") -> Figure:
    panel = Figure(figsize=(4, 2))
    panel.subplots().set_title(label)
    return panel


def unpacked(body: str) -> list[list[str]]:
    """The texts of every pack in some HTML, as `controls.js` makes them."""
    packs = []
    for packed in re.findall(r'class="modgrok-packed">([^<]*)<', body):
        lines, texts = json.loads(zlib.decompress(base64.b64decode(packed)))
        packs.append(["\n".join(lines[i] for i in np.cumsum(steps)) for steps in texts])
    return packs


def described(body: str) -> list[str]:
    return re.findall(r'role="img" aria-label="([^"]*)"', body)


def svgs(html: str) -> list[ElementTree.Element]:
    return [ElementTree.fromstring(text) for text in re.findall(r"<svg.*?</svg>", html, re.S)]


def test_a_picture_is_one_svg_in_the_colours_of_the_page():
    html = picture(plots.training_curves(A_RUN, 0.2), "a <title>")
    wide, _ = svgs(html)
    assert described(html) == ["a &lt;title&gt;"]
    assert "<style" not in html and "fill: none" in html  # no style for the whole page, and no card below
    for light in (plots.INK, plots.COLORS["id_train"]):
        name = f"--mg-{light[1:].lower()}"
        assert f"var({name}, {light.lower()})" in html and f"{name}: {plots.DARK[light]}" in CSS
    assert not re.findall(r": #(?!1a1a1a|fdfdfd)[0-9a-f]{6}", html), "a colour that does not follow the page"
    ids = [e.get("id") for e in wide.iter() if e.get("id")]
    assert len(set(ids)) == len(ids)


def test_every_colour_of_the_palette_is_readable_on_its_page():
    def luminance(color):
        channel = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channel]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    def contrast(first, second):
        low, high = sorted((luminance(first), luminance(second)))
        return (high + 0.05) / (low + 0.05)

    page = plots.DARK["#FFFFFF"]
    for text in (plots.INK, plots.GREY):
        assert contrast(text, "#FFFFFF") >= 4.5 and contrast(plots.DARK[text], page) >= 4.5
    for name, color in plots.COLORS.items():
        assert contrast(plots.DARK[color], page) >= 4.5, name
    for cell in (plots.CELL, plots.INPUT, plots.TARGET):  # where numbers stand
        assert contrast(plots.INK, cell) >= 4.5 and contrast(plots.DARK[plots.INK], plots.DARK[cell]) >= 4.5
    for color in plots.PHASE_COLORS:
        assert contrast("#1A1A1A", color) >= 4.5


def test_a_figure_of_panels_also_has_a_form_for_phones():
    html = picture(plots.curves({t: of_sets(2, 3) for t in "abc"}, "x", chance=0.2), "")
    wide, narrow = svgs(html)
    assert [svg.get("class") for svg in (wide, narrow)] == ["modgrok-wide", "modgrok-narrow"]
    sizes = [[float(n) for n in svg.get("viewBox").split()[2:]] for svg in (wide, narrow)]
    assert (
        sizes[0][0] > sizes[0][1]
        and sizes[1][0] == pytest.approx(plots.NARROW * 72)
        and sizes[1][1] > 2 * sizes[1][0]
    )
    clips = [{e.get("id") for e in svg.iter() if e.tag.endswith("clipPath")} for svg in (wide, narrow)]
    assert clips[0] and not clips[0] & clips[1]  # that of a hidden picture would not count


def test_stacked_panels_are_the_same_panels():
    wide = plots.curves({name: of_sets(4) for name in "abcd"}, "x", chance=0.2)
    stacked = wide.narrow()
    assert len({round(ax.get_position().x0, 1) for ax in stacked.axes}) == 1
    assert [ax.get_title() for ax in stacked.axes] == [ax.get_title() for ax in wide.axes]
    assert plots.training_curves(A_RUN, 0.2).narrow().get_figwidth() == plots.NARROW
    assert plots.embedding_ring(np.eye(5, 2), np.arange(5)).narrow() is None  # is narrow
    maps = plots.attention_maps(np.full((4, 2, 6, 6), 0.1), np.zeros((2, 2), dtype=bool))
    assert maps.narrow() is None  # eight maps scroll
    plain = plots.curves({"a": of_sets(2, 3), "b": of_sets(2, 3)}, "x", chance=0.2)
    assert len({ax.get_position().x0 for ax in plain.axes}) == 2  # drawing for phones leaves nothing behind


def test_no_label_gets_smaller_than_the_least():
    panel = figure()
    panel.axes[0].text(0.5, 0.5, "small", fontsize=6)
    panel.canvas.draw()
    smallest = min(text.get_fontsize() for text in panel.findobj(Text) if text.get_text())
    (min_width,) = re.findall(r"min-width: (\d+)px", picture(panel, ""))
    assert smallest == 6 and int(min_width) / (4 * 96) * 6 * 96 / 72 == pytest.approx(LEAST, abs=0.1)
    written = figure()
    Written(written.axes[0], {(0.5, 0.5): 7}, 6, "black")
    assert f"min-width: {min_width}px" in picture(written, "")


def test_what_is_written_stands_where_a_text_would():
    """The same ink, read back from pixels: digits of both kinds in the same place, at the same size."""
    ink = []
    for write in (
        lambda ax: Written(ax, {(0.3, 0.6): 42, (0.7, 0.2): 5}, 30, ["black", "red"]),
        lambda ax: [
            ax.text(x, y, text, fontsize=30, color=color, ha="center", va="center_baseline")
            for x, y, text, color in ((0.3, 0.6, "42", "black"), (0.7, 0.2, "5", "red"))
        ],
    ):
        panel = Figure(figsize=(4, 4), dpi=100)
        ax = panel.add_axes((0, 0, 1, 1))
        ax.axis("off")
        write(ax)
        canvas = FigureCanvasAgg(panel)
        canvas.draw()
        pixels = np.asarray(canvas.buffer_rgba())[..., :3].astype(int)
        colors = (pixels.max(2) < 128, (pixels[..., 0] > 200) & (pixels[..., 1] < 128))
        ink.append([np.argwhere(color) for color in colors])
    for written, text in zip(*ink, strict=True):
        np.testing.assert_allclose(written.min(0), text.min(0), atol=8)
        np.testing.assert_allclose(np.ptp(written, axis=0), np.ptp(text, axis=0), atol=2)


def test_a_picture_is_closed_and_the_same_again():
    texts = []
    for _ in range(2):
        pyplot_figure, axes = plt.subplots()
        axes.plot([1, 2], clip_on=True)
        texts.append(picture(pyplot_figure, ""))
        assert not plt.fignum_exists(pyplot_figure.number)
    assert texts[0] == texts[1]


def test_pictures_of_a_control_have_their_panels_at_the_same_places():
    def drawn(layouts, ylabel, n_panels=2):
        figures = [plots.curves({title: of_sets(4) for title in "abc"[:n_panels]}, "x", ylabel)]
        figures[0].narrow = lambda narrow=figures[0].narrow: figures.append(narrow()) or figures[1]
        picture(figures[0], "", layouts)
        return [[ax.get_position().bounds for ax in form.axes] for form in figures]

    layouts = {}
    first = drawn(layouts, "y")
    assert drawn(layouts, "a label of\ntwo lines") == first != drawn({}, "a label of\ntwo lines")
    assert drawn(layouts, "y", 3) == drawn({}, "y", 3)  # more panels have places of their own
    assert [len(form) for form in first] == [2, 2] and len(layouts) == 4


def test_a_scrubber_shows_one_of_its_pictures_and_packs_all():
    control = widgets.scrubber((figure(i) for i in range(3)), [1, 10, 1000], "step", start=1, alt="T")
    assert described(control.body) == ["T (step 10)"]
    pictures, tables = unpacked(control.body)
    assert [described(content)[0] for content in pictures] == ["T (step 1)", "T (step 10)", "T (step 1000)"]
    assert len(tables) == 3
    assert pictures[2] == picture(figure(2), "T (step 1000)")
    slider = control.body[control.body.index("modgrok-slider") :]
    assert 'max="2" value="1" aria-label="step" aria-valuetext="10"' in slider
    assert "<span>1</span><span>1000</span>" in slider and "<output>10</output>" in slider
    for button in ("Play step", "Previous step", "Next step"):
        assert f'aria-label="{button}"' in slider
    assert len(control.body) < 2.5 * len(pictures[1])  # further pictures cost little


@pytest.mark.parametrize(("n", "start"), [(0, 0), (1, 1), (2, -1)])
def test_a_scrubber_starts_at_one_of_its_pictures(n, start):
    with pytest.raises(ValueError, match="must be an index of each slider's labels"):
        widgets.scrubber([figure(i) for i in range(n)], range(n), start=start)


def test_a_grid_is_a_table_of_pictures():
    pictures = [[figure(i + j) for j in range(3)] for i in range(2)]
    control = widgets.grid(pictures, (["a", "b"], [1, 2, 3]), ("row", "column"), (1, 2))
    assert described(control.body) == ["row b, column 3"]
    contents, tables = unpacked(control.body)
    assert len(tables) == 6
    assert [described(content)[0] for content in contents] == [
        f"row {a}, column {b}" for a in "ab" for b in (1, 2, 3)
    ]
    assert control.body.count('type="range"') == 2 and control.body.count("modgrok-play") == 1


def test_tabs_hold_figures_and_controls_and_pack_what_is_hidden():
    control = widgets.tabs({"one": figure(), "two": widgets.scrubber([figure(0), figure(1)], ["a", "b"])})
    assert re.findall(r'role="tab" aria-selected="(\w+)" tabindex="([-\d]+)">(\w+)', control.body) == [
        ("true", "0", "one"), ("false", "-1", "two")
    ]  # fmt: skip
    assert described(control.body) == ["one"] and 'type="range"' not in control.body
    hidden = unpacked(control.body)[-1][1]
    assert 'type="range"' in hidden and "modgrok-packed" not in hidden  # packed once, with its pictures
    assert len(hidden.split(widgets.NEXT)) == 3  # two pictures, two tables
    assert "<script>" not in control.body and control.data.count("<script>") == 1
    alone = figure()
    assert widgets.tabs({"one": alone}) is alone


def rows(table: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(table)))


def test_a_still_figure_carries_its_data_and_can_be_shown_again():
    curves = {name: np.float32(values) for name, values in of_sets(1, 4).items()}
    panel = plots.curves({"": curves}, "number of shots", chance=0.2)
    page = widgets.still(panel, "a", "fig-x")
    for link in ("SVG", "CSV"):
        assert f'data-format="{link.lower()}" href="#">{link}</a>' in page.body
    ((table,),) = unpacked(page.body)
    for name, curve in curves.items():
        points = [row for row in rows(table) if row["series"] == plots.LABELS[name] and row["kind"] == "line"]
        values = np.array([float(row["y"]) for row in points])
        np.testing.assert_array_equal(values.astype(np.float32), curve[0])
    assert len(svgs(page.body)) == 2, "the form for phones is in the page from the start"
    assert widgets.still(panel, "a", "fig-x").body == page.body


def test_data_of_each_kind_of_mark_are_told_in_the_units_of_the_axes():
    panel = Figure()
    left_axes, right_axes = panel.subplots(1, 2)
    left_axes.set_title("marks", loc="left")
    left_axes.plot([1, 2], [np.pi, np.nan], color="#ff0000", label="line")
    left_axes.plot([1, 2], [3, 4], color="#ff0000")  # of the same colour, so of the same name in the legend
    left_axes.axhline(9)
    left_axes.scatter([5], [6], c=[7.0])
    left_axes.bar([1, 2], [3, 4], bottom=[0, 1], label="bars")
    left_axes.barh([1], [3], left=[2], label="lying bar")
    left_axes.fill_between([0, 1], [2, 3], [4, 5], label="band")
    left_axes.hlines([8], 0, 1, color="#00ff00")
    left_axes.legend()
    right_axes.imshow(np.ma.masked_equal([[1, 2], [3, 0]], 0), origin="lower")
    Written(right_axes, {(0, 1): 42}, 9, "black")
    table = rows(figure_csv(panel))
    assert {row["panel"] for row in table} == {"marks", "panel 2"}

    def marks(kind):
        return [(row["series"], row["x"], row["y"], row["value"]) for row in table if row["kind"] == kind]

    assert marks("line") == [
        ("line", "1", "3.14159265", ""), ("line", "2", "", ""), ("line", "1", "3", ""), ("line", "2", "4", "")
    ]  # fmt: skip
    assert [mark[1:] for mark in marks("point")] == [("5", "6", "7")]
    assert marks("bar") == [("bars", "1", "3", "3"), ("bars", "2", "5", "4"), ("lying bar", "5", "1", "3")]
    assert {(x, y) for series, x, y, _ in marks("edge of band") if series == "band"} == {
        ("0", "2"), ("1", "3"), ("0", "4"), ("1", "5")
    }  # fmt: skip
    assert marks("segment") == [("#00ff00", "0", "8", ""), ("#00ff00", "1", "8", "")]
    assert marks("cell") == [("", "0", "0", "1"), ("", "1", "0", "2"), ("", "0", "1", "3")]
    assert marks("text") == [("", "0", "1", "42")]


def test_every_cell_of_a_picture_of_colours_is_told_as_a_colour():
    panel = Figure()
    panel.subplots().imshow(np.array([[[255, 0, 0], [0, 0, 255]]], np.uint8), extent=(0, 4, 0, 2))
    cells = [(row["x"], row["y"], row["value"]) for row in rows(figure_csv(panel))]
    assert cells == [("1", "1", "#ff0000"), ("3", "1", "#0000ff")]


def test_a_notebook_opened_in_its_own_folder_finds_the_runs():
    assert (ROOT / "notebooks/runs").samefile(ROOT / "runs")


@pytest.mark.parametrize("figure", [None, 3, [1, 2]])
def test_what_is_no_figure_is_refused(figure):
    with pytest.raises(ValueError, match=r"^figure=.* must be a matplotlib Figure"):
        widgets.still(figure, "")


def test_pictures_and_labels_must_match():
    with pytest.raises(ValueError, match=r"^2 pictures do not match 3 labels\.$"):
        widgets.scrubber([figure(), figure()], [1, 2, 3])
    with pytest.raises(ValueError, match=r"^3 pictures do not match 2 labels\.$"):
        widgets.scrubber([figure(), figure(), figure()], [1, 2])
