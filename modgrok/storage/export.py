"""Copying a finished run to another root, weights in half precision, in order to ship it."""

from collections.abc import Iterable
from pathlib import Path

from modgrok.storage.files import save_tensors, write_atomically
from modgrok.storage.runs import TABLES, Run, checkpoint_name
from modgrok.storage.verify import check


def export(run: Run, root: str | Path, steps: Iterable[int] | None = None) -> Run:
    """Copy a finished run to another root, weights in half precision, with a manifest.

    Args:
        run: the run.
        root: the folder that holds the copy afterwards.
        steps: steps of the checkpoints to copy, by default all; () copies no weights.

    Raises:
        ValueError: the run is not finished, lacks a checkpoint, has a damaged file, or is under this root already;
            nothing is written then.
    """
    if not run.finished:
        raise ValueError(f"{run.name} is not finished; train it to its end before exporting it.")
    folder, steps = Path(root) / run.name, run.steps if steps is None else sorted(set(steps))
    if folder.exists():
        raise ValueError(f"{folder} is there already; remove it or export to another folder.")
    if not set(steps) <= set(run.steps):
        raise ValueError(f"steps={steps} are not checkpoints of {run.name}; choose among {run.steps}.")
    check(run)
    for name in TABLES:
        write_atomically(folder / name, run.read(name))
    for step in steps:
        halves = {key: tensor.half() for key, tensor in run.read_tensors(checkpoint_name(step)).items()}
        save_tensors(folder / checkpoint_name(step), halves, run.name)
    copy = Run(folder)
    copy.finish(run.read("provenance.json"))
    return copy
