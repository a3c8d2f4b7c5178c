"""What the parameters of a notebook may be: checked in its set-up cell, in one sentence each."""

import ast
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from modgrok.config import preset
from modgrok.data import Data, generator

NOTEBOOKS = (Path("notebooks"), Path("."), Path(__file__).parents[2] / "notebooks")
"""Where a chapter's source is looked for."""

LEAST = {
    "n_seeds": 1, "n_seeds_rule": 1, "n_seeds_lasting": 1, "num_processes": 1, "depth": 1, "depths": 1, "contexts": 2,
}  # fmt: skip
"""The least that a whole-number parameter, or an entry of a list of them, may be; 0 for others."""

LISTS = {
    "depths": "[2, 4]", "shots": "[1, 2, 3]", "task": "[1, 2]",
    "pairs": "[[1, 2], [2, 4]]", "tasks": "[[1, 1], [2, 3]]",
}  # fmt: skip
"""Parameters that are lists, each with an example."""


def declared(name: str) -> dict[str, Any]:
    """The parameters that a notebook declares in its source, with their default values."""
    for folder in NOTEBOOKS:
        if (folder / f"{name}.ipynb").exists():
            cells = json.loads((folder / f"{name}.ipynb").read_text("utf8"))["cells"]
            source = next(
                "".join(c["source"]) for c in cells if "parameters" in c["metadata"].get("tags", [])
            )
            return {
                (line.target if isinstance(line, ast.AnnAssign) else line.targets[0]).id: ast.literal_eval(
                    line.value
                )
                for line in ast.parse(source).body
            }
    raise FileNotFoundError(
        f"{name}.ipynb is not in notebooks/; start Jupyter or papermill in the repository."
    )


def checked(name: str, value: Any, default: Any) -> Any:
    """A parameter's value, lists read from text as papermill's command line passes them.

    Raises:
        ValueError: one sentence that says what is allowed.
    """
    if isinstance(default, list):
        return _list(name, value)
    if value is None and default is None:
        return None
    if name == "sequences" and not (_is_whole(value) and (value == 0 or 50 <= value <= 100_000)):
        raise ValueError(f"sequences={value!r} must be a whole number from 50 to 100000, or 0.")
    if name == "source" and value not in ("shipped", "train"):
        raise ValueError(f'source={value!r} is not allowed; choose "shipped" or "train".')
    if name == "preset":
        preset(value)
    if isinstance(default, bool):
        if not isinstance(value, bool):
            raise ValueError(f"{name}={value!r} must be True or False.")
    elif isinstance(default, str):
        if not isinstance(value, str):
            raise ValueError(f"{name}={value!r} must be text.")
    elif isinstance(default, float):
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise ValueError(f"{name}={value!r} must be a number.")
    elif not _is_whole(value, LEAST.get(name, 0)):
        raise ValueError(f"{name}={value!r} must be a whole number, {LEAST.get(name, 0)} or more.")
    return value


def as_list(value: list | str, name: str) -> list:
    """A list, which papermill's command line and a text control pass as text, "[1, 2]".

    Raises:
        ValueError: the text is no list.
    """
    try:
        return list(ast.literal_eval(value) if isinstance(value, str) else value)
    except (ValueError, SyntaxError, TypeError):
        example = LISTS.get(name, "[1, 2]")
        raise ValueError(f"{name}={value!r} must be a list, such as {example}.") from None


def _list(name: str, value: list | str) -> list:
    found, of_pairs = as_list(value, name), LISTS[name].startswith("[[")
    vectors = all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in found)
    entries = [number for pair in found for number in pair] if of_pairs and vectors else found
    if of_pairs > vectors or not all(_is_whole(number, LEAST.get(name, 0)) for number in entries):
        what = f"pairs of whole numbers, such as {LISTS[name]}" if of_pairs else "whole numbers"
        raise ValueError(f"{name}={value!r} must hold {what}, each {LEAST.get(name, 0)} or more.")
    if name in ("depths", "tasks") and not found:
        raise ValueError(f"{name}={value!r} must not be empty; it is a list such as {LISTS[name]}.")
    if name == "task" and len(found) not in (0, 2):
        raise ValueError(
            f"task={value!r} must be two numbers, such as [1, 2], or [] for a choice of its own."
        )
    return found


def _is_whole(value: Any, least: int = 0) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def query_setting(
    data: Data, task: list | str = (), pairs: list | str = (), shots: list | str = ()
) -> tuple[list[int], Tensor, list[int]]:
    """The task, context pairs and numbers of shots of query grids, what is not given filled in (F5).

    At p = 29 they default to the paper's: task (6, 6), first pairs (4, 21) and (2, 6), shots 1, 2, 13, 31.
    Lists may also be text, "[1, 2]", as papermill's command line passes them.

    Args:
        data: the tasks and inputs.
        task: (a, b); by default an o.o.d. task without a zero.
        pairs: (≤ n_examples - 1, 2) first context pairs; the rest are drawn from the training inputs.
        shots: numbers of examples, each 0 … n_examples - 1.

    Returns:
        task, context pairs (n_examples - 1, 2), shots.

    Raises:
        ValueError: one sentence saying what is allowed.
    """
    p, most = data.config.p, data.config.n_examples - 1
    task, pairs, shots = (as_list(v, n) for v, n in ((task, "task"), (pairs, "pairs"), (shots, "shots")))
    if p == 29 and not task and not pairs:
        task, pairs = [6, 6], [[4, 21], [2, 6]][:most]
    if not task:
        known = [*data.tasks["ood"].tolist(), *data.tasks["id"].tolist()]
        task = next((vector for vector in known if all(vector)), known[0])
    shots = shots or sorted({min(1, most), min(2, most), round(13 / 31 * most), most})
    if not _are_vectors([task], p):
        raise ValueError(f"task={task} must be two numbers from 0 to p - 1 = {p - 1}, such as [1, 2].")
    if len(pairs) > most or not _are_vectors(pairs, p):
        raise ValueError(f"pairs={pairs} must be at most {most} pairs of numbers from 0 to p - 1 = {p - 1}.")
    if not all(_is_whole(k) and k <= most for k in shots):
        raise ValueError(f"shots={shots} must be whole numbers from 0 to n_examples - 1 = {most}.")
    rng = generator(data.config.seed, "query context")
    drawn = data.pairs["train"][torch.from_numpy(rng.integers(len(data.pairs["train"]), size=most))]
    given = drawn.new_tensor(pairs).reshape(-1, 2)
    return task, torch.cat([given, drawn[: most - len(given)]]), shots


def _are_vectors(vectors: list, p: int) -> bool:
    return all(
        isinstance(v, list | tuple) and len(v) == 2 and all(_is_whole(n) and n < p for n in v)
        for v in vectors
    )
