"""The architecture: folders with one idea each, imports in one direction, words that name something."""

import ast

import pytest
from conftest import ROOT

LIBRARY = ROOT / "modgrok"

ORDER = (
    "config", "data", "model", "predictors", "evaluate", "storage", "training", "train", "authors", "analysis",
    "claims", "plots", "widgets", "live", "scale", "book", "__main__",
)  # fmt: skip
"""Modules and folders from the first to the last; each imports what stands before it, and itself."""

INDEPENDENT = {
    "plots": {"plots"},
    "widgets": {"plots", "widgets"},
    "claims": set(ORDER[: ORDER.index("claims") + 1]) - {"training", "train", "authors"},
    "analysis": set(ORDER[: ORDER.index("analysis") + 1]) - {"training", "train", "authors"},
    "scale": set(ORDER) - {"claims", "plots", "widgets", "live", "book", "__main__"},
}
"""Folders that import less than their place allows."""

FILES = sorted(LIBRARY.rglob("*.py"))


def room(path: str) -> str:
    """The top-level module or folder of a dotted name below modgrok."""
    return path.split(".")[1]


def imported_rooms(file) -> set[str]:
    """The rooms of all modules of the library that a file imports, wherever in it."""
    rooms = set()
    for node in ast.walk(ast.parse(file.read_text("utf8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("modgrok"):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            rooms |= {room(name) for name in names if name != "modgrok.__version__"}
        elif isinstance(node, ast.Import):
            rooms |= {room(alias.name) for alias in node.names if alias.name.startswith("modgrok.")}
    return rooms


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(LIBRARY)))
def test_imports_go_one_way(file):
    own = file.relative_to(LIBRARY).parts[0].removesuffix(".py")
    if own == "__init__":
        assert not imported_rooms(file)
        return
    allowed = INDEPENDENT.get(own, set(ORDER[: ORDER.index(own) + 1]))
    assert imported_rooms(file) <= allowed


def test_the_top_level_is_small():
    modules = {file.stem for file in LIBRARY.glob("*.py")} - {"__init__"}
    folders = {file.parent.name for file in LIBRARY.glob("*/__init__.py")}
    assert modules | folders == set(ORDER) and len(modules) <= 12


def test_every_folder_says_what_lives_there_and_what_it_imports():
    for file in LIBRARY.glob("*/__init__.py"):
        docstring = ast.get_docstring(ast.parse(file.read_text("utf8")))
        assert docstring and "import" in docstring, file
