"""Every notebook by itself, by papermill's own command line."""

import os
import subprocess
import sys

import nbformat
import papermill
import pytest
from conftest import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
each = pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda n: n.stem)


def run(notebook, out, **parameters) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "papermill", f"notebooks/{notebook.name}", str(out), "--no-progress-bar"]
    for name, value in parameters.items():
        command += ["-p", name, str(value)]
    return subprocess.run(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"}, timeout=600,
    )  # fmt: skip


def test_there_are_notebooks():
    assert NOTEBOOKS


@each
def test_source_is_stripped_and_has_the_common_parameters(notebook):
    cells = nbformat.read(notebook, as_version=4).cells
    for cell in cells:
        assert not cell.get("outputs") and cell.get("execution_count") is None, "strip it: nbstripout"
    assert cells[0].source.startswith("# "), "the first cell is the chapter's title"
    declared = set(papermill.inspect_notebook(str(notebook)))
    assert {"preset", "seed"} <= declared
    if "source" in declared:  # a chapter that shows trained models
        assert {"root", "num_processes"} <= declared
    for cell in cells:
        if cell.cell_type == "code":
            code = "\n".join(line for line in cell.source.splitlines() if not line.startswith(("%", "!")))
            compile(code, notebook.name, "exec")


@each
def test_trains_from_nothing_and_draws(notebook, tmp_path):
    made = run(notebook, tmp_path / "out.ipynb", preset="smoke", source="train", root=tmp_path / "runs")
    assert made.returncode == 0, made.stdout
    assert any(c.get("outputs") for c in nbformat.read(tmp_path / "out.ipynb", as_version=4).cells)


@each
@pytest.mark.parametrize(("name", "allowed"), [("preset", "smoke"), ("source", "shipped")])
def test_a_wrong_value_stops_with_one_sentence(notebook, tmp_path, name, allowed):
    if name not in papermill.inspect_notebook(str(notebook)):
        pytest.skip(f"{notebook.name} has no parameter {name}")
    made = run(notebook, tmp_path / "out.ipynb", **{name: "nope"})
    message = made.stdout.strip().splitlines()[-1]
    assert made.returncode != 0
    assert message.startswith("ValueError: ") and "nope" in message and allowed in message, made.stdout
