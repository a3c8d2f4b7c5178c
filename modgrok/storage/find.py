"""Finding runs below a root, at any depth, by name or by config; links are followed."""

import difflib
import os
import re
import warnings
from fnmatch import fnmatchcase
from pathlib import Path

from modgrok.config import PRESETS, Config, preset
from modgrok.storage.runs import Run, note_read


def run_folders(root: str | Path, pattern: str = "*") -> list[Path]:
    """The folder of every run at or below a root, sorted.

    Symbolic links are followed. A folder is listed once, even if several links lead to it. Folders inside a run are
    not searched.

    Args:
        root: a folder; one that does not exist holds no run.
        pattern: a shell pattern for the names of the runs, such as `p7-*`.
    """
    visited, folders = set(), []
    for folder, names, files in os.walk(root, followlinks=True):
        state = os.stat(folder)
        is_new = (state.st_dev, state.st_ino) not in visited
        visited.add((state.st_dev, state.st_ino))
        is_run = "config.json" in files or "config.json" in names
        if is_new and is_run and fnmatchcase(os.path.basename(os.path.abspath(folder)), pattern):
            folders.append(Path(folder))
        names[:] = sorted(names) if is_new and not is_run else []  # where os.walk goes next
    return folders


def find_run(key: str | Config, root: str | Path) -> Run:
    """The finished run of a name or config, at any depth below a root.

    Raises:
        ValueError: the key cannot be a run's name, or the root is empty.
        FileNotFoundError: there is no such run; the message says how to train it and which runs have similar names.
    """
    name = key.name if isinstance(key, Config) else key
    if not (isinstance(name, str) and re.fullmatch(r"[A-Za-z0-9_+-][A-Za-z0-9._+-]*", name)):
        raise ValueError(
            f"run={name!r:.200} is not the name of a run; `python -m modgrok runs` lists the names."
        )
    if root == "":
        raise ValueError("root='' is not allowed; name the folder that holds runs.")
    direct = Path(root, name)
    is_direct = (direct / "provenance.json").is_file()
    for folder in [direct] if is_direct else run_folders(root, name):
        if (folder / "provenance.json").is_file():
            return Run(folder)
    note_read(Path(root, "**", name))
    command = "" if isinstance(key, str) else f" by `{train_command(key)}`"
    similar = difflib.get_close_matches(name, sorted({folder.name for folder in run_folders(root)}), n=3)
    hint = f"; similar runs there: {', '.join(similar)}" if similar else ""
    raise FileNotFoundError(
        f"no finished run {name} in {root}; train it first{command}, or name another root{hint}."
    )


def train_command(config: Config) -> str:
    """The command line that trains a config, starting from the preset that differs in the fewest fields."""
    fields = config.to_dict()
    changes = {}
    for name in PRESETS:
        defaults = preset(name).to_dict()
        changes[name] = {field: value for field, value in fields.items() if value != defaults[field]}
    nearest = min(changes, key=lambda name: len(changes[name]))
    words = ["python -m modgrok train", nearest]
    for field, value in changes[nearest].items():
        name, values = field.replace("_", "-"), value if isinstance(value, list) else [value]
        is_flag = isinstance(value, bool)
        words += [
            f"--{name}" if value or not is_flag else f"--no-{name}",
            *map(str, [] if is_flag else values),
        ]
    return " ".join(words)


def finished_runs(p: int | None, root: str | Path) -> list[Run]:
    """All finished runs of a modulus (None: of every modulus) under a root, in any setting.

    A run that cannot be read is left out with a warning.
    """
    pattern = f"p{'*' if p is None else p}-*"
    note_read(Path(root, "**", pattern))
    runs = []
    for folder in run_folders(root, pattern):
        try:
            runs.append(Run(folder))
        except ValueError as error:
            warnings.warn(f"left out: {error}", stacklevel=2)
    return [run for run in runs if run.finished]
