"""Finding runs below one root or several, at any depth, by name or by config; links are followed."""

import difflib
import os
import re
import warnings
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

from modgrok.config import PRESETS, Config, preset
from modgrok.storage import reads
from modgrok.storage.runs import Run


def run_folders(*roots: str | Path, pattern: str = "*") -> list[Path]:
    """The folder of every run at or below some roots, sorted within each root.

    Symbolic links are followed. A folder is listed once, even if several links lead to it.

    Args:
        roots: folders; one that does not exist holds no run.
        pattern: a shell pattern for the names of the runs, such as `p7-*`.
    """
    visited: set[tuple[int, int]] = set()
    return [Path(folder) for root in roots for folder in _walk(str(root), pattern, visited)]


def _walk(folder: str, pattern: str, visited: set[tuple[int, int]]) -> Iterator[str]:
    """Run folders at or below a folder; folders inside a run are not searched."""
    try:
        state = os.stat(folder)
        identity = state.st_dev, state.st_ino
        if identity in visited:
            return
        visited.add(identity)
        if os.path.lexists(os.path.join(folder, "config.json")):
            if fnmatchcase(os.path.basename(os.path.abspath(folder)), pattern):
                yield folder
            return
        names = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir())
    except OSError:  # the folder does not exist or may not be read
        return
    for name in names:
        yield from _walk(os.path.join(folder, name), pattern, visited)


def find_run(key: str | Config, *roots: str | Path) -> Run:
    """The finished run of a name or config, at any depth below the first root that has it.

    Raises:
        ValueError: the key cannot be a run's name, a root is empty, or the run of that name has another config.
        FileNotFoundError: no root has the run; the message says how to train it and which runs have similar names.
    """
    name = key if isinstance(key, str) else key.name
    if not re.fullmatch(r"[A-Za-z0-9_+-][A-Za-z0-9._+-]*", name):
        raise ValueError(
            f"run={name[:200]!r} is not the name of a run; `python -m modgrok runs` lists the names."
        )
    if "" in roots:
        raise ValueError("root='' is not allowed; name the folder that holds runs.")
    namesake = None
    for root in roots:
        for folder in (Path(root, name), *run_folders(root, pattern=name)):
            if (folder / "provenance.json").is_file():
                run = Run(folder)
                if isinstance(key, str) or same_result(key, run.config):
                    return run
                namesake = run
    if namesake:
        raise ValueError(collision(key, namesake))
    for root in roots:
        reads.note(Path(root, "**", name))
    raise FileNotFoundError(_missing(key, roots))


def _missing(key: str | Config, roots: tuple[str | Path, ...]) -> str:
    """The message that a run is missing, with the command that trains it and the runs that have similar names."""
    name, command = (key, "") if isinstance(key, str) else (key.name, f" by `{train_command(key)}`")
    places = " or ".join(str(root) for root in roots)
    names = sorted({folder.name for folder in run_folders(*roots)})
    similar = difflib.get_close_matches(name, names, n=3)
    hint = f"; similar runs there: {', '.join(similar)}" if similar else ""
    return f"no finished run {name} in {places}; train it first{command}, or name another root{hint}."


def train_command(config: Config) -> str:
    """The command line that trains a config, starting from the preset that differs in the fewest fields."""
    fields = config.to_dict()
    changes = {}
    for name in PRESETS:
        defaults = preset(name).to_dict()
        changes[name] = {field: value for field, value in fields.items() if value != defaults[field]}
    nearest = min(changes, key=lambda name: len(changes[name]))
    flags = [_flag(field, value) for field, value in changes[nearest].items()]
    return " ".join(["python -m modgrok train", nearest, *flags])


def _flag(field: str, value: object) -> str:
    name = field.replace("_", "-")
    if isinstance(value, bool):
        return f"--{name}" if value else f"--no-{name}"
    return " ".join([f"--{name}", *map(str, value if isinstance(value, list) else [value])])


def finished_runs(p: int | None, root: str | Path) -> list[Run]:
    """All finished runs of a modulus (None: of every modulus) under a root, in any setting.

    A run that cannot be read is left out with a warning.
    """
    pattern = f"p{'*' if p is None else p}-*"
    reads.note(Path(root, "**", pattern))
    runs = []
    for folder in run_folders(root, pattern=pattern):
        try:
            runs.append(Run(folder))
        except ValueError as error:
            warnings.warn(f"left out: {error}", stacklevel=2)
    return [run for run in runs if run.finished]


def same_result(config: Config, other_config: Config) -> bool:
    """Whether two configs train the same weights.

    Their names are equal then. Equal names alone do not suffice, because the digest in a name is short.
    """
    return config.result_fields() == other_config.result_fields()


def collision(config: Config, run: Run) -> str:
    """The message about a run that has the name of a config but was trained with another config."""
    requested, trained = config.to_dict(), run.config.to_dict()
    fields = ", ".join(f"{name}={trained[name]!r}" for name in requested if requested[name] != trained[name])
    return (
        f"{run.path} has the name of the run asked for, but is of another config ({fields}): two configs of one name; "
        "choose another root, or another seed."
    )
