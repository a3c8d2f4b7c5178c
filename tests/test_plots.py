"""The look of figures: the same everywhere, and nowhere else."""

import importlib
import io
import sys

import matplotlib
import pytest
from axes import (
    PREDICTORS,
    of_sets,
)

import modgrok
from modgrok import plots


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
    from modgrok import evaluate
    from modgrok.analysis import skill

    assert len(plots.PHASE_COLORS) == len(skill.PHASES)
    assert PREDICTORS == evaluate.REFERENCES
    for kind, meaning in zip(evaluate.KINDS, plots.KINDS, strict=True):
        assert kind == "open" or kind in meaning
    assert plots.blocks(1) == "1 block" and plots.blocks(2) == "2 blocks"
