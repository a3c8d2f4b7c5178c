"""How a run was made: versions, and a commit only where there is one of this project."""

import subprocess
from pathlib import Path

import modgrok
from modgrok.storage.provenance import commit, environment

PROJECT = '[project]\nname = "{}"\n'


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false")
    command = ["git", *identity, *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout.strip()


def checkout(folder: Path, project: str) -> Path:
    """A repository with one commit; returns its package folder."""
    package = folder / "modgrok"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (folder / "pyproject.toml").write_text(PROJECT.format(project))
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "first")
    return package


def test_a_checkout_has_a_commit(tmp_path):
    package = checkout(tmp_path, "modgrok")
    assert commit(package) == git(tmp_path, "rev-parse", "--short=12", "HEAD")
    (package / "__init__.py").write_text("changed")
    assert commit(package).endswith("-dirty")


def test_another_repository_around_the_package_is_not_its_commit(tmp_path):
    """A copy at the top of another project, an environment within one, a copy of the project within one."""
    assert commit(checkout(tmp_path / "other", "other")) is None
    installed = tmp_path / "other/.venv/lib/modgrok"
    installed.mkdir(parents=True)
    assert commit(installed) is None
    below = tmp_path / "other/vendor/modgrok"
    below.mkdir(parents=True)
    (tmp_path / "other/vendor/pyproject.toml").write_text(PROJECT.format("modgrok"))
    assert commit(below) is None
    assert commit(tmp_path / "nowhere") is None


def test_the_version_is_recorded():
    assert environment()["modgrok"] == modgrok.__version__
