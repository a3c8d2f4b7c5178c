"""A notebook's parameters: what it declares, and the check of their values in its set-up cell."""

import ast
import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from modgrok.config import advice, check_type, preset
from modgrok.data import Data, check_count, generator

NOTEBOOKS = (Path("notebooks"), Path("."), Path(__file__).parents[2] / "notebooks")
"""Folders that may hold a chapter's source, the first to be searched first."""

MINIMUM = {
    "n_seeds": 1, "n_seeds_rule": 1, "n_seeds_lasting": 1, "num_processes": 1, "depth": 1, "depths": 1, "contexts": 2,
}  # fmt: skip
"""Smallest value of a whole-number parameter, or of an entry of a list of such; 0 for those not named here."""

MOST_SEEDS = 1000
"""Largest number of seeds of a notebook."""

LISTS = {
    "depths": "[2, 4]", "shots": "[1, 2, 3]", "task": "[1, 2]",
    "pairs": "[[1, 2], [2, 4]]", "tasks": "[[1, 1], [2, 3]]",
}  # fmt: skip
"""Name of a parameter that is a list → an example of its value."""


def declared(name: str) -> dict[str, Any]:
    """Read the parameters that a notebook declares in its source: name → default value.

    Args:
        name: of the notebook, without ending.

    Raises:
        FileNotFoundError: none of the folders `NOTEBOOKS` holds it.
    """
    for path in (folder / f"{name}.ipynb" for folder in NOTEBOOKS):
        if path.exists():
            return read_defaults(path)
    raise FileNotFoundError(
        f"{name}.ipynb is not in notebooks/; start Jupyter or papermill in the repository."
    )


def read_defaults(notebook: Path) -> dict[str, Any]:
    """Read the cell tagged `parameters` of a notebook's source: name → default value."""
    cells = json.loads(notebook.read_text("utf8"))["cells"]
    cell = next(cell for cell in cells if "parameters" in cell["metadata"].get("tags", []))
    defaults = {}
    for assignment in ast.parse("".join(cell["source"])).body:
        target = assignment.target if isinstance(assignment, ast.AnnAssign) else assignment.targets[0]
        defaults[target.id] = ast.literal_eval(assignment.value)
    return defaults


def check_names(sources: Iterable[str], names: Sequence[str]) -> None:
    """Raise ValueError for a parameter that is none of the declared names; papermill itself only warns and goes on.

    Sources are those of the cells that ran so far. The cell that papermill adds starts with the line "# Parameters".
    """
    injected = [source for source in sources if source.startswith("# Parameters\n")]
    for assignment in ast.parse("\n".join(injected)).body:
        name = assignment.targets[0].id
        if name not in names:
            hint = advice(name, names, "its parameters are")
            raise ValueError(f"{name} is not a parameter of this notebook; {hint}")


def checked(name: str, value: Any, default: Any) -> Any:
    """Check a parameter's value and return it; a list may come as text, as papermill's command line passes it.

    Args:
        name: of the parameter.
        value: to be checked.
        default: the declared value, whose type the value must have.

    Raises:
        ValueError: one sentence that says what is allowed.
    """
    if isinstance(default, list):
        return _list(name, value)
    if value is None and default is None:
        return None
    if name == "preset":
        preset(value)
    if default is None or type(default) is int:
        check_count(value, name, MINIMUM.get(name, 0))
        if name.startswith("n_seeds") and value > MOST_SEEDS:
            raise ValueError(f"{name}={value!r} must be at most {MOST_SEEDS}: each seed is a training.")
    else:
        check_type(name, value, Literal["shipped", "train"] if name == "source" else type(default))
    return value


def as_list(value: list | str, name: str) -> list:
    """Return a parameter's value as a list; papermill's command line and a text control pass it as text, "[1, 2]".

    Raises ValueError if the value is neither a list nor the text of one.
    """
    try:
        return list(ast.literal_eval(value) if isinstance(value, str) else value)
    except (ValueError, SyntaxError, TypeError):
        example = LISTS.get(name, "[1, 2]")
        raise ValueError(f"{name}={value!r} must be a list, such as {example}.") from None


def _list(name: str, value: list | str) -> list:
    """Check a parameter that is a list of whole numbers or of pairs of them, and return it as a list."""
    entries, minimum = as_list(value, name), MINIMUM.get(name, 0)
    if LISTS[name].startswith("[["):
        expected = f"pairs of whole numbers, such as {LISTS[name]}"
        is_allowed = all(_is_pair(entry, minimum) for entry in entries)
    else:
        expected, is_allowed = "whole numbers", all(_is_whole(entry, minimum) for entry in entries)
    if not is_allowed:
        raise ValueError(f"{name}={value!r} must hold {expected}, each {minimum} or more.")
    if name in ("depths", "tasks") and not entries:
        raise ValueError(f"{name}={value!r} must not be empty; it is a list such as {LISTS[name]}.")
    if name == "task" and len(entries) not in (0, 2):
        raise ValueError(f"task={value!r} must be two numbers, such as [1, 2], or [] for the default choice.")
    return entries


def _is_whole(value: Any, minimum: float = 0, limit: float = math.inf) -> bool:
    """Whether a value is an integer in minimum … limit - 1; a bool is none."""
    return isinstance(value, int) and not isinstance(value, bool) and minimum <= value < limit


def _is_pair(value: Any, minimum: float = 0, limit: float = math.inf) -> bool:
    """Whether a value is a list or tuple of two integers in minimum … limit - 1."""
    is_vector = isinstance(value, list | tuple) and len(value) == 2
    return is_vector and all(_is_whole(number, minimum, limit) for number in value)


def query_setting(
    data: Data, task: list | str = (), pairs: list | str = (), shots: list | str = ()
) -> tuple[list[int], Tensor, list[int]]:
    """Complete the task, the context pairs and the numbers of shots of query grids (F5).

    At p = 29 the defaults are the paper's: task (6, 6), first pairs (4, 21) and (2, 6), shots 1, 2, 13, 31.
    A list may also come as text, "[1, 2]", as papermill's command line passes it.

    Args:
        data: the tasks and inputs to choose from.
        task: (a, b); by default the first o.o.d. task without a zero.
        pairs: (n, 2) first context pairs, n < n_examples; the rest are drawn from the training inputs.
        shots: numbers of examples, each 0 … n_examples - 1.

    Returns:
        task, context pairs (n_examples - 1, 2), shots.

    Raises:
        ValueError: one sentence saying what is allowed.
    """
    p, max_shots = data.config.p, data.config.n_examples - 1
    task, pairs, shots = as_list(task, "task"), as_list(pairs, "pairs"), as_list(shots, "shots")
    if p == 29 and not task and not pairs:
        task, pairs = [6, 6], [[4, 21], [2, 6]][:max_shots]
    if not task:
        candidates = [*data.tasks["ood"].tolist(), *data.tasks["id"].tolist()]
        task = next((candidate for candidate in candidates if all(candidate)), candidates[0])
    shots = shots or sorted({min(1, max_shots), min(2, max_shots), round(13 / 31 * max_shots), max_shots})
    if not _is_pair(task, 0, p):
        raise ValueError(f"task={task} must be two numbers from 0 to p - 1 = {p - 1}, such as [1, 2].")
    if len(pairs) > max_shots or not all(_is_pair(pair, 0, p) for pair in pairs):
        raise ValueError(
            f"pairs={pairs} must be at most {max_shots} pairs of numbers from 0 to p - 1 = {p - 1}."
        )
    if not all(_is_whole(k, 0, max_shots + 1) for k in shots):
        raise ValueError(f"shots={shots} must be whole numbers from 0 to n_examples - 1 = {max_shots}.")
    rng, inputs = generator(data.config.seed, "query context"), data.pairs["train"]
    random_pairs = inputs[torch.from_numpy(rng.integers(len(inputs), size=max_shots))]
    first_pairs = random_pairs.new_tensor(pairs).reshape(-1, 2)
    return task, torch.cat([first_pairs, random_pairs[: max_shots - len(first_pairs)]]), shots
