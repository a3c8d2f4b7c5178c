"""Every notebook by itself, by papermill's own command line."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import nbformat
import papermill
import pytest
from conftest import ROOT
from IPython.core.inputtransformer2 import TransformerManager

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
each = pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda n: n.stem)

CHANGED = {
    "01_tasks": {"p": 7, "alpha": 0.5, "tasks": "[[1, 2], [6, 3]]"},
    "02_learning": {"seed": 1, "other_seeds": "[2]"},
    "03_phases": {"n_seeds": 1, "n_seeds_rule": 1},
    "04_in_context": {"step": 40, "sequences": 100},
    "05_depth": {"n_seeds": 2, "depths": "[2, 1]", "n_seeds_map": 0},
    "06_answers": {"task": "[2, 3]", "pairs": "[[1, 2]]", "shots": "[1, 2]", "deep": 1, "sequences": 60},
    "07_heads": {
        "seed": 1, "n_seeds": 1, "depths": "[2]", "head": 1, "contexts": 3, "task": "[1, 2]", "log_base": 3
    },
    "08_representations": {"n_seeds": 1, "depths": "[2]", "layer": 0, "contexts": 3, "center": False},
    "09_claims": {"n_seeds": 2, "n_seeds_map": 1, "deep": 4},
    "10_parts": {"n_seeds": 2, "depths": "[2]", "sequences": 60},
    "11_lies": {"seed": 1, "n_seeds": 1, "depths": "[2, 1]", "sequences": 60},
    "12_ask": {"depths": "[2]"},
}  # fmt: skip
"""Parameters beside their defaults, one notebook's own at least."""

WRONG = {
    "01_tasks": ("tasks", "[1, 2]", "[[1, 1], [2, 3]]"),
    "02_learning": ("preset", "nope", "smoke"),
    "03_phases": ("source", "nope", "shipped"),
    "04_in_context": ("sequences", "many", "50 to 100000"),
    "05_depth": ("depths", "two", "[2, 4]"),
    "06_answers": ("task", "[1]", "two numbers"),
    "07_heads": ("head", "nope", "whole number"),
    "08_representations": ("center", "maybe", "True or False"),
    "09_claims": ("n_seeds", "0", "1 or more"),
    "10_parts": ("seed", "-1", "0 or more"),
    "11_lies": ("num_processes", "0", "1 or more"),
    "12_ask": ("depths", "[0]", "1 or more"),
}

REMADE = ("02_learning", "06_answers")
"""Notebooks whose printed command is tried, the others print theirs alike."""


def papermill_run(*arguments) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "papermill", *map(str, arguments), "--no-progress-bar"],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"}, timeout=600,
    )  # fmt: skip


def run(notebook, out, **parameters) -> subprocess.CompletedProcess:
    words = [word for name, value in parameters.items() for word in ("-p", name, value)]
    return papermill_run(f"notebooks/{notebook.name}", out, *words)


def outputs(path: Path) -> list:
    return [output for cell in nbformat.read(path, as_version=4).cells for output in cell.get("outputs", [])]


def figures(path: Path) -> list[str]:
    """Every picture of an executed notebook: figures and live controls in their order, then those in widgets."""
    pages = [output["data"].get("text/html", "") for output in outputs(path) if "data" in output]
    states = nbformat.read(path, as_version=4).metadata.get("widgets", {}).values()
    models = [model for of in states for model in of["state"].values()]
    pictures = [b["data"] for m in models if m["model_name"] == "ImageModel" for b in m.get("buffers", [])]
    shown = [page for page in pages if "modgrok-picture" in page or '<script type="module"' in page]
    return shown + sorted(pictures)


def commands(path: Path) -> set[str]:
    """The commands that stand below the figures of an executed notebook."""
    texts = [output["data"].get("text/markdown", "") for output in outputs(path) if "data" in output]
    return {command for text in texts for command in re.findall(r"```bash\n(.+)\n```", text)}


@pytest.fixture(scope="session")
def root(tmp_path_factory) -> Path:
    """Where the notebooks train: what one has trained another finds."""
    return tmp_path_factory.mktemp("smoke") / "runs"


def test_every_notebook_is_tried():
    assert CHANGED.keys() == WRONG.keys() == {notebook.stem for notebook in NOTEBOOKS}


@each
def test_source_is_stripped_and_has_the_common_parameters(notebook):
    cells = nbformat.read(notebook, as_version=4).cells
    for cell in cells:
        assert not cell.get("outputs") and cell.get("execution_count") is None, "strip it: nbstripout"
    assert cells[0].source.startswith("# "), "the first cell is the chapter's title"
    assert [cell.metadata.get("tags") for cell in cells[1:4]] == [
        ["launch", "remove-cell"], ["parameters", "hide-input"], ["set-up", "hide-input"]
    ]  # fmt: skip
    declared = set(papermill.inspect_notebook(str(notebook)))
    assert {"preset", "seed"} <= declared
    if "source" in declared:  # a chapter that shows trained models
        assert {"root", "num_processes"} <= declared
    for cell in cells:
        if cell.cell_type == "code":
            compile(TransformerManager().transform_cell(cell.source), notebook.name, "exec")


def test_a_page_shows_little_code():
    shown = [
        len(cell.source.splitlines())
        for notebook in NOTEBOOKS
        for cell in nbformat.read(notebook, as_version=4).cells
        if cell.cell_type == "code"
        and not {"hide-input", "live", "launch"} & set(cell.metadata.get("tags", []))
    ]
    assert sum(shown) < 250 and max(shown) <= 12


@each
def test_trains_from_nothing_with_other_parameters_and_draws(notebook, root, tmp_path):
    common = {} if notebook.stem == "01_tasks" else {"source": "train", "root": root}
    made = run(notebook, tmp_path / "out.ipynb", preset="smoke", **common, **CHANGED[notebook.stem])
    assert made.returncode == 0, made.stdout
    drawn, printed = figures(tmp_path / "out.ipynb"), commands(tmp_path / "out.ipynb")
    if notebook.stem == "09_claims":
        assert not drawn and not printed  # tables only
        return
    assert drawn and len(printed) == 1
    command = printed.pop()
    assert all(f" {name} " in command for name in CHANGED[notebook.stem])
    if notebook.stem in REMADE:
        program, source, out, *words = shlex.split(command)
        assert (program, out) == ("papermill", "out.ipynb")
        again = papermill_run(source, tmp_path / "again.ipynb", *words)
        assert again.returncode == 0, again.stdout
        assert figures(tmp_path / "again.ipynb") == drawn


@each
def test_a_wrong_value_stops_with_one_sentence(notebook, tmp_path):
    name, value, allowed = WRONG[notebook.stem]
    made = run(notebook, tmp_path / "out.ipynb", **{name: value})
    message = made.stdout.strip().splitlines()[-1]
    assert made.returncode != 0
    assert message.startswith(f"ValueError: {name}=") and value in message and allowed in message, made.stdout
