"""How a run was made: the record of its machine and code, written with the run and read safely."""

import json
import platform
import subprocess
import tomllib
from pathlib import Path

import accelerate
import numpy as np
import torch

import modgrok

LONGEST_TEXT = 500
"""Characters that a text in a provenance may have."""

MAX_ENTRIES = 100
"""Entries that a provenance may have."""


def environment() -> dict[str, str | int | None]:
    """Device, threads, versions and commit: a measurement depends on them besides its config."""
    return {
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU",
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "accelerate": accelerate.__version__,
        "modgrok": modgrok.__version__,
        "commit": commit(Path(modgrok.__file__).parent),
    }


def commit(package: Path) -> str | None:
    """The commit of the checkout that a package folder belongs to, with "-dirty" if files differ from it.

    The top of the checkout must hold the package and this project's pyproject.toml. Otherwise the package is installed,
    or copied into another repository, and the result is None.
    """
    try:
        project = tomllib.loads((package.parent / "pyproject.toml").read_text(encoding="utf8"))["project"]
        top = Path(_git(package, "rev-parse", "--show-toplevel"))
        if project["name"] != "modgrok" or top.resolve() != package.parent.resolve():
            return None
        return _git(package, "describe", "--always", "--dirty", "--abbrev=12")
    except (OSError, ValueError, KeyError, subprocess.CalledProcessError):
        return None


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def parse(content: bytes) -> dict:
    """The entries of a provenance.json, each of a bounded type and length.

    Raises ValueError if the content is no provenance; the message is empty or names the wrong entry.
    """
    try:
        provenance = json.loads(content)
    except (ValueError, RecursionError):
        raise ValueError("") from None
    if not isinstance(provenance, dict) or len(provenance) > MAX_ENTRIES:
        raise ValueError("")
    for name in ("seconds", "threads", "processes", *provenance):
        value = provenance.get(name)
        if name == "processes":
            is_valid = isinstance(value, list) and 0 < len(value) < 10**5 and all(map(_is_amount, value))
        else:
            is_valid = _is_amount(value) if name in ("seconds", "threads") else _is_brief(value)
        if not is_valid:
            raise ValueError(f" (it says {name[:60]}={repr(value)[:60]})")
    return provenance


def _is_amount(value: object) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and 0 <= value < 1e12


def _is_brief(value: object) -> bool:
    """Whether a value is None, a flag, a bounded number, printable text of bounded length, or a list of such texts."""
    if isinstance(value, list):
        return len(value) <= 1000 and all(not isinstance(entry, list) and _is_brief(entry) for entry in value)
    if isinstance(value, str):
        return len(value) <= LONGEST_TEXT and value.isprintable()
    return value is None or isinstance(value, bool) or (isinstance(value, int | float) and abs(value) < 1e15)
