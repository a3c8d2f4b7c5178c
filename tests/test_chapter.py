"""The object of a notebook: what it says below figures, the command that makes them again, and how it finds runs."""

import copy
import os
import shlex
import sys
from types import SimpleNamespace

import numpy as np
import papermill.cli
import pytest
from matplotlib.figure import Figure
from tiny import ROOT, assert_identical, assert_same_metrics, finish, sentence, tiny

from modgrok import config as config_module
from modgrok.book import chapter
from modgrok.book.chapter import Chapter, evenly, flat, scale, table
from modgrok.book.parameters import declared
from modgrok.config import preset
from modgrok.scale.grids import SWEEPS, NoSweep, Sweep
from modgrok.storage import find as find_module
from modgrok.storage.runs import Run
from modgrok.train import train

CONFIG = tiny()


def obtain(source, preset, root="runs", num_processes=1, **fields):
    """The run of a chapter with these parameters."""
    parameters = {"source": source, "preset": preset, "root": root, "num_processes": num_processes, "seed": 0}
    return Chapter("x", parameters, "").run(**fields)


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> Run:
    """CONFIG trained in one process."""
    return train(CONFIG, tmp_path_factory.mktemp("alone"))


def read_by_papermill(command: str) -> dict:
    """The parameters of a command as papermill reads them."""
    words, parameters = shlex.split(command)[3:], {}
    for flag, name, value in zip(words[::3], words[1::3], words[2::3], strict=True):
        parameters[name] = papermill.cli._resolve_type(value) if flag == "-p" else value
    return parameters


def test_the_command_has_what_differs_from_the_defaults_and_nothing_else():
    defaults = declared("07_heads")
    assert chapter.chapter("07_heads", defaults).command == "papermill notebooks/07_heads.ipynb out.ipynb"
    changed = {"root": "my runs", "run": "12", "contexts": 9, "depths": "[4]", "seed": 0}
    page = chapter.chapter("07_heads", defaults | changed)
    assert page.parameters["depths"] == [4]
    assert read_by_papermill(page.command) == {
        "root": "my runs",
        "run": "12",
        "depths": "[4]",
        "contexts": 9,
    }
    # and the parameters that these give are the same again
    assert chapter.chapter("07_heads", defaults | read_by_papermill(page.command)) == page


def test_a_large_model_is_measured_with_less():
    small, large = preset("p13"), preset("paper")
    assert [chapter.by_size(config, 24, 8) for config in (small, large)] == [24, 8]


def test_a_models_title_tells_it_from_the_others():
    configs = [
        preset("p13-lines", depth=2),
        preset("p13", depth=4, seed=1, curriculum="2px16:9"),
        preset("p19", depth=1),
    ]
    titles = chapter.model_titles([SimpleNamespace(name=config.name, config=config) for config in configs])
    assert list(titles.items()) == [
        (configs[0].name, "lines first: 2 blocks, seed 0"),
        (configs[1].name, "pairs first: 4 blocks, seed 1"),
        (configs[2].name, "p = 19, lines first: 1 block, seed 0"),
    ]
    runs = [SimpleNamespace(name=config.name, config=config) for config in (configs[0], configs[2])]
    assert list(chapter.model_titles(runs).values()) == ["2 blocks, seed 0", "p = 19: 1 block, seed 0"]


def test_none_is_left_out_of_the_command():
    defaults = declared("08_representations")
    page = chapter.chapter("08_representations", defaults | {"contexts": 5})
    assert defaults["n_seeds"] is None and read_by_papermill(page.command) == {"contexts": 5}


class Shell:
    """IPython's shell, as far as errors are concerned."""

    def showtraceback(self, error_info, tb_offset=None):
        error = error_info[1]
        self.lines = error._render_traceback_() if hasattr(error, "_render_traceback_") else None


def shown_lines(call) -> list[str] | None:
    """What a notebook shows of the error of a call in place of its frames; None where it shows these."""
    shell = Shell()
    with pytest.raises(Exception) as error:
        call()
    chapter.show_error(shell, error.type, error.value, error.tb)
    return shell.lines


def test_an_error_about_values_is_shown_as_its_sentence_and_a_fault_with_its_frames():
    assert shown_lines(lambda: preset("nope"))[0].startswith("ValueError: preset='nope' is not known")
    assert shown_lines(lambda: find_module.find_run("nope", "nowhere"))[0].startswith(
        "FileNotFoundError: no "
    )
    assert shown_lines(lambda: table(["a"], 3)) is None  # a TypeError that Python raises in the library
    assert shown_lines(lambda: int("one")) is None


def test_shipped_runs_are_found_from_any_folder(monkeypatch, tmp_path):
    defaults = declared("12_ask")
    monkeypatch.chdir(tmp_path)
    page = chapter.chapter("12_ask", defaults)
    assert page.parameters["root"] == str(ROOT / "runs") and "root" not in page.command
    with pytest.raises(FileNotFoundError) as error:
        obtain("shipped", "laptop", ROOT / "runs", depth=3)
    message = sentence(error)
    assert "`python -m modgrok train laptop --depth 3`" in message and "-d2-" in message


def test_a_wheel_without_shipped_runs_names_the_users_folder(monkeypatch, tmp_path):
    defaults = declared("12_ask")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(chapter, "SHIPPED", tmp_path / "site-packages/runs")
    assert chapter.chapter("12_ask", defaults).parameters["root"] == "runs"


def test_a_chapter_that_is_not_there():
    with pytest.raises(FileNotFoundError, match=r"^12_none\.ipynb is not in notebooks/; "):
        chapter.chapter("12_none", {})


@pytest.fixture
def displayed(monkeypatch):
    """What is displayed, with its metadata."""
    displayed = []
    monkeypatch.setattr(
        chapter, "display", lambda output, metadata=None: displayed.append((output, metadata))
    )
    return displayed


def test_show_displays_svg_with_a_download_link_a_caption_and_its_origin(displayed, alone):
    page = Chapter("02_learning", {"source": "shipped"}, "papermill X", {2: [alone]})
    page.show(Figure(), "fig-shots")
    (picture, _), (caption, metadata) = displayed
    assert picture.data.count("<svg") == 1 and 'aria-label=""' in picture.data  # the build describes it
    assert 'data-name="fig-shots"' in picture.data and "modgrok-download" in picture.data
    assert metadata == {"modgrok_figure": "fig-shots"}
    assert caption.data.startswith("<details")
    assert f"`{CONFIG.name}`: p = 3, tasks = 4" in caption.data and "core-min of training" in caption.data
    assert "\npapermill X\n" in caption.data and "-p source train" in caption.data


def test_show_tells_the_scale_of_other_runs_and_of_none(displayed, alone):
    page = Chapter("02_learning", {"source": "train"}, "papermill X", ())
    page.show(Figure(), "a", runs=alone)
    page.show(Figure(), "b", runs=())
    first, second = (output.data for output, metadata in displayed if metadata)
    assert first.startswith("Models: p = 3, tasks = 4")
    assert second.startswith("<details") and "No model was trained" in second and "\npapermill X\n" in second


def test_scale_lists_every_value(alone):
    class Planned:
        def __init__(self, **fields):
            self.config = preset("laptop", **fields)

    several = [Planned(depth=1), Planned(depth=2, seed=3), Planned(depth=4, alpha=0.4)]
    assert scale(several) == (
        "p = 7, tasks = 40, α = 0.4, 0.8, blocks = 1, 2, 4, width = 64, examples = 12, steps = 4,000, seed = 0, 3, "
        "curriculum = no"
    )
    assert scale(several[:1], several) == "α = 0.8, blocks = 1, seed = 0" and scale(several, several) == ""
    assert flat({2: [alone], 4: np.array([[alone], [alone]], dtype=object)}) == [alone] * 3


def test_evenly_keeps_the_ends_and_table_is_markdown():
    assert evenly(range(0, 100, 10), 4) == [0, 30, 60, 90] and evenly([5, 6], 9) == [5, 6]
    rows = [line.replace(" ", "").split("|")[1:-1] for line in table(["a", "b"], [[1, "2"]]).splitlines()]
    assert rows[::2] == [["a", "b"], ["1", "2"]] and set("".join(rows[1])) == set(":-")


def test_a_table_prints_minus_signs():
    row = table(["a", "b", "c"], [[-0.5, "1.2 (-.1 to 2)", "p7-d2 1e-05"]]).splitlines()[2]
    cells = [cell.strip() for cell in row.split("|")[1:-1]]
    assert cells == ["−0.5", "1.2 (−.1 to 2)", "p7-d2 1e-05"]


def test_a_table_says_what_is_missing():
    assert table(["a", "b"], iter(())) == "These runs have nothing for this table."
    assert table(["a", "b"], [], "No run has solved it.") == "No run has solved it."
    lines = table(
        ["a", "b", "c"], [["x", "0 of 0", "nan (nan to nan)"], ["y", "0 of 3", "banana"]]
    ).splitlines()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines[2:4]]
    assert rows == [["x", "–", "–"], ["y", "0 of 3", "banana"]]
    assert lines[-1] == "*–: none of these runs has a case to count.*"
    assert "case to count" not in table(["a"], [["0 of 3"]])


def test_a_page_of_one_seed_says_that_it_shows_no_spread(alone):
    page = Chapter("05_depth", {"n_seeds": None}, "", [alone])
    assert "With one seed" not in page.about().data  # a page of one model promises none
    page.runs = [alone, alone]
    assert "With one seed, a mean over seeds is a single run" in page.about().data
    second_seed = copy.copy(alone)
    second_seed.config = tiny(seed=1)
    page.runs = [alone, second_seed]
    assert "With one seed" not in page.about().data


def test_a_cell_that_trained_keeps_no_progress_bar(monkeypatch, tmp_path):
    calls = []
    monkeypatch.setattr(chapter, "clear_output", lambda: calls.append("cleared"))
    monkeypatch.setattr(chapter, "train", lambda *_: calls.append("trained"))
    obtain("train", "smoke", tmp_path)
    assert calls == ["trained"]  # outside a notebook there is no cell to empty
    monkeypatch.setattr(chapter, "get_ipython", lambda: True)
    obtain("train", "smoke", tmp_path)
    assert calls[1:] == ["trained", "cleared"]


def test_bounds_that_depend_on_the_model():
    page = Chapter("07_heads", {"layer": 2, "head": None}, "")
    assert page.within("head", 0, 1) is None and page.within("head", 0, 1, default=1) == 1
    with pytest.raises(ValueError, match=r"^layer=2 must lie between 0 and 1 for this model\.$"):
        page.within("layer", 0, 1)


@pytest.fixture
def scales(monkeypatch, tmp_path):
    """A chapter at p = 5, of presets small, middle and large; what it finds is trained in no time."""
    short = {"steps": 1, "warmup_steps": 1, "eval_every": 1, "n_checkpoints": 1}
    sizes = {"small": tiny(), "middle": tiny(p=5), "large": tiny(p=7)}
    presets = {name: config.to_dict() for name, config in sizes.items()}
    for module in (chapter, config_module, find_module):
        monkeypatch.setattr(module, "PRESETS", presets)

    def page(preset="large", **parameters):
        defaults = {
            "source": "shipped",
            "root": str(tmp_path),
            "num_processes": 1,
            "seed": 0,
            "n_seeds": None,
        }
        return Chapter("x", defaults | {"preset": preset, "depths": [1, 2]} | parameters, "")

    def train_seeds(p, depth, *seeds):
        for seed in seeds:
            train(tiny(p=p, depth=depth, seed=seed, **short), tmp_path)

    for name in presets:
        presets[name] |= short
    return page, train_seeds


def primes_and_seeds(groups):
    return {depth: [(run.config.p, run.config.seed) for run in runs] for depth, runs in groups.items()}


def test_all_seeds_that_there_are_at_the_largest_scale_that_has_every_depth(scales):
    page, train_seeds = scales
    train_seeds(3, 1, 0), train_seeds(3, 2, 0, 1)
    assert primes_and_seeds(page().by_depth()) == {1: [(3, 0)], 2: [(3, 0), (3, 1)]}
    train_seeds(5, 1, 0, 1, 3), train_seeds(7, 2, 0)
    assert primes_and_seeds(page().by_depth()) == {
        1: [(3, 0)],
        2: [(3, 0), (3, 1)],
    }  # neither 5 nor 7 has both
    train_seeds(5, 2, 0)
    assert primes_and_seeds(page().by_depth()) == {1: [(5, 0), (5, 1)], 2: [(5, 0)]}  # seeds without a gap
    assert primes_and_seeds(page().by_depth(2)) == {2: [(7, 0)]}
    assert primes_and_seeds(page("small").by_depth()) == {1: [(3, 0)], 2: [(3, 0), (3, 1)]}
    assert primes_and_seeds(page(n_seeds=2).by_depth(2)) == {2: [(3, 0), (3, 1)]}
    assert primes_and_seeds(page(seed=1).by_depth(1)) == {1: [(5, 1)]}
    with pytest.raises(FileNotFoundError, match=r"no finished run p7-.*-d4-"):
        page().by_depth(4)


def test_groups_are_depths_or_the_runs_named(scales):
    page, train_seeds = scales
    train_seeds(3, 1, 0, 1), train_seeds(3, 2, 0)
    groups = page("small").groups("", "")
    assert primes_and_seeds(groups) == {"1 block": [(3, 0), (3, 1)], "2 blocks": [(3, 0)]}
    first, second, deep = (run.name for runs in groups.values() for run in runs)
    assert primes_and_seeds(page("small").groups("", second)) == {"1 block": [(3, 1)]}
    assert list(page("small").groups(deep, second)) == ["2 blocks", "1 block"]
    assert list(page("small").groups(first, second)) == ["1 block, run 1", "1 block, run 2"]


def test_training_takes_the_preset_and_one_seed(scales):
    page, train_seeds = scales
    train_seeds(3, 1, 0, 1, 2)
    assert primes_and_seeds(page(source="train", depths=[1]).by_depth()) == {1: [(7, 0)]}
    assert primes_and_seeds(page("small", source="train", depths=[1]).by_depth()) == {
        1: [(3, 0), (3, 1), (3, 2)]
    }


def test_the_next_smaller_scale_is_taken_where_a_preset_has_no_such_sweep(scales):
    page, _ = scales
    presets = []

    def find(chapter):
        presets.append(chapter.parameters["preset"])
        if chapter.parameters["preset"] == "large":
            raise NoSweep("preset='large' has no map")
        return 1

    assert page().largest(find) == 1 and presets == ["large", "middle"]
    with pytest.raises(ValueError, match="large"):
        page().largest(lambda chapter: (_ for _ in ()).throw(NoSweep(chapter.parameters["preset"])))


def test_a_sweep_has_all_seeds_that_finished_at_every_point(scales, monkeypatch):
    page, train_seeds = scales
    for name in ("small", "large"):
        monkeypatch.setitem(SWEEPS, f"{name}-map", Sweep(name, {"depth": (1, 2)}))
    train_seeds(3, 1, 0, 1, 2, 3), train_seeds(3, 2, 0, 1, 3), train_seeds(7, 1, 0)

    def seeds(**parameters):
        grid = page(**parameters).largest(lambda chapter: chapter.sweep("map"))
        return [[(run.config.p, run.config.depth, run.config.seed) for run in row] for row in grid]

    assert seeds() == [[(3, 1, 0), (3, 1, 1)], [(3, 2, 0), (3, 2, 1)]]  # the next has no second depth
    assert seeds(n_seeds=1) == [[(3, 1, 0)], [(3, 2, 0)]]
    assert seeds(seed=3) == [[(3, 1, 3)], [(3, 2, 3)]]
    train_seeds(7, 2, 0)
    assert seeds() == [[(7, 1, 0)], [(7, 2, 0)]]


@pytest.mark.parametrize(
    "arguments, message",
    [
        (
            ("train", "tiny"),
            "preset='tiny' is not known; choose one of smoke, laptop, desk, p13, p13-lines, p19, p29, paper",
        ),
        (("train", "smoke", "runs", 7), "does not divide into 7 processes"),
    ],
)
def test_notebooks_are_told_what_is_allowed(arguments, message):
    with pytest.raises(ValueError) as error:
        obtain(*arguments)
    assert sentence(error).startswith(message) or message in sentence(error)


def test_notebooks_find_shipped_runs_and_train_others(tmp_path, alone):
    fields = CONFIG.to_dict()
    assert obtain("shipped", "smoke", alone.path.parent, **fields).path == alone.path
    with pytest.raises(FileNotFoundError, match=r"no finished run .*; train it"):
        obtain("shipped", "smoke", tmp_path, **fields)
    assert not list(tmp_path.iterdir())
    assert_identical(obtain("train", "smoke", tmp_path, **fields), alone)


@pytest.mark.slow
def test_notebooks_train_on_two_processes(tmp_path, alone):
    """After the notebook itself has trained, and used torch's thread pool, which does not survive a fork; with one
    thread a process, as by default, and with as many as the reader asks for."""
    notebook = """
import os, sys, torch
from modgrok.book.chapter import Chapter
torch.set_num_threads(4)
a = torch.randn(1000, 1000, requires_grad=True)
(a @ a).exp().sum().backward()
fields, root = eval(sys.argv[1]), sys.argv[2]
page = Chapter("x", {"source": "train", "preset": "smoke", "root": root, "num_processes": 1, "seed": 0}, "")
page.run(seed=5, **fields)
page.parameters["num_processes"] = 2
for threads, seed in (("", 0), ("4", 1)):
    if threads:
        os.environ["OMP_NUM_THREADS"] = threads
    run = page.run(seed=seed, **fields)
    print(torch.get_num_threads(), run.provenance["processes"])
"""
    fields = {name: value for name, value in CONFIG.to_dict().items() if name != "seed"}
    env = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    argv = [sys.executable, "-c", notebook, repr(fields), str(tmp_path)]
    result = finish(argv, env | {"PYTHONPATH": str(ROOT)})
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("4 [2]\n") == 2
    assert_same_metrics(Run(tmp_path / CONFIG.name), alone)
