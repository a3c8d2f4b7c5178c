"""The look of figures: the same everywhere, and nowhere else."""

import importlib
import io
import sys

import matplotlib
import pytest
from axes import A_RUN, PREDICTORS, of_sets

import modgrok
from modgrok import plots
from modgrok.widgets.svg import picture


def test_importing_and_drawing_leave_matplotlibs_settings_alone(monkeypatch):
    matplotlib.get_backend()  # chosen when first asked for
    before = matplotlib.rcParams.copy()
    monkeypatch.setattr(modgrok, "plots", plots)  # put back what the import below puts in its place
    for name in [name for name in sys.modules if name.startswith("modgrok.plots")]:
        monkeypatch.delitem(sys.modules, name)
    fresh = importlib.import_module("modgrok.plots")
    assert fresh is not plots
    fresh.training_curves(A_RUN, 0.2).savefig(io.BytesIO())
    with pytest.raises(KeyError):
        fresh.training_curves({"step": [1]}, 0.2)
    assert matplotlib.rcParams == before


UNUSUAL = {
    "font.size": 20, "font.family": "monospace", "xtick.color": "red", "axes.spines.top": True, "axes.grid": True,
    "svg.fonttype": "none", "svg.hashsalt": "a", "savefig.bbox": "tight", "figure.constrained_layout.use": True,
    "lines.linewidth": 9,
}  # fmt: skip
"""What a user's matplotlibrc may hold."""


def saved_svg(figure) -> str:
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()


def test_a_figure_looks_the_same_wherever_it_is_made_and_saved():
    usual = saved_svg(plots.training_curves(A_RUN, 0.2))
    with matplotlib.rc_context(UNUSUAL):
        assert saved_svg(plots.training_curves(A_RUN, 0.2)) == usual
        figure = plots.training_curves(A_RUN, 0.2)
    assert saved_svg(figure) == usual


def test_a_picture_of_the_page_and_its_form_for_phones_do_not_depend_on_the_users_settings():
    panels = {title: of_sets(2, 3) for title in "abc"}
    usual = picture(plots.curves(panels, "x", chance=0.2), "")
    with matplotlib.rc_context(UNUSUAL | {"text.usetex": True}):  # there may be no LaTeX
        assert picture(plots.curves(panels, "x", chance=0.2), "") == usual


@pytest.mark.parametrize(
    "draw", [lambda: plots.training_curves({}, 0.2), lambda: plots.group_scores({}, ["read"])]
)
def test_nothing_to_draw_is_one_sentence(draw):
    with pytest.raises(ValueError, match=r"^\w+ has nothing to draw: what it is given is empty\.$"):
        draw()


def test_a_form_for_phones_has_no_empty_place_and_names_the_last_panels_axis():
    figure = plots.curves({title: of_sets(2, 3) for title in "abcde"}, "x").narrow()
    assert [ax.get_title() for ax in figure.axes] == list("abcde")
    assert [ax.get_xlabel() for ax in figure.axes] == [*4 * [""], "x"]


def test_panels_name_the_outer_axes_and_leave_surplus_places_empty():
    fig, axes = plots.panels("abcde", (2, 1), (1, 0.5), 3, xlabel="x", ylabel="y")
    assert fig.get_size_inches().tolist() == [7, 2.5] and [ax.get_title() for ax in axes] == list("abcde")
    assert [ax.axison for ax in fig.axes] == [True] * 5 + [False]
    assert [ax.get_xlabel() for ax in axes] == ["", "", "x", "x", "x"]
    assert [ax.get_ylabel() for ax in axes] == ["y", "", "", "y", ""]


def test_the_tables_of_colours_follow_the_lists_that_they_colour():
    from modgrok import evaluate
    from modgrok.analysis import skill

    assert len(plots.PHASE_COLORS) == len(skill.PHASES)
    assert PREDICTORS == evaluate.REFERENCES
    for kind, meaning in zip(evaluate.KINDS[:3], plots.KINDS, strict=True):
        assert kind in meaning
    assert plots.blocks(1) == "1 block" and plots.blocks(2) == "2 blocks"
