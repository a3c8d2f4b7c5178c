"""The architecture: folders with one idea each, imports in one direction, words that name something."""

import ast
import json
import re
import subprocess
import sys
import tomllib

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
    name = file.relative_to(LIBRARY).parts[0].removesuffix(".py")
    if name == "__init__":
        assert not imported_rooms(file)
        return
    allowed = INDEPENDENT.get(name, set(ORDER[: ORDER.index(name) + 1]))
    assert imported_rooms(file) <= allowed


def test_the_top_level_is_small():
    modules = {file.stem for file in LIBRARY.glob("*.py")} - {"__init__"}
    folders = {file.parent.name for file in LIBRARY.glob("*/__init__.py")}
    assert modules | folders == set(ORDER) and len(modules) <= 12


def test_every_folder_says_what_lives_there_and_what_it_imports():
    for file in LIBRARY.glob("*/__init__.py"):
        docstring = ast.get_docstring(ast.parse(file.read_text("utf8")))
        assert docstring and "import" in docstring, file


VAGUE = set(
    """
    of each found told beside aside own more most able other others both either one two few many all every at on by
    within so far near here there then now that this these those it its them their they what which whose who when
    where with without from into over under about again ever never only just even still less least said asked
    given taken kept left seen known wanted shown told drawn put made done gone come rest thing things stuff
    """.split()  # noqa: SIM905
)
"""Prepositions, pronouns and bare participles: as names they say nothing."""


def bound_names(tree: ast.AST) -> set[str]:
    """Every name that code binds: targets of assignments and loops, arguments, and names of `with` and `:=`."""
    names = {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    return names | {
        node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }


def notebook_code(notebook) -> str:
    """The code of a notebook, without its launch cell, which is for other sites."""
    cells = json.loads(notebook.read_text("utf8"))["cells"]
    code = [
        cell
        for cell in cells
        if cell["cell_type"] == "code" and "launch" not in cell["metadata"].get("tags", [])
    ]
    return "\n".join("".join(cell["source"]) for cell in code)


OTHER_FILES = [file for folder in ("tests", "scripts") for file in sorted((ROOT / folder).glob("*.py"))]


@pytest.mark.parametrize("file", [*FILES, *OTHER_FILES], ids=lambda file: str(file.relative_to(ROOT)))
def test_names_in_code_name_something(file):
    assert bound_names(ast.parse(file.read_text("utf8"))) & VAGUE == set()


@pytest.mark.parametrize("notebook", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda file: file.stem)
def test_names_in_the_notebooks_name_something(notebook):
    assert bound_names(ast.parse(notebook_code(notebook))) & VAGUE == set()


def test_the_map_in_contributing_is_true():
    sys.path.insert(0, str(ROOT / "scripts"))
    from map import rows

    page = (ROOT / "CONTRIBUTING.md").read_text("utf8")
    assert [row for row in rows() if row not in page] == [], "python scripts/map.py writes it"
    assert page.count("\n| top |") == len([row for row in rows() if row.startswith("| top |")])


def test_the_book_is_built_without_the_packages_of_the_tests(tmp_path):
    command = ["make", "--dry-run", "book", f"VENV={tmp_path / 'environment'}"]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert '-c requirements.lock -e ".[book]"' in printed and "-r requirements.lock" not in printed


def test_the_lock_has_every_package_that_is_asked_for():
    """What it lacks would be installed in another version each time."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].values()
    requirements = [*project["dependencies"], *(requirement for extra in extras for requirement in extra)]
    locked = re.findall(r"^([\w.-]+)==", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    names = {re.match(r"[\w.-]+", requirement)[0] for requirement in requirements} - {"modgrok"}
    assert {plain(name) for name in names} <= {plain(name) for name in locked}


def plain(name: str) -> str:
    """A package's name as registries compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()
