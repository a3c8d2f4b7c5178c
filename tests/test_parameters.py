"""What notebooks say to parameters that are not allowed."""

import ast
import json
import re

import papermill
import pytest
import torch
from conftest import ROOT
from tiny import sentence

from modgrok.book.parameters import check_names, checked, declared, query_setting
from modgrok.config import PRESETS, preset
from modgrok.data import Data
from modgrok.scale.grids import SWEEPS

SMOKE = preset("smoke")
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda n: n.stem)
def test_declared_is_what_papermill_declares(notebook):
    """Papermill reads lines: what it does not understand it leaves out."""
    parameters = papermill.inspect_notebook(str(notebook))
    defaults = {name: ast.literal_eval(parameter["default"]) for name, parameter in parameters.items()}
    assert defaults == declared(notebook.stem)


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda n: n.stem)
def test_papermills_help_tells_type_and_meaning(notebook):
    for name, parameter in papermill.inspect_notebook(str(notebook)).items():
        default = ast.literal_eval(parameter["default"])
        assert parameter["inferred_type_name"] == ("int" if default is None else type(default).__name__)
        assert parameter["help"], name
        assert not re.search("hour|minute|second", parameter["help"]), "costs stand in config.PRESET_COSTS"
    cells = json.loads(notebook.read_text("utf8"))["cells"]
    cell = next(cell for cell in cells if "parameters" in cell["metadata"].get("tags", []))
    assert len(cell["source"]) == len(declared(notebook.stem)), "papermill shows one line a parameter"


def test_the_sizes_that_help_lists_for_a_sweep_have_that_sweep():
    kinds = {"03_phases": "map", "14_cost": "ladder", "15_factors": "factors", "17_hypothesis": "map"}
    for notebook in NOTEBOOKS:
        text = papermill.inspect_notebook(str(notebook))["preset"]["help"]
        named = re.findall(r'"(\w+)"', text)
        assert named and set(named) <= set(PRESETS)
        if notebook.stem in kinds:
            assert named == [size for size in PRESETS if f"{size}-{kinds[notebook.stem]}" in SWEEPS]


def test_a_name_that_is_not_declared_is_refused():
    names = ["preset", "root", "seed"]
    check_names(["import os", "presett = 3", '# Parameters\nseed = 3\nroot = "a"\n'], names)
    with pytest.raises(ValueError, match=r"presett is not a parameter .* did you mean preset"):
        check_names(["# Parameters\npresett = 3\n"], names)
    with pytest.raises(ValueError, match="its parameters are preset, root, seed"):
        check_names(["", "# Parameters\nseed = 3\nbatch_size = [3, 4]\n"], names)


@pytest.mark.parametrize(
    ("name", "value", "default", "expected"),
    [
        ("seed", 3, 0, 3),
        ("head", None, None, None),
        ("head", 1, None, 1),
        ("depths", "[1, 2]", [2, 4], [1, 2]),
        ("depths", (1, 2), [2, 4], [1, 2]),
        ("task", "[]", [], []),
        ("pairs", "[[0, 1]]", [], [[0, 1]]),
        ("center", False, True, False),
        ("sequences", 60, None, 60),
        ("alpha", 1, 0.5, 1),
    ],
)
def test_an_allowed_value_is_returned(name, value, default, expected):
    assert checked(name, value, default) == expected


@pytest.mark.parametrize(
    ("name", "value", "default", "allowed"),
    [
        ("source", "download", "shipped", "choose 'shipped' or 'train'"),
        ("preset", "nope", "laptop", "smoke, laptop"),
        ("preset", 3, "laptop", "smoke, laptop"),
        ("root", 3, "runs", "must be text"),
        ("run", 3, "", "must be text"),
        ("seed", "one", 0, "whole number, 0 or more"),
        ("seed", -1, 0, "whole number, 0 or more"),
        ("seed", 1.5, 0, "whole number, 0 or more"),
        ("n_seeds", 0, 3, "whole number, 1 or more"),
        ("num_processes", True, 1, "whole number, 1 or more"),
        ("head", "first", None, "whole number, 0 or more"),
        ("contexts", 1, 24, "whole number, 2 or more"),
        ("sequences", "many", None, "whole number, 0 or more"),
        ("depths", "two", [2, 4], "must be a list, such as [2, 4]"),
        ("depths", 2, [2, 4], "must be a list, such as [2, 4]"),
        ("depths", [], [2, 4], "must not be empty"),
        ("depths", [0], [2, 4], "whole numbers, each 1 or more"),
        ("shots", ["a"], [], "whole numbers, each 0 or more"),
        ("n_seeds", 0, None, "whole number, 1 or more"),
        ("n_seeds", 10**9, None, "at most 1000"),  # it would lay out a sweep without end
        ("root", "a\0b", "runs", "must be text"),
        ("task", [1], [], "two numbers, such as [1, 2]"),
        ("task", "[1, 'b']", [], "whole numbers"),
        ("pairs", [1, 2], [], "pairs of whole numbers"),
        ("pairs", "[[1, 2, 3]]", [], "pairs of whole numbers"),
        ("tasks", [], [[1, 1]], "must not be empty"),
        ("center", "maybe", True, "True or False"),
        ("alpha", "half", 0.6, "must be a number"),
    ],
)
def test_a_wrong_value_is_refused_in_one_sentence(name, value, default, allowed):
    with pytest.raises(ValueError) as error:
        checked(name, value, default)
    assert sentence(error).startswith(f"{name}={value!r} ") and allowed in sentence(error)


def test_query_setting_fills_in_what_is_missing():
    data = Data(SMOKE)
    task, pairs, shots = query_setting(data)
    assert task in data.tasks["ood"].tolist() and all(task)
    assert pairs.shape == (SMOKE.n_examples - 1, 2) and shots == [1, 2, 3, 7]
    task, chosen, shots = query_setting(data, [3, 0], [[4, 4], [0, 1]], [0, 7])
    assert task == [3, 0] and chosen[:2].tolist() == [[4, 4], [0, 1]] and shots == [0, 7]
    assert torch.equal(chosen[2:], pairs[:-2])
    assert query_setting(data, "[3, 0]", "[[4, 4]]", "[2]")[0] == [3, 0]


def test_query_setting_of_the_paper():
    task, pairs, shots = query_setting(Data(preset("paper")))
    assert task == [6, 6] and pairs[:2].tolist() == [[4, 21], [2, 6]] and shots == [1, 2, 13, 31]


@pytest.mark.parametrize(
    ("settings", "allowed"),
    [
        ({"task": [5, 0]}, "0 to p - 1 = 4"),
        ({"task": [1]}, "two numbers"),
        ({"pairs": [[0, 7]]}, "0 to p - 1 = 4"),
        ({"pairs": [[0, 1]] * 8}, "at most 7"),
        ({"shots": [8]}, "0 to n_examples - 1 = 7"),
        ({"shots": [1.5]}, "whole numbers"),
        ({"pairs": [1, 2]}, "pairs of numbers"),
        ({"task": "[1, 5]"}, "0 to p - 1 = 4"),
        ({"task": "one"}, "must be a list"),
    ],
)
def test_query_setting_says_what_is_allowed(settings, allowed):
    with pytest.raises(ValueError, match=allowed):
        query_setting(Data(SMOKE), **settings)


@pytest.mark.parametrize("pairs", [[[0, -1]], [[0, True]], [[0.5, 1]], [[1, 2], [3]], ["12"]])
def test_pairs_are_two_whole_numbers_from_0(pairs):
    for check in (lambda: checked("pairs", pairs, []), lambda: query_setting(Data(SMOKE), pairs=pairs)):
        with pytest.raises(ValueError, match="pairs of"):
            check()


def test_a_missing_notebook_is_named():
    with pytest.raises(FileNotFoundError, match="99_none"):
        declared("99_none")
