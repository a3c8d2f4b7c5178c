"""The page of the library: its examples run, and the reference leaves no public name out."""

import ast
import importlib
import pkgutil
import re
from pathlib import Path

import pytest
import torch
from conftest import ROOT
from test_authors import authors_state

import modgrok

EXAMPLES = re.findall(r"```python\n(.*?)```", (ROOT / "book/library.md").read_text(), re.DOTALL)
API = "\n".join(page.read_text() for page in sorted((ROOT / "book/api").glob("*.md")))


def is_bare(package: str) -> bool:
    """Whether a package's own file holds a docstring alone."""
    return len(ast.parse(Path(importlib.import_module(package).__file__).read_text()).body) == 1


MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(modgrok.__path__, "modgrok.")
    if "__main__" not in module.name and not (module.ispkg and is_bare(module.name))
)


@pytest.mark.parametrize("code", EXAMPLES, ids=lambda code: code.splitlines()[-1][:40])
def test_an_example_runs(code, tmp_path, monkeypatch, capfd, sweeps_here):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").symlink_to(ROOT / "runs")
    torch.save(authors_state(), tmp_path / "authors.pth")
    exec(compile(code, "library.md", "exec"), {"__name__": "__main__"})
    assert "Error" not in capfd.readouterr().out
    assert len([line for line in code.splitlines() if line and not line.startswith(("import", "from"))]) <= 5


def test_there_are_ten():
    assert len(EXAMPLES) == 10


def test_every_module_is_in_the_reference():
    assert sorted(re.findall(r"automodule:: (\S+)", API)) == MODULES


def public(module: str) -> list[ast.AST]:
    """The functions and classes that a module defines for others."""
    tree = ast.parse(Path(importlib.import_module(module).__file__).read_text())
    defined = [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    return [node for node in defined if not node.name.startswith("_")]


@pytest.mark.parametrize("name", MODULES)
def test_every_public_name_says_what_it_is(name):
    """What has no docstring, the reference would leave out."""
    assert [node.name for node in public(name) if not ast.get_docstring(node)] == []


def test_every_public_name_is_on_a_page(book):
    from sphinx.util.inventory import InventoryFile

    with open(book.html / "objects.inv", "rb") as file:
        listed = InventoryFile.load(file, "", lambda base, uri: uri)
    listed = {name for kind, names in listed.items() if kind.startswith("py:") for name in names}
    for name in MODULES:
        assert {f"{name}.{node.name}" for node in public(name)} <= listed
