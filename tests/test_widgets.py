import io

import ipywidgets
import pytest
from conftest import ROOT
from matplotlib.figure import Figure
from PIL import Image

from modgrok import widgets
from modgrok.parameters import as_list


def figure(label="x") -> Figure:
    made = Figure(figsize=(4, 2))
    made.subplots().set_title(label)
    return made


def links(slider) -> list:
    """The stacks that a slider turns over."""
    made = [
        w for w in ipywidgets.Widget.get_manager_state()["state"].values() if w["model_name"] == "LinkModel"
    ]
    ends = [(m["state"]["source"], m["state"]["target"]) for m in made]
    return [
        t[0] for s, t in ends if s == [f"IPY_MODEL_{slider.model_id}", "index"] and t[1] == "selected_index"
    ]


def test_picture_is_a_small_described_webp_of_the_figures_size():
    made = widgets.picture(figure(), "a title")
    assert made.format == "webp" and made.tooltip == "a title"
    assert (made.width, made.height) == ("384", "192")
    assert Image.open(io.BytesIO(made.value)).size == (4 * widgets.DPI, 2 * widgets.DPI)
    assert len(made.value) < 10_000


def test_scrubber_links_its_slider_to_its_pictures():
    slider, stack = widgets.scrubber(
        (figure(i) for i in range(3)), [1, 10, 100], "step", start=1, alt="T"
    ).children
    assert slider.options == (("1", 0), ("10", 1), ("100", 2))
    assert slider.index == stack.selected_index == 1
    assert [p.tooltip for p in stack.children] == ["T (step 1)", "T (step 10)", "T (step 100)"]
    assert links(slider) == [f"IPY_MODEL_{stack.model_id}"]


def test_grid_links_one_slider_to_the_rows_and_one_to_the_columns():
    made = widgets.grid(
        [[figure(i + j) for j in range(3)] for i in range(2)],
        (["a", "b"], [1, 2, 3]),
        ("row", "column"),
        (1, 2),
    )
    rows, columns, stack = made.children
    assert stack.selected_index == 1 and [s.selected_index for s in stack.children] == [2, 2]
    assert stack.children[1].children[0].tooltip == "row b, column 1"
    assert links(rows) == [f"IPY_MODEL_{stack.model_id}"]
    assert links(columns) == [f"IPY_MODEL_{s.model_id}" for s in stack.children]


def test_tabs_hold_figures_and_widgets():
    made = widgets.tabs({"one": figure(), "two": widgets.scrubber([figure()], ["a"])})
    assert made.titles == ("one", "two") and made.selected_index == 0
    alone = figure()
    assert widgets.tabs({"one": alone}) is alone


@pytest.fixture
def asked():
    """A live figure whose draw refuses a task that is no list; its controls by name, and what it shows."""

    def draw(task, shots, step):
        return figure(f"{as_list(task, 'task')} {shots} {step}")

    *controls, view = widgets.live(
        draw, task="[1, 2]", shots=(0, 7), step={"last": 200, "first": 100}
    ).children
    return {control.description: control for control in controls}, view


def test_live_redraws_when_a_control_changes(asked):
    controls, view = asked
    shown = [view.children[0].value]
    for name, value in (("task", "[3, 4]"), ("shots", 5), ("step", 100)):
        controls[name].value = value
        assert len(view.children) == 1
        shown.append(view.children[0].value)
    assert len(set(shown)) == 4 and all(Image.open(io.BytesIO(s)).format == "WEBP" for s in shown)
    assert view.children[0].tooltip == "task [3, 4], shots 5, step first"
    assert shown[-1] == widgets.picture(figure("[3, 4] 5 100")).value


def test_live_controls_are_labelled_and_wait_until_a_value_is_whole(asked):
    controls, _ = asked
    assert list(controls) == ["task", "shots", "step"]
    assert [type(c) for c in controls.values()] == [
        ipywidgets.Text, ipywidgets.IntSlider, ipywidgets.Dropdown
    ]  # fmt: skip
    assert not controls["task"].continuous_update and not controls["shots"].continuous_update


def test_live_shows_the_sentence_of_a_wrong_value_until_a_right_one(asked):
    controls, view = asked
    before = view.children[0].value
    controls["task"].value = "<i>"
    assert view.children[0].value == "<p role=\"alert\">task='&lt;i>' must be a list, such as [1, 2].</p>"
    controls["task"].value = "[1, 2]"
    assert view.children[0].value == before


def test_live_hides_no_other_error():
    with pytest.raises(ZeroDivisionError):
        widgets.live(lambda n: figure(1 / n), n=(0, 0))


def test_a_notebook_opened_in_its_own_folder_finds_the_runs():
    assert (ROOT / "notebooks/runs").samefile(ROOT / "runs")


def test_pictures_and_labels_must_match():
    with pytest.raises(ValueError, match=r"^2 pictures do not match 3 labels\.$"):
        widgets.scrubber([figure(), figure()], [1, 2, 3])
    with pytest.raises(ValueError, match=r"^3 pictures do not match 2 labels\.$"):
        widgets.scrubber([figure(), figure(), figure()], [1, 2])
