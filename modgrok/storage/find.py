"""Finding runs: by name or config, in one root or several, at any depth."""

import os
import re
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

from modgrok.config import Config
from modgrok.storage.runs import Run, tell_build

_listings: dict[Path, tuple[int, list[str], list[str]]] = {}
"""Folder that is no run → when it changed, the runs in it, its other folders."""


def run_folders(*roots: str | Path) -> list[Path]:
    """The folder of every run under the roots, also in their subfolders, sorted within each root."""
    return [folder for root in roots for folder in _runs_under(Path(root))]


def _runs_under(folder: Path, name: str | None = None) -> Iterator[Path]:
    """Run folders, or those of a name, in order. What is in a run is not looked at, nor an unchanged folder twice."""
    if os.path.lexists(folder / "config.json"):
        if name in (None, folder.name):
            yield folder
        return
    try:
        changed = folder.stat().st_mtime_ns
        known = _listings.get(folder.absolute())
        if known is None or known[0] != changed:
            names = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir(follow_symlinks=False))
            runs = {name for name in names if os.path.lexists(folder / name / "config.json")}
            known = changed, sorted(runs), [name for name in names if name not in runs]
            if time.time_ns() - changed > 10**9:  # else the same time may stand for a later change
                _listings[folder.absolute()] = known
    except OSError:  # no such folder, or not for us to read
        return
    _, runs, others = known
    if name is not None:
        runs = [name] if name in runs else []
    for entry in sorted([*runs, *others]):
        if entry in others:
            yield from _runs_under(folder / entry, name)
        else:
            yield folder / entry


def find_run(key: str | Config, *roots: str | Path) -> Run:
    """The run of that name or config in the first root that has it finished, at any depth.

    Raises:
        ValueError: what is asked for is no name of a run or no folder, or only a run of another config has the name.
        FileNotFoundError: no root has it; the message says how to train it.
    """
    name = key if isinstance(key, str) else key.name
    if not re.fullmatch(r"[A-Za-z0-9_+-][A-Za-z0-9._+-]*", name):
        raise ValueError(
            f"run={name[:200]!r} is not the name of a run; `python -m modgrok runs` lists the names."
        )
    other = None
    for root in roots:
        if root == "":
            raise ValueError("root='' is not allowed; name the folder that holds runs.")
        for folder in [Path(root) / name, *_runs_under(Path(root), name)]:
            if (folder / "provenance.json").is_file():
                run = Run(folder)
                if isinstance(key, str) or same_result(key, run.config):
                    return run
                other = run
    if other:
        raise ValueError(collision(key, other))
    for root in roots:
        tell_build(Path(root, "**", name))
    places = " or ".join(str(root) for root in roots)
    raise FileNotFoundError(f"no finished run {name} in {places}; train it first, or name another root.")


def finished_runs(p: int | None, root: str | Path) -> list[Run]:
    """All finished runs of a modulus, or of all (None), under a root, whatever their setting.

    Of one that cannot be read a warning tells.
    """
    tell_build(Path(root, "**", f"p{p or '*'}-*"))
    runs = []
    for folder in run_folders(root):
        if folder.name.startswith("p" if p is None else f"p{p}-"):
            try:
                runs.append(Run(folder))
            except ValueError as error:
                warnings.warn(f"left out: {error}", stacklevel=2)
    return [run for run in runs if run.finished]


def same_result(one: Config, other: Config) -> bool:
    """Whether two configs train the same weights; names are equal then, and, for a digest is short, not only then."""
    return one.result_fields() == other.result_fields()


def collision(config: Config, run: Run) -> str:
    """What to do about a run whose name is that of a config that it is not of."""
    ours, theirs = config.to_dict(), run.config.to_dict()
    fields = ", ".join(f"{name}={theirs[name]!r}" for name in ours if ours[name] != theirs[name])
    return (
        f"{run.path} has the name of the run asked for, but is of another config ({fields}): two configs of one name; "
        "choose another root, or another seed."
    )
