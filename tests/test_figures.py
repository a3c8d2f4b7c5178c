"""The page "The paper, figure by figure": its pictures are figures of the chapters, written as files of their own."""

import json
import re
from types import SimpleNamespace

import nbformat
import pytest
from conftest import ROOT

from modgrok.book.build import write_thumbnails

PAGE = (ROOT / "book/figures.md").read_text(encoding="utf8")
ROWS = [line.split(" | ") for line in PAGE.splitlines() if re.match(r"\| [FA]\d", line)]


def test_every_figure_of_the_paper_has_a_row():
    labels = [row[0].strip("| ") for row in ROWS]
    assert labels == [f"F1{letter}" for letter in "abcde"] + [f"F{n}" for n in range(2, 8)] + [
        f"A{n}" for n in range(1, 9)
    ]
    assert {row[4] for row in ROWS} <= {"*rebuilt*", "*partly*", "*not*"}


@pytest.mark.parametrize("chapter, name", re.findall(r'href="([\w]+)\.html#(fig-[\w-]+)"', PAGE))
def test_a_row_leads_to_a_figure_of_its_chapter(chapter, name):
    cells = json.loads((ROOT / f"notebooks/{chapter}.ipynb").read_text(encoding="utf8"))["cells"]
    assert any(f'"{name}"' in "".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")


def test_a_thumbnail_is_the_first_picture_with_a_margin_and_scales(tmp_path):
    (tmp_path / "book").mkdir()
    (tmp_path / "book/page.md").write_text('<img src="_static/thumbnails/fig-a.svg">', encoding="utf8")
    svg = '<svg class="modgrok-wide" viewBox="0 0 4 3" style="width: 400px; min-width: 300px"><path d="{}"/></svg>'
    output = nbformat.v4.new_output("display_data", {"text/html": svg.format("first") + svg.format("second")})
    cells = [nbformat.v4.new_code_cell("", outputs=[output]) for _ in range(2)]
    for cell, name in zip(cells, ("fig-a", "fig-b"), strict=True):
        cell.metadata["mystnb"] = {"figure": {"name": name}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "book/01.ipynb")
    write_thumbnails(SimpleNamespace(srcdir=tmp_path / "book", outdir=tmp_path / "out"))
    (file,) = (tmp_path / "out/_static/thumbnails").iterdir()  # no page shows fig-b
    assert file.name == "fig-a.svg"
    assert file.read_text() == '<svg class="modgrok-wide" viewBox="-0.16 0 4.32 3"><path d="first"/></svg>'
