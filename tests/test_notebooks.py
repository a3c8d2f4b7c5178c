"""Every notebook by itself: trained at the smallest scale in this process, and one by papermill's command line."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import nbformat
import papermill.cli
import pytest
from click.testing import CliRunner
from conftest import ROOT, shared_folder
from IPython.core.inputtransformer2 import TransformerManager
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from tiny import sentence

from modgrok import widgets
from modgrok.book.parameters import checked, declared
from modgrok.config import PRESETS

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
every_notebook = pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda n: n.stem)

CHANGED = {
    "01_tasks": {"p": 7, "alpha": 0.5, "tasks": "[[1, 2], [6, 3]]"},
    "02_learning": {"seed": 1, "n_seeds": 2, "depth": 1},
    "03_phases": {"n_seeds": 1, "n_seeds_rule": 1},
    "04_in_context": {"depth": 1, "step": 20, "sequences": 100},
    "05_depth": {"n_seeds": 2, "depths": "[2, 1]", "n_seeds_map": 1, "n_seeds_lasting": 1},
    "06_answers": {
        "task": "[2, 3]", "pairs": "[[1, 2]]", "shots": "[1, 2]", "depths": "[2, 1]", "n_seeds": 2, "contexts": 5
    },
    "07_heads": {"seed": 1, "n_seeds": 1, "depths": "[2]", "contexts": 3, "log_base": 3},
    "08_representations": {"n_seeds": 1, "depths": "[2]", "contexts": 3},
    "09_claims": {"n_seeds": 2, "n_seeds_map": 1, "deep": 4},
    "10_parts": {"n_seeds": 2, "depths": "[2]", "sequences": 60},
    "11_lies": {"seed": 1, "n_seeds": 1, "depths": "[2, 1]", "sequences": 60},
    "12_ask": {"depths": "[2]"},
    "13_order": {"n_seeds": 2, "depths": "[2]"},
    "14_cost": {"seed": 1, "n_seeds": 2},
    "15_factors": {"seed": 1, "n_seeds": 1},
    "16_reaching_in": {"seed": 1, "n_seeds": 1},
    "17_hypothesis": {"seed": 1, "n_seeds": 1},
    "18_larger_prime": {"seed": 1, "n_seeds": 1, "contexts": 5},
    "intro": {"depths": "[2, 1]", "contexts": 5},
}  # fmt: skip
"""Parameters beside their defaults, one notebook's own at least."""

WRONG = {
    "01_tasks": ("p", "4", "must be prime"),
    "02_learning": ("preset", "nope", "smoke"),
    "03_phases": ("source", "nope", "shipped"),
    "04_in_context": ("sequences", "0", "between 50 and 100000"),
    "05_depth": ("depths", "two", "[2, 4]"),
    "06_answers": ("task", "[1]", "two numbers"),
    "07_heads": ("shots", "nope", "whole number"),
    "08_representations": ("shots", "nope", "whole number"),
    "09_claims": ("n_seeds", "0", "1 or more"),
    "10_parts": ("sequences", "0", "between 50 and 1000"),
    "11_lies": ("sequences", "1001", "between 50 and 1000"),
    "12_ask": ("depths", "[0]", "1 or more"),
    "13_order": ("depths", "[0]", "1 or more"),
    "14_cost": ("preset", "laptop", "laptop' has no ladder"),
    "15_factors": ("preset", "desk", "desk' has no factors"),
    "16_reaching_in": ("depths", "[4]", "[2, 4]"),
    "17_hypothesis": ("n_seeds", "0", "1 or more"),
    "18_larger_prime": ("depths", "[1]", "[2, 4]"),
    "intro": ("contexts", "1", "2"),
}

HIDDEN = {"hide-cell", "hide-input", "remove-input", "remove-cell", "live"}
"""Tags of cells whose code a page does not show."""

REMADE = {"08_representations", "11_lies"}
"""Notebooks whose printed command is carried out, here: they draw contexts, nulls and lies. For the others papermill
only reads it, and must come to the parameters that the page was made with."""

SHORTER = dict(steps=20, warmup_steps=2, eval_every=5, checkpoint_every=10, eval_sequences=128)
"""The preset "smoke" with as many evaluations in half the steps."""


def papermill_run(*arguments) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "papermill", *map(str, arguments), "--no-progress-bar"],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"}, timeout=600,
    )  # fmt: skip


def papermill_reads(*arguments) -> None:
    """Papermill's command line up to where a kernel would start, in this process."""
    reading = CliRunner().invoke(papermill.cli.papermill, [*map(str, arguments), "--prepare-only"])
    assert reading.exit_code == 0, reading.output


def run_cells(page: Path) -> list[dict]:
    """Execute a prepared notebook in this process, since a kernel would import torch anew.

    Returns:
        what its cells display: for each output, type → content.
    """
    shell, displayed = InteractiveShell.instance(user_module=ModuleType("notebook")), []
    try:
        for cell in nbformat.read(page, as_version=4).cells:
            if cell.cell_type == "code":
                with capture_output() as captured:  # a cell that clears its output clears no other cell's
                    shell.run_cell(cell.source, store_history=True).raise_error()
                displayed += [output.data for output in captured.outputs]
    finally:
        InteractiveShell.clear_instance()
    return displayed


def figures(displayed: list[dict]) -> list[str]:
    """Every picture of an executed notebook: figures with their controls, and live controls."""
    pages = [data.get("text/html", "") for data in displayed]
    return [page for page in pages if "modgrok-picture" in page or '<script type="module"' in page]


def commands(displayed: list[dict]) -> set[str]:
    """The commands that stand below the figures of an executed notebook."""
    texts = [data.get("text/markdown", "") for data in displayed]
    return {command for text in texts for command in re.findall(r"```bash\n(.+)\n```", text)}


def made_with(path: Path, name: str) -> dict:
    """What a copy of the notebook of that name was, or would be, executed with."""
    values: dict = {}
    for cell in nbformat.read(path, as_version=4).cells:
        if {"parameters", "injected-parameters"} & set(cell.metadata.get("tags", [])):
            exec(cell.source, values)
    return {name: checked(name, values[name], default) for name, default in declared(name).items()}


@pytest.fixture(scope="session")
def root(tmp_path_factory) -> Path:
    """Where the notebooks of all test processes train: what one has trained another finds."""
    return shared_folder(tmp_path_factory) / "runs"


@pytest.fixture
def few_pictures(monkeypatch):
    """Figures have no form for phones, sliders only their first and their last picture: the book draws all."""
    whole_grid, both_forms = widgets.grid, widgets.picture

    def ends(items) -> list:
        items = list(items)
        return items if len(items) < 3 else [items[0], items[-1]]

    def grid_of_ends(pictures, labels, descriptions=("", ""), start=(0, 0), alt=""):
        assert all(index in range(len(names)) for index, names in zip(start, labels, strict=True))
        pictures, labels = [ends(row) for row in ends(pictures)], tuple(map(ends, labels))
        return whole_grid(pictures, labels, descriptions, (0, 0), alt)

    def wide_form(figure, alt, layouts=None):
        figure.narrow = lambda: None
        return both_forms(figure, alt, layouts)

    monkeypatch.setattr(widgets, "grid", grid_of_ends)
    monkeypatch.setattr(widgets, "picture", wide_form)


def test_commands_in_texts_name_parameters_that_the_notebook_has():
    texts = [page.read_text() for page in (ROOT / "README.md", *sorted((ROOT / "book").glob("*.md")))]
    cells = (cell for notebook in NOTEBOOKS for cell in nbformat.read(notebook, as_version=4).cells)
    texts += [cell.source for cell in cells if cell.cell_type == "markdown"]
    commands_shown = re.findall(r"papermill notebooks/(\w+)\.ipynb (.+)", "\n".join(texts))
    assert len(commands_shown) > 10
    for name, words_given in commands_shown:
        words = shlex.split(words_given, comments=True)[1:]
        assert words[::3] == ["-p"] * (len(words) // 3), words_given
        assert set(words[1::3]) <= declared(name).keys(), words_given


def test_every_notebook_is_tried():
    assert CHANGED.keys() == WRONG.keys() == {notebook.stem for notebook in NOTEBOOKS}


@every_notebook
def test_source_is_stripped_and_has_the_common_parameters(notebook):
    cells = nbformat.read(notebook, as_version=4).cells
    for cell in cells:
        assert not cell.get("outputs") and cell.get("execution_count") is None, "strip it: nbstripout"
    assert cells[0].source.startswith("# "), "the first cell is the chapter's title"
    set_up = "remove-input" if notebook.stem == "intro" else "hide-input"  # nothing stands before its picture
    assert [cell.metadata.get("tags") for cell in cells[1:4]] == [
        ["launch", "remove-cell"], ["parameters", "hide-input"], ["set-up", set_up]
    ]  # fmt: skip
    declared = set(papermill.inspect_notebook(str(notebook)))
    assert {"preset", "seed"} <= declared
    if "source" in declared:  # a chapter that shows trained models
        assert {"root", "num_processes"} <= declared
    for cell in cells:
        if cell.cell_type == "code":
            compile(TransformerManager().transform_cell(cell.source), notebook.name, "exec")


def test_a_page_shows_little_code():
    n_lines = [
        len(cell.source.splitlines())
        for notebook in NOTEBOOKS
        for cell in nbformat.read(notebook, as_version=4).cells
        if cell.cell_type == "code" and not HIDDEN & set(cell.metadata.get("tags", []))
    ]
    assert sum(n_lines) < 320 and max(n_lines) <= 12


def test_little_code_is_hidden():
    """What computes or decides is in the library."""
    tags = HIDDEN - {"live"} | {"set-up"}
    n_lines = 0
    for notebook in NOTEBOOKS:
        for cell in nbformat.read(notebook, as_version=4).cells:
            cell_tags = set(cell.metadata.get("tags", []))
            if cell.cell_type == "code" and cell_tags & tags and not cell_tags & {"parameters", "launch"}:
                n_lines += sum(bool(line.strip()) for line in cell.source.splitlines())
    assert n_lines <= 500


def test_a_caption_with_an_interval_or_a_mean_names_what_it_is_taken_over():
    units = "sequences|seeds?|contexts|over them"
    captions = [
        (notebook.name, " ".join(cell.source.split()))
        for notebook in NOTEBOOKS
        for cell in nbformat.read(notebook, as_version=4).cells
        if "caption" in cell.metadata.get("tags", [])
    ]
    assert len(captions) > 30
    for name, text in captions:
        if re.search(r"95 %|\b[Mm]eans?\b|average", text):
            assert re.search(units, text), f"{name}: {text}"


@every_notebook
def test_trains_from_nothing_with_other_parameters_and_draws(
    notebook, root, tmp_path, sweeps_here, few_pictures, monkeypatch
):
    monkeypatch.chdir(ROOT)
    monkeypatch.setitem(PRESETS, "smoke", PRESETS["smoke"] | SHORTER)
    name, page = notebook.stem, tmp_path / notebook.name
    common = {} if name == "01_tasks" else {"source": "train", "root": root}
    values = {"preset": "smoke"} | common | CHANGED[name]
    papermill_reads(notebook, page, *(word for item in values.items() for word in ("-p", *item)))
    displayed = run_cells(page)
    pictures, printed = figures(displayed), commands(displayed)
    if name == "09_claims":
        assert not printed  # tables, and the cards of another page
        return
    assert pictures and len(printed) == 1
    command = printed.pop()
    assert all(f" {parameter} " in command for parameter in CHANGED[name])
    program, source, out, *words = shlex.split(command)
    assert (program, source, out) == ("papermill", f"notebooks/{notebook.name}", "out.ipynb")
    copy = tmp_path / "again.ipynb"
    papermill_reads(source, copy, *words)
    assert made_with(copy, name) == made_with(page, name)
    if name in REMADE:
        assert figures(run_cells(copy)) == pictures


@every_notebook
def test_a_wrong_value_is_one_sentence(notebook, monkeypatch):
    """In the set-up cell, here without a kernel, which would import torch for each."""
    monkeypatch.chdir(ROOT)
    name, value, allowed = WRONG[notebook.stem]
    cells = nbformat.read(notebook, as_version=4).cells
    tagged = {tag: cell.source for cell in cells for tag in cell.metadata.get("tags", ())}
    values: dict = {}
    exec(tagged["parameters"], values)
    values[name] = papermill.cli._resolve_type(value)
    with pytest.raises(ValueError) as error:
        exec(tagged["set-up"], values)
    message = sentence(error)
    assert message.startswith(f"{name}=") and value in message and allowed in message


def test_papermill_carries_out_a_notebook(tmp_path):
    """In a kernel of its own, with runs that it trains."""
    values = {"preset": "smoke", "source": "train", "root": tmp_path / "runs"} | CHANGED["12_ask"]
    words = (word for item in values.items() for word in ("-p", *item))
    finished_run = papermill_run("notebooks/12_ask.ipynb", tmp_path / "out.ipynb", *words)
    assert finished_run.returncode == 0, finished_run.stdout
    cells = nbformat.read(tmp_path / "out.ipynb", as_version=4).cells
    displayed = [output.get("data", {}) for cell in cells for output in cell.get("outputs", [])]
    assert figures(displayed) and len(commands(displayed)) == 1


def test_papermill_ends_with_one_sentence(tmp_path):
    """Without frames; which sentence for which error: test_chapter and test_parameters."""
    failed_run = papermill_run(
        "notebooks/02_learning.ipynb", tmp_path / "out.ipynb", "-p", "presett", "smoke"
    )
    *_, place, message = failed_run.stdout.strip().splitlines()
    assert failed_run.returncode != 0 and place.startswith("Exception encountered"), failed_run.stdout
    assert (
        message.startswith("ValueError: presett is not a parameter of this notebook") and "preset?" in message
    )
