"""The package by itself: its wheel, in environments that hold what it declares and nothing else.

An environment here is a fresh interpreter whose packages are links to those of this one: exactly the packages that the
wheel's metadata lead to, directly or through others, for some extras. That proves that the declarations suffice, which
versions `pip` would choose it does not.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
from importlib.metadata import Distribution, distribution
from pathlib import Path
from zipfile import ZipFile

import nbformat
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from tiny import ROOT

import modgrok

BARE = {
    name: value
    for name, value in os.environ.items()
    if not name.startswith(("PYTHON", "MODGROK", "PIP", "VIRTUAL"))
}
BARE |= {
    "OMP_NUM_THREADS": "1",
    "TORCH_COMPILE_DISABLE": "1",
}  # trying a compiler takes seconds; test_engine does


def call(*argv, folder: Path) -> str:
    process = subprocess.run(
        [*map(str, argv)], cwd=folder, env=BARE, text=True, stdout=-1, stderr=subprocess.STDOUT, timeout=600
    )
    assert process.returncode == 0, process.stdout
    return process.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built from a copy, in which a former build left a module that is gone."""
    copy, out = tmp_path_factory.mktemp("copy"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE", "scripts/backend.py"):
        (copy / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, copy / name)
    (copy / "build/lib/modgrok").mkdir(parents=True)
    (copy / "build/lib/modgrok/stale.py").touch()
    shutil.copytree(ROOT / "modgrok", copy / "modgrok", ignore=shutil.ignore_patterns("__pycache__"))
    pip = (sys.executable, "-m", "pip", "--quiet", "wheel", "--no-deps", "--no-build-isolation", "-w")
    call(*pip, out, ".", folder=copy)
    assert not (copy / "build").exists()
    return next(out.glob("*.whl"))


def needed(
    requirements: list[str], extras: set[str], distributions: dict[str, Distribution]
) -> dict[str, Distribution]:
    """The installed distributions that requirements of a package with those extras lead to."""
    for requirement in map(Requirement, requirements):
        name = canonicalize_name(requirement.name)
        applies = any(
            requirement.marker is None or requirement.marker.evaluate({"extra": extra})
            for extra in {"", *extras}
        )
        if applies and name == "modgrok":  # one extra may name another
            needed(requirements, requirement.extras, distributions)
        elif applies and (name not in distributions or requirement.extras):
            distributions[name] = distribution(name)
            needed(distributions[name].requires or [], requirement.extras, distributions)
    return distributions


@pytest.fixture(scope="module")
def environment(wheel, tmp_path_factory):
    """environment(*extras) is the folder of an environment's programs."""

    def make(*extras: str, installed: bool = True) -> Path:
        home = tmp_path_factory.mktemp("environment")
        call(sys.executable, "-m", "venv", "--without-pip", home, folder=home)
        site = Path(sysconfig.get_path("purelib", "venv", {"base": home}))
        pip = (sys.executable, "-m", "pip", "--quiet", "--python", home)
        call(*pip, "install", "--no-deps", wheel, folder=home)
        metadata = Distribution.at(next(site.glob("modgrok-*.dist-info")))
        for package in needed(metadata.requires, set(extras), {}).values():
            for top in {file.parts[0] for file in package.files} - {".."}:
                if not (site / top).exists():
                    (site / top).symlink_to(package.locate_file(top))
        if not installed:  # what comes with Colab: the packages, and pip, but not this one
            call(*pip, "uninstall", "--yes", "modgrok", folder=home)
            for tool in ("pip", "setuptools", "_distutils_hack"):
                if not (site / tool).exists():
                    (site / tool).symlink_to(Path(sysconfig.get_path("purelib")) / tool)
        return home / "bin"

    return make


def test_the_wheel_holds_every_module_and_data_file(wheel):
    files = {
        file.relative_to(ROOT).as_posix()
        for file in (ROOT / "modgrok").rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    held = {name for name in ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert held == files
    assert wheel.name.startswith(f"modgrok-{modgrok.__version__}-")
    assert f"version: {modgrok.__version__}\n" in (ROOT / "CITATION.cff").read_text()


def test_the_library_works_with_what_it_requires(environment, tmp_path):
    python = environment() / "python"
    code = """
import sys
from time import process_time
start = process_time()
import torch
middle = process_time()
import modgrok.train
assert process_time() - middle < 0.5 * (middle - start), "importing takes little more than importing torch"
from modgrok import authors, data, evaluate, predictors
from modgrok.analysis import activations, interventions
from modgrok.storage import runs, verify
from modgrok.config import preset
from modgrok.train import train
run = train(preset("smoke", steps=4, eval_every=2), "mine")
print(verify.verify(run))
assert run.provenance["modgrok"] and run.provenance["commit"] is None
assert "site-packages" in runs.__file__, runs.__file__
for name in ("tyro", "matplotlib", "submitit", "IPython", "scipy"):
    assert name not in sys.modules, name
"""
    assert "files as recorded; scored anew" in call(python, "-c", code, folder=tmp_path)
    argv = [python.with_name("modgrok"), "--help"]
    process = subprocess.run(argv, cwd=tmp_path, env=BARE, text=True, capture_output=True, timeout=60)
    assert process.returncode == 1 and process.stderr.strip().endswith(
        'install it with: pip install "modgrok[cli]"'
    )


def test_train_from_anywhere(environment, tmp_path):
    program = environment("cli") / "modgrok"
    output = call(program, "train", "smoke", "--steps", 4, "--eval-every", 2, folder=tmp_path)
    assert output.splitlines()[-1].startswith("finished: runs/p5-")


def test_a_chapter_opens_from_nothing(environment, tmp_path):
    """As on Colab: its code in an empty folder, with the repository here in the place of the public one."""
    cells = nbformat.read(ROOT / "notebooks/14_cost.ipynb", as_version=4).cells
    code = [c.source for c in cells if c.cell_type == "code" and "live" not in c.metadata.get("tags", [])]
    for notebook in (ROOT / "notebooks").glob("*.ipynb"):
        assert nbformat.read(notebook, as_version=4).cells[1].source == code[0], notebook.name
    code[0] = code[0].replace("https://github.com/modgrok/modgrok ", f"{ROOT.as_uri()} ")
    code.append("print('drawn from', page.runs[0].path)")
    second = [code[0], "import modgrok\nprint('here are', *os.listdir())"]
    python = environment("notebooks", installed=False) / "python"
    offline = {
        "PIP_NO_BUILD_ISOLATION": "0",
        "PIP_NO_INDEX": "1",
        "PIP_CONFIG_FILE": os.devnull,
        "MPLBACKEND": "agg",
    }
    for chosen, text in (
        (code, "drawn from runs/"),
        (second, " runs"),
    ):  # a kernel started anew finds all in place
        (tmp_path / "chapter.ipy").write_text("\n\n".join(chosen))
        process = subprocess.run(
            [python, "-m", "IPython", "--colors=NoColor", "chapter.ipy"],
            cwd=tmp_path, env=BARE | offline, text=True, capture_output=True, timeout=600,
        )  # fmt: skip
        assert process.returncode == 0 and text in process.stdout, process.stdout + process.stderr
